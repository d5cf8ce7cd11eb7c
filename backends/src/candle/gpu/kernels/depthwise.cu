// Depthwise convolution of channels-last maps.
//
// A thread makes `TILE` neighbouring positions of `N` neighbouring channels: what it loads
// of a row serves all of them, and neighbouring threads read neighbouring channels. Input
// and kernel are read through the caches.
#include "common.cuh"

struct Maps {
  int h, w, channels, oh, ow, outputs, multiplier, padding, act;
};

// Kernel (k, k, outputs), f32; `K` and `STRIDE` are known, or 0: then they are `k` and
// `stride`, and `TILE` is 1. `N` > 1 asks for a multiplier of 1.
template <typename T, int K, int STRIDE, int N, int TILE>
__device__ void depthwise(const T *x, const float *weight, const T *bias, T *y, int64_t total,
                          Maps m, int k, int stride) {
  if (K > 0) k = K, stride = STRIDE;
  const int groups = m.outputs / N, tiles = (m.ow + TILE - 1) / TILE;
  for (int64_t i = first(); i < total; i += step()) {
    const Split at = split(i, groups), tile = split(at.whole, tiles), row = split(tile.whole, m.oh);
    const int o = at.rest * N, ox = tile.rest * TILE, oy = row.rest;
    const int64_t b = row.whole;
    const int c = o / m.multiplier;
    float sum[TILE][N];
    for (int j = 0; j < N; j++) {
      const float start = wide(bias[o + j]);
#pragma unroll
      for (int t = 0; t < TILE; t++) sum[t][j] = start;
    }
    const int left = ox * stride - m.padding;
    for (int ky = 0; ky < k; ky++) {
      const int iy = oy * stride + ky - m.padding;
      if (iy < 0 || iy >= m.h) continue;
      const T *row = x + (b * m.h + iy) * m.w * m.channels + c;
      const float *taps = weight + (int64_t)ky * k * m.outputs + o;
      if (K > 0) {
        // The row's part that the tile looks at, in registers.
        const int WIDTH = K > 0 ? (TILE - 1) * STRIDE + K : 1;
        float part[WIDTH][N];
#pragma unroll
        for (int at = 0; at < WIDTH; at++) {
          const int ix = left + at;
          if (ix >= 0 && ix < m.w) {
            const Pack<T, N> v = load<N>(row + (int64_t)ix * m.channels);
            for (int j = 0; j < N; j++) part[at][j] = wide(v.at[j]);
          } else {
            for (int j = 0; j < N; j++) part[at][j] = 0.0f;
          }
        }
#pragma unroll
        for (int kx = 0; kx < K; kx++) {
          const Pack<float, N> tap = load<N>(taps + (int64_t)kx * m.outputs);
#pragma unroll
          for (int t = 0; t < TILE; t++)
            for (int j = 0; j < N; j++) sum[t][j] += part[t * STRIDE + kx][j] * tap.at[j];
        }
      } else {
        for (int kx = 0; kx < k; kx++) {
          const int ix = left + kx;
          if (ix < 0 || ix >= m.w) continue;
          for (int j = 0; j < N; j++)
            sum[0][j] += wide(row[(int64_t)ix * m.channels + j]) * taps[(int64_t)kx * m.outputs + j];
        }
      }
    }
#pragma unroll
    for (int t = 0; t < TILE; t++) {
      if (ox + t >= m.ow) break;
      Pack<T, N> v;
      for (int j = 0; j < N; j++) v.at[j] = narrow<T>(activate(sum[t][j], m.act));
      store(y + ((b * m.oh + oy) * m.ow + ox + t) * m.outputs + o, v);
    }
  }
}

#define VARIANT(T, name, K, STRIDE, N, TILE)                                                       \
  extern "C" __global__ void depthwise_k##K##s##STRIDE##n##N##_##name(                             \
      const T *x, const float *weight, const T *bias, T *y, int64_t total, int h, int w,           \
      int channels, int oh, int ow, int outputs, int multiplier, int padding, int act, int k,      \
      int stride) {                                                                                \
    const Maps m = {h, w, channels, oh, ow, outputs, multiplier, padding, act};                    \
    depthwise<T, K, STRIDE, N, TILE>(x, weight, bias, y, total, m, k, stride);                     \
  }                                                                                                \
  REGISTER(depthwise_k##K##s##STRIDE##n##N##_##name)

// The tile of each is in `depthwise.rs`, too.
#define DEPTHWISE(T, name)                                                                         \
  VARIANT(T, name, 3, 1, 2, 4)                                                                     \
  VARIANT(T, name, 3, 2, 2, 4)                                                                     \
  VARIANT(T, name, 7, 1, 2, 4)                                                                     \
  VARIANT(T, name, 7, 2, 2, 4)                                                                     \
  VARIANT(T, name, 3, 1, 1, 4)                                                                     \
  VARIANT(T, name, 3, 2, 1, 4)                                                                     \
  VARIANT(T, name, 7, 1, 1, 4)                                                                     \
  VARIANT(T, name, 7, 2, 1, 4)                                                                     \
  VARIANT(T, name, 0, 0, 1, 1)
KERNELS(DEPTHWISE)
