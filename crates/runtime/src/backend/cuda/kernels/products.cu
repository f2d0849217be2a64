// Products with constant matrices.

#include "common.cuh"

struct Product {
  // Of the product, and of its gate.
  const void *weight[2];
  // One for each 32 elements of a row, where the weights are si8.
  const half *scales[2];
  const half *x;
  // The scale of an RMS norm of x, or null.
  const half *norm;
  // Added to the product, or null.
  const half *add;
  half *out;
  int rows;
  int cols;
  float eps;
};

namespace {

// The part of one or two rows that a lane holds: 16 bytes of each of some chunks
// of the row. A chunk is 16 bytes for each lane of a warp.
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

// The position of a vector of x in shared memory. Where a lane takes 16 elements
// at once, the first and the second 8 are stored apart, so that neighbouring
// lanes read from all banks.
template <bool INT8>
__device__ __forceinline__ int position(int vector, int vectors) {
  return INT8 ? (vector % 2) * (vectors / 2) + vector / 2 : vector;
}

template <bool INT8>
__device__ __forceinline__ void stage(const Product &p, uint4 *xs) {
  const int vectors = p.cols / 8;
  const uint4 *x = reinterpret_cast<const uint4 *>(p.x);
  float squares = 0;
  for (int v = threadIdx.x; v < vectors; v += THREADS) {
    const uint4 value = x[v];
    xs[position<INT8>(v, vectors)] = value;
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
      uint4 &value = xs[position<INT8>(v, vectors)];
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

// A warp for a row. The first weights are loaded before x is ready.
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

// Scaled si8 as f16, for products of many rows.
struct Dequantize {
  const uint4 *weight;
  const half *scales;
  uint4 *out;
  int64_t count;
};

extern "C" __global__ void dequantize(const __grid_constant__ Dequantize p) {
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
