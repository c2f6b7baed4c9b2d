#pragma once
#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "gatefold/core/language.hpp"

namespace gatefold {

/// What a layer computes in: float, double, or a number type that carries a derivative (the tests' dual number).
template <class T>
concept Real = std::copyable<T> && requires(T a, T b) {
  T(1.0);
  { a + b } -> std::convertible_to<T>;
  { a - b } -> std::convertible_to<T>;
  { a* b } -> std::convertible_to<T>;
  { a / b } -> std::convertible_to<T>;
  { a < b } -> std::convertible_to<bool>;
};

/// What sums of T are taken in: double for float, so that the mean over many thousand terms keeps float's precision; T
/// itself otherwise.
template <Real T>
using Wide = std::conditional_t<std::same_as<T, float>, double, T>;

/// The value of a Real as a double; number types of the user overload this.
template <class T>
requires std::is_arithmetic_v<T>
constexpr double to_double(T x) { return static_cast<double>(x); }

/// A constant of any number type, also of a vector of numbers, without a narrowing in the caller.
template <class T>
constexpr T constant(double x) {
  if constexpr (requires { typename T::value_type; })
    return T(static_cast<typename T::value_type>(x));
  else
    return T(x);
}

/// `condition ? a : b` under one name for scalars and vectors (which bring their own by argument-dependent look-up).
template <class T>
constexpr T select(bool condition, T a, T b) {
  return condition ? a : b;
}

/// bfloat16 as a storage format: the upper half of a float, rounded to nearest even; NaN stays NaN.
struct bf16 {
  std::uint16_t bits = 0;

  constexpr bf16() = default;
  explicit constexpr bf16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const bool nan = (u & 0x7fffffff) > 0x7f800000;
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40 : (u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  explicit constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
  bool operator==(const bf16&) const = default;
};

/// A weight format: 8 bits a value and one scale for each output.
using int8 = std::int8_t;

/// A weight format: 4 bits a value and one scale for each 64 values of an output. A name only; values live in packed
/// bytes.
struct int4 {};

/// Weight formats whose values are published (core/small_float.hpp): 4-bit floats with a power of two for each 32
/// values of an output, and 8-bit floats (E4M3) with a float for each 128 x 128 of a weight. Names only, too.
struct mxfp4 {};
struct fp8 {};

/// Weights of F (float, bf16 or int8) of which N of M are kept that follow one another along the inputs of an output;
/// the others are zero. A name only.
template <class F, int N, int M>
struct Nm {};

}  // namespace gatefold
