// What a program spends its time in on a card.
//
// Everything is computed in single precision and rounded to halves where the
// graph has a value of halves, as on the processor. A kernel takes one struct,
// whose twin in Rust has the same fields in the same order.
//
// On Hopper and later a kernel is launched while the one before it still runs:
// it may touch constants at once, and all else only after `wait`.

#include <cuda_fp16.h>
#include <stdint.h>

namespace {

constexpr int WARP = 32;
// Threads of the blocks that work along rows.
constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;
constexpr unsigned ALL = 0xffffffffu;

// Lets the next kernel begin, as soon as there is room for it.
__device__ __forceinline__ void release() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Until all that was launched before is done.
__device__ __forceinline__ void wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ float rounded(float x) {
  return __half2float(__float2half_rn(x));
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, step));
  return x;
}

// The sum over a block of THREADS; every thread gets it.
__device__ __forceinline__ float block_sum(float x) {
  __shared__ float parts[WARPS];
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int i = 0; i < WARPS; i++) total += parts[i];
  return total;
}

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

__device__ __forceinline__ void unpack(uint4 v, float out[8]) {
  const half2 *pairs = reinterpret_cast<const half2 *>(&v);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float2 pair = __half22float2(pairs[i]);
    out[2 * i] = pair.x;
    out[2 * i + 1] = pair.y;
  }
}

// Four si8 as floats: a byte, its sign turned, behind the exponent of 2^23.
__device__ __forceinline__ void widen(uint32_t bytes, float out[4]) {
  bytes ^= 0x80808080u;
  const float bias = 8388608.0f + 128.0f;
  out[0] = __uint_as_float(__byte_perm(bytes, 0x4B000000u, 0x7440)) - bias;
  out[1] = __uint_as_float(__byte_perm(bytes, 0x4B000000u, 0x7441)) - bias;
  out[2] = __uint_as_float(__byte_perm(bytes, 0x4B000000u, 0x7442)) - bias;
  out[3] = __uint_as_float(__byte_perm(bytes, 0x4B000000u, 0x7443)) - bias;
}

}  // namespace

// ---------------------------------------------------------------------------
// Matrix times vector.

struct Product {
  // Of `weight · x`, and of what gates it.
  const void *weight[2];
  // f16, one for each 32 elements of a row, where the weights are si8.
  const half *scales[2];
  const half *x;
  // The scale of an RMS norm that x goes through first, or null.
  const half *norm;
  // What is added to the product, or null.
  const half *add;
  half *out;
  int rows;
  int cols;
  float eps;
};

namespace {

// What a lane holds of one or two rows: 16 bytes of each of some chunks of
// the row. A chunk is 16 bytes for each lane of a warp.
template <int MATRICES, int CHUNKS>
struct Piece {
  uint4 data[MATRICES][CHUNKS];
  half scale[MATRICES][CHUNKS];
};

template <bool INT8, int MATRICES, int CHUNKS>
__device__ __forceinline__ void load(Piece<MATRICES, CHUNKS> &piece, const Product &p, int row, int chunk) {
  constexpr int STEP = INT8 ? 16 : 8;
  const int lane = threadIdx.x % WARP;
#pragma unroll
  for (int i = 0; i < CHUNKS; i++) {
    const int col = ((chunk + i) * WARP + lane) * STEP;
    const bool inside = row < p.rows && col < p.cols;
#pragma unroll
    for (int m = 0; m < MATRICES; m++) {
      piece.data[m][i] = make_uint4(0, 0, 0, 0);
      piece.scale[m][i] = __ushort_as_half(0);
      if (!inside) continue;
      const size_t at = static_cast<size_t>(row) * p.cols + col;
      const char *bytes = static_cast<const char *>(p.weight[m]);
      piece.data[m][i] = __ldcs(reinterpret_cast<const uint4 *>(bytes + (INT8 ? at : 2 * at)));
      if (INT8) piece.scale[m][i] = __ldcs(p.scales[m] + at / 32);
    }
  }
}

// x in shared memory. Where a lane takes 16 elements at once, the first and
// the second 8 lie apart, so that lanes side by side read from all banks.
template <bool INT8>
__device__ __forceinline__ int place(int vector, int vectors) {
  return INT8 ? (vector % 2) * (vectors / 2) + vector / 2 : vector;
}

template <bool INT8>
__device__ __forceinline__ void stage(const Product &p, uint4 *xs) {
  const int vectors = p.cols / 8;
  const uint4 *x = reinterpret_cast<const uint4 *>(p.x);
  float squares = 0;
  for (int v = threadIdx.x; v < vectors; v += THREADS) {
    const uint4 value = x[v];
    xs[place<INT8>(v, vectors)] = value;
    if (p.norm) {
      float f[8];
      unpack(value, f);
#pragma unroll
      for (int i = 0; i < 8; i++) squares += f[i] * f[i];
    }
  }
  if (p.norm) {
    const float factor = 1.0f / sqrtf(block_sum(squares) / p.cols + p.eps);
    const uint4 *norm = reinterpret_cast<const uint4 *>(p.norm);
    for (int v = threadIdx.x; v < vectors; v += THREADS) {
      float f[8], scale[8];
      uint4 &value = xs[place<INT8>(v, vectors)];
      unpack(value, f);
      unpack(norm[v], scale);
      half *out = reinterpret_cast<half *>(&value);
#pragma unroll
      for (int i = 0; i < 8; i++) out[i] = __float2half_rn(rounded(f[i] * factor) * scale[i]);
    }
  }
  __syncthreads();
}

template <bool INT8, int MATRICES, int CHUNKS>
__device__ __forceinline__ void multiply(const Piece<MATRICES, CHUNKS> &piece, const Product &p, const uint4 *xs,
                                         int chunk, float (&sums)[MATRICES]) {
  constexpr int STEP = INT8 ? 16 : 8;
  const int lane = threadIdx.x % WARP;
  const int vectors = p.cols / 8;
#pragma unroll
  for (int i = 0; i < CHUNKS; i++) {
    const int group = (chunk + i) * WARP + lane;
    if (group * STEP >= p.cols) continue;
    float x[STEP];
    if (INT8) {
      unpack(xs[group], x);
      unpack(xs[vectors / 2 + group], x + 8);
    } else {
      unpack(xs[group], x);
    }
#pragma unroll
    for (int m = 0; m < MATRICES; m++) {
      const uint4 data = piece.data[m][i];
      float sum = 0;
      if (INT8) {
        const uint32_t words[4] = {data.x, data.y, data.z, data.w};
#pragma unroll
        for (int word = 0; word < 4; word++) {
          float w[4];
          widen(words[word], w);
#pragma unroll
          for (int b = 0; b < 4; b++) sum = fmaf(w[b], x[4 * word + b], sum);
        }
        sums[m] = fmaf(sum, __half2float(piece.scale[m][i]), sums[m]);
      } else {
        float w[8];
        unpack(data, w);
#pragma unroll
        for (int b = 0; b < 8; b++) sum = fmaf(w[b], x[b], sum);
        sums[m] += sum;
      }
    }
  }
}

// A warp for a row. The first weights are on their way before x is there.
template <bool INT8, bool GATED>
__device__ __forceinline__ void product(const Product &p) {
  constexpr int MATRICES = GATED ? 2 : 1;
  constexpr int CHUNKS = GATED ? 2 : 4;
  constexpr int WIDTH = WARP * (INT8 ? 16 : 8);
  extern __shared__ uint4 xs[];
  const int chunks = (p.cols + WIDTH - 1) / WIDTH;
  const int stride = gridDim.x * WARPS;
  int row = blockIdx.x * WARPS + threadIdx.x / WARP, chunk = 0;
  Piece<MATRICES, CHUNKS> piece;
  load<INT8>(piece, p, row, chunk);
  release();
  wait();
  stage<INT8>(p, xs);
  float sums[MATRICES] = {};
  while (row < p.rows) {
    const bool last = chunk + CHUNKS >= chunks;
    const int next_row = last ? row + stride : row, next_chunk = last ? 0 : chunk + CHUNKS;
    Piece<MATRICES, CHUNKS> next;
    load<INT8>(next, p, next_row, next_chunk);
    multiply<INT8>(piece, p, xs, chunk, sums);
    if (last) {
#pragma unroll
      for (int m = 0; m < MATRICES; m++) sums[m] = warp_sum(sums[m]);
      if (threadIdx.x % WARP == 0) {
        float value = rounded(sums[0]);
        if (GATED) value *= rounded(silu(rounded(sums[MATRICES - 1])));
        if (p.add) value += __half2float(p.add[row]);
        p.out[row] = __float2half_rn(value);
      }
#pragma unroll
      for (int m = 0; m < MATRICES; m++) sums[m] = 0;
    }
    piece = next;
    row = next_row;
    chunk = next_chunk;
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS, 2) product_int8(const __grid_constant__ Product p) {
  product<true, false>(p);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) product_half(const __grid_constant__ Product p) {
  product<false, false>(p);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) gated_int8(const __grid_constant__ Product p) {
  product<true, true>(p);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) gated_half(const __grid_constant__ Product p) {
  product<false, true>(p);
}

// Scaled si8 as halves, for products of many rows.
struct Unfold {
  const uint4 *weight;
  const half *scales;
  uint4 *out;
  int64_t count;
};

extern "C" __global__ void unfold(const __grid_constant__ Unfold p) {
  release();
  wait();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < p.count / 16; i += step) {
    const uint4 data = __ldcs(p.weight + i);
    const float scale = __half2float(p.scales[i / 2]);
    const uint32_t words[4] = {data.x, data.y, data.z, data.w};
    half out[16];
#pragma unroll
    for (int word = 0; word < 4; word++) {
      float w[4];
      widen(words[word], w);
#pragma unroll
      for (int b = 0; b < 4; b++) out[4 * word + b] = __float2half_rn(w[b] * scale);
    }
    const uint4 *packed = reinterpret_cast<const uint4 *>(out);
    p.out[2 * i] = packed[0];
    p.out[2 * i + 1] = packed[1];
  }
}

// ---------------------------------------------------------------------------
// Norms of rows.

struct Norm {
  const half *x;
  // From one row to the next.
  int64_t stride;
  const half *gamma;
  // Null for an RMS norm, which has no mean to take away either.
  const half *beta;
  half *out;
  int width;
  float eps;
};

extern "C" __global__ void __launch_bounds__(THREADS) norm_rows(const __grid_constant__ Norm p) {
  release();
  wait();
  const half *x = p.x + blockIdx.x * p.stride;
  half *out = p.out + static_cast<int64_t>(blockIdx.x) * p.width;
  float mean = 0;
  if (p.beta) {
    float sum = 0;
    for (int i = threadIdx.x; i < p.width; i += THREADS) sum += __half2float(x[i]);
    mean = block_sum(sum) / p.width;
  }
  float squares = 0;
  for (int i = threadIdx.x; i < p.width; i += THREADS) {
    const float centred = __half2float(x[i]) - mean;
    squares += centred * centred;
  }
  const float factor = 1.0f / sqrtf(block_sum(squares) / p.width + p.eps);
  for (int i = threadIdx.x; i < p.width; i += THREADS) {
    float value = rounded((__half2float(x[i]) - mean) * factor) * __half2float(p.gamma[i]);
    if (p.beta) value = rounded(value) + __half2float(p.beta[i]);
    out[i] = __float2half_rn(value);
  }
}

// ---------------------------------------------------------------------------
// Rotary embeddings, mixed by masks.

constexpr int TURNS = 4;
constexpr int INLINE = 8;

struct Turn {
  const half *x;
  int64_t head_stride;
  int64_t row_stride;
  // The scale of an RMS norm before, [heads, dim], or null.
  const half *norm;
  float eps;
  // How fast each pair turns, [dim / 2].
  const float *frequencies[TURNS];
  // How much of each turned row is taken, [dim].
  const half *masks[TURNS];
  // [turns, rows], where they are more than fit here.
  const int *positions;
  int few[INLINE];
  half *out;
  int turns;
  int heads;
  int rows;
  int dim;
};

// A block for a row of a head, a thread for a pair. Only x comes from before:
// the angles are known by the time it is there.
extern "C" __global__ void turn(const __grid_constant__ Turn p) {
  __shared__ float parts[WARP];
  const int head = blockIdx.x / p.rows, row = blockIdx.x % p.rows;
  const int half_dim = p.dim / 2, i = threadIdx.x;
  const bool inside = i < half_dim;
  float cosine[TURNS], sine[TURNS], near[TURNS], far[TURNS], scale[2] = {1, 1};
  if (inside && p.norm) {
    scale[0] = __half2float(p.norm[head * p.dim + i]);
    scale[1] = __half2float(p.norm[head * p.dim + half_dim + i]);
  }
#pragma unroll
  for (int t = 0; t < TURNS; t++) {
    if (t >= p.turns || !inside) continue;
    const int index = t * p.rows + row;
    const int position = p.positions ? p.positions[index] : p.few[index];
    const float angle = static_cast<float>(position) * p.frequencies[t][i];
    cosine[t] = rounded(cosf(angle));
    sine[t] = rounded(sinf(angle));
    near[t] = __half2float(p.masks[t][i]);
    far[t] = __half2float(p.masks[t][half_dim + i]);
  }
  release();
  wait();
  const half *x = p.x + head * p.head_stride + row * p.row_stride;
  float a = inside ? __half2float(x[i]) : 0, b = inside ? __half2float(x[half_dim + i]) : 0;
  if (p.norm) {
    const float squares = warp_sum(a * a + b * b);
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = squares;
    __syncthreads();
    float total = 0;
    for (int w = 0; w < blockDim.x / WARP; w++) total += parts[w];
    const float factor = 1.0f / sqrtf(total / p.dim + p.eps);
    a = rounded(rounded(a * factor) * scale[0]);
    b = rounded(rounded(b * factor) * scale[1]);
  }
  if (!inside) return;
  float real = 0, imaginary = 0;
#pragma unroll
  for (int t = 0; t < TURNS; t++) {
    if (t >= p.turns) continue;
    const float r = rounded(rounded(a * cosine[t] - b * sine[t]) * near[t]);
    const float m = rounded(rounded(a * sine[t] + b * cosine[t]) * far[t]);
    real = t == 0 ? r : rounded(real + r);
    imaginary = t == 0 ? m : rounded(imaginary + m);
  }
  half *out = p.out + static_cast<int64_t>(blockIdx.x) * p.dim;
  out[i] = __float2half_rn(real);
  out[half_dim + i] = __float2half_rn(imaginary);
}

// ---------------------------------------------------------------------------
// Attention of one query to a cache.

struct Attention {
  // [heads, dim].
  const half *query;
  const half *key;
  const half *value;
  int64_t key_head, key_row;
  int64_t value_head, value_row;
  // [heads, splits, dim + 2]: the sum, its greatest score and its weight.
  float *parts;
  // How many blocks of a group of heads are done; zero before and after.
  unsigned *done;
  half *out;
  int group;
  int keys;
  int dim;
  // Keys of a block.
  int share;
  float scale;
};

namespace {

// Blocks are [splits, kv heads, parts of a group]. Some lanes have a key
// together, 8 elements each; those with the same elements of other keys are
// put together at the end.
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

  float query[HEADS][8], mixed[HEADS][8] = {}, most[HEADS], total[HEADS] = {};
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    unpack(*reinterpret_cast<const uint4 *>(p.query + (first_head + h) * p.dim + lane * 8), query[h]);
#pragma unroll
    for (int i = 0; i < 8; i++) query[h][i] = rounded(query[h][i] * p.scale);
    most[h] = -INFINITY;
  }
  // All lanes of a warp go the same number of rounds, for the shuffles.
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
      float above = most[h];
#pragma unroll
      for (int r = 0; r < ROWS; r++) above = fmaxf(above, scores[h][r]);
      // A slot that has seen no key yet stays empty.
      const float shrink = above == -INFINITY ? 1.0f : expf(most[h] - above);
      most[h] = above;
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
      own[p.dim] = most[h];
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
      const float most = own[s * width + p.dim];
      const float factor = most == -INFINITY ? 0.0f : expf(most - above);
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
  // The last block of these heads puts the parts together.
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
  // Where causal, a query sees this many keys fewer than the one after it: the
  // last of `rows` sees all.
  int rows;
  int causal;
};

// A warp for a row; a row that is not too long stays in registers.
extern "C" __global__ void __launch_bounds__(THREADS) softmax(const __grid_constant__ Softmax p) {
  constexpr int HELD = 32;
  release();
  wait();
  const int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= p.count) return;
  const float *scores = p.scores + static_cast<int64_t>(row) * p.keys;
  half *out = p.out + static_cast<int64_t>(row) * p.keys;
  const int visible = p.causal ? p.keys - p.rows + row % p.rows + 1 : p.keys;
  float most = -INFINITY, total = 0;
  if (p.keys <= HELD * WARP) {
    float held[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) {
      const int key = i * WARP + lane;
      held[i] = key < visible ? scores[key] : -INFINITY;
      most = fmaxf(most, held[i]);
    }
    most = warp_max(most);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
      held[i] = expf(held[i] - most);
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
  for (int key = lane; key < visible; key += WARP) most = fmaxf(most, scores[key]);
  most = warp_max(most);
  for (int key = lane; key < visible; key += WARP) total += expf(scores[key] - most);
  total = warp_sum(total);
  for (int key = lane; key < p.keys; key += WARP) {
    out[key] = __float2half_rn(key < visible ? expf(scores[key] - most) / total : 0.0f);
  }
}

// ---------------------------------------------------------------------------
// Chains of operations, element by element.

constexpr int INPUTS = 6;
constexpr int OPERATIONS = 12;
constexpr int RANK = 5;

enum Code : uint8_t { ADD, SUB, MUL, DIVIDE, MAXIMUM, MINIMUM, RSQRT, EXP, SIN, COS, SILU, GELU_ERF, GELU_TANH, GELU_SIGMOID, KEEP };

struct Operation {
  uint8_t code;
  // The other operand.
  uint8_t input;
  // Whether the other operand comes first.
  uint8_t turned;
  // Whether the result is rounded to a half.
  uint8_t half_result;
};

struct Chain {
  // The first is where a chain begins.
  const void *inputs[INPUTS];
  void *out;
  // Outermost first; extents that are not needed are 1.
  int extents[RANK];
  int strides[INPUTS][RANK];
  uint8_t half_input[INPUTS];
  Operation operations[OPERATIONS];
  int count;
  int operations_count;
  int half_out;
};

namespace {

// The same of each of some elements.
template <int WIDE, typename F>
__device__ __forceinline__ void each(float (&x)[WIDE], F f) {
#pragma unroll
  for (int i = 0; i < WIDE; i++) x[i] = f(x[i], i);
}

template <int WIDE>
__device__ __forceinline__ void apply(const Operation &op, float (&x)[WIDE], const float (&y)[WIDE]) {
  const bool turned = op.turned;
  switch (op.code) {
    case ADD: each(x, [&](float a, int i) { return a + y[i]; }); break;
    case SUB: each(x, [&](float a, int i) { return turned ? y[i] - a : a - y[i]; }); break;
    case MUL: each(x, [&](float a, int i) { return a * y[i]; }); break;
    case DIVIDE: each(x, [&](float a, int i) { return turned ? y[i] / a : a / y[i]; }); break;
    case MAXIMUM: each(x, [&](float a, int i) { return fmaxf(a, y[i]); }); break;
    case MINIMUM: each(x, [&](float a, int i) { return fminf(a, y[i]); }); break;
    case RSQRT: each(x, [](float a, int) { return 1.0f / sqrtf(a); }); break;
    case EXP: each(x, [](float a, int) { return expf(a); }); break;
    case SIN: each(x, [](float a, int) { return sinf(a); }); break;
    case COS: each(x, [](float a, int) { return cosf(a); }); break;
    case SILU: each(x, [](float a, int) { return silu(a); }); break;
    case GELU_ERF: each(x, [](float a, int) { return 0.5f * a * (1.0f + erff(a * 0.70710678118654752f)); }); break;
    // (1 + tanh u) / 2 = 1 / (1 + exp(-2u)).
    case GELU_TANH:
      each(x, [](float a, int) {
        return a / (1.0f + expf(-2.0f * 0.79788456080286536f * a * (1.0f + 0.044715f * a * a)));
      });
      break;
    case GELU_SIGMOID: each(x, [](float a, int) { return a / (1.0f + expf(-1.702f * a)); }); break;
    default: break;
  }
}

// Some elements side by side, or the same one as often.
template <int WIDE>
__device__ __forceinline__ void read(const Chain &p, int input, const int (&index)[RANK], float (&x)[WIDE]) {
  int offset = 0;
#pragma unroll
  for (int axis = 0; axis < RANK; axis++) offset += index[axis] * p.strides[input][axis];
  const bool half_input = p.half_input[input];
  const half *halves = static_cast<const half *>(p.inputs[input]) + offset;
  const float *singles = static_cast<const float *>(p.inputs[input]) + offset;
  if constexpr (WIDE == 8) {
    if (p.strides[input][RANK - 1] != 0) {
      if (half_input) {
        unpack(*reinterpret_cast<const uint4 *>(halves), x);
      } else {
        each(x, [&](float, int i) { return singles[i]; });
      }
      return;
    }
  }
  const float one = half_input ? __half2float(*halves) : *singles;
  each(x, [&](float, int) { return one; });
}

template <int WIDE>
__device__ __forceinline__ void run_chain(const Chain &p) {
  release();
  wait();
  for (int at = blockIdx.x * THREADS + threadIdx.x; at < p.count; at += gridDim.x * THREADS) {
    int index[RANK];
    int rest = at;
#pragma unroll
    for (int axis = RANK - 1; axis >= 0; axis--) {
      const int extent = p.extents[axis];
      const int outer = extent == 1 ? rest : rest / extent;
      index[axis] = rest - outer * extent;
      rest = outer;
    }
    float x[WIDE], y[WIDE] = {};
    read(p, 0, index, x);
    for (int o = 0; o < p.operations_count; o++) {
      const Operation op = p.operations[o];
      if (op.code <= MINIMUM) read(p, op.input, index, y);
      apply(op, x, y);
      if (op.half_result) each(x, [](float a, int) { return rounded(a); });
    }
    if (p.half_out) {
      half out[WIDE];
#pragma unroll
      for (int i = 0; i < WIDE; i++) out[i] = __float2half_rn(x[i]);
      half *to = static_cast<half *>(p.out) + static_cast<int64_t>(at) * WIDE;
      if constexpr (WIDE == 8) {
        *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(out);
      } else {
        *to = out[0];
      }
    } else {
      float *to = static_cast<float *>(p.out) + static_cast<int64_t>(at) * WIDE;
#pragma unroll
      for (int i = 0; i < WIDE; i++) to[i] = x[i];
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS) chain_1(const __grid_constant__ Chain p) { run_chain<1>(p); }
// Eight elements side by side; extents and steps of the last axis count them
// as one.
extern "C" __global__ void __launch_bounds__(THREADS) chain_8(const __grid_constant__ Chain p) { run_chain<8>(p); }

// ---------------------------------------------------------------------------
// Halves from one place to another.

struct Copy {
  const half *from;
  half *to;
  int extents[RANK];
  int from_strides[RANK];
  int to_strides[RANK];
  int count;
};

namespace {

template <typename T>
__device__ __forceinline__ void copy(const Copy &p) {
  release();
  wait();
  for (int at = blockIdx.x * THREADS + threadIdx.x; at < p.count; at += gridDim.x * THREADS) {
    int64_t from = 0, to = 0;
    int rest = at;
#pragma unroll
    for (int axis = RANK - 1; axis >= 0; axis--) {
      const int extent = p.extents[axis];
      const int outer = extent == 1 ? rest : rest / extent;
      const int index = rest - outer * extent;
      from += static_cast<int64_t>(index) * p.from_strides[axis];
      to += static_cast<int64_t>(index) * p.to_strides[axis];
      rest = outer;
    }
    *reinterpret_cast<T *>(p.to + to) = *reinterpret_cast<const T *>(p.from + from);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS) copy_1(const __grid_constant__ Copy p) { copy<half>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) copy_8(const __grid_constant__ Copy p) { copy<uint4>(p); }

// ---------------------------------------------------------------------------
// Rows of a table, and the best of many.

struct Take {
  const half *table;
  const int *places;
  int few[INLINE];
  half *out;
  int width;
};

extern "C" __global__ void __launch_bounds__(THREADS) take(const __grid_constant__ Take p) {
  release();
  wait();
  const int row = blockIdx.y;
  const int64_t place = p.places ? p.places[row] : p.few[row];
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i < p.width) p.out[static_cast<int64_t>(row) * p.width + i] = p.table[place * p.width + i];
}

struct Best {
  const half *x;
  unsigned *out;
  int count;
};

// The first of the greatest; NaN is less than all. One block.
extern "C" __global__ void __launch_bounds__(1024) best(const __grid_constant__ Best p) {
  __shared__ float values[WARP];
  __shared__ int places[WARP];
  release();
  wait();
  float most = -INFINITY;
  int place = INT32_MAX;
  auto meet = [&](float value, int at) {
    if (value > most || (value == most && at < place)) {
      most = value;
      place = at;
    }
  };
  const int vectors = p.count / 8;
  for (int v = threadIdx.x; v < vectors; v += blockDim.x) {
    float f[8];
    unpack(reinterpret_cast<const uint4 *>(p.x)[v], f);
#pragma unroll
    for (int i = 0; i < 8; i++) meet(f[i], 8 * v + i);
  }
  for (int i = 8 * vectors + threadIdx.x; i < p.count; i += blockDim.x) meet(__half2float(p.x[i]), i);
  auto gather = [&]() {
    for (int step = WARP / 2; step > 0; step /= 2) {
      const float value = __shfl_xor_sync(ALL, most, step);
      const int at = __shfl_xor_sync(ALL, place, step);
      meet(value, at);
    }
  };
  gather();
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (lane == 0) {
    values[warp] = most;
    places[warp] = place;
  }
  __syncthreads();
  if (warp != 0) return;
  most = values[lane];
  place = places[lane];
  gather();
  if (lane == 0) *p.out = place == INT32_MAX ? 0 : place;
}
