#pragma once
#include <cmath>
#include <concepts>
#include <numbers>

#include "gatefold/core/scalar.hpp"

/// Activations: one generic formula each for value and slope, run on scalars, vectors and the tests' dual numbers.
namespace gatefold {

template <class A>
concept Activation = requires(float x) {
  { A::value(x) } -> std::same_as<float>;
  { A::slope(x) } -> std::same_as<float>;
};

namespace detail {
/// 1 / (1 + e^-x); saturates without overflow, since e^inf = inf and 1/inf = 0.
template <class T>
T logistic(T x) {
  using std::exp;
  return constant<T>(1) / (constant<T>(1) + exp(-x));
}
}  // namespace detail

/// x Φ(x), by the error function.
struct GeluErf {
  template <class T>
  static T value(T x) {
    using std::erf;
    return constant<T>(0.5) * x * (constant<T>(1) + erf(x * constant<T>(std::numbers::sqrt2 / 2)));
  }
  template <class T>
  static T slope(T x) {
    using std::erf, std::exp;
    const T density = exp(constant<T>(-0.5) * x * x) * constant<T>(std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2);
    return constant<T>(0.5) * (constant<T>(1) + erf(x * constant<T>(std::numbers::sqrt2 / 2))) + x * density;
  }
};

/// The tanh form 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))) = x σ(2 √(2/π) (x + 0.044715 x³)), as in V-MoE and LIMoE.
struct Gelu {
  template <class T>
  static T value(T x) {
    return x * gate(x);
  }
  template <class T>
  static T slope(T x) {
    const T s = gate(x);
    return s +
           x * s * (constant<T>(1) - s) * constant<T>(kScale) * (constant<T>(1) + constant<T>(3 * 0.044715) * x * x);
  }

 private:
  static constexpr double kScale = 1.5957691216057308;  // 2 sqrt(2 / pi)
  template <class T>
  static T gate(T x) {
    return detail::logistic(constant<T>(kScale) * x * (constant<T>(1) + constant<T>(0.044715) * x * x));
  }
};

/// x σ(1.702 x), as in OpenAI's CLIP.
struct QuickGelu {
  template <class T>
  static T value(T x) {
    return x * detail::logistic(constant<T>(1.702) * x);
  }
  template <class T>
  static T slope(T x) {
    const T s = detail::logistic(constant<T>(1.702) * x);
    return s + constant<T>(1.702) * x * s * (constant<T>(1) - s);
  }
};

/// x σ(x).
struct Silu {
  template <class T>
  static T value(T x) {
    return x * detail::logistic(x);
  }
  template <class T>
  static T slope(T x) {
    const T s = detail::logistic(x);
    return s + x * s * (constant<T>(1) - s);
  }
};

/// max(x, 0); the slope at 0 is 0.
struct Relu {
  template <class T>
  static T value(T x) {
    return select(x < constant<T>(0), constant<T>(0), x);  // NaN stays NaN
  }
  template <class T>
  static T slope(T x) {
    return select(constant<T>(0) < x, constant<T>(1), constant<T>(0));
  }
};

static_assert(Activation<GeluErf> && Activation<Gelu> && Activation<QuickGelu> && Activation<Silu> && Activation<Relu>);

}  // namespace gatefold
