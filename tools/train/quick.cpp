// What takes PyTorch most of a training step on the CPU: the gradient of a depthwise convolution's weights, batch norm and
// GELU; and what a decoder has between its products, each of which is many passes over memory in PyTorch. Maps are channels
// last, values f32 or bf16; sums are f32.

#include <torch/extension.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <immintrin.h>

namespace {

inline __m512 load(const float* p) { return _mm512_loadu_ps(p); }

inline __m512 load(const at::BFloat16* p) {
  __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

inline void store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }

inline void store(at::BFloat16* p, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
}

// Sums of one output row for one row of the kernel and 16 channels.
template <int K, typename T>
void row(const T* x, const T* g, float* sums, int64_t c, int64_t w_in, int64_t w_out, int64_t stride) {
  constexpr int64_t pad = K / 2;
  __m512 acc[K];
  for (int k = 0; k < K; k++) acc[k] = _mm512_loadu_ps(sums + k * c);
  // Outputs whose whole window lies inside.
  const int64_t first = std::min((pad + stride - 1) / stride, w_out);
  const int64_t last = std::max(first, std::min(w_out, (w_in - K + pad) / stride + 1));
  const auto edge = [&](int64_t from, int64_t to) {
    for (int64_t o = from; o < to; o++) {
      const __m512 grad = load(g + o * c);
      for (int k = 0; k < K; k++) {
        const int64_t i = o * stride + k - pad;
        if (i >= 0 && i < w_in) acc[k] = _mm512_fmadd_ps(grad, load(x + i * c), acc[k]);
      }
    }
  };
  edge(0, first);
  for (int64_t o = first; o < last; o++) {
    const __m512 grad = load(g + o * c);
    const T* from = x + (o * stride - pad) * c;
#pragma GCC unroll 8
    for (int k = 0; k < K; k++) acc[k] = _mm512_fmadd_ps(grad, load(from + k * c), acc[k]);
  }
  edge(last, w_out);
  for (int k = 0; k < K; k++) _mm512_storeu_ps(sums + k * c, acc[k]);
}

template <int K, typename T>
void all(const at::Tensor& x, const at::Tensor& g, at::Tensor& out, int64_t stride) {
  const int64_t n = x.size(0), c = x.size(1), h_in = x.size(2), w_in = x.size(3), h = g.size(2), w = g.size(3);
  const int64_t threads = at::get_num_threads();
  std::vector<std::vector<float>> sums(threads, std::vector<float>(K * K * c));
  const T* xs = x.const_data_ptr<T>();
  const T* gs = g.const_data_ptr<T>();
  at::parallel_for(0, threads, 1, [&](int64_t from, int64_t to) {
    for (int64_t thread = from; thread < to; thread++) {
      float* mine = sums[thread].data();
      for (int64_t i = n * thread / threads; i < n * (thread + 1) / threads; i++)
        for (int64_t block = 0; block < c; block += 16)
          for (int64_t o = 0; o < h; o++)
            for (int64_t k = 0; k < K; k++) {
              const int64_t y = o * stride + k - K / 2;
              if (y < 0 || y >= h_in) continue;
              row<K>(xs + (i * h_in + y) * w_in * c + block, gs + (i * h + o) * w * c + block,
                     mine + k * K * c + block, c, w_in, w, stride);
            }
    }
  });
  float* total = out.data_ptr<float>();
  for (const auto& part : sums)
    for (int64_t k = 0; k < K * K; k++)
      for (int64_t i = 0; i < c; i++) total[i * K * K + k] += part[k * c + i];
}

template <typename T>
void by_kernel(int64_t kernel, const at::Tensor& x, const at::Tensor& g, at::Tensor& out, int64_t stride) {
  kernel == 3 ? all<3, T>(x, g, out, stride) : all<7, T>(x, g, out, stride);
}

// Sums over all rows of two values a channel, which `values` has for 16 channels of a row.
template <typename F>
void channel_sums(int64_t rows, int64_t c, std::vector<double>& first, std::vector<double>& second, F values) {
  constexpr int64_t chunk = 256;
  const int64_t threads = at::get_num_threads();
  std::vector<std::vector<double>> sums(threads, std::vector<double>(2 * c));
  at::parallel_for(0, threads, 1, [&](int64_t from, int64_t to) {
    for (int64_t thread = from; thread < to; thread++) {
      const int64_t end = rows * (thread + 1) / threads;
      for (int64_t start = rows * thread / threads; start < end; start += chunk)
        for (int64_t block = 0; block < c; block += 16) {
          __m512 a = _mm512_setzero_ps(), b = a;
          for (int64_t r = start; r < std::min(start + chunk, end); r++) values(r * c + block, block, a, b);
          float parts[32];
          _mm512_storeu_ps(parts, a);
          _mm512_storeu_ps(parts + 16, b);
          for (int64_t i = 0; i < 16; i++) {
            sums[thread][block + i] += parts[i];
            sums[thread][c + block + i] += parts[16 + i];
          }
        }
    }
  });
  first.assign(c, 0);
  second.assign(c, 0);
  for (const auto& part : sums)
    for (int64_t i = 0; i < c; i++) {
      first[i] += part[i];
      second[i] += part[c + i];
    }
}

template <typename F>
void each_block(int64_t rows, int64_t c, F f) {
  at::parallel_for(0, rows, 64, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; r++)
      for (int64_t block = 0; block < c; block += 16) f(r * c + block, block);
  });
}

template <typename T>
void norm_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps, at::Tensor& y,
                  at::Tensor& mean, at::Tensor& inverse) {
  const int64_t c = x.size(1), rows = x.numel() / c;
  const T* xs = x.const_data_ptr<T>();
  std::vector<double> sum, squares;
  channel_sums(rows, c, sum, squares, [&](int64_t at, int64_t, __m512& a, __m512& b) {
    const __m512 v = load(xs + at);
    a = _mm512_add_ps(a, v);
    b = _mm512_fmadd_ps(v, v, b);
  });
  std::vector<float> scale(c), shift(c);
  for (int64_t i = 0; i < c; i++) {
    const double m = sum[i] / rows, r = 1 / std::sqrt(std::max(0.0, squares[i] / rows - m * m) + eps);
    mean.data_ptr<float>()[i] = m;
    inverse.data_ptr<float>()[i] = r;
    scale[i] = weight.const_data_ptr<float>()[i] * r;
    shift[i] = bias.const_data_ptr<float>()[i] - m * scale[i];
  }
  T* ys = y.data_ptr<T>();
  each_block(rows, c, [&](int64_t at, int64_t block) {
    store(ys + at, _mm512_fmadd_ps(load(xs + at), load(&scale[block]), load(&shift[block])));
  });
}

template <typename T>
void norm_backward(const at::Tensor& g, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& mean,
                   const at::Tensor& inverse, at::Tensor& below, at::Tensor& dweight, at::Tensor& dbias) {
  const int64_t c = x.size(1), rows = x.numel() / c;
  const T *xs = x.const_data_ptr<T>(), *gs = g.const_data_ptr<T>();
  const float *m = mean.const_data_ptr<float>(), *r = inverse.const_data_ptr<float>();
  std::vector<double> sum, product;
  channel_sums(rows, c, sum, product, [&](int64_t at, int64_t block, __m512& a, __m512& b) {
    const __m512 grad = load(gs + at);
    a = _mm512_add_ps(a, grad);
    b = _mm512_fmadd_ps(grad, _mm512_sub_ps(load(xs + at), load(m + block)), b);
  });
  // below = by_grad * g + by_x * x + shift
  std::vector<float> by_grad(c), by_x(c), shift(c);
  for (int64_t i = 0; i < c; i++) {
    dbias.data_ptr<float>()[i] = sum[i];
    dweight.data_ptr<float>()[i] = product[i] * r[i];
    by_grad[i] = weight.const_data_ptr<float>()[i] * r[i];
    by_x[i] = -by_grad[i] * r[i] * r[i] * product[i] / rows;
    shift[i] = -by_grad[i] * sum[i] / rows - by_x[i] * m[i];
  }
  T* out = below.data_ptr<T>();
  each_block(rows, c, [&](int64_t at, int64_t block) {
    const __m512 rest = _mm512_fmadd_ps(load(xs + at), load(&by_x[block]), load(&shift[block]));
    store(out + at, _mm512_fmadd_ps(load(gs + at), load(&by_grad[block]), rest));
  });
}

// e^x for x <= 0: a power of two and a polynomial in the rest (Cephes' coefficients).
inline __m512 exponential(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-80));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  const __m512 t = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147181f), x);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  for (float k : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(k));
  p = _mm512_fmadd_ps(_mm512_mul_ps(t, t), p, _mm512_add_ps(t, _mm512_set1_ps(1)));
  return _mm512_scalef_ps(p, n);
}

// The normal distribution's cumulative function and `e^(-x^2 / 2)`, which it needs anyway: Abramowitz and Stegun
// 7.1.26, off by 1.5e-7 at most.
inline __m512 cumulative(__m512 x, __m512& bell) {
  const __m512 one = _mm512_set1_ps(1), z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.707106781f));
  bell = exponential(_mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.5f)));
  const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
  __m512 p = _mm512_set1_ps(1.061405429f);
  for (float k : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(k));
  const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(p, t), bell), _mm512_set1_ps(0.5f));
  return _mm512_mask_sub_ps(tail, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ), one, tail);
}

template <typename T>
void gelu_forward(const at::Tensor& x, at::Tensor& y) {
  const T* xs = x.const_data_ptr<T>();
  T* ys = y.data_ptr<T>();
  at::parallel_for(0, x.numel() / 16, 1024, [&](int64_t from, int64_t to) {
    for (int64_t i = from * 16; i < to * 16; i += 16) {
      __m512 bell;
      const __m512 v = load(xs + i);
      store(ys + i, _mm512_mul_ps(v, cumulative(v, bell)));
    }
  });
}

template <typename T>
void gelu_backward(const at::Tensor& g, const at::Tensor& x, at::Tensor& below) {
  const T *xs = x.const_data_ptr<T>(), *gs = g.const_data_ptr<T>();
  T* out = below.data_ptr<T>();
  at::parallel_for(0, x.numel() / 16, 1024, [&](int64_t from, int64_t to) {
    for (int64_t i = from * 16; i < to * 16; i += 16) {
      __m512 bell;
      const __m512 v = load(xs + i), area = cumulative(v, bell);
      const __m512 slope = _mm512_fmadd_ps(_mm512_mul_ps(v, _mm512_set1_ps(0.398942280f)), bell, area);
      store(out + i, _mm512_mul_ps(load(gs + i), slope));
    }
  });
}

inline float sum(__m512 v) { return _mm512_reduce_add_ps(v); }

// `x` f32 of rows of `c`, the output in another type.
template <typename T>
void rms_forward(const at::Tensor& x, const at::Tensor& weight, double eps, at::Tensor& y, at::Tensor& inverse) {
  const int64_t c = x.size(-1);
  const float *xs = x.const_data_ptr<float>(), *w = weight.const_data_ptr<float>();
  at::parallel_for(0, x.numel() / c, 64, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; r++) {
      __m512 squares = _mm512_setzero_ps();
      for (int64_t i = 0; i < c; i += 16) squares = _mm512_fmadd_ps(load(xs + r * c + i), load(xs + r * c + i), squares);
      const float scale = 1 / std::sqrt(sum(squares) / c + eps);
      inverse.data_ptr<float>()[r] = scale;
      for (int64_t i = 0; i < c; i += 16) {
        const __m512 v = _mm512_mul_ps(load(xs + r * c + i), _mm512_set1_ps(scale));
        store(y.data_ptr<T>() + r * c + i, _mm512_mul_ps(v, load(w + i)));
      }
    }
  });
}

template <typename T>
void rms_backward(const at::Tensor& g, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                  at::Tensor& below, at::Tensor& dweight) {
  const int64_t c = x.size(-1), rows = x.numel() / c, threads = at::get_num_threads();
  const float *xs = x.const_data_ptr<float>(), *w = weight.const_data_ptr<float>();
  const T* gs = g.const_data_ptr<T>();
  std::vector<std::vector<float>> sums(threads, std::vector<float>(c));
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; thread++)
      for (int64_t r = rows * thread / threads; r < rows * (thread + 1) / threads; r++) {
        const float scale = inverse.const_data_ptr<float>()[r];
        __m512 product = _mm512_setzero_ps();
        for (int64_t i = 0; i < c; i += 16) {
          const __m512 seen = _mm512_mul_ps(load(gs + r * c + i), load(xs + r * c + i));
          product = _mm512_fmadd_ps(seen, load(w + i), product);
          float* mine = sums[thread].data() + i;
          store(mine, _mm512_fmadd_ps(seen, _mm512_set1_ps(scale), load(mine)));
        }
        const __m512 by_x = _mm512_set1_ps(-sum(product) / c * scale * scale * scale);
        for (int64_t i = 0; i < c; i += 16) {
          const __m512 by_grad = _mm512_mul_ps(_mm512_mul_ps(load(gs + r * c + i), load(w + i)), _mm512_set1_ps(scale));
          store(below.data_ptr<float>() + r * c + i, _mm512_fmadd_ps(load(xs + r * c + i), by_x, by_grad));
        }
      }
  });
  for (const auto& part : sums)
    for (int64_t i = 0; i < c; i++) dweight.data_ptr<float>()[i] += part[i];
}

inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1), e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(x)));
  const __m512 low = _mm512_div_ps(e, _mm512_add_ps(one, e));
  return _mm512_mask_sub_ps(low, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ), one, low);
}

// Rows of `2 h`, gates first, to rows of `h`.
template <typename T>
void swiglu_forward(const at::Tensor& x, at::Tensor& y) {
  const int64_t h = x.size(-1) / 2;
  const T* xs = x.const_data_ptr<T>();
  at::parallel_for(0, x.numel() / (2 * h), 64, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; r++)
      for (int64_t i = 0; i < h; i += 16) {
        const __m512 gate = load(xs + 2 * r * h + i), up = load(xs + (2 * r + 1) * h + i);
        store(y.data_ptr<T>() + r * h + i, _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid(gate)), up));
      }
  });
}

template <typename T>
void swiglu_backward(const at::Tensor& g, const at::Tensor& x, at::Tensor& below) {
  const int64_t h = x.size(-1) / 2;
  const T *xs = x.const_data_ptr<T>(), *gs = g.const_data_ptr<T>();
  T* out = below.data_ptr<T>();
  at::parallel_for(0, x.numel() / (2 * h), 64, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; r++)
      for (int64_t i = 0; i < h; i += 16) {
        const __m512 gate = load(xs + 2 * r * h + i), up = load(xs + (2 * r + 1) * h + i), grad = load(gs + r * h + i);
        const __m512 s = sigmoid(gate), open = _mm512_mul_ps(gate, s);
        // s + gate s (1 - s)
        const __m512 slope = _mm512_fnmadd_ps(open, s, _mm512_add_ps(s, open));
        store(out + 2 * r * h + i, _mm512_mul_ps(_mm512_mul_ps(grad, up), slope));
        store(out + (2 * r + 1) * h + i, _mm512_mul_ps(grad, open));
      }
  });
}

inline __m512 load(const float* p, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, p); }

inline __m512 load(const at::BFloat16* p, __mmask16 mask) {
  __m256i half = _mm256_maskz_loadu_epi16(mask, p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

inline void store(float* p, __mmask16 mask, __m512 v) { _mm512_mask_storeu_ps(p, mask, v); }

inline void store(at::BFloat16* p, __mmask16 mask, __m512 v) {
  _mm256_mask_storeu_epi16(p, mask, (__m256i)_mm512_cvtneps_pbh(v));
}

// Calls `f` for each row with its number and how many of its values count, which a causal row's place in its square says.
template <typename F>
void each_row(const at::Tensor& x, bool causal, F f) {
  const int64_t keys = x.size(-1), queries = causal ? keys : 1;
  at::parallel_for(0, x.numel() / keys, 16, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; r++) f(r, causal ? r % queries + 1 : keys);
  });
}

// Calls `f` with the place and the mask of each 16 values of `count`.
template <typename F>
void each_16(int64_t count, F f) {
  for (int64_t i = 0; i < count; i += 16) f(i, __mmask16(count - i >= 16 ? 0xffff : (1 << (count - i)) - 1));
}

template <typename T>
void softmax_forward(const at::Tensor& x, bool causal, at::Tensor& y) {
  const int64_t n = x.size(-1);
  each_row(x, causal, [&](int64_t r, int64_t count) {
    const T* xs = x.const_data_ptr<T>() + r * n;
    T* ys = y.data_ptr<T>() + r * n;
    thread_local std::vector<float> kept;
    kept.resize(n + 16);
    __m512 most = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
    each_16(count, [&](int64_t i, __mmask16 m) { most = _mm512_mask_max_ps(most, m, most, load(xs + i, m)); });
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    each_16(count, [&](int64_t i, __mmask16 m) {
      const __m512 e = exponential(_mm512_sub_ps(load(xs + i, m), most));
      total = _mm512_mask_add_ps(total, m, total, e);
      store(&kept[i], e);
    });
    const __m512 scale = _mm512_set1_ps(1 / sum(total));
    each_16(count, [&](int64_t i, __mmask16 m) { store(ys + i, m, _mm512_mul_ps(load(&kept[i]), scale)); });
    std::fill(ys + count, ys + n, T(0));
  });
}

template <typename T>
void softmax_backward(const at::Tensor& g, const at::Tensor& y, bool causal, at::Tensor& below) {
  const int64_t n = y.size(-1);
  each_row(y, causal, [&](int64_t r, int64_t count) {
    const T *ys = y.const_data_ptr<T>() + r * n, *gs = g.const_data_ptr<T>() + r * n;
    T* out = below.data_ptr<T>() + r * n;
    __m512 product = _mm512_setzero_ps();
    each_16(count, [&](int64_t i, __mmask16 m) { product = _mm512_fmadd_ps(load(gs + i, m), load(ys + i, m), product); });
    const __m512 mean = _mm512_set1_ps(sum(product));
    each_16(count, [&](int64_t i, __mmask16 m) {
      store(out + i, m, _mm512_mul_ps(load(ys + i, m), _mm512_sub_ps(load(gs + i, m), mean)));
    });
    std::fill(out + count, out + n, T(0));
  });
}

// Heads of 32 values: `(b, n, h, 32)` to `(b, h, n, 32)`, the first `turned` of them turned by each position's angles, or
// turned back on the way back.
template <typename T>
void turn(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines, int64_t turned, bool back, at::Tensor& y) {
  const int64_t b = back ? y.size(0) : x.size(0), n = cosines.size(0), h = back ? y.size(2) : x.size(2);
  const float *cs = cosines.const_data_ptr<float>(), *ss = sines.const_data_ptr<float>();
  const __m512 sign = _mm512_set1_ps(back ? -1 : 1);
  at::parallel_for(0, b * n, 64, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; r++) {
      const __m512 c = load(cs + r % n * 16), s = _mm512_mul_ps(load(ss + r % n * 16), sign);
      for (int64_t head = 0; head < h; head++) {
        const int64_t apart = (r * h + head) * 32, together = ((r / n * h + head) * n + r % n) * 32;
        const T* given = x.const_data_ptr<T>() + (back ? together : apart);
        T* made = y.data_ptr<T>() + (back ? apart : together);
        const __m512 first = load(given), second = load(given + 16);
        const bool moves = head < turned;
        store(made, moves ? _mm512_fnmadd_ps(second, s, _mm512_mul_ps(first, c)) : first);
        store(made + 16, moves ? _mm512_fmadd_ps(first, s, _mm512_mul_ps(second, c)) : second);
      }
    }
  });
}

#define BY_TYPE(x, function, ...)                          \
  do {                                                     \
    if ((x).scalar_type() == at::kBFloat16) {              \
      function<at::BFloat16>(__VA_ARGS__);                 \
    } else {                                               \
      TORCH_CHECK((x).scalar_type() == at::kFloat, "f32 or bf16"); \
      function<float>(__VA_ARGS__);                        \
    }                                                      \
  } while (0)

void check_maps(const at::Tensor& x, const at::Tensor& g) {
  TORCH_CHECK(x.size(1) == g.size(1) && x.size(1) % 16 == 0, "channels must be as many and a multiple of 16");
  TORCH_CHECK(x.scalar_type() == g.scalar_type(), "one type");
  TORCH_CHECK(x.is_contiguous(at::MemoryFormat::ChannelsLast) && g.is_contiguous(at::MemoryFormat::ChannelsLast));
}

}  // namespace

// `x` (n, c, h, w) and the output's gradient to (c, 1, k, k).
at::Tensor weight_gradient(const at::Tensor& x, const at::Tensor& g, int64_t kernel, int64_t stride) {
  check_maps(x, g);
  TORCH_CHECK(kernel == 3 || kernel == 7, "kernels of 3 and 7");
  auto out = at::zeros({x.size(1), 1, kernel, kernel}, x.options().dtype(at::kFloat));
  BY_TYPE(x, by_kernel, kernel, x, g, out, stride);
  return out;
}

// Normalised map, means and inverse deviations.
std::vector<at::Tensor> norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  check_maps(x, x);
  auto y = at::empty_like(x), mean = at::empty_like(weight), inverse = at::empty_like(weight);
  BY_TYPE(x, norm_forward, x, weight, bias, eps, y, mean, inverse);
  return {y, mean, inverse};
}

// Gradients of the map, the weight and the bias.
std::vector<at::Tensor> norm_gradient(const at::Tensor& g, const at::Tensor& x, const at::Tensor& weight,
                                      const at::Tensor& mean, const at::Tensor& inverse) {
  check_maps(x, g);
  auto below = at::empty_like(x), dweight = at::empty_like(weight), dbias = at::empty_like(weight);
  BY_TYPE(x, norm_backward, g, x, weight, mean, inverse, below, dweight, dbias);
  return {below, dweight, dbias};
}

at::Tensor gelu(const at::Tensor& x) {
  TORCH_CHECK(x.is_non_overlapping_and_dense() && x.numel() % 16 == 0);
  auto y = at::empty_like(x);
  BY_TYPE(x, gelu_forward, x, y);
  return y;
}

at::Tensor gelu_gradient(const at::Tensor& g, const at::Tensor& x) {
  TORCH_CHECK(x.is_non_overlapping_and_dense() && x.strides() == g.strides() && x.scalar_type() == g.scalar_type());
  auto below = at::empty_like(x);
  BY_TYPE(x, gelu_backward, g, x, below);
  return below;
}

// Normalised rows in the type asked for, and the inverse of each row's root mean square.
std::vector<at::Tensor> rms(const at::Tensor& x, const at::Tensor& weight, double eps, bool half) {
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kFloat && x.size(-1) % 16 == 0);
  auto y = at::empty(x.sizes(), x.options().dtype(half ? at::kBFloat16 : at::kFloat));
  auto inverse = at::empty({x.numel() / x.size(-1)}, x.options());
  BY_TYPE(y, rms_forward, x, weight, eps, y, inverse);
  return {y, inverse};
}

std::vector<at::Tensor> rms_gradient(const at::Tensor& g, const at::Tensor& x, const at::Tensor& weight,
                                     const at::Tensor& inverse) {
  TORCH_CHECK(g.is_contiguous() && x.is_contiguous());
  auto below = at::empty_like(x), dweight = at::zeros_like(weight);
  BY_TYPE(g, rms_backward, g, x, weight, inverse, below, dweight);
  return {below, dweight};
}

at::Tensor swiglu(const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && x.size(-1) % 32 == 0);
  auto shape = x.sizes().vec();
  shape.back() /= 2;
  auto y = at::empty(shape, x.options());
  BY_TYPE(x, swiglu_forward, x, y);
  return y;
}

at::Tensor swiglu_gradient(const at::Tensor& g, const at::Tensor& x) {
  TORCH_CHECK(g.is_contiguous() && x.is_contiguous() && g.scalar_type() == x.scalar_type());
  auto below = at::empty_like(x);
  BY_TYPE(x, swiglu_backward, g, x, below);
  return below;
}

// Over the last dimension; causal where it is as long as the last but one, or that is a multiple of it.
at::Tensor softmax(const at::Tensor& x, bool causal) {
  TORCH_CHECK(x.is_contiguous() && (!causal || x.size(-2) % x.size(-1) == 0));
  auto y = at::empty_like(x);
  BY_TYPE(x, softmax_forward, x, causal, y);
  return y;
}

at::Tensor softmax_gradient(const at::Tensor& g, const at::Tensor& y, bool causal) {
  TORCH_CHECK(g.is_contiguous() && y.is_contiguous() && g.scalar_type() == y.scalar_type());
  auto below = at::empty_like(y);
  BY_TYPE(y, softmax_backward, g, y, causal, below);
  return below;
}

at::Tensor heads(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines, int64_t turned, bool back) {
  TORCH_CHECK(x.is_contiguous() && cosines.is_contiguous() && sines.is_contiguous() && x.size(3) == 32);
  TORCH_CHECK(cosines.size(0) == x.size(back ? 2 : 1) && cosines.size(1) == 16);
  auto y = at::empty({x.size(0), x.size(2), x.size(1), 32}, x.options());
  BY_TYPE(x, turn, x, cosines, sines, turned, back, y);
  return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("weight_gradient", &weight_gradient);
  module.def("norm", &norm);
  module.def("norm_gradient", &norm_gradient);
  module.def("gelu", &gelu);
  module.def("gelu_gradient", &gelu_gradient);
  module.def("rms", &rms);
  module.def("rms_gradient", &rms_gradient);
  module.def("swiglu", &swiglu);
  module.def("swiglu_gradient", &swiglu_gradient);
  module.def("softmax", &softmax);
  module.def("softmax_gradient", &softmax_gradient);
  module.def("heads", &heads);
}
