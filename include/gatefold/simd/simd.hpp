#pragma once
#include <array>
#include <bit>
#include <concepts>
#include <cstring>
#include <limits>
#include <utility>
// g++ 12 takes the deliberately undefined registers of its own AVX-512 headers for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <xsimd/xsimd.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "gatefold/core/isa.hpp"
#include "gatefold/core/scalar.hpp"
#include "gatefold/core/shape.hpp"

#ifndef XSIMD_NO_SUPPORTED_ARCHITECTURE
#define GATEFOLD_HAS_SIMD 1
#else
#define GATEFOLD_HAS_SIMD 0
#endif

/// The only file that knows of xsimd and its versions (8.1 to 14).
namespace gatefold::kernels {
/// How many terms of a sum are added one after the other, before a second sum takes over: an error of 1e-6 of their
/// size in float, whatever the number of chains.
inline constexpr Index kChain = 256;
}  // namespace gatefold::kernels

namespace gatefold::kernels::simd {

#if GATEFOLD_HAS_SIMD
using DefaultArch = xsimd::default_arch;

template <class T, class Arch = DefaultArch>
using Batch = xsimd::batch<T, Arch>;

/// Lanes of a vector register.
template <class T, class Arch = DefaultArch>
inline constexpr Index kLanes = static_cast<Index>(Batch<T, Arch>::size);

/// Vector registers of an architecture: AVX-512 and 64-bit ARM have 32, older x86 has 16.
template <class Arch>
#if defined(__aarch64__)
inline constexpr int kRegisters = 32;
#else
inline constexpr int kRegisters = kLanes<float, Arch> >= 16 ? 32 : 16;
#endif

template <class T, class Arch>
inline Batch<T, Arch> load(const T* p) {
  return Batch<T, Arch>::load_unaligned(p);
}

/// The same, in a register: g++ would rather read it again from memory for each of its uses.
template <class T, class Arch>
inline Batch<T, Arch> load_once(const T* p) {
  auto v = load<T, Arch>(p);
#if defined(__aarch64__)
  asm("" : "+w"(v.data));
#else
  asm("" : "+v"(v.data));
#endif
  return v;
}

/// a b + c, rounded once where the machine has it.
template <class T, class A>
inline xsimd::batch<T, A> fma(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b, const xsimd::batch<T, A>& c) {
#ifdef __AVX512F__
  // xsimd 8.1 multiplies and adds here, which rounds twice wherever the compiler does not join them (clang does not).
  using Vector = xsimd::batch<T, A>;
  if constexpr (Vector::size * sizeof(T) == 64 && std::is_same_v<T, float>) return _mm512_fmadd_ps(a, b, c);
  if constexpr (Vector::size * sizeof(T) == 64 && std::is_same_v<T, double>) return _mm512_fmadd_pd(a, b, c);
#endif
  return xsimd::fma(a, b, c);
}

/// The larger of two, and b where either is NaN, which is x86's rule: xsimd hands it its operands in one order up to 13
/// and in the other in 14. On ARM, NaN where either is.
template <class A>
inline xsimd::batch<float, A> max(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) {
#if defined(__AVX512F__)
  if constexpr (xsimd::batch<float, A>::size == 16) return _mm512_max_ps(a, b);
#endif
#if defined(__AVX__)
  if constexpr (xsimd::batch<float, A>::size == 8) return _mm256_max_ps(a, b);
#endif
#if defined(__SSE__)
  if constexpr (xsimd::batch<float, A>::size == 4) return _mm_max_ps(a, b);
#endif
  return xsimd::max(a, b);
}

/// The smaller of two, and b where either is NaN; see max.
template <class A>
inline xsimd::batch<float, A> min(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) {
#if defined(__AVX512F__)
  if constexpr (xsimd::batch<float, A>::size == 16) return _mm512_min_ps(a, b);
#endif
#if defined(__AVX__)
  if constexpr (xsimd::batch<float, A>::size == 8) return _mm256_min_ps(a, b);
#endif
#if defined(__SSE__)
  if constexpr (xsimd::batch<float, A>::size == 4) return _mm_min_ps(a, b);
#endif
  return xsimd::min(a, b);
}

/// a / b, rounded once.
template <class A>
inline xsimd::batch<float, A> divide(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) {
#if defined(__aarch64__)
  return vdivq_f32(a, b);  // xsimd 8.1 makes do with an estimate and two steps of Newton's
#else
  return a / b;
#endif
}

/// The bits of v as numbers of type To.
template <class To, class T, class A>
inline xsimd::batch<To, A> bits_as(const xsimd::batch<T, A>& v) {
  if constexpr (requires {
                  { xsimd::bitwise_cast<To>(v) } -> std::same_as<xsimd::batch<To, A>>;
                })
    return xsimd::bitwise_cast<To>(v);
  else  // up to 9
    return xsimd::bitwise_cast<xsimd::batch<To, A>>(v);
}

/// The float whose bits are those of v, shifted left by `bits`.
template <class A>
inline xsimd::batch<float, A> shift_bits_left(const xsimd::batch<float, A>& v, int bits) {
  return bits_as<float>(bits_as<std::int32_t>(v) << bits);
}

#ifdef __AVX512F__
/// table[i] with i the low four bits of v.
template <class A>
inline xsimd::batch<float, A> look_up(const xsimd::batch<float, A>& table, const xsimd::batch<float, A>& v) {
  return _mm512_permutexvar_ps(_mm512_castps_si512(v), table);
}

/// v 2^floor(power), also where that is denormal or no float any more; 0 unless `where`.
template <class A>
inline xsimd::batch<float, A> scale_by_power(const xsimd::batch_bool<float, A>& where, const xsimd::batch<float, A>& v,
                                             const xsimd::batch<float, A>& power) {
  return _mm512_maskz_scalef_ps(where, v, power);
}
#endif

template <class T, class A>
inline T reduce_add(const xsimd::batch<T, A>& v) {
#if XSIMD_VERSION_MAJOR >= 9
  return xsimd::reduce_add(v);
#else
  return xsimd::hadd(v);
#endif
}

/// Lane i is the sum of the lanes of v[i], i < kLanes. All lanes are added in one order.
template <class A>
inline xsimd::batch<float, A> row_sums(const xsimd::batch<float, A>* v) {
#ifdef __AVX512F__
  if constexpr (xsimd::batch<float, A>::size == 16) {  // half the instructions of xsimd's
    const auto pairs = [](__m512 a, __m512 b) {
      return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    };
    const auto quads = [&](const xsimd::batch<float, A>* w) {
      const __m512d a = _mm512_castps_pd(pairs(w[0], w[1])), b = _mm512_castps_pd(pairs(w[2], w[3]));
      return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    };
    const auto blocks = [](__m512 a, __m512 b) {
      return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    };
    return blocks(blocks(quads(v), quads(v + 4)), blocks(quads(v + 8), quads(v + 12)));
  }
#endif
  return xsimd::haddp(v);
}

/// Bytes taken four by four as 32-bit words. Bytes may be read whatever type lies there.
template <class Arch>
inline Batch<std::int32_t, Arch> load_words(const void* p) {
  return bits_as<std::int32_t>(load<std::uint8_t, Arch>(static_cast<const std::uint8_t*>(p)));
}

/// a0 b0 a1 b1 ... of the lower halves and of the upper halves, over the whole register.
template <class A>
inline void zip(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b, xsimd::batch<float, A>& low,
                xsimd::batch<float, A>& high) {
#ifdef __AVX512F__
  if constexpr (xsimd::batch<float, A>::size == 16) {  // xsimd 8.1 goes through memory
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512 l = _mm512_permutex2var_ps(a, first, b);
    high = _mm512_permutex2var_ps(a, _mm512_add_epi32(first, _mm512_set1_epi32(8)), b);
    low = l;
    return;
  }
#endif
#ifdef __AVX__
  if constexpr (xsimd::batch<float, A>::size == 8) {  // xsimd 8.1 zips each half of the register by itself
    const __m256 even = _mm256_unpacklo_ps(a, b), odd = _mm256_unpackhi_ps(a, b);
    low = _mm256_permute2f128_ps(even, odd, 0x20);
    high = _mm256_permute2f128_ps(even, odd, 0x31);
    return;
  }
#endif
  const auto l = xsimd::zip_lo(a, b);
  high = xsimd::zip_hi(a, b);
  low = l;
}

/// Turns rows into columns. With all numbers of the n registers, a power of two, counted through, one round of zips
/// rotates the bits of each one's place by one to the left. So kLanes rows of n numbers, one behind the other, turn
/// into n registers of one column each in log2(kLanes) rounds, and back in log2(n).
template <std::size_t n, class A>
inline void zip_rounds(xsimd::batch<float, A> (&v)[n], int rounds) {
  if constexpr (n > 1) {
    xsimd::batch<float, A> next[n];
#pragma GCC unroll 4
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < n / 2; ++i) zip(v[i], v[i + n / 2], next[2 * i], next[2 * i + 1]);
#pragma GCC unroll 16
      for (std::size_t i = 0; i < n; ++i) v[i] = next[i];
    }
  }
}

/// to[j][i] = from[i][j] for a square of kLanes.
template <class Arch>
inline void transpose_square(const float* from, Index from_stride, float* to, Index to_stride) {
  constexpr int kWidth = static_cast<int>(kLanes<float, Arch>);
  Batch<float, Arch> row[kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) row[i] = load<float, Arch>(from + i * from_stride);
  zip_rounds(row, std::countr_zero(static_cast<unsigned>(kWidth)));
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) row[i].store_unaligned(to + i * to_stride);
}

template <class T, class A>
inline T reduce_max(const xsimd::batch<T, A>& v) {
  alignas(64) T lane[xsimd::batch<T, A>::size];
  v.store_aligned(lane);
  T most = lane[0];
  for (std::size_t i = 1; i < xsimd::batch<T, A>::size; ++i) most = most < lane[i] ? lane[i] : most;
  return most;
}
#else
struct DefaultArch {};
#endif

/// Only float runs on vectors; other scalars, and every scalar under Isa::portable, take the same formula one by one.
template <class T>
inline constexpr bool kVectorised = GATEFOLD_HAS_SIMD&& std::is_same_v<T, float>;

/// y[i] = f(x[i]...) for i < n, where f is one generic formula for scalars and vectors. The last, partial vector goes
/// through a padded copy, so an element's value does not depend on its position.
template <class T, class Arch = DefaultArch, class F, class... X>
inline void transform(Isa isa, Index n, F&& f, T* y, const X*... x) {
  if constexpr (kVectorised<T>) {
    if (isa != Isa::portable) {
      constexpr Index kWidth = kLanes<T, Arch>;
      Index i = 0;
      for (; i + kWidth <= n; i += kWidth) f(load<T, Arch>(x + i)...).store_unaligned(y + i);
      if (i < n) {
        alignas(64) T rest[sizeof...(X) + 1][static_cast<std::size_t>(kWidth)] = {};
        const auto bytes = static_cast<std::size_t>(n - i) * sizeof(T);
        std::size_t operand = 1;
        ((std::memcpy(rest[operand], x + i, bytes), ++operand), ...);
        [&]<std::size_t... I>(std::index_sequence<I...>) { f(load<T, Arch>(rest[I + 1])...).store_unaligned(rest[0]); }
        (std::index_sequence_for<X...>{});
        std::memcpy(y + i, rest[0], bytes);
      }
      return;
    }
  }
  for (Index i = 0; i < n; ++i) y[i] = f(x[i]...);
}

/// {y[0][i], y[1][i], ...} = f(y[0][i], y[1][i], ..., x[i]...) for i < n: several arrays in one pass over memory. f
/// returns a std::array.
template <class T, class Arch = DefaultArch, std::size_t K, class F, class... X>
inline void update(Isa isa, Index n, F&& f, const std::array<T*, K>& y, const X*... x) {
  const auto each = [&]<std::size_t... I, std::size_t... J>(std::index_sequence<I...>, std::index_sequence<J...>) {
    Index i = 0;
    if constexpr (kVectorised<T>) {
      if (isa != Isa::portable) {
        constexpr Index kWidth = kLanes<T, Arch>;
        for (; i + kWidth <= n; i += kWidth) {
          const auto result = f(load<T, Arch>(y[I] + i)..., load<T, Arch>(x + i)...);
          (result[I].store_unaligned(y[I] + i), ...);
        }
        if (i < n) {
          alignas(64) T rest[K + sizeof...(X)][static_cast<std::size_t>(kWidth)] = {};
          const auto bytes = static_cast<std::size_t>(n - i) * sizeof(T);
          (std::memcpy(rest[I], y[I] + i, bytes), ...);
          (std::memcpy(rest[K + J], x + i, bytes), ...);
          const auto result = f(load<T, Arch>(rest[I])..., load<T, Arch>(rest[K + J])...);
          (result[I].store_unaligned(rest[I]), ...);
          (std::memcpy(y[I] + i, rest[I], bytes), ...);
        }
        return;
      }
    }
    for (; i < n; ++i) {
      const auto result = f(y[I][i]..., x[i]...);
      ((y[I][i] = result[I]), ...);
    }
  };
  each(std::make_index_sequence<K>(), std::index_sequence_for<X...>());
}

/// sum over i < n of f(x[i]...), in a fixed order of n and the vector width, in chains of kChain where there are no
/// vectors.
template <class T, class Arch = DefaultArch, class F, class... X>
inline T sum(Isa isa, Index n, F&& f, const X*... x) {
  T total{};
  Index i = 0;
  if constexpr (kVectorised<T>) {
    if (isa != Isa::portable) {
      constexpr Index kWidth = kLanes<T, Arch>;
      Batch<T, Arch> a(T(0)), b(T(0));
      for (; i + 2 * kWidth <= n; i += 2 * kWidth) {
        a = a + f(load<T, Arch>(x + i)...);
        b = b + f(load<T, Arch>(x + i + kWidth)...);
      }
      for (; i + kWidth <= n; i += kWidth) a = a + f(load<T, Arch>(x + i)...);
      total = simd::reduce_add(a + b);  // xsimd may have one, too
    }
  }
  while (n - i > kChain) {
    T chain{};
    for (const Index end = i + kChain; i < end; ++i) chain = chain + f(x[i]...);
    total = total + chain;
  }
  for (; i < n; ++i) total = total + f(x[i]...);
  return total;
}

/// The largest of x[0..n); n >= 1. NaN is passed over unless everything is NaN.
template <class T, class Arch = DefaultArch>
inline T maximum(Isa isa, Index n, const T* x) {
  T most = x[0];
  Index i = 0;
  if constexpr (kVectorised<T>) {
    if (isa != Isa::portable && n >= kLanes<T, Arch>) {
      constexpr Index kWidth = kLanes<T, Arch>;
      constexpr T kLeast = -std::numeric_limits<T>::infinity();
      Batch<T, Arch> v(kLeast);
      for (; i + kWidth <= n; i += kWidth) {
        const auto next = load<T, Arch>(x + i);
        v = select(v < next, next, v);  // the max instructions of x86 would forget v at a NaN
      }
      most = simd::reduce_max(v);
      // Nothing but -inf and NaN so far: the loop below tells them apart.
      if (!(kLeast < most)) most = x[0], i = 0;
    }
  }
  for (; i < n; ++i)
    if (most < x[i] || !(most == most)) most = x[i];
  return most;
}

}  // namespace gatefold::kernels::simd
