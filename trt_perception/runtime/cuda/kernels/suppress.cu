// SPDX-License-Identifier: Apache-2.0
// Greedy non-maximum suppression by class, and what the host gets to see.
#include "candidates.h"

// As pairwise_iou in core/nms.py, of two boxes of one class.
static __device__ inline bool overlap(const Box &a, const Box &b, float threshold) {
  float width = fmaxf(fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1), 0.0f);
  float height = fmaxf(fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1), 0.0f);
  float inside = width * height;
  if (!(inside > 0.0f)) return false;
  float both = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - inside;
  return both > 0.0f && inside / both > threshold;
}

#define TILE 64
#define PARTS 4
#define PART (TILE / PARTS)

// Bit j of word w in line i: candidate i overlaps the better one 64 * w + j of its class. Blocks of
// TILE * PARTS take turns with the tiles on and below the diagonal; the others are never read.
extern "C" __global__ void overlaps(
    float threshold, const unsigned *count, const Box *boxes, const int *class_ids, Word *words) {
  __shared__ Box other_box[TILE];
  __shared__ int other_class[TILE];
  int candidates = (int)*count, tiles = (candidates + TILE - 1) / TILE;
  int lane = threadIdx.x % TILE, part = threadIdx.x / TILE;
  for (int pair = blockIdx.x; pair < tiles * (tiles + 1) / 2; pair += gridDim.x) {
    int line = 0;
    while ((line + 1) * (line + 2) / 2 <= pair) line++;
    int column = pair - line * (line + 1) / 2;
    int own = line * TILE + lane;
    if (part == 0 && column * TILE + lane < candidates) {
      other_box[lane] = boxes[column * TILE + lane];
      other_class[lane] = class_ids[column * TILE + lane];
    }
    __syncthreads();
    if (own < candidates) {
      Box box = boxes[own];
      int class_id = class_ids[own];
      int end = line == column ? min(lane, (part + 1) * PART) : (part + 1) * PART;
      unsigned bits = 0;
      for (int j = part * PART; j < end; j++)
        if (other_class[j] == class_id && overlap(box, other_box[j], threshold))
          bits |= 1u << (j - part * PART);
      unsigned short *word = (unsigned short *)(words + (long long)own * WORDS + column);
      word[part] = (unsigned short)bits;  // little-endian, as all that CUDA runs on
    }
    __syncthreads();
  }
}

struct Result {
  unsigned count, passed;
  Word stamps[4];
  Box boxes[CAPACITY];
  float scores[CAPACITY];
  int class_ids[CAPACITY];
};

// One block of TILE * PARTS: tile by tile, who is suppressed by those kept so far, then who by one
// another. In the tile each candidate is decided as soon as all better ones that overlap it are,
// which takes as many rounds as the longest chain of them. Then all is as before the frame.
// Without words nobody is suppressed; who has no class never counts.
extern "C" __global__ void suppress(
    Placement place, int limit, unsigned most, const Box *boxes, const float *scores,
    const int *class_ids, const Word *words, unsigned *counts, Word *stamps, Result *result) {
  __shared__ Word kept[WORDS];
  __shared__ unsigned hits[TILE];
  __shared__ unsigned stays[2], goes[2];  // a bit each in the tile
  int lane = threadIdx.x % TILE, part = threadIdx.x / TILE;
  Word own = 1ull << lane;
  int passed = (int)min(counts[0], most), candidates = (int)counts[1], total = 0;
  for (int tile = 0; tile * TILE < candidates && total < limit; tile++) {
    int i = tile * TILE + lane;
    bool present = i < candidates;
    Box box = {0.0f, 0.0f, 0.0f, 0.0f};
    float score = 0.0f;
    int class_id = -1;
    if (part == 0) {
      hits[lane] = 0;
      if (lane < 2) stays[lane] = goes[lane] = 0;
      if (present) {
        box = boxes[i];
        score = scores[i];
        class_id = class_ids[i];
      }
    }
    __syncthreads();
    Word better = 0;
    if (words && present) {
      const Word *line = words + (long long)i * WORDS;
      Word hit = 0;
      for (int w = part; w < tile; w += PARTS) hit |= line[w] & kept[w];
      if (hit) atomicAdd(&hits[lane], 1u);
      if (part == 0) better = line[tile];
    }
    __syncthreads();
    bool open = part == 0;
    if (open && (class_id < 0 || hits[lane])) {
      atomicAdd(&goes[lane / 32], 1u << lane % 32);
      open = false;
    }
    __syncthreads();
    Word stay, go;
    for (;;) {
      stay = (Word)stays[1] << 32 | stays[0];
      go = (Word)goes[1] << 32 | goes[0];
      __syncthreads();
      if ((stay | go) == ~0ull) break;
      if (open && (better & stay)) {
        atomicAdd(&goes[lane / 32], 1u << lane % 32);
        open = false;
      } else if (open && !(better & ~go)) {
        atomicAdd(&stays[lane / 32], 1u << lane % 32);
        open = false;
      }
      __syncthreads();
    }
    int rank = total + bit_count(stay & (own - 1));
    if (part == 0 && (stay & own) && rank < limit) {
      result->boxes[rank] = to_source(box, place);
      result->scores[rank] = fminf(fmaxf(score, 0.0f), 1.0f);
      result->class_ids[rank] = class_id;
    }
    if (threadIdx.x == 0) kept[tile] = stay;
    total += bit_count(stay);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    counts[0] = counts[1] = 0;
    result->count = (unsigned)min(total, limit);
    result->passed = (unsigned)passed;
    for (int k = 0; k < 3; k++) {
      result->stamps[k] = stamps[k];
      stamps[k] = 0;
    }
    stamps[3] = 0;
    result->stamps[3] = global_time();
  }
}

extern "C" __global__ void stamp(unsigned long long *at) { at[0] = global_time(); }
