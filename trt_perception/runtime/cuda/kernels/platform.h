// SPDX-License-Identifier: Apache-2.0
// What CUDA C++ without any library header has no name for. The tests run the kernels on a CPU and
// bring these from elsewhere.
#pragma once

#ifdef __CUDACC__
#define INFINITY __int_as_float(0x7f800000)

static __device__ inline float half_to_float(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

static __device__ inline int bit_count(unsigned long long bits) { return __popcll(bits); }

// Nanoseconds of a clock that all of the GPU shares.
static __device__ inline unsigned long long global_time() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}
#endif
