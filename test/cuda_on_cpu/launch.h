// SPDX-License-Identifier: Apache-2.0
// Runs a kernel's blocks one after another, the threads of each as fibers that give way to one
// another at __syncthreads. Before each block its shared memory is filled with garbage.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "cuda.h"

// Begun with a context of its own and then switched by jumps, which cost no system call.
struct Fiber {
  ucontext_t context;
  jmp_buf place;
  std::vector<char> stack = std::vector<char>(1 << 16);
  Three index;
  int line = 0;  // of the barrier where it waits; 0 at its end
  bool begun = false;
};

OWN std::vector<Fiber *> fibers;
OWN Fiber *running;
OWN jmp_buf scheduler;
OWN void (*entry)(void **);
OWN void **entry_arguments;

// By the linker: the variables that are not initialised.
extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];

static __attribute__((noinline)) void wait_at(int line) {
  running->line = line;
  if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

static void run_fiber() {
  for (;;) {
    entry(entry_arguments);
    wait_at(0);  // for the next block
  }
}

// Until it waits.
static __attribute__((noinline)) void go_on(Fiber &fiber) {
  running = &fiber;
  threadIdx = fiber.index;
  if (_setjmp(scheduler)) return;
  if (fiber.begun) _longjmp(fiber.place, 1);
  fiber.begun = true;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  makecontext(&fiber.context, run_fiber, 0);
  setcontext(&fiber.context);
}

// What is wrong, or null.
static const char *run_block(std::vector<unsigned> &order, std::mt19937 *random) {
  memset(__bss_start, 0xcb, _end - __bss_start);
  for (unsigned i : order)
    fibers[i]->index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
  for (int line = 1; line;) {
    if (random) std::shuffle(order.begin(), order.end(), *random);
    for (unsigned i : order) go_on(*fibers[i]);
    line = running->line;
    for (unsigned i : order)
      if (fibers[i]->line != line) {
        for (unsigned k : order) fibers[k]->begun = false;  // they will not go on from there
        return "not all threads reach the same __syncthreads";
      }
  }
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
