// What surrounds a matrix product, which is cuBLAS's.
#include "common.cuh"

// y = act(y + bias) + residual, for rows of `cols` scalars, `total` in all; `bias` and
// `residual` may be null. `N` divides `cols`.
template <typename T, int N>
__device__ void epilogue(T *y, const T *bias, const T *residual, int64_t total, int cols, int act) {
  for (int64_t i = first() * N; i < total; i += step() * N) {
    Pack<T, N> v = load<N>(y + i), b, r;
    if (bias) b = load<N>(bias + split(i, cols).rest);
    if (residual) r = load<N>(residual + i);
    for (int j = 0; j < N; j++) {
      float x = wide(v.at[j]);
      if (bias) x += wide(b.at[j]);
      x = activate(x, act);
      if (residual) x += wide(r.at[j]);
      v.at[j] = narrow<T>(x);
    }
    store(y + i, v);
  }
}

#define EPILOGUE(T, name)                                                                          \
  extern "C" __global__ void epilogue_##name(T *y, const T *bias, const T *residual,               \
                                             int64_t total, int cols, int act) {                   \
    epilogue<T, 1>(y, bias, residual, total, cols, act);                                           \
  }                                                                                                \
  REGISTER(epilogue_##name)                                                                        \
  extern "C" __global__ void epilogue8_##name(T *y, const T *bias, const T *residual,              \
                                              int64_t total, int cols, int act) {                  \
    epilogue<T, 8>(y, bias, residual, total, cols, act);                                           \
  }                                                                                                \
  REGISTER(epilogue8_##name)
KERNELS(EPILOGUE)

// Rows that a dense convolution multiplies: for each output position of maps
// (b, h, w, c) its window (k, k, c), zeros beyond the edge.
template <typename T>
__device__ void patches(const T *x, T *y, int64_t total, int h, int w, int c, int oh, int ow, int k,
                        int stride, int padding) {
  const int width = k * k * c;
  for (int64_t i = first(); i < total; i += step()) {
    const Split at = split(i, width), row = split(at.whole, ow), map = split(row.whole, oh);
    const int tap = at.rest / c, channel = at.rest - tap * c;
    const int ky = tap / k, kx = tap - ky * k;
    const int64_t b = map.whole;
    const int oy = map.rest, ox = row.rest;
    const int iy = oy * stride + ky - padding, ix = ox * stride + kx - padding;
    const bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;
    y[i] = inside ? x[((b * h + iy) * w + ix) * c + channel] : narrow<T>(0.0f);
  }
}

#define PATCHES(T, name)                                                                           \
  extern "C" __global__ void patches_##name(const T *x, T *y, int64_t total, int h, int w, int c,  \
                                            int oh, int ow, int k, int stride, int padding) {      \
    patches<T>(x, y, total, h, w, c, oh, ow, k, stride, padding);                                  \
  }                                                                                                \
  REGISTER(patches_##name)
KERNELS(PATCHES)
