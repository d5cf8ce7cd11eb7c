// Layer norm and RMS norm over the last axis.
#include "common.cuh"

// y = act((x - mean) / sqrt(variance + eps) * weight + bias) of rows of `dim`, or, where
// `bias` is null, the RMS norm: no mean, no bias. `THREADS` of a block share a row.
template <typename T, int THREADS>
__device__ void norm(const T *x, const T *weight, const T *bias, T *y, int rows, int dim, float eps,
                     int act) {
  const int per_block = blockDim.x / THREADS;
  const int row = blockIdx.x * per_block + threadIdx.x / THREADS;
  const int lane = threadIdx.x % THREADS;
  // Rows that are not there take part in the sums of the block.
  const int n = row < rows ? dim : 0;
  const T *from = x + (int64_t)row * dim;
  float mean = 0.0f;
  if (bias) {
    float sum = 0.0f;
    for (int i = lane; i < n; i += THREADS) sum += wide(from[i]);
    mean = over<Sum, THREADS>(sum) / dim;
  }
  float squares = 0.0f;
  for (int i = lane; i < n; i += THREADS) {
    const float off = wide(from[i]) - mean;
    squares += off * off;
  }
  const float scale = rsqrtf(over<Sum, THREADS>(squares) / dim + eps);
  T *to = y + (int64_t)row * dim;
  for (int i = lane; i < n; i += THREADS) {
    float v = (wide(from[i]) - mean) * scale * wide(weight[i]);
    if (bias) v += wide(bias[i]);
    to[i] = narrow<T>(activate(v, act));
  }
}

#define NORM(T, name)                                                                              \
  extern "C" __global__ void norm_warp_##name(const T *x, const T *weight, const T *bias, T *y,    \
                                              int rows, int dim, float eps, int act) {             \
    norm<T, WARP>(x, weight, bias, y, rows, dim, eps, act);                                        \
  }                                                                                                \
  REGISTER_SYNCHRONOUS(norm_warp_##name)                                                           \
  extern "C" __global__ void norm_block_##name(const T *x, const T *weight, const T *bias, T *y,   \
                                               int rows, int dim, float eps, int act) {            \
    norm<T, 256>(x, weight, bias, y, rows, dim, eps, act);                                         \
  }                                                                                                \
  REGISTER_SYNCHRONOUS(norm_block_##name)
KERNELS(NORM)
