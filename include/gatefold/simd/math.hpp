#pragma once
#include <cmath>
#include <numbers>

#include "gatefold/simd/simd.hpp"

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

// ln 2 in two parts, of which the first has so few bits that some whole number times it is exact.
inline constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;

/// e^x to 1.25 ULP: x = n ln 2 + r with |r| <= ln(2) / 2, e^r = 1 + r + r² q(r) to 3e-9, and 2^n by its bits.
template <class A>
xsimd::batch<float, A> exp(const xsimd::batch<float, A>& x) {
  using V = xsimd::batch<float, A>;
  const V in_range = at_least(at_most(x, 88.9), -87.5);  // beyond, 2^n overflows or vanishes by itself
  // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the low bits: n + 126, the exponent of 2^(n-1).
  const V shift(0x1.8p23f + 126);
  const V rounded = simd::fma(in_range, V(std::numbers::log2e_v<float>), shift);
  const V n = rounded - shift;
  const V r = simd::fma(n, V(-kLn2Low), simd::fma(n, V(-kLn2High), in_range));
  V q = simd::fma(V(1.3814540e-3f), r, V(8.3687447e-3f));
  q = simd::fma(q, r, V(4.1668391e-2f));
  q = simd::fma(q, r, V(0.16666520f));
  q = simd::fma(q, r, V(0.49999993f));
  const V e = simd::fma(simd::fma(q, r, V(1.0f)), r, V(1.0f));
  return (e + e) * simd::shift_bits_left(rounded, 23);  // 2^(n-1), since 2^128 is no float but e^88.7 is one
}

#ifdef __AVX512F__
/// The same where a register holds the 16 roots 2^(i/16): n is rounded to sixteenths, so r is small and e^r a short
/// polynomial, 1 + r + r² q(r) to 2e-9. Takes 0.65 of the time.
template <class A>
requires(xsimd::batch<float, A>::size == 16)
    [[gnu::always_inline]] inline xsimd::batch<float, A> exp(const xsimd::batch<float, A>& x) {
  using V = xsimd::batch<float, A>;
  alignas(64) static constexpr float kRoots[16] = {
      1.0f,        1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f, 1.29683959f, 1.35425556f,
      1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f, 1.68179283f, 1.75625217f, 1.83400810f, 1.91520655f};
  const V in_range = at_most(x, 89);  // beyond, 2^n is infinite by itself
  // Adding 1.5 * 2^19 rounds to sixteenths, whose number then stands in the low bits.
  const V shift(0x1.8p19f), rounded = simd::fma(in_range, V(std::numbers::log2e_v<float>), shift);
  const V n = rounded - shift;
  const V r = simd::fma(n, V(-kLn2Low), simd::fma(n, V(-kLn2High), in_range));
  const V q = simd::fma(V(0.16666718f), r, V(0.50001615f));
  const V root = simd::look_up(V::load_aligned(kRoots), rounded), less_one = simd::fma(q, r, V(1.0f)) * r;
  return simd::scale_by_power(!(x < V(-86.65f)), simd::fma(root, less_one, root), n);
}
#endif
#endif

/// 2^x.
template <class T>
T exp2(const T& x) {
  return kernels::exp(constant<T>(std::numbers::ln2) * x);
}

#if GATEFOLD_HAS_SIMD
/// 2^x to 3 ULP, in less time than exp: the rest r after the whole number is exact, and 2^r = 1 + r q(r) to 1.6e-7.
template <class A>
xsimd::batch<float, A> exp2(const xsimd::batch<float, A>& x) {
  using V = xsimd::batch<float, A>;
  const V in_range = at_least(at_most(x, 128.5), -126);
  const V shift(0x1.8p23f + 126);  // see exp
  const V rounded = in_range + shift, r = in_range - (rounded - shift);
  V q = simd::fma(V(1.3276472e-3f), r, V(9.675541e-3f));
  q = simd::fma(q, r, V(5.550713e-2f));
  q = simd::fma(q, r, V(0.2402212f));
  q = simd::fma(q, r, V(0.69314694f));
  const V e = simd::fma(q, r, V(1.0f));
  return (e + e) * simd::shift_bits_left(rounded, 23);
}
#endif

/// log x.
template <class T>
T log(const T& x) {
  using std::log;
  return log(x);
}

#if GATEFOLD_HAS_SIMD
/// The same to 2 ULP, of a normal x > 0: x = 2^n (1 + f) with 1 + f in [2/3, 4/3), log(1 + f) = f - f²/2 + f³ p(f) with
/// the polynomial of Moshier's Cephes. NaN stays NaN.
template <class A>
xsimd::batch<float, A> log(const xsimd::batch<float, A>& x) {
  using V = xsimd::batch<float, A>;
  using Words = xsimd::batch<std::int32_t, A>;
  const Words two_thirds(0x3f2aaaab), above = simd::bits_as<std::int32_t>(x) - two_thirds;
  const V n = xsimd::to_float(Words(above >> 23));
  const V f = simd::bits_as<float>(Words((above & Words(0x7fffff)) + two_thirds)) - V(1.0f), square = f * f;
  V p(7.0376836292e-2f);
  for (const float next : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f,
                           2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f})
    p = simd::fma(p, f, V(next));
  const V curved = simd::fma(f * square, p, simd::fma(V(-0.5f), square, n * V(kLn2Low)));
  return select(x == x, simd::fma(n, V(kLn2High), f + curved), V(std::numeric_limits<float>::quiet_NaN()));
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
  const V u = simd::divide(V(3.4f), a + V(3.4f));
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
