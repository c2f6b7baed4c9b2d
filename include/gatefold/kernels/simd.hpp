#pragma once
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
namespace gatefold::kernels::simd {

#if GATEFOLD_HAS_SIMD
using DefaultArch = xsimd::default_arch;

template <class T, class Arch = DefaultArch>
using Batch = xsimd::batch<T, Arch>;

/// Lanes of a vector register.
template <class T, class Arch = DefaultArch>
inline constexpr Index kLanes = static_cast<Index>(Batch<T, Arch>::size);

template <class T, class Arch>
inline Batch<T, Arch> load(const T* p) {
  return Batch<T, Arch>::load_unaligned(p);
}

/// a b + c, rounded once where the machine has it.
template <class T, class A>
inline xsimd::batch<T, A> fma(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b, const xsimd::batch<T, A>& c) {
  return xsimd::fma(a, b, c);
}

template <class T, class A>
inline T reduce_add(const xsimd::batch<T, A>& v) {
#if XSIMD_VERSION_MAJOR >= 9
  return xsimd::reduce_add(v);
#else
  return xsimd::hadd(v);
#endif
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

/// sum over i < n of f(x[i]...), in a fixed order of n and the vector width.
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
      total = reduce_add(a + b);
    }
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
      most = reduce_max(v);
      // Nothing but -inf and NaN so far: the loop below tells them apart.
      if (!(kLeast < most)) most = x[0], i = 0;
    }
  }
  for (; i < n; ++i)
    if (most < x[i] || !(most == most)) most = x[i];
  return most;
}

}  // namespace gatefold::kernels::simd
