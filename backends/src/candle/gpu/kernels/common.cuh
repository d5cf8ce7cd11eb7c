// What all kernels share: scalars of three precisions that are computed with in f32,
// whole vectors of them, activations, sums over a block.
//
// A kernel is a template over the scalar; `KERNELS` gives it a name for each precision,
// such as `norm_bf16`. Pointers may be null where a comment says so. Sizes of buffers are
// 64 bits: a map of a large image has more scalars than 32 bits count.
#pragma once

#ifdef VLMBENCH_EMULATED
#include "emulator.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define REGISTER(name)
#define REGISTER_SYNCHRONOUS(name)
#endif

#include <stdint.h>

typedef __half f16;
typedef __nv_bfloat16 bf16;

__device__ inline float wide(float x) { return x; }
__device__ inline float wide(f16 x) { return __half2float(x); }
__device__ inline float wide(bf16 x) { return __bfloat162float(x); }

template <typename T> __device__ inline T narrow(float x);
template <> __device__ inline float narrow<float>(float x) { return x; }
template <> __device__ inline f16 narrow<f16>(float x) { return __float2half_rn(x); }
template <> __device__ inline bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }

// `N` neighbouring scalars, read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

template <int N, typename T> __device__ inline Pack<T, N> load(const T *x) {
  return *reinterpret_cast<const Pack<T, N> *>(x);
}

template <int N, typename T> __device__ inline void store(T *y, const Pack<T, N> &x) {
  *reinterpret_cast<Pack<T, N> *>(y) = x;
}

// In the order of `Act` in `ops.rs`.
enum Act { NONE, GELU, QUICK_GELU, GELU_TANH, RELU, SIGMOID, SILU };

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ inline float activate(float x, int act) {
  switch (act) {
  case GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
  case QUICK_GELU: return x * sigmoid(1.702f * x);
  case GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
  case RELU: return fmaxf(x, 0.0f);
  case SIGMOID: return sigmoid(x);
  case SILU: return x * sigmoid(x);
  default: return x;
  }
}

// Where a thread stands among all of a launch in one dimension, and how many there are.
__device__ inline int64_t first() { return blockIdx.x * (int64_t)blockDim.x + threadIdx.x; }
__device__ inline int64_t step() { return gridDim.x * (int64_t)blockDim.x; }

// A place in rows of `n`. Dividing 64 bits takes many times as long as dividing 32, which
// nearly always suffice.
struct Split {
  int64_t whole;
  int rest;
};

__device__ inline Split split(int64_t i, int n) {
  if (i <= UINT32_MAX) {
    const uint32_t whole = (uint32_t)i / (uint32_t)n;
    return {whole, (int)((uint32_t)i - whole * (uint32_t)n)};
  }
  return {i / n, (int)(i % n)};
}

struct Sum {
  static __device__ inline float of(float a, float b) { return a + b; }
  static __device__ inline float none() { return 0.0f; }
};

struct Most {
  static __device__ inline float of(float a, float b) { return fmaxf(a, b); }
  static __device__ inline float none() { return -INFINITY; }
};

const int WARP = 32;

// One value of all lanes of a warp; every lane has it.
template <typename R> __device__ inline float over_warp(float x) {
  for (int lanes = WARP / 2; lanes > 0; lanes /= 2)
    x = R::of(x, __shfl_xor_sync(0xffffffffu, x, lanes));
  return x;
}

// One value of `THREADS` neighbouring threads of a block that begin at a multiple of it;
// every one has it. All threads of the block take part.
template <typename R, int THREADS> __device__ inline float over(float x) {
  x = over_warp<R>(x);
  if (THREADS > WARP) {
    __shared__ float parts[WARP];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    const int warps = THREADS / WARP;
    x = lane < warps ? parts[warp / warps * warps + lane] : R::none();
    x = over_warp<R>(x);
    // The next one writes where this one reads.
    __syncthreads();
  }
  return x;
}

#define KERNELS(KERNEL)                                                                            \
  KERNEL(float, f32)                                                                               \
  KERNEL(f16, f16)                                                                                 \
  KERNEL(bf16, bf16)
