#pragma once
#include <cmath>
#include <limits>
#include <numbers>

namespace gatefold {

/// A forward-mode dual number v + d*eps: run a forward pass on it and the result carries its exact directional
/// derivative. Comparisons act on the value, so top-k, capacity and sorting work as for plain numbers.
struct Dual {
  double v = 0, d = 0;
  constexpr Dual() = default;
  explicit constexpr Dual(double value, double derivative = 0) : v(value), d(derivative) {}
  explicit constexpr operator double() const { return v; }

  friend constexpr Dual operator-(Dual a) { return Dual(-a.v, -a.d); }
  friend constexpr Dual operator+(Dual a, Dual b) { return Dual(a.v + b.v, a.d + b.d); }
  friend constexpr Dual operator-(Dual a, Dual b) { return Dual(a.v - b.v, a.d - b.d); }
  friend constexpr Dual operator*(Dual a, Dual b) {
    // A constant stays one next to an infinity: 0 * inf would be NaN, and masks are made of -inf.
    return Dual(a.v * b.v, (a.d == 0 ? 0 : a.d * b.v) + (b.d == 0 ? 0 : a.v * b.d));
  }
  friend constexpr Dual operator/(Dual a, Dual b) { return Dual(a.v / b.v, (a.d - a.v / b.v * b.d) / b.v); }
  constexpr Dual& operator+=(Dual b) { return *this = *this + b; }
  constexpr Dual& operator-=(Dual b) { return *this = *this - b; }
  constexpr Dual& operator*=(Dual b) { return *this = *this * b; }
  constexpr Dual& operator/=(Dual b) { return *this = *this / b; }
  friend constexpr bool operator<(Dual a, Dual b) { return a.v < b.v; }
  friend constexpr bool operator>(Dual a, Dual b) { return a.v > b.v; }
  friend constexpr bool operator<=(Dual a, Dual b) { return a.v <= b.v; }
  friend constexpr bool operator>=(Dual a, Dual b) { return a.v >= b.v; }
  friend constexpr bool operator==(Dual a, Dual b) { return a.v == b.v; }

  friend Dual exp(Dual a) { return Dual(std::exp(a.v), std::exp(a.v) * a.d); }
  friend Dual log(Dual a) { return Dual(std::log(a.v), a.d / a.v); }
  friend Dual log1p(Dual a) { return Dual(std::log1p(a.v), a.d / (1 + a.v)); }
  friend Dual sqrt(Dual a) { return Dual(std::sqrt(a.v), a.d / (2 * std::sqrt(a.v))); }
  friend Dual tanh(Dual a) {
    const double t = std::tanh(a.v);
    return Dual(t, (1 - t * t) * a.d);
  }
  friend Dual erf(Dual a) { return Dual(std::erf(a.v), 2 * std::numbers::inv_sqrtpi * std::exp(-a.v * a.v) * a.d); }
  friend Dual erfc(Dual a) { return Dual(std::erfc(a.v), -2 * std::numbers::inv_sqrtpi * std::exp(-a.v * a.v) * a.d); }
  friend Dual abs(Dual a) { return a.v < 0 ? -a : a; }
  friend bool isnan(Dual a) { return std::isnan(a.v); }
  friend bool isfinite(Dual a) { return std::isfinite(a.v); }
};

constexpr double to_double(Dual x) { return x.v; }

}  // namespace gatefold
