// SPDX-License-Identifier: Apache-2.0
// From a camera's bytes to a network's input, in one launch. The arithmetic is OpenCV's, in whole
// numbers, so that the input is the one of runtime/host/preprocess.py.
#include "platform.h"

// The structures below have their like in preprocess.py.

struct Picture {
  const unsigned char *const *source;  // where the address of its first byte is found
  long long step;                      // bytes from one row to the next
  int width, height;
  int first, second;  // what an encoding's variants differ in; see there
};

struct Place {
  int x, y, region_width, region_height;  // what is used of the picture
  int left, top, width, height;           // where it goes in the input
};

struct Input {
  void *values;        // (3, height, width)
  const void *tables;  // (3, 256): the value of each level in each plane
  int width, height;
  int entry_bytes;  // 1, 2 or 4
  int reversed;     // the first colour goes into the last plane
  int pad;          // level
};

struct Color {
  int c[3];
};

// Two neighbours along an axis, and their weights in 1/2048.
struct Tap {
  int near, far, near_weight, far_weight;
};

#define COLUMNS 64
#define LINES 4  // of threads
#define ROWS 8   // of a block: each thread makes ROWS / LINES pixels

// Where an output pixel lies among `size` pixels that are made into `wanted` of them, by OpenCV's
// rule: pixel centres at half coordinates, in floats. The quotient is taken in integers first, which
// is as good as OpenCV's double precision. Sizes up to 16384.
static __device__ inline Tap tap_of(int at, int size, int wanted) {
  int numerator = (2 * at + 1) * size - wanted, denominator = 2 * wanted;
  int whole = numerator / denominator, rest = numerator - whole * denominator;
  float place = (float)whole + (float)rest / (float)denominator;
  float low = floorf(place), share = place - low;
  int near = (int)low;
  return {near, near + 1, (int)rintf((1.0f - share) * 2048.0f), (int)rintf(share * 2048.0f)};
}

// Along a row the weight beyond an edge is moved to it; along a column pixels are repeated there.
// That differs in what is rounded off.
static __device__ inline Tap column_tap(int at, int size, int wanted) {
  Tap tap = tap_of(at, size, wanted);
  if (tap.near < 0) return {0, 0, 2048, 0};
  if (tap.near >= size - 1) return {size - 1, size - 1, 2048, 0};
  return tap;
}

static __device__ inline Tap row_tap(int at, int size, int wanted) {
  Tap tap = tap_of(at, size, wanted);
  tap.near = min(max(tap.near, 0), size - 1);
  tap.far = min(max(tap.far, 0), size - 1);
  // What has no weight is not read: where two rows become one by thirds, half of the bytes.
  if (tap.far_weight == 0) tap.far = tap.near;
  if (tap.near_weight == 0) tap.near = tap.far;
  return tap;
}

static __device__ inline int level_of(int a, int b, int c, int d, Tap column, Tap row) {
  int upper = a * column.near_weight + b * column.far_weight;
  int lower = c * column.near_weight + d * column.far_weight;
  return ((row.near_weight * (upper >> 4) >> 16) + (row.far_weight * (lower >> 4) >> 16) + 2) >> 2;
}

// Encodings: the colour of one pixel of an image.

template <int CHANNELS>
struct Interleaved {
  static __device__ inline Color at(
      const unsigned char *__restrict__ image, const Picture &picture, int x, int y) {
    const unsigned char *pixel = image + y * picture.step + x * CHANNELS;
    return {pixel[0], pixel[1], pixel[2]};
  }
};

struct Mono8 {
  static __device__ inline Color at(
      const unsigned char *__restrict__ image, const Picture &picture, int x, int y) {
    return {image[y * picture.step + x]};
  }
};

// Little-endian, and not aligned where a message's data are not.
struct Mono16 {
  static __device__ inline Color at(
      const unsigned char *__restrict__ image, const Picture &picture, int x, int y) {
    const unsigned char *pixel = image + y * picture.step + 2 * x;
    return {(int)rintf((float)(pixel[0] | pixel[1] << 8) * (float)(1.0 / 257))};
  }
};

static __device__ inline int clipped(int level) { return min(max(level, 0), 255); }

// ITU-R BT.601 in 1/2^20; blue, green, red.
static __device__ inline Color of_yuv(int y, int u, int v) {
  int luma = max(y - 16, 0) * 1220542 + (1 << 19);
  u -= 128;
  v -= 128;
  return {
      clipped((luma + 2116026 * u) >> 20),
      clipped((luma - 852492 * v - 409993 * u) >> 20),
      clipped((luma + 1673527 * v) >> 20),
  };
}

// Two pixels in four bytes; `first`: that of the first luma, `second`: that of U.
struct Yuv422 {
  static __device__ inline Color at(
      const unsigned char *__restrict__ image, const Picture &picture, int x, int y) {
    const unsigned char *pair = image + y * picture.step + (x >> 1) * 4;
    return of_yuv(
        pair[picture.first + (x & 1) * 2], pair[picture.second], pair[picture.second + 2]);
  }
};

// A plane of luma, then one of a pair of chroma for two by two pixels; `first`: U in the pair.
struct SemiPlanar {
  static __device__ inline Color at(
      const unsigned char *__restrict__ image, const Picture &picture, int x, int y) {
    const unsigned char *pair = image + (picture.height + (y >> 1)) * picture.step + (x & ~1);
    return of_yuv(
        image[y * picture.step + x], pair[picture.first], pair[1 - picture.first]);
  }
};

// Red is in columns of parity `first` and rows of parity `second`. Missing colours are the mean of
// those around; the outermost pixels are those beside them.
struct Bayer {
  static __device__ inline Color at(
      const unsigned char *__restrict__ image, const Picture &picture, int x, int y) {
    if (picture.width < 3 || picture.height < 3) return {0, 0, 0};
    x = min(max(x, 1), picture.width - 2);
    y = min(max(y, 1), picture.height - 2);
    const unsigned char *middle = image + y * picture.step + x;
    const unsigned char *above = middle - picture.step, *below = middle + picture.step;
    bool red_column = (x & 1) == picture.first, red_row = (y & 1) == picture.second;
    int own = middle[0], across = middle[-1] + middle[1], down = above[0] + below[0];
    if (red_column != red_row) {
      across = (across + 1) >> 1;
      down = (down + 1) >> 1;
      return red_row ? Color{down, own, across} : Color{across, own, down};
    }
    int corners = (above[-1] + above[1] + below[-1] + below[1] + 2) >> 2;
    int green = (across + down + 2) >> 2;
    return red_row ? Color{corners, green, own} : Color{own, green, corners};
  }
};

template <typename Entry>
static __device__ inline void put(const Input &input, int x, int y, const int *levels) {
  long long plane = (long long)input.height * input.width;
  Entry *value = (Entry *)input.values + (long long)y * input.width + x;
  const Entry *table = (const Entry *)input.tables;
  for (int k = 0; k < 3; k++) value[k * plane] = table[k * 256 + levels[k]];
}

// A block makes a tile of the input: COLUMNS by ROWS.
template <typename Encoding, int COLORS>
static __device__ inline void preprocess(
    const Picture &picture, const Place &place, const Input &input, unsigned long long *stamps) {
  __shared__ Tap columns[COLUMNS], rows[ROWS];
  __shared__ const unsigned char *image;
  int x = blockIdx.x * COLUMNS + threadIdx.x, top = blockIdx.y * ROWS;
  bool first = threadIdx.x == 0 && threadIdx.y == 0;
  if (first) {
    if (blockIdx.x == 0 && blockIdx.y == 0) stamps[0] = global_time();
    image = *picture.source;  // once for all threads: it can lie across the bus
  }
  if (threadIdx.y == 1)
    columns[threadIdx.x] = column_tap(x - place.left, place.region_width, place.width);
  if (threadIdx.y == 2 && threadIdx.x < ROWS)
    rows[threadIdx.x] = row_tap(top + threadIdx.x - place.top, place.region_height, place.height);
  __syncthreads();
  bool inside_row = x >= place.left && x < place.left + place.width;
  Tap column = columns[threadIdx.x];
  int near_x = place.x + column.near, far_x = place.x + column.far;
#pragma unroll
  for (int line = threadIdx.y; line < ROWS; line += LINES) {
    int y = top + line;
    if (x >= input.width || y >= input.height) continue;
    int levels[3] = {input.pad, input.pad, input.pad};
    if (inside_row && y >= place.top && y < place.top + place.height) {
      Tap row = rows[line];
      int near_y = place.y + row.near, far_y = place.y + row.far;
      Color a = Encoding::at(image, picture, near_x, near_y);
      Color b = Encoding::at(image, picture, far_x, near_y);
      Color c = Encoding::at(image, picture, near_x, far_y);
      Color d = Encoding::at(image, picture, far_x, far_y);
      for (int k = 0; k < COLORS; k++)
        levels[k] = level_of(a.c[k], b.c[k], c.c[k], d.c[k], column, row);
      if (COLORS == 1) levels[1] = levels[2] = levels[0];
    }
    if (input.reversed) {
      int last = levels[2];
      levels[2] = levels[0];
      levels[0] = last;
    }
    if (input.entry_bytes == 4)
      put<unsigned>(input, x, y, levels);
    else if (input.entry_bytes == 2)
      put<unsigned short>(input, x, y, levels);
    else
      put<unsigned char>(input, x, y, levels);
  }
  if (first) atomicMax(&stamps[1], global_time());
}

extern "C" __global__ void preprocess_color3(
    Picture picture, Place place, Input input, unsigned long long *stamps) {
  preprocess<Interleaved<3>, 3>(picture, place, input, stamps);
}

extern "C" __global__ void preprocess_color4(
    Picture picture, Place place, Input input, unsigned long long *stamps) {
  preprocess<Interleaved<4>, 3>(picture, place, input, stamps);
}

extern "C" __global__ void preprocess_mono8(
    Picture picture, Place place, Input input, unsigned long long *stamps) {
  preprocess<Mono8, 1>(picture, place, input, stamps);
}

extern "C" __global__ void preprocess_mono16(
    Picture picture, Place place, Input input, unsigned long long *stamps) {
  preprocess<Mono16, 1>(picture, place, input, stamps);
}

extern "C" __global__ void preprocess_yuv422(
    Picture picture, Place place, Input input, unsigned long long *stamps) {
  preprocess<Yuv422, 3>(picture, place, input, stamps);
}

extern "C" __global__ void preprocess_semi_planar(
    Picture picture, Place place, Input input, unsigned long long *stamps) {
  preprocess<SemiPlanar, 3>(picture, place, input, stamps);
}

extern "C" __global__ void preprocess_bayer(
    Picture picture, Place place, Input input, unsigned long long *stamps) {
  preprocess<Bayer, 3>(picture, place, input, stamps);
}
