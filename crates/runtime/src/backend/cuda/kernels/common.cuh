// Shared by all kernels.
//
// Everything is computed in f32 and rounded to f16 where the graph has a value
// of f16, as on the CPU. A kernel takes one struct, whose Rust counterpart has
// the same fields in the same order.
//
// On Hopper and later a kernel is launched while the one before it still runs:
// it may read constants at once, and everything else only after `wait`.

#pragma once

#include <cuda_fp16.h>
#include <stdint.h>

namespace {

constexpr int WARP = 32;
// Threads of the blocks that work along rows.
constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;
constexpr unsigned ALL = 0xffffffffu;
// Integers that a launch carries in its parameters.
constexpr int INLINE = 8;
// The maximum number of axes of elementwise operations and copies.
constexpr int RANK = 5;

// Lets the next kernel begin as soon as there are resources for it.
__device__ __forceinline__ void release() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Waits until everything that was launched before is done.
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

// The sum over a block of THREADS, for every thread.
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

// Four si8 as floats: each byte, its sign bit flipped, becomes the low bits of a
// float whose exponent is that of 2^23.
__device__ __forceinline__ void widen(uint32_t bytes, float out[4]) {
  bytes ^= 0x80808080u;
  const float bias = 8388608.0f + 128.0f;
  out[0] = __uint_as_float(__byte_perm(bytes, 0x4B000000u, 0x7440)) - bias;
  out[1] = __uint_as_float(__byte_perm(bytes, 0x4B000000u, 0x7441)) - bias;
  out[2] = __uint_as_float(__byte_perm(bytes, 0x4B000000u, 0x7442)) - bias;
  out[3] = __uint_as_float(__byte_perm(bytes, 0x4B000000u, 0x7443)) - bias;
}

}  // namespace
