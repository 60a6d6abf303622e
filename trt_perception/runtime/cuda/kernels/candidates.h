// SPDX-License-Identifier: Apache-2.0
// What the decode kernels share: how a candidate is written down, where its box stands.
#pragma once

#include "platform.h"

#define CAPACITY 4096  // candidates that can be sorted and suppressed
#define WORDS (CAPACITY / 64)

typedef unsigned long long Word;

// The structures below have their like in decode.py.

// Which classes are wanted, a bit each.
struct Classes {
  unsigned words[128];
};

// Where each row of an output has its box: coordinate k of row r is element r * row_step + k * step.
struct Boxes {
  const void *data;
  int half;  // float16, not float32
  int row_step;
  int step;
  int cells;          // relative to the cells of a pyramid of these strides
  int strides[4];     // 0 where there are fewer
  int width, height;  // of the network's input
  float scale_x, scale_y;
};

// The placement of the source in the network's input, as core/geometry.py has it.
struct Placement {
  double scale_x, scale_y, left, top, offset_x, offset_y, source_width, source_height;
  float region_left, region_top, region_right, region_bottom;
};

struct alignas(16) Box {
  float x1, y1, x2, y2;
};

static __device__ inline float load(const float *values, long long i) { return values[i]; }

static __device__ inline float load(const unsigned short *values, long long i) {
  return half_to_float(values[i]);
}

static __device__ inline float load(const Boxes &boxes, long long i) {
  return boxes.half ? load((const unsigned short *)boxes.data, i)
                    : load((const float *)boxes.data, i);
}

// False for NaN too.
static __device__ inline bool finite(float v) { return fabsf(v) < INFINITY; }

// Bits that order floats as unsigned integers; the two zeros are equal, NaN is above all.
static __device__ inline unsigned ordered(float v) {
  if (v != v) return 0xffffffffu;
  unsigned bits = __float_as_uint(v + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static __device__ inline float unordered(unsigned bits) {
  return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

// Keys rise as scores fall; the row and class behind the score make each one unique, so that a
// sort gives the order of the host, however the threads ran.
static __device__ inline Word key_of(unsigned score_bits, unsigned row_and_class) {
  return (Word)~score_bits << 32 | row_and_class;
}

// Corners in network pixels.
static __device__ inline Box box_of(const Boxes &boxes, int row) {
  long long at = (long long)row * boxes.row_step;
  float x = load(boxes, at), y = load(boxes, at + boxes.step);
  float w = load(boxes, at + 2LL * boxes.step), h = load(boxes, at + 3LL * boxes.step);
  if (boxes.cells) {
    int cell = row;
    for (int level = 0; level < 4; level++) {
      int stride = boxes.strides[level];
      if (!stride) break;
      int columns = boxes.width / stride, count = columns * (boxes.height / stride);
      if (cell < count) {
        x = (x + (float)(cell % columns)) * (float)stride;
        y = (y + (float)(cell / columns)) * (float)stride;
        // In double precision, so that every machine rounds to the same float. NaN stays NaN.
        w = (float)exp((double)(w > 20.0f ? 20.0f : w)) * (float)stride;
        h = (float)exp((double)(h > 20.0f ? 20.0f : h)) * (float)stride;
        break;
      }
      cell -= count;
    }
  } else {
    x *= boxes.scale_x;
    y *= boxes.scale_y;
    w *= boxes.scale_x;
    h *= boxes.scale_y;
  }
  w *= 0.5f;
  h *= 0.5f;
  return {x - w, y - h, x + w, y + h};
}

static __device__ inline float to_source(
    float v, double origin, double scale, double offset, double limit) {
  return (float)fmin(fmax((v - origin) * scale + offset, 0.0), limit);
}

static __device__ inline Box to_source(const Box &box, const Placement &place) {
  return {
      to_source(box.x1, place.left, place.scale_x, place.offset_x, place.source_width),
      to_source(box.y1, place.top, place.scale_y, place.offset_y, place.source_height),
      to_source(box.x2, place.left, place.scale_x, place.offset_x, place.source_width),
      to_source(box.y2, place.top, place.scale_y, place.offset_y, place.source_height),
  };
}

// A box of finite corners with some area in the region that was looked at.
static __device__ inline bool shows(const Box &box, const Placement &place) {
  if (!(finite(box.x1) && finite(box.y1) && finite(box.x2) && finite(box.y2))) return false;
  Box seen = to_source(box, place);
  return fminf(seen.x2, place.region_right) > fmaxf(seen.x1, place.region_left) &&
         fminf(seen.y2, place.region_bottom) > fmaxf(seen.y1, place.region_top);
}

static __device__ inline bool wanted(const Classes &classes, int class_id) {
  return classes.words[class_id >> 5] >> (class_id & 31) & 1;
}
