// Elementwise operations, fused, and copies.

#include "common.cuh"

// ---------------------------------------------------------------------------
// Elementwise operations, one after the other.

constexpr int MAX_INPUTS = 6;
constexpr int MAX_OPERATIONS = 12;

enum Code : uint8_t { ADD, SUB, MUL, DIVIDE, MAXIMUM, MINIMUM, RSQRT, EXP, SIN, COS, SILU, GELU_ERF, GELU_TANH, GELU_SIGMOID, KEEP };

struct Operation {
  uint8_t code;
  // The other operand.
  uint8_t input;
  // Whether the other operand comes first.
  uint8_t reversed;
  // Whether the result is rounded to f16.
  uint8_t half_result;
};

struct Elementwise {
  // The first operation takes the first input.
  const void *inputs[MAX_INPUTS];
  void *out;
  // Outermost first; unused extents are 1.
  int extents[RANK];
  int strides[MAX_INPUTS][RANK];
  uint8_t half_input[MAX_INPUTS];
  Operation operations[MAX_OPERATIONS];
  int count;
  int operations_count;
  int half_out;
};

namespace {

// Applies `f` to each element.
template <int WIDE, typename F>
__device__ __forceinline__ void each(float (&x)[WIDE], F f) {
#pragma unroll
  for (int i = 0; i < WIDE; i++) x[i] = f(x[i], i);
}

template <int WIDE>
__device__ __forceinline__ void apply(const Operation &op, float (&x)[WIDE], const float (&y)[WIDE]) {
  const bool reversed = op.reversed;
  switch (op.code) {
    case ADD: each(x, [&](float a, int i) { return a + y[i]; }); break;
    case SUB: each(x, [&](float a, int i) { return reversed ? y[i] - a : a - y[i]; }); break;
    case MUL: each(x, [&](float a, int i) { return a * y[i]; }); break;
    case DIVIDE: each(x, [&](float a, int i) { return reversed ? y[i] / a : a / y[i]; }); break;
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

// Contiguous elements, or the same one repeated.
template <int WIDE>
__device__ __forceinline__ void read(const Elementwise &p, int input, const int (&index)[RANK], float (&x)[WIDE]) {
  int offset = 0;
#pragma unroll
  for (int axis = 0; axis < RANK; axis++) offset += index[axis] * p.strides[input][axis];
  const bool half_input = p.half_input[input];
  const half *f16s = static_cast<const half *>(p.inputs[input]) + offset;
  const float *floats = static_cast<const float *>(p.inputs[input]) + offset;
  if constexpr (WIDE == 8) {
    if (p.strides[input][RANK - 1] != 0) {
      if (half_input) {
        unpack(*reinterpret_cast<const uint4 *>(f16s), x);
      } else {
        each(x, [&](float, int i) { return floats[i]; });
      }
      return;
    }
  }
  const float one = half_input ? __half2float(*f16s) : *floats;
  each(x, [&](float, int) { return one; });
}

template <int WIDE>
__device__ __forceinline__ void run_elementwise(const Elementwise &p) {
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

extern "C" __global__ void __launch_bounds__(THREADS) elementwise_1(const __grid_constant__ Elementwise p) { run_elementwise<1>(p); }
// Eight contiguous elements at a time; extents and steps of the last axis count
// them as one.
extern "C" __global__ void __launch_bounds__(THREADS) elementwise_8(const __grid_constant__ Elementwise p) { run_elementwise<8>(p); }

// ---------------------------------------------------------------------------
// Copies of f16 between views.

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
