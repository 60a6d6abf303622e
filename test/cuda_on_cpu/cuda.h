// SPDX-License-Identifier: Apache-2.0
// As much of CUDA C++ as the kernels use, for g++. One thread runs at a time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#define __global__
#define __device__
#define __shared__ static  // and so in .bss, where nothing else is
#define OWN static __attribute__((section(".data")))

using std::max;
using std::min;

struct Three {
  unsigned x, y, z;
};

OWN Three threadIdx, blockIdx, blockDim, gridDim;

// Let the other threads of the block come here too.
static void wait_at(int line);
#define __syncthreads() wait_at(__LINE__)

template <typename T>
static T atomicAdd(T *at, T value) {
  T old = *at;
  *at += value;
  return old;
}

template <typename T>
static T atomicMax(T *at, T value) {
  T old = *at;
  *at = max(old, value);
  return old;
}

static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float half_to_float(unsigned short bits) {
  unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
  float value = exponent ? ldexpf((float)(fraction | 0x400), (int)exponent - 25)
                         : ldexpf((float)fraction, -24);
  return sign ? -value : value;
}

static inline int bit_count(unsigned long long bits) { return __builtin_popcountll(bits); }

static inline unsigned long long global_time() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}
