// SPDX-License-Identifier: Apache-2.0
// Runs a kernel's blocks one after another, the threads of each as fibers that give way to one
// another at __syncthreads.
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
  bool done;
};

static std::vector<Fiber *> fibers;
static Fiber *running;
static ucontext_t scheduler;
static void (*entry)(void **);
static void **entry_arguments;

static void __syncthreads() {
  Fiber *self = running;
  swapcontext(&self->context, &scheduler);
}

static void run_fiber() {
  entry(entry_arguments);
  running->done = true;  // and on with uc_link
}

static void run_block(std::vector<unsigned> &order, std::mt19937 *random) {
  for (unsigned i : order) {
    Fiber &fiber = *fibers[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, run_fiber, 0);
    fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    fiber.done = false;
  }
  for (bool left = true; left;) {
    left = false;
    if (random) std::shuffle(order.begin(), order.end(), *random);
    for (unsigned i : order) {
      running = fibers[i];
      if (running->done) continue;
      threadIdx = running->index;
      swapcontext(&scheduler, &running->context);
      left |= !running->done;
    }
  }
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

// Blocks and threads run in rising order, or in one that `seed` draws unless it is 0.
static void launch(
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
    run_block(threads, seed ? &random : nullptr);
  }
}

#define KERNEL(name)                                                              \
  extern "C" void launch_##name(                                                  \
      const unsigned *grid, const unsigned *block, void **arguments, unsigned seed) { \
    launch([](void **a) { call(name, a); }, grid, block, arguments, seed);        \
  }
