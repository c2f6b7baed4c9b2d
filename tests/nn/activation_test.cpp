#include "gatefold/nn/activation.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gatefold/simd/simd.hpp"
#include "tests/support/dual.hpp"

namespace gatefold::activation_test {
namespace {

using Wide = long double;
constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

Wide normal_cdf(Wide x) { return std::erfc(-x / std::sqrt(Wide(2))) / 2; }
Wide normal_pdf(Wide x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi_v<Wide>); }
Wide sigma(Wide x) { return 1 / (1 + std::exp(-x)); }

struct Reference {
  Wide value, slope;
};
Reference reference(GeluErf, Wide x) { return {x * normal_cdf(x), normal_cdf(x) + x * normal_pdf(x)}; }
Reference reference(Gelu, Wide x) {
  const Wide inner = std::sqrt(2 / std::numbers::pi_v<Wide>) * (x + Wide(0.044715) * x * x * x), t = std::tanh(inner);
  const Wide d_inner = std::sqrt(2 / std::numbers::pi_v<Wide>) * (1 + 3 * Wide(0.044715) * x * x);
  return {x * (1 + t) / 2, (1 + t) / 2 + x * (1 - t * t) * d_inner / 2};
}
Reference reference(QuickGelu, Wide x) {
  const Wide s = sigma(Wide(1.702) * x);
  return {x * s, s + Wide(1.702) * x * s * (1 - s)};
}
Reference reference(Silu, Wide x) { return {x * sigma(x), sigma(x) * (1 + x * (1 - sigma(x)))}; }
Reference reference(Relu, Wide x) { return {x > 0 ? x : 0, x > 0 ? Wide(1) : Wide(0)}; }

std::vector<float> grid() {
  std::vector<float> x;
  for (int i = -6000; i <= 6000; ++i) x.push_back(static_cast<float>(i) / 500);  // -12..12
  for (const float v : {1e-30f, 1e-10f, 1e-4f, 20.0f, 50.0f, 88.0f, 100.0f, 1e4f, 1e10f})
    x.push_back(v), x.push_back(-v);
  return x;
}

/// All of a vector at once, as the kernels run it.
template <class F>
std::vector<float> map(Isa isa, const std::vector<float>& x, F f) {
  std::vector<float> y(x.size());
  kernels::simd::transform<float>(isa, std::ssize(x), f, y.data(), x.data());
  return y;
}

/// In ULP of the result, or of `floor` where the result is smaller.
double ulps(float got, Wide wanted, double floor) {
  const double size = std::max(static_cast<double>(std::abs(wanted)), floor);
  return static_cast<double>(std::abs(static_cast<Wide>(got) - wanted)) / std::ldexp(1.0, std::ilogb(size) - 23);
}

struct Bound {
  double ulp, floor;
};
struct Bounds {
  Bound value, slope;
};
/// Those of the header. <cmath> takes the same formulas scalar by scalar.
template <class Act>
void check(Bounds bounds) {
  std::vector<float> x = grid();
  for (int i = -200000; i <= 200000; ++i) x.push_back(static_cast<float>(i) / 10000);  // -20..20
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    const auto value = map(isa, x, [](auto v) { return Act::value(v); });
    const auto slope = map(isa, x, [](auto v) { return Act::slope(v); });
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Reference wanted = reference(Act{}, x[i]);
      ASSERT_LE(ulps(value[i], wanted.value, bounds.value.floor), bounds.value.ulp) << x[i] << " " << name(isa);
      ASSERT_LE(ulps(slope[i], wanted.slope, bounds.slope.floor), bounds.slope.ulp) << x[i] << " " << name(isa);
    }
  }
}

TEST(Activation, WithinTheirErrorBounds) {
  check<GeluErf>({.value = {8, 0x1p-4}, .slope = {5, 0.5}});
  check<Gelu>({.value = {8, 0x1p-4}, .slope = {5, 0.5}});
  check<QuickGelu>({.value = {8, 0x1p-4}, .slope = {5, 0.5}});
  check<Silu>({.value = {4, 0x1p-100}, .slope = {5, 0.5}});
  check<Relu>({.value = {0, 1}, .slope = {0, 1}});
}

template <class Act>
void check_double_and_slope() {
  for (const float single : grid()) {
    const double x = single;
    if (std::abs(x) > 1e4) continue;
    const Reference wanted = reference(Act{}, x);
    ASSERT_NEAR(Act::value(x), static_cast<double>(wanted.value), 1e-14 * (1 + std::abs(x)));
    ASSERT_NEAR(Act::slope(x), static_cast<double>(wanted.slope), 1e-14 * std::min(1 + x * x, 145.0));
    if (x != 0 && std::abs(x) <= 20) {  // 0 is Relu's corner; far out exp overflows in the dual number
      ASSERT_NEAR(Act::slope(x), Act::value(Dual(x, 1)).d, 1e-13 * std::min(1 + x * x, 145.0)) << x;
    }
  }
}
TEST(Activation, TheSlopeIsTheDerivative) {
  check_double_and_slope<GeluErf>();
  check_double_and_slope<Gelu>();
  check_double_and_slope<QuickGelu>();
  check_double_and_slope<Silu>();
  check_double_and_slope<Relu>();
}

template <class Act>
void check_extremes() {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    const std::vector<float> x(20, kNan), up(20, kInf),
        far{-kInf, -3e38f, -1e30f, -1e20f, -1e18f, -1e6f, 1e6f, 1e18f, 1e20f, 1e30f, 3e38f, kInf};
    for (const float v : map(isa, x, [](auto t) { return Act::value(t); })) EXPECT_TRUE(std::isnan(v));
    for (const float v : map(isa, up, [](auto t) { return Act::value(t); })) EXPECT_EQ(v, kInf);
    const auto value = map(isa, far, [](auto t) { return Act::value(t); });
    const auto slope = map(isa, far, [](auto t) { return Act::slope(t); });
    for (std::size_t i = 0; i < far.size(); ++i) {
      EXPECT_EQ(value[i], std::max(far[i], 0.0f)) << far[i] << " " << name(isa);
      EXPECT_EQ(slope[i], far[i] > 0) << far[i] << " " << name(isa);
    }
  }
}
TEST(Activation, NanStaysNanAndHugeNumbersSaturate) {
  check_extremes<GeluErf>();
  check_extremes<Gelu>();
  check_extremes<QuickGelu>();
  check_extremes<Silu>();
  check_extremes<Relu>();
}

TEST(Activation, AtZero) {
  EXPECT_EQ(GeluErf::value(0.0f), 0);
  EXPECT_EQ(GeluErf::slope(0.0f), 0.5f);
  EXPECT_EQ(Gelu::slope(0.0f), 0.5f);
  EXPECT_EQ(QuickGelu::slope(0.0f), 0.5f);
  EXPECT_EQ(Silu::slope(0.0f), 0.5f);
  EXPECT_EQ(Relu::slope(0.0f), 0);
}

}  // namespace
}  // namespace gatefold::activation_test
