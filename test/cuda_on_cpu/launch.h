// SPDX-License-Identifier: Apache-2.0
// Runs a kernel's blocks one after another, the threads of each as fibers that give way to one
// another at __syncthreads. Before each block its shared memory is filled with garbage.
#pragma once

#include <ucontext.h>

#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "cuda.h"

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  Three index;
  int line;  // of the barrier where it waits; 0 at its end
};

OWN std::vector<Fiber *> fibers;
OWN Fiber *running;
OWN ucontext_t scheduler;
OWN void (*entry)(void **);
OWN void **entry_arguments;

// By the linker: the variables that are not initialised.
extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];

static void wait_at(int line) {
  Fiber *self = running;
  self->line = line;
  swapcontext(&self->context, &scheduler);
}

static void run_fiber() {
  entry(entry_arguments);
  running->line = 0;  // and on with uc_link
}

// What is wrong, or null.
static const char *run_block(std::vector<unsigned> &order, std::mt19937 *random) {
  memset(__bss_start, 0xcb, _end - __bss_start);
  for (unsigned i : order) {
    Fiber &fiber = *fibers[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, run_fiber, 0);
    fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
  }
  do {
    if (random) std::shuffle(order.begin(), order.end(), *random);
    for (unsigned i : order) {
      running = fibers[i];
      threadIdx = running->index;
      swapcontext(&scheduler, &running->context);
    }
    for (unsigned i : order)
      if (fibers[i]->line != running->line) return "not all threads reach the same __syncthreads";
  } while (running->line);
  return nullptr;
}

// Each parameter is copied from where its argument lies.
template <typename... Parameters, size_t... I>
static void call(void (*kernel)(Parameters...), void **arguments, std::index_sequence<I...>) {
  kernel(*(Parameters *)arguments[I]...);
}

template <typename... Parameters>
static void call(void (*kernel)(Parameters...), void **arguments) {
  call(kernel, arguments, std::index_sequence_for<Parameters...>());
}

template <typename... Parameters>
static bool fit(void (*)(Parameters...), const size_t *sizes, size_t count) {
  std::vector<size_t> wanted = {sizeof(Parameters)...};
  return wanted == std::vector<size_t>(sizes, sizes + count);
}

// Blocks and threads run in rising order, or in one that `seed` draws unless it is 0.
static const char *launch(
    void (*kernel)(void **), const unsigned *grid, const unsigned *block, void **arguments,
    unsigned seed) {
  entry = kernel;
  entry_arguments = arguments;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  std::mt19937 random(seed);
  std::vector<unsigned> threads(block[0] * block[1] * block[2]), blocks(grid[0] * grid[1] * grid[2]);
  std::iota(threads.begin(), threads.end(), 0);
  std::iota(blocks.begin(), blocks.end(), 0);
  if (seed) std::shuffle(blocks.begin(), blocks.end(), random);
  while (fibers.size() < threads.size()) fibers.push_back(new Fiber);
  for (unsigned b : blocks) {
    blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
    if (const char *wrong = run_block(threads, seed ? &random : nullptr)) return wrong;
  }
  return nullptr;
}

#define KERNEL(name)                                                                      \
  extern "C" const char *launch_##name(                                                   \
      const unsigned *grid, const unsigned *block, void **arguments, const size_t *sizes, \
      size_t count, unsigned seed) {                                                      \
    if (!fit(name, sizes, count)) return "the arguments have not the parameters' sizes";  \
    return launch([](void **a) { call(name, a); }, grid, block, arguments, seed);         \
  }
