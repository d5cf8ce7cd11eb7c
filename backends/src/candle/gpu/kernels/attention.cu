// What surrounds the two matrix products of attention, which are cuBLAS's; and attention
// of few keys, which is not worth a product.
#include "common.cuh"

// Rotates the query and key heads of packed rows by each row's position: `positions[row]`,
// or `first_position + row` where that is null. Tables (positions, dim / 2); values are
// copied.
template <typename T>
__device__ void rotary(const T *x, const float *cosines, const float *sines,
                       const uint32_t *positions, T *y, int64_t total, int packed, int rotated,
                       int dim, int first_position) {
  const int half = dim / 2;
  for (int64_t i = first(); i < total; i += step()) {
    const Split place = split(i, packed);
    const int column = place.rest;
    if (column >= rotated) {
      y[i] = x[i];
      continue;
    }
    const int64_t row = place.whole;
    const int64_t position = positions ? positions[row] : first_position + row;
    const int at = column % dim, pair = at % half;
    const float c = cosines[position * half + pair], s = sines[position * half + pair];
    const float own = wide(x[i]);
    const float v = at < half ? own * c - wide(x[i + half]) * s : own * c + wide(x[i - half]) * s;
    y[i] = narrow<T>(v);
  }
}

// Appends the keys and values of packed rows to a cache, after `past` rows of `width`.
template <typename T>
__device__ void append(const T *x, T *keys, T *values, int64_t total, int packed, int offset,
                       int width, int64_t past) {
  for (int64_t i = first(); i < total; i += step()) {
    const Split at = split(i, width);
    const T *from = x + at.whole * packed + offset + at.rest;
    keys[past * width + i] = from[0];
    values[past * width + i] = from[width];
  }
}

// Heads of rows (n, stride), `dim` each, one after another: (heads, n, dim); or, with
// `back`, (heads, n, dim) as rows (n, heads * dim).
template <typename T>
__device__ void heads(const T *x, T *y, int64_t total, int n, int stride, int dim, int count,
                      int back) {
  for (int64_t i = first(); i < total; i += step()) {
    const Split at = split(i, dim);
    if (back) {
      const Split row = split(at.whole, count);
      y[i] = x[(row.rest * (int64_t)n + row.whole) * dim + at.rest];
    } else {
      const Split head = split(at.whole, n);
      y[i] = x[head.rest * (int64_t)stride + head.whole * dim + at.rest];
    }
  }
}

// Softmax of rows of `keys` scores, row after row of `queries` queries; with `past` at
// least 0, query `i` sees `past + i + 1` keys, else all. A block for each row.
template <typename T>
__device__ void softmax(const float *x, T *y, int keys, int queries, int past) {
  const int64_t row = blockIdx.x;
  const int seen = past < 0 ? keys : min(past + (int)(row % queries) + 1, keys);
  x += row * keys;
  y += row * keys;
  float most = -INFINITY;
  for (int i = threadIdx.x; i < seen; i += 128) most = fmaxf(most, x[i]);
  most = over<Most, 128>(most);
  float sum = 0.0f;
  for (int i = threadIdx.x; i < seen; i += 128) sum += expf(x[i] - most);
  const float scale = 1.0f / over<Sum, 128>(sum);
  for (int i = threadIdx.x; i < keys; i += 128)
    y[i] = narrow<T>(i < seen ? expf(x[i] - most) * scale : 0.0f);
}

// Attention of queries (b, n, width) to the `m` keys and values (b, m, width) of their own
// batch, in heads of `dim`, at most 8 warps wide; keys that are `hidden` (b, m) are not
// looked at. A warp for each query and head.
template <typename T>
__device__ void windows(const T *q, const T *k, const T *v, const uint8_t *hidden, T *y, int n,
                        int m, int heads, int dim, float scale) {
  const int head = blockIdx.x % heads;
  const int64_t query = blockIdx.x / heads, b = query / n;
  const int width = heads * dim, lane = threadIdx.x;
  const int64_t at = query * width + head * dim;
  float own[8], sum[8];
  for (int i = 0; i < 8; i++) {
    const int d = lane + i * WARP;
    own[i] = d < dim ? wide(q[at + d]) * scale : 0.0f;
    sum[i] = 0.0f;
  }
  float most = -INFINITY, total = 0.0f;
  for (int key = 0; key < m; key++) {
    if (hidden && hidden[b * m + key]) continue;
    const int64_t row = (b * m + key) * width + head * dim;
    float score = 0.0f;
    for (int i = 0; i < 8; i++) {
      const int d = lane + i * WARP;
      if (d < dim) score += own[i] * wide(k[row + d]);
    }
    score = over_warp<Sum>(score);
    const float higher = fmaxf(most, score);
    const float before = expf(most - higher), weight = expf(score - higher);
    most = higher;
    total = total * before + weight;
    for (int i = 0; i < 8; i++) {
      const int d = lane + i * WARP;
      if (d < dim) sum[i] = sum[i] * before + weight * wide(v[row + d]);
    }
  }
  for (int i = 0; i < 8; i++) {
    const int d = lane + i * WARP;
    if (d < dim) y[at + d] = narrow<T>(sum[i] / total);
  }
}

#define ATTENTION(T, name)                                                                         \
  extern "C" __global__ void rotary_##name(const T *x, const float *cosines, const float *sines,   \
                                           const uint32_t *positions, T *y, int64_t total,         \
                                           int packed, int rotated, int dim, int first_position) { \
    rotary<T>(x, cosines, sines, positions, y, total, packed, rotated, dim, first_position);       \
  }                                                                                                \
  REGISTER(rotary_##name)                                                                          \
  extern "C" __global__ void append_##name(const T *x, T *keys, T *values, int64_t total,          \
                                           int packed, int offset, int width, int64_t past) {      \
    append<T>(x, keys, values, total, packed, offset, width, past);                                \
  }                                                                                                \
  REGISTER(append_##name)                                                                          \
  extern "C" __global__ void heads_##name(const T *x, T *y, int64_t total, int n, int stride,      \
                                          int dim, int count, int back) {                          \
    heads<T>(x, y, total, n, stride, dim, count, back);                                            \
  }                                                                                                \
  REGISTER(heads_##name)                                                                           \
  extern "C" __global__ void softmax_##name(const float *x, T *y, int keys, int queries,           \
                                            int past) {                                            \
    softmax<T>(x, y, keys, queries, past);                                                         \
  }                                                                                                \
  REGISTER_SYNCHRONOUS(softmax_##name)                                                             \
  extern "C" __global__ void windows_##name(const T *q, const T *k, const T *v,                    \
                                            const uint8_t *hidden, T *y, int n, int m, int heads,  \
                                            int dim, float scale) {                                \
    windows<T>(q, k, v, hidden, y, n, m, heads, dim, scale);                                       \
  }                                                                                                \
  REGISTER_SYNCHRONOUS(windows_##name)
KERNELS(ATTENTION)
