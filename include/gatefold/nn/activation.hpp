#pragma once
#include <concepts>
#include <numbers>

#include "gatefold/simd/math.hpp"

/// Activations: one generic formula each for value and slope, run on scalars, vectors and the tests' dual numbers.
///
/// Errors in float, on vectors: a value is within 8 ULP of itself, or of 1/16 where it is smaller (Silu: 4 ULP of
/// itself down to 2^-100); a slope within 5 ULP of itself, or of 1/2. Infinities have the values and slopes of their
/// limits.
namespace gatefold {

template <class A>
concept Activation = requires(float x) {
  { A::value(x) } -> std::same_as<float>;
  { A::slope(x) } -> std::same_as<float>;
};

namespace detail {
// Beyond this every activation has long been 0 or x, and squares and products with 0 are still numbers.
inline constexpr double kSaturated = 1e4;
template <class T>
T within_saturation(const T& x) {
  return kernels::at_most(kernels::at_least(x, -kSaturated), kSaturated);
}

/// x / (1 + 2^z), which is x σ(-z ln 2). Errors of z count in proportion to its size.
template <class T>
T over_one_plus_exp2(const T& x, const T& z) {
  return kernels::at_least(x, -kSaturated) / (constant<T>(1) + kernels::exp2(z));
}
/// The slope of x σ(rate x).
template <class T>
T sigmoid_unit_slope(const T& x, double rate) {
  const T t = constant<T>(rate) * within_saturation(x);
  const auto gate = kernels::logistic_and_slope(t);
  return gate.value + t * gate.slope;
}
}  // namespace detail

/// x Φ(x), by the error function.
struct GeluErf {
  template <class T>
  static T value(T x) {
    return kernels::at_least(x, -detail::kSaturated) * kernels::normal_cdf_and_density(x).value;
  }
  template <class T>
  static T slope(T x) {
    const T inside = detail::within_saturation(x);
    const auto normal = kernels::normal_cdf_and_density(inside);
    return normal.value + inside * normal.slope;
  }
};

/// The tanh form 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))) = x σ(2 √(2/π) (x + 0.044715 x³)), as in V-MoE and LIMoE.
struct Gelu {
  template <class T>
  static T value(T x) {
    constexpr double kLinear = -kScale * std::numbers::log2e;
    return detail::over_one_plus_exp2<T>(x, x * (constant<T>(kLinear) + constant<T>(kLinear * kCubic) * (x * x)));
  }
  template <class T>
  static T slope(T x) {
    const T inside = detail::within_saturation(x);
    const auto gate = kernels::logistic_and_slope(argument(inside));
    return gate.value +
           inside * gate.slope * constant<T>(kScale) * (constant<T>(1) + constant<T>(3 * kCubic) * inside * inside);
  }

 private:
  static constexpr double kScale = 1.5957691216057308, kCubic = 0.044715;  // 2 sqrt(2 / pi)
  template <class T>
  static T argument(T x) {
    return constant<T>(kScale) * x * (constant<T>(1) + constant<T>(kCubic) * x * x);
  }
};

/// x σ(1.702 x), as in OpenAI's CLIP.
struct QuickGelu {
  template <class T>
  static T value(T x) {
    return detail::over_one_plus_exp2<T>(x, constant<T>(-1.702 * std::numbers::log2e) * x);
  }
  template <class T>
  static T slope(T x) {
    return detail::sigmoid_unit_slope(x, 1.702);
  }
};

/// x σ(x).
struct Silu {
  template <class T>
  static T value(T x) {
    return kernels::at_least(x, -detail::kSaturated) * kernels::logistic(x);
  }
  template <class T>
  static T slope(T x) {
    return detail::sigmoid_unit_slope(x, 1);
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

/// What a gated net makes of a hidden unit's gate and up, with the gradient d handed on to either.
template <class A>
concept GatedActivation = requires(float d, float gate, float up) {
  { A::value(gate, up) } -> std::same_as<float>;
  { A::gate_grad(d, gate, up) } -> std::same_as<float>;
  { A::up_grad(d, gate, up) } -> std::same_as<float>;
};

/// act(gate) up.
template <class Act>
struct Glu {
  template <class T>
  static T value(T gate, T up) {
    return Act::value(gate) * up;
  }
  template <class T>
  static T gate_grad(T d, T gate, T up) {
    return d * up * Act::slope(gate);
  }
  template <class T>
  static T up_grad(T d, T gate, T) {
    return d * Act::value(gate);
  }
};

/// A GatedActivation itself; of an Activation, its Glu.
template <class Act>
using AsGated = std::conditional_t<GatedActivation<Act>, Act, Glu<Act>>;

/// g σ(alpha g) (u + shift) with g = min(gate, limit) and u = up within ±limit. C names the three constants; the
/// gradient stops where a limit cuts.
template <class C>
struct ClampedSwiglu {
  template <class T>
  static T value(T gate, T up) {
    const T g = kernels::at_most(gate, C::kLimit);
    return kernels::at_least(g, -detail::kSaturated) * kernels::logistic(T(constant<T>(C::kAlpha) * g)) * shifted(up);
  }
  template <class T>
  static T gate_grad(T d, T gate, T up) {
    const T slope = detail::sigmoid_unit_slope(gate, C::kAlpha);
    return select(constant<T>(C::kLimit) < gate, constant<T>(0), d * shifted(up) * slope);
  }
  template <class T>
  static T up_grad(T d, T gate, T up) {
    const T inside = select(up < constant<T>(-C::kLimit), constant<T>(0), d);
    return select(constant<T>(C::kLimit) < up, constant<T>(0), inside * value(gate, constant<T>(1 - C::kShift)));
  }

 private:
  template <class T>
  static T shifted(T up) {
    return kernels::at_least(kernels::at_most(up, C::kLimit), -C::kLimit) + constant<T>(C::kShift);
  }
};
struct GptOssConstants {
  static constexpr double kAlpha = 1.702, kLimit = 7, kShift = 1;
};
/// GPT-OSS's and MiniMax-M3's; the former stores gate and up as even and odd rows, which is for a loader to part.
using GptOssSwiglu = ClampedSwiglu<GptOssConstants>;

static_assert(Activation<GeluErf> && Activation<Gelu> && Activation<QuickGelu> && Activation<Silu> && Activation<Relu>);

}  // namespace gatefold

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void activate<Gelu, float>(Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void activate_grad<Gelu, float>(Rows<const float>, Rows<const float>, Rows<float>, Context&);

}  // namespace gatefold::kernels
#endif
