#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "gatefold/core/shape.hpp"

/// Values of the floats of 4 and 8 bits in which weights are published (OCP, «Microscaling formats» 1.0 and «8-bit
/// floating point» 1.0). Every one of them is a float.
namespace gatefold {

inline constexpr Index kMxfp4Group = 32;  ///< Inputs of an output that share a scale, two to a byte.

/// The lower four bits: a sign, then 0, 1/2, 1, 3/2, 2, 3, 4, 6 (MXFP4's elements).
constexpr float e2m1_value(std::uint8_t bits) {
  constexpr float kMagnitude[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  const float magnitude = kMagnitude[bits & 7];
  return bits & 8 ? -magnitude : magnitude;
}

/// A sign, four bits of exponent with bias 7 and three of fraction; no infinities, and NaN where all seven bits are set
/// («e4m3fn»). The largest is 448.
inline float e4m3_value(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  float magnitude = exponent ? std::ldexp(static_cast<float>(8 + fraction), exponent - 10)
                             : std::ldexp(static_cast<float>(fraction), -9);
  if (exponent == 15 && fraction == 7) magnitude = std::numeric_limits<float>::quiet_NaN();
  return bits & 128 ? -magnitude : magnitude;
}

/// 2^(bits - 127), and NaN for 255 (the scale of a block of MXFP4).
inline float e8m0_value(std::uint8_t bits) {
  return bits == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, int{bits} - 127);
}

}  // namespace gatefold
