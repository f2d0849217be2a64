// Kernels along rows: norms, rotary embeddings, gathered rows, argmax.

#include "common.cuh"

// ---------------------------------------------------------------------------
// Norms of rows.

struct Norm {
  const half *x;
  // Between rows.
  int64_t stride;
  const half *gamma;
  // Null for an RMS norm, which does not subtract the mean either.
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

constexpr int MAX_ROPES = 4;

struct Rope {
  const half *x;
  int64_t head_stride;
  int64_t row_stride;
  // The scale of an RMS norm of x, [heads, dim], or null.
  const half *norm;
  float eps;
  // The frequency of each pair, [dim / 2].
  const float *frequencies[MAX_ROPES];
  // The weight of each rotated row, [dim].
  const half *masks[MAX_ROPES];
  // [ropes, rows], or null where `few` has them.
  const int *positions;
  int few[INLINE];
  half *out;
  int ropes;
  int heads;
  int rows;
  int dim;
};

// A block for a row of a head, a thread for a pair. Only x is computed by earlier
// kernels, so the angles are computed before waiting for it.
extern "C" __global__ void rope(const __grid_constant__ Rope p) {
  __shared__ float parts[WARP];
  const int head = blockIdx.x / p.rows, row = blockIdx.x % p.rows;
  const int half_dim = p.dim / 2, i = threadIdx.x;
  const bool inside = i < half_dim;
  float cosine[MAX_ROPES], sine[MAX_ROPES], near[MAX_ROPES], far[MAX_ROPES], scale[2] = {1, 1};
  if (inside && p.norm) {
    scale[0] = __half2float(p.norm[head * p.dim + i]);
    scale[1] = __half2float(p.norm[head * p.dim + half_dim + i]);
  }
#pragma unroll
  for (int t = 0; t < MAX_ROPES; t++) {
    if (t >= p.ropes || !inside) continue;
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
  for (int t = 0; t < MAX_ROPES; t++) {
    if (t >= p.ropes) continue;
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
// Gathered rows of a table, and the argmax.

struct GatherRows {
  const half *table;
  const int *rows;
  int few[INLINE];
  half *out;
  int width;
};

extern "C" __global__ void __launch_bounds__(THREADS) gather_rows(const __grid_constant__ GatherRows p) {
  release();
  wait();
  const int row = blockIdx.y;
  const int64_t from = p.rows ? p.rows[row] : p.few[row];
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i < p.width) p.out[static_cast<int64_t>(row) * p.width + i] = p.table[from * p.width + i];
}

struct Argmax {
  const half *x;
  unsigned *out;
  int count;
};

// The index of the first of the largest; NaN is smaller than all. One block.
extern "C" __global__ void __launch_bounds__(1024) argmax(const __grid_constant__ Argmax p) {
  __shared__ float values[WARP];
  __shared__ int indices[WARP];
  release();
  wait();
  float largest = -INFINITY;
  int index = INT32_MAX;
  auto consider = [&](float value, int at) {
    if (value > largest || (value == largest && at < index)) {
      largest = value;
      index = at;
    }
  };
  const int vectors = p.count / 8;
  for (int v = threadIdx.x; v < vectors; v += blockDim.x) {
    float f[8];
    unpack(reinterpret_cast<const uint4 *>(p.x)[v], f);
#pragma unroll
    for (int i = 0; i < 8; i++) consider(f[i], 8 * v + i);
  }
  for (int i = 8 * vectors + threadIdx.x; i < p.count; i += blockDim.x) consider(__half2float(p.x[i]), i);
  auto reduce_warp = [&]() {
    for (int step = WARP / 2; step > 0; step /= 2) {
      const float value = __shfl_xor_sync(ALL, largest, step);
      const int at = __shfl_xor_sync(ALL, index, step);
      consider(value, at);
    }
  };
  reduce_warp();
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (lane == 0) {
    values[warp] = largest;
    indices[warp] = index;
  }
  __syncthreads();
  if (warp != 0) return;
  largest = values[lane];
  index = indices[lane];
  reduce_warp();
  if (lane == 0) *p.out = index == INT32_MAX ? 0 : index;
}
