// Gates, positions, means and sparse mixtures of tokens.
#include "common.cuh"

// y = act(gate) * up of rows [gate | up], `width` each.
template <typename T> __device__ void glu(const T *x, T *y, int64_t total, int width, int act) {
  for (int64_t i = first(); i < total; i += step()) {
    const Split at = split(i, width);
    const T *row = x + at.whole * 2 * width + at.rest;
    y[i] = narrow<T>(activate(wide(row[0]), act) * wide(row[width]));
  }
}

// y = act(x * gate): a map's channels by one factor per image, of `positions` each.
template <typename T>
__device__ void gate(const T *x, const T *factors, T *y, int64_t total, int positions, int channels,
                     int act) {
  for (int64_t i = first(); i < total; i += step()) {
    const Split at = split(i, channels);
    const int64_t image = split(at.whole, positions).whole;
    const float factor = wide(factors[image * channels + at.rest]);
    y[i] = narrow<T>(activate(wide(x[i]) * factor, act));
  }
}

// y = x + table, which every sequence has `scalars` of.
template <typename T>
__device__ void add_table(const T *x, const T *table, T *y, int64_t total, int scalars) {
  for (int64_t i = first(); i < total; i += step())
    y[i] = narrow<T>(wide(x[i]) + wide(table[split(i, scalars).rest]));
}

// Means over the positions of a map: a block for `WARP` channels of an image, whose
// threads stand in `blockDim.y` rows.
template <typename T> __device__ void global_mean(const T *x, T *y, int positions, int channels) {
  __shared__ float parts[WARP * WARP];
  const int c = blockIdx.x * WARP + threadIdx.x;
  float sum = 0.0f;
  const T *image = x + (int64_t)blockIdx.y * positions * channels;
  if (c < channels)
    for (int i = threadIdx.y; i < positions; i += blockDim.y)
      sum += wide(image[(int64_t)i * channels + c]);
  parts[threadIdx.y * WARP + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && c < channels) {
    for (uint32_t i = 1; i < blockDim.y; i++) sum += parts[i * WARP + threadIdx.x];
    y[(int64_t)blockIdx.y * channels + c] = narrow<T>(sum / positions);
  }
}

// Means over windows; positions beyond the edge do not count.
template <typename T>
__device__ void average_pool(const T *x, T *y, int64_t total, int h, int w, int c, int oh, int ow,
                             int kernel, int stride, int padding) {
  for (int64_t i = first(); i < total; i += step()) {
    const Split at = split(i, c), row = split(at.whole, ow), map = split(row.whole, oh);
    const int64_t b = map.whole;
    const int channel = at.rest;
    const int y0 = map.rest * stride - padding, x0 = row.rest * stride - padding;
    const int top = max(y0, 0), bottom = min(y0 + kernel, h);
    const int left = max(x0, 0), right = min(x0 + kernel, w);
    float sum = 0.0f;
    for (int iy = top; iy < bottom; iy++)
      for (int ix = left; ix < right; ix++)
        sum += wide(x[((b * h + iy) * w + ix) * c + channel]);
    y[i] = narrow<T>(sum / ((bottom - top) * (right - left)));
  }
}

// Rows of `dim`, each the sum of `weights[t] * x[sources[t]]` over its taps, which end
// where `ends` says.
template <typename T>
__device__ void mix(const T *x, const uint32_t *ends, const uint32_t *sources, const float *weights,
                    T *y, int64_t total, int dim) {
  for (int64_t i = first(); i < total; i += step()) {
    const Split at = split(i, dim);
    const int64_t row = at.whole;
    const int column = at.rest;
    float sum = 0.0f;
    for (uint32_t t = row ? ends[row - 1] : 0; t < ends[row]; t++)
      sum += weights[t] * wide(x[(int64_t)sources[t] * dim + column]);
    y[i] = narrow<T>(sum);
  }
}

#define POINTWISE(T, name)                                                                         \
  extern "C" __global__ void glu_##name(const T *x, T *y, int64_t total, int width, int act) {     \
    glu<T>(x, y, total, width, act);                                                               \
  }                                                                                                \
  REGISTER(glu_##name)                                                                             \
  extern "C" __global__ void gate_##name(const T *x, const T *factors, T *y, int64_t total,        \
                                         int positions, int channels, int act) {                   \
    gate<T>(x, factors, y, total, positions, channels, act);                                       \
  }                                                                                                \
  REGISTER(gate_##name)                                                                            \
  extern "C" __global__ void add_table_##name(const T *x, const T *table, T *y, int64_t total,     \
                                              int scalars) {                                       \
    add_table<T>(x, table, y, total, scalars);                                                     \
  }                                                                                                \
  REGISTER(add_table_##name)                                                                       \
  extern "C" __global__ void global_mean_##name(const T *x, T *y, int positions, int channels) {   \
    global_mean<T>(x, y, positions, channels);                                                     \
  }                                                                                                \
  REGISTER_SYNCHRONOUS(global_mean_##name)                                                         \
  extern "C" __global__ void average_pool_##name(const T *x, T *y, int64_t total, int h, int w,    \
                                                 int c, int oh, int ow, int kernel, int stride,    \
                                                 int padding) {                                    \
    average_pool<T>(x, y, total, h, w, c, oh, ow, kernel, stride, padding);                        \
  }                                                                                                \
  REGISTER(average_pool_##name)                                                                    \
  extern "C" __global__ void mix_##name(const T *x, const uint32_t *ends, const uint32_t *sources, \
                                        const float *weights, T *y, int64_t total, int dim) {      \
    mix<T>(x, ends, sources, weights, y, total, dim);                                              \
  }                                                                                                \
  REGISTER(mix_##name)
KERNELS(POINTWISE)
