// Enough of CUDA for a C++ compiler to run our kernels on the host, one thread after
// another, so that tests check them where there is no GPU.
#pragma once

#include <algorithm>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <utility>

#define __device__
#define __global__
#define __shared__ static thread_local

using std::max;
using std::min;

struct Index { uint32_t x, y, z; };
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

struct __half { uint16_t bits; };
struct __nv_bfloat16 { uint16_t bits; };

static inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static inline float __bfloat162float(__nv_bfloat16 x) { return of_bits((uint32_t)x.bits << 16); }

static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const uint32_t bits = bits_of(x);
  if (isnan(x)) return {0x7fff};
  return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

static inline float __half2float(__half x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // Subnormals come out right: the product scales what the exponent does not say.
  return of_bits(sign | bits_of(of_bits(rest << 13) * 0x1p112f));
}

static inline __half __float2half_rn(float x) {
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000;
  uint32_t rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return {0x7fff};
  if (rest >= 0x477ff000) return {(uint16_t)(sign | 0x7c00)};
  if (rest < 0x38800000)
    // The sum's last bit is that of a subnormal.
    rest = bits_of(of_bits(rest) + 0.5f) - 0x3f000000;
  else
    rest = (rest + 0xc8000fff + (rest >> 13 & 1)) >> 13;
  return {(uint16_t)(sign | rest)};
}

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

// Lets all other threads of the block come as far as this one.
void __syncthreads();
float __shfl_xor_sync(uint32_t mask, float x, int lanes);

// A kernel by its name. One that is synchronous has its threads wait for each other.
struct Kernel {
  Kernel(const char *name, void (*call)(void **), bool synchronous);
  const char *name;
  void (*call)(void **);
  bool synchronous;
  const Kernel *next;
};

template <typename... A, size_t... I>
static void call_with(void (*kernel)(A...), void **parameters, std::index_sequence<I...>) {
  kernel(*static_cast<A *>(parameters[I])...);
}

template <typename... A> static void call_with(void (*kernel)(A...), void **parameters) {
  call_with(kernel, parameters, std::index_sequence_for<A...>());
}

#define ENTRY(name, synchronous)                                                                   \
  static const Kernel entry_##name(                                                                \
      #name, [](void **parameters) { call_with(name, parameters); }, synchronous);
#define REGISTER(name) ENTRY(name, false)
#define REGISTER_SYNCHRONOUS(name) ENTRY(name, true)
