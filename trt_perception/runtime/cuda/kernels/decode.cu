// SPDX-License-Identifier: Apache-2.0
// From a network's outputs to candidates, best first. core/decoders/ says what the numbers mean.
#include "candidates.h"

// The scores of an output: of class c in row r is element r * row_step + c * step.
struct Scores {
  const void *data;
  int half;  // float16, not float32
  int rows, classes;
  int row_step, step;
  int objectness;  // the element before them that multiplies them is so far from the first, or 0
  int logits;      // scores are their sigmoids
  int multi_label;
  int rows_a_block;
  float threshold;
  float floor;  // a logit below it cannot reach the threshold
};

struct Filter {
  Placement place;
  Classes classes;
  int early;  // before the best are taken; else after
};

struct List {
  unsigned *count;
  Word *keys;
};

static __device__ inline void append(
    unsigned bits, int row, int class_id, int classes, const List &list) {
  unsigned slot = atomicAdd(list.count, 1u);
  list.keys[slot] = key_of(bits, (unsigned)row * (unsigned)classes + (unsigned)class_id);
}

// NaN is no score. Nor is infinity, but like a box that is filtered late it takes a place first.
static __device__ inline bool reaches(unsigned bits, const Scores &scores, const Filter &filter) {
  float score = unordered(bits);
  return score >= scores.threshold && (finite(score) || !filter.early);
}

// Append each wanted class of a row that this thread looks at, `first` and every `stride`th until
// `last`. The box is looked at once, and only if a score is high enough.
template <typename Value>
static __device__ inline void append_each(
    Value value, int row, int first, int last, int stride, const Scores &scores, const Boxes &boxes,
    const Filter &filter, const List &list) {
  int shown = -1;
  for (int c = first; c < last; c += stride) {
    unsigned bits = ordered(value(c));
    if (!reaches(bits, scores, filter)) continue;
    if (filter.early) {
      if (!wanted(filter.classes, c)) continue;
      if (shown < 0) shown = shows(box_of(boxes, row), filter.place);
      if (!shown) return;
    }
    append(bits, row, c, scores.classes, list);
  }
}

static __device__ inline void append_best(
    unsigned bits, int row, int class_id, const Scores &scores, const Boxes &boxes,
    const Filter &filter, const List &list) {
  if (!reaches(bits, scores, filter)) return;
  if (filter.early && !(wanted(filter.classes, class_id) &&
                        shows(box_of(boxes, row), filter.place)))
    return;
  append(bits, row, class_id, scores.classes, list);
}

#define COLUMNS 32
#define SHARES 8

// Neighbouring threads read neighbouring columns; the classes are shared out along threadIdx.y.
template <typename T>
static __device__ inline void score_columns_of(
    const T *data, const Scores &scores, const Boxes &boxes, const Filter &filter,
    const List &list) {
  __shared__ unsigned best_bits[SHARES][COLUMNS];
  __shared__ int best_class[SHARES][COLUMNS];
  int row = blockIdx.x * COLUMNS + threadIdx.x;
  int share = (scores.classes + SHARES - 1) / SHARES;
  int first = threadIdx.y * share;
  int last = row < scores.rows ? min(first + share, scores.classes) : first;
  const T *column = data + row;
  if (scores.multi_label) {
    auto value = [&](int c) { return load(column, (long long)c * scores.step); };
    append_each(value, row, first, last, 1, scores, boxes, filter, list);
    return;
  }
  unsigned best = 0;
  int class_id = first;
#pragma unroll 8
  for (int c = first; c < last; c++) {
    unsigned bits = ordered(load(column, (long long)c * scores.step));
    if (bits > best) {
      best = bits;
      class_id = c;
    }
  }
  best_bits[threadIdx.y][threadIdx.x] = best;
  best_class[threadIdx.y][threadIdx.x] = class_id;
  __syncthreads();
  if (threadIdx.y) return;
  for (int k = 1; k < SHARES; k++) {
    unsigned bits = best_bits[k][threadIdx.x];
    if (bits > best) {
      best = bits;
      class_id = best_class[k][threadIdx.x];
    }
  }
  if (row < scores.rows) append_best(best, row, class_id, scores, boxes, filter, list);
}

// Block (COLUMNS, SHARES).
extern "C" __global__ void score_columns(
    Scores scores, Boxes boxes, Filter filter, List list, Word *stamps) {
  if (blockIdx.x == 0 && threadIdx.x == 0 && threadIdx.y == 0) stamps[2] = global_time();
  if (scores.half)
    score_columns_of((const unsigned short *)scores.data, scores, boxes, filter, list);
  else
    score_columns_of((const float *)scores.data, scores, boxes, filter, list);
}

#define LANES 32
#define TEAMS 4

static __device__ inline float sigmoid(float logit) {
  return 0.5f * (1.0f + (float)tanh((double)(0.5f * logit)));
}

// First each thread looks at the objectness of one row; then teams go through the rows that are
// left, neighbouring threads at neighbouring classes.
template <typename T>
static __device__ inline void score_rows_of(
    const T *data, const Scores &scores, const Boxes &boxes, const Filter &filter,
    const List &list) {
  __shared__ int near[LANES * TEAMS];
  __shared__ float factor[LANES * TEAMS];
  __shared__ unsigned count;
  __shared__ unsigned best_bits[TEAMS];
  __shared__ unsigned best_class[TEAMS];  // counted from the last, so that the first is the greatest
  int thread = threadIdx.x, lane = thread % LANES, team = thread / LANES;
  if (thread == 0) count = 0;
  if (lane == 0) best_bits[team] = best_class[team] = 0;
  __syncthreads();
  int own = blockIdx.x * scores.rows_a_block + thread;
  if (thread < scores.rows_a_block && own < scores.rows) {
    float object = 1.0f;
    if (scores.objectness)
      object = load(data, (long long)own * scores.row_step - scores.objectness);
    if (!scores.objectness || object >= scores.threshold) {
      unsigned slot = atomicAdd(&count, 1u);
      near[slot] = own;
      factor[slot] = object;
    }
  }
  __syncthreads();
  for (unsigned start = 0; start < count; start += TEAMS) {
    bool busy = start + team < count;
    int row = busy ? near[start + team] : 0;
    float object = busy ? factor[start + team] : 0.0f;
    const T *line = data + (long long)row * scores.row_step;
    auto value = [&](int c) {
      float v = load(line, c);
      if (!scores.logits) return v * object;
      return v < scores.floor ? -INFINITY : sigmoid(v);
    };
    if (scores.multi_label) {
      if (busy)
        append_each(value, row, lane, scores.classes, LANES, scores, boxes, filter, list);
      continue;
    }
    unsigned best = 0;
    int class_id = 0;
    if (busy) {
      for (int c = lane; c < scores.classes; c += LANES) {
        unsigned bits = ordered(value(c));
        if (bits > best) {
          best = bits;
          class_id = c;
        }
      }
      if (best) atomicMax(&best_bits[team], best);
    }
    __syncthreads();
    if (best && best == best_bits[team])
      atomicMax(&best_class[team], (unsigned)(scores.classes - class_id));
    __syncthreads();
    if (busy && lane == 0) {
      int first = scores.classes - (int)best_class[team];
      append_best(best_bits[team], row, first, scores, boxes, filter, list);
      best_bits[team] = best_class[team] = 0;
    }
    __syncthreads();
  }
}

// Block LANES * TEAMS.
extern "C" __global__ void score_rows(
    Scores scores, Boxes boxes, Filter filter, List list, Word *stamps) {
  if (blockIdx.x == 0 && threadIdx.x == 0) stamps[2] = global_time();
  if (scores.half)
    score_rows_of((const unsigned short *)scores.data, scores, boxes, filter, list);
  else
    score_rows_of((const float *)scores.data, scores, boxes, filter, list);
}

#define THREADS 1024
#define DIGIT 10  // bits: a bin a thread

static __device__ inline void order(Word &a, Word &b, bool rising) {
  if ((a > b) == rising) {
    Word t = a;
    a = b;
    b = t;
  }
}

// Bitonic sort of a power of two. Two strides are taken at a time: half as many barriers.
static __device__ inline void sort(Word *keys, int size) {
  int thread = threadIdx.x;
  for (int run = 2, strides = 1; run <= size; run *= 2, strides++) {
    int stride = run / 2;
    if (strides & 1) {
      for (int t = thread; t < size / 2; t += THREADS) {
        int i = (t & -stride) << 1 | (t & (stride - 1));
        order(keys[i], keys[i + stride], !(i & run));
      }
      stride /= 2;
      __syncthreads();
    }
    for (; stride; stride /= 4) {
      int half = stride / 2;
      if (thread < size / 4) {
        int i = (thread & -half) << 2 | (thread & (half - 1));
        bool rising = !(i & run);
        Word a = keys[i], b = keys[i + half], c = keys[i + stride], d = keys[i + stride + half];
        order(a, c, rising);
        order(b, d, rising);
        order(a, b, rising);
        order(c, d, rising);
        keys[i] = a;
        keys[i + half] = b;
        keys[i + stride] = c;
        keys[i + stride + half] = d;
      }
      __syncthreads();
    }
  }
}

// The CAPACITY smallest of more keys, exactly: digit by digit from the top, the bin in which the
// last of them lies is found and looked into.
static __device__ inline void smallest(const Word *keys, unsigned count, Word *taken) {
  __shared__ unsigned bins[THREADS];
  __shared__ unsigned bin, before, inside, found;
  unsigned thread = threadIdx.x, wanted = CAPACITY;
  Word prefix = 0;
  int shift = 64;
  if (thread == 0) found = 0;
  do {
    int width = min(DIGIT, shift), above = shift;
    shift -= width;
    bins[thread] = 0;
    __syncthreads();
    for (unsigned i = thread; i < count; i += THREADS) {
      Word key = keys[i];
      if (above == 64 || key >> above == prefix)
        atomicAdd(&bins[(unsigned)(key >> shift) & ((1u << width) - 1)], 1u);
    }
    __syncthreads();
    unsigned own = bins[thread], sum = own;
    for (unsigned step = 1; step < THREADS; step *= 2) {
      unsigned other = thread >= step ? bins[thread - step] : 0;
      __syncthreads();
      bins[thread] = sum += other;
      __syncthreads();
    }
    if (sum - own < wanted && sum >= wanted) {
      bin = thread;
      before = sum - own;
      inside = own;
    }
    __syncthreads();
    wanted -= before;
    prefix = prefix << width | bin;
  } while (inside != wanted);  // keys are unique: the last digit ends it at the latest
  for (unsigned i = thread; i < count; i += THREADS)
    if (keys[i] >> shift <= prefix) taken[atomicAdd(&found, 1u)] = keys[i];
  __syncthreads();
}

// One block of THREADS: the best candidates in order. `most` of them, whatever comes of them later.
extern "C" __global__ void take_best(
    Boxes boxes, Filter filter, List list, int classes, int most, unsigned *taken_count,
    Box *taken_boxes, float *taken_scores, int *taken_classes) {
  __shared__ Word keys[CAPACITY];
  unsigned passed = *list.count;
  int thread = threadIdx.x, count = (int)min(passed, (unsigned)CAPACITY);
  int size = 2;
  while (size < count) size *= 2;
  if (passed > CAPACITY)
    smallest(list.keys, passed, keys);
  else
    for (int i = thread; i < size; i += THREADS) keys[i] = i < count ? list.keys[i] : ~0ull;
  __syncthreads();
  if (count > 1) sort(keys, size);
  count = min(count, most);
  for (int i = thread; i < count; i += THREADS) {
    Word key = keys[i];
    int row = (int)((unsigned)key / (unsigned)classes);
    int class_id = (int)((unsigned)key % (unsigned)classes);
    Box box = box_of(boxes, row);
    float score = unordered(~(unsigned)(key >> 32));
    if (!filter.early &&
        !(finite(score) && wanted(filter.classes, class_id) && shows(box, filter.place)))
      class_id = -1;
    taken_boxes[i] = box;
    taken_scores[i] = score;
    taken_classes[i] = class_id;
  }
  if (thread == 0) *taken_count = (unsigned)count;
}
