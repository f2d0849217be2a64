// Attention of one query over a cache, and the softmax for attention of many.

#include "common.cuh"

struct Attention {
  // [heads, dim].
  const half *query;
  const half *key;
  const half *value;
  int64_t key_head, key_row;
  int64_t value_head, value_row;
  // [heads, splits, dim + 2]: the weighted sum, the largest score, the weight.
  float *parts;
  // How many blocks of a group of heads are done; 0 before and after.
  unsigned *done;
  half *out;
  int group;
  int keys;
  int dim;
  // Keys for each block.
  int share;
  float scale;
};

namespace {

// Blocks are [splits, kv heads, parts of a group]. `dim / 8` lanes share a key,
// 8 elements each; the sums of lanes that hold the same elements of other keys
// are combined at the end.
template <int HEADS>
__device__ __forceinline__ void attend(const Attention &p) {
  constexpr int ROWS = 4;
  extern __shared__ float shared[];
  __shared__ bool is_last;
  release();
  wait();
  const int lanes = p.dim / 8;
  const int slots = blockDim.x / lanes, slot = threadIdx.x / lanes, lane = threadIdx.x % lanes;
  const int first_head = blockIdx.y * p.group + blockIdx.z * HEADS;
  const half *keys = p.key + blockIdx.y * p.key_head + lane * 8;
  const half *values = p.value + blockIdx.y * p.value_head + lane * 8;
  const int begin = blockIdx.x * p.share, end = min(begin + p.share, p.keys);

  float query[HEADS][8], mixed[HEADS][8] = {}, largest[HEADS], total[HEADS] = {};
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    unpack(*reinterpret_cast<const uint4 *>(p.query + (first_head + h) * p.dim + lane * 8), query[h]);
#pragma unroll
    for (int i = 0; i < 8; i++) query[h][i] = rounded(query[h][i] * p.scale);
    largest[h] = -INFINITY;
  }
  // All lanes of a warp run the same number of rounds, for the shuffles.
  for (int base = begin; base < end; base += slots * ROWS) {
    uint4 k[ROWS], v[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const int key = min(base + r * slots + slot, end - 1);
      k[r] = *reinterpret_cast<const uint4 *>(keys + key * p.key_row);
      v[r] = *reinterpret_cast<const uint4 *>(values + key * p.value_row);
    }
    float scores[HEADS][ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float key[8];
      unpack(k[r], key);
#pragma unroll
      for (int h = 0; h < HEADS; h++) {
        float score = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) score = fmaf(query[h][i], key[i], score);
        for (int step = lanes / 2; step > 0; step /= 2) score += __shfl_xor_sync(ALL, score, step);
        scores[h][r] = base + r * slots + slot < end ? score : -INFINITY;
      }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      float above = largest[h];
#pragma unroll
      for (int r = 0; r < ROWS; r++) above = fmaxf(above, scores[h][r]);
      // A slot without a key so far stays empty.
      const float shrink = above == -INFINITY ? 1.0f : expf(largest[h] - above);
      largest[h] = above;
      total[h] *= shrink;
#pragma unroll
      for (int i = 0; i < 8; i++) mixed[h][i] *= shrink;
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const float weight = scores[h][r] == -INFINITY ? 0.0f : expf(scores[h][r] - above);
        float value[8];
        unpack(v[r], value);
        total[h] += weight;
#pragma unroll
        for (int i = 0; i < 8; i++) mixed[h][i] = fmaf(weight, value[i], mixed[h][i]);
      }
    }
  }
  // [heads, slots, dim + 2].
  const int width = p.dim + 2;
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    float *own = shared + (h * slots + slot) * width;
#pragma unroll
    for (int i = 0; i < 8; i++) own[lane * 8 + i] = mixed[h][i];
    if (lane == 0) {
      own[p.dim] = largest[h];
      own[p.dim + 1] = total[h];
    }
  }
  __syncthreads();
  const int splits = gridDim.x;
  for (int at = threadIdx.x; at < HEADS * p.dim; at += blockDim.x) {
    const int h = at / p.dim, i = at % p.dim;
    const float *own = shared + h * slots * width;
    float above = -INFINITY;
    for (int s = 0; s < slots; s++) above = fmaxf(above, own[s * width + p.dim]);
    float sum = 0, weight = 0;
    for (int s = 0; s < slots; s++) {
      const float largest = own[s * width + p.dim];
      const float factor = largest == -INFINITY ? 0.0f : expf(largest - above);
      sum = fmaf(factor, own[s * width + i], sum);
      weight = fmaf(factor, own[s * width + p.dim + 1], weight);
    }
    if (splits == 1) {
      p.out[(first_head + h) * p.dim + i] = __float2half_rn(sum / weight);
      continue;
    }
    float *part = p.parts + (static_cast<int64_t>(first_head + h) * splits + blockIdx.x) * width;
    part[i] = sum;
    if (i == 0) {
      part[p.dim] = above;
      part[p.dim + 1] = weight;
    }
  }
  if (splits == 1) return;
  // The last block of these heads combines the parts.
  __threadfence();
  __syncthreads();
  unsigned *done = p.done + blockIdx.y * gridDim.z + blockIdx.z;
  if (threadIdx.x == 0) is_last = atomicAdd(done, 1u) == splits - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  if (threadIdx.x == 0) *done = 0;
  for (int at = threadIdx.x; at < HEADS * p.dim; at += blockDim.x) {
    const int h = at / p.dim, i = at % p.dim;
    const volatile float *parts = p.parts + static_cast<int64_t>(first_head + h) * splits * width;
    float above = -INFINITY;
    for (int s = 0; s < splits; s++) above = fmaxf(above, parts[s * width + p.dim]);
    float sum = 0, weight = 0;
    for (int s = 0; s < splits; s++) {
      const float factor = expf(parts[s * width + p.dim] - above);
      sum = fmaf(factor, parts[s * width + i], sum);
      weight = fmaf(factor, parts[s * width + p.dim + 1], weight);
    }
    p.out[(first_head + h) * p.dim + i] = __float2half_rn(sum / weight);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS) attention_1(const __grid_constant__ Attention p) { attend<1>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) attention_2(const __grid_constant__ Attention p) { attend<2>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) attention_4(const __grid_constant__ Attention p) { attend<4>(p); }

// Softmax of rows of scores, for attention of many queries.
struct Softmax {
  const float *scores;
  half *out;
  // Rows of all heads.
  int count;
  int keys;
  // Where causal, the last of `rows` sees all keys, and each one before it one
  // key fewer.
  int rows;
  int causal;
};

// A warp for a row; a row of up to HELD * WARP keys stays in registers.
extern "C" __global__ void __launch_bounds__(THREADS) softmax(const __grid_constant__ Softmax p) {
  constexpr int HELD = 32;
  release();
  wait();
  const int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= p.count) return;
  const float *scores = p.scores + static_cast<int64_t>(row) * p.keys;
  half *out = p.out + static_cast<int64_t>(row) * p.keys;
  const int visible = p.causal ? p.keys - p.rows + row % p.rows + 1 : p.keys;
  float largest = -INFINITY, total = 0;
  if (p.keys <= HELD * WARP) {
    float held[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) {
      const int key = i * WARP + lane;
      held[i] = key < visible ? scores[key] : -INFINITY;
      largest = fmaxf(largest, held[i]);
    }
    largest = warp_max(largest);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
      held[i] = expf(held[i] - largest);
      total += held[i];
    }
    total = warp_sum(total);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
      const int key = i * WARP + lane;
      if (key < p.keys) out[key] = __float2half_rn(held[i] / total);
    }
    return;
  }
  for (int key = lane; key < visible; key += WARP) largest = fmaxf(largest, scores[key]);
  largest = warp_max(largest);
  for (int key = lane; key < visible; key += WARP) total += expf(scores[key] - largest);
  total = warp_sum(total);
  for (int key = lane; key < p.keys; key += WARP) {
    out[key] = __float2half_rn(key < visible ? expf(scores[key] - largest) / total : 0.0f);
  }
}
