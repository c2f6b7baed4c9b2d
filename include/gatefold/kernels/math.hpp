#pragma once
#include <cmath>
#include <numbers>

#include "gatefold/kernels/simd.hpp"

/// Functions of one number, generic over scalars (by <cmath>, or by what a number type brings along) and vectors of
/// float (by formulas of our own). Bounds are for vectors of float, in ULP of the result; the tests hold them on a
/// dense sample of all floats. Results below kLeastExp in size are 0: a softmax must not crawl through denormal
/// numbers. NaN stays NaN.
///
/// The polynomials are minimax fits (Remez exchange in 40 digits, weighted for relative error), rounded to float.
namespace gatefold::kernels {

inline constexpr float kLeastExp = 0x1p-125f;

/// `bound` where x lies beyond it, else x, which may be NaN.
template <class T>
T at_least(const T& x, double bound) {
  return x < T(bound) ? T(bound) : x;
}
template <class T>
T at_most(const T& x, double bound) {
  return T(bound) < x ? T(bound) : x;
}

template <class T>
T minus_abs(const T& x) {
  return x < T(0.0) ? x : T(-x);
}

/// e^x.
template <class T>
T exp(const T& x) {
  using std::exp;
  return exp(x);
}

#if GATEFOLD_HAS_SIMD
// simd::min and max hand on their second operand if it is NaN.
template <class A>
xsimd::batch<float, A> at_least(const xsimd::batch<float, A>& x, double bound) {
  return simd::max(xsimd::batch<float, A>(static_cast<float>(bound)), x);
}
template <class A>
xsimd::batch<float, A> at_most(const xsimd::batch<float, A>& x, double bound) {
  return simd::min(xsimd::batch<float, A>(static_cast<float>(bound)), x);
}
template <class A>
xsimd::batch<float, A> minus_abs(const xsimd::batch<float, A>& x) {
  return x | xsimd::batch<float, A>(-0.0f);
}

/// e^x to 1.25 ULP (1 with fused multiply-add): x = n ln 2 + r with |r| <= ln(2) / 2, e^r = 1 + r + r² q(r) to 3e-9,
/// and 2^n by its bits.
template <class A>
xsimd::batch<float, A> exp(const xsimd::batch<float, A>& x) {
  using V = xsimd::batch<float, A>;
  const V in_range = at_least(at_most(x, 88.9), -87.5);  // beyond, 2^n overflows or vanishes by itself
  // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the low bits: n + 126, the exponent of 2^(n-1).
  const V shift(0x1.8p23f + 126);
  const V rounded = simd::fma(in_range, V(std::numbers::log2e_v<float>), shift);
  const V n = rounded - shift;
  // ln 2 in two parts, of which the first has so few bits that n times it is exact.
  const V r = simd::fma(n, V(2.12194440e-4f), simd::fma(n, V(-0.693359375f), in_range));
  V q = simd::fma(V(1.3814540e-3f), r, V(8.3687447e-3f));
  q = simd::fma(q, r, V(4.1668391e-2f));
  q = simd::fma(q, r, V(0.16666520f));
  q = simd::fma(q, r, V(0.49999993f));
  const V e = simd::fma(simd::fma(q, r, V(1.0f)), r, V(1.0f));
  return (e + e) * simd::shift_bits_left(rounded, 23);  // 2^(n-1), since 2^128 is no float but e^88.7 is one
}
#endif

/// The logistic function 1 / (1 + e^-x), to 3 ULP. Saturates without overflow: e^inf = inf and 1 / inf = 0.
template <class T>
T logistic(const T& x) {
  return constant<T>(1) / (constant<T>(1) + kernels::exp(-x));
}

template <class T>
struct ValueAndSlope {
  T value, slope;
};

/// The logistic function with its derivative, each to 6 ULP: through e^-|x|, so that neither cancels.
template <class T>
ValueAndSlope<T> logistic_and_slope(const T& x) {
  const T e = kernels::exp(minus_abs(x)), above = constant<T>(1) / (constant<T>(1) + e);
  const T below = e * above;
  return {select(x < constant<T>(0), below, above), below * above};
}

/// Φ(x), the cumulative distribution of the normal distribution, with its derivative φ(x), the density.
template <class T>
ValueAndSlope<T> normal_cdf_and_density(const T& x) {
  using std::erfc;
  constexpr double kHeight = std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2;
  return {constant<T>(0.5) * erfc(x * constant<T>(-std::numbers::sqrt2 / 2)),
          constant<T>(kHeight) * kernels::exp(constant<T>(-0.5) * x * x)};
}

#if GATEFOLD_HAS_SIMD
/// Both to 8 ULP (70 in the far tail where the machine has no fused multiply-add): Φ(-a) e^(a²/2) = u P(u) to 3e-9 with
/// u = 3.4 / (a + 3.4), for a in 0..13.5.
template <class A>
ValueAndSlope<xsimd::batch<float, A>> normal_cdf_and_density(const xsimd::batch<float, A>& x) {
  using V = xsimd::batch<float, A>;
  const V a = at_most(xsimd::abs(x), 14);  // Φ(-14) is no float any more
  const V exponent = V(-0.5f) * a * a, rounded_off = simd::fma(V(-0.5f) * a, a, -exponent);
  const V rough = kernels::exp(exponent), bell = simd::fma(rough, rounded_off, rough);
  const V u = V(3.4f) / (a + V(3.4f));
  V p = simd::fma(V(-1.9990878e-2f), u, V(0.11538995f));
  p = simd::fma(p, u, V(-0.25193679f));
  p = simd::fma(p, u, V(0.23778945f));
  p = simd::fma(p, u, V(-0.11278927f));
  p = simd::fma(p, u, V(0.11519357f));
  p = simd::fma(p, u, V(7.2308101e-2f));
  p = simd::fma(p, u, V(0.10957994f));
  p = simd::fma(p, u, V(0.11711073f));
  p = simd::fma(p, u, V(0.11734520f));
  const V tail = bell * (p * u);
  return {select(x < V(0.0f), tail, V(1.0f) - tail), bell * V(0.39894228f)};
}
#endif

}  // namespace gatefold::kernels
