#include "gatefold/simd/simd.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/support/dual.hpp"

namespace gatefold::kernels::simd {
namespace {

#if GATEFOLD_HAS_SIMD
constexpr Index kWidth = kLanes<float>;
#else
constexpr Index kWidth = 4;
#endif
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Simd, TransformOfEveryLengthAndMisalignment) {
  // Whole numbers, so that every order of operations gives the same.
  for (Index n = 0; n <= 3 * kWidth + 1; ++n)
    for (std::size_t shift : {0u, 1u, 3u}) {
      const auto size = static_cast<std::size_t>(n) + shift + 5;
      std::vector<float> a(size), b(size);
      std::iota(a.begin(), a.end(), 1.0f);
      std::iota(b.begin(), b.end(), 100.0f);
      for (const Isa isa : {Isa::simd, Isa::portable}) {
        std::vector<float> y(size, -1);
        transform<float>(
            isa, n, [](auto u, auto v) { return u * v - u; }, y.data() + shift, a.data() + shift, b.data());
        for (std::size_t i = 0; i < size; ++i) {
          const bool inside = i >= shift && i < shift + static_cast<std::size_t>(n);
          const float wanted = inside ? a[i] * b[i - shift] - a[i] : -1;
          ASSERT_EQ(y[i], wanted) << n << " " << i;
        }
      }
    }
}

TEST(Simd, AnElementDoesNotDependOnItsPlace) {
  std::vector<float> x(static_cast<std::size_t>(3 * kWidth), 0.37f), y(x.size());
  const auto f = [](auto v) {
    using std::exp;
    return exp(v) * v;
  };
  transform<float>(Isa::simd, std::ssize(x), f, y.data(), x.data());
  for (const float v : y) EXPECT_EQ(v, y[0]);
  for (Index n = 1; n < 2 * kWidth; ++n) {
    std::vector<float> some(static_cast<std::size_t>(n));
    transform<float>(Isa::simd, n, f, some.data(), x.data());
    for (const float v : some) ASSERT_EQ(v, y[0]) << n;
  }
}

TEST(Simd, TransformInPlace) {
  for (Index n = 0; n <= 3 * kWidth; ++n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    std::iota(x.begin(), x.end(), 0.0f);
    transform<float>(
        Isa::simd, n, [](auto u, auto v) { return u + v; }, x.data(), x.data(), x.data());
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], 2 * static_cast<float>(i));
  }
}

TEST(Simd, UpdateOfEveryLength) {
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (Index n = 0; n <= 2 * kWidth + 1; ++n) {
      std::vector<float> a(static_cast<std::size_t>(n) + 3), b(a.size()), x(a.size());
      std::iota(a.begin(), a.end(), 1.0f);
      std::iota(b.begin(), b.end(), 100.0f);
      std::iota(x.begin(), x.end(), -5.0f);
      const auto a0 = a, b0 = b;
      update<float>(
          isa, n,
          [](auto u, auto v, auto w) {
            return std::array{u * v - w, v + w};
          },
          std::array{a.data() + 1, b.data() + 2}, x.data());
      for (std::size_t i = 0; i < a.size(); ++i) {
        const std::size_t size = static_cast<std::size_t>(n);
        ASSERT_EQ(a[i], i >= 1 && i < 1 + size ? a0[i] * b0[i + 1] - x[i - 1] : a0[i]) << n << " " << i;
        ASSERT_EQ(b[i], i >= 2 && i < 2 + size ? b0[i] + x[i - 2] : b0[i]) << n << " " << i;
      }
    }
}

TEST(Simd, SumOfEveryLength) {
  for (Index n = 0; n <= 6 * kWidth + 1; ++n)
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      std::vector<float> a(static_cast<std::size_t>(n) + 1), b(a.size(), 2);
      std::iota(a.begin(), a.end(), 1.0f);
      a.back() = kNan;  // beyond the end
      const auto count = static_cast<float>(n);
      EXPECT_EQ(sum<float>(
                    isa, n, [](auto u, auto v) { return u * v; }, a.data(), b.data()),
                count * (count + 1))
          << n;
    }
}

TEST(Simd, SumsOfRealNumbersAreWithinTheirBound) {
  std::vector<float> x(1000);
  double exact = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(std::sin(static_cast<double>(i * i)));
    exact += x[i];
    size += std::abs(x[i]);
  }
  for (const Isa isa : {Isa::simd, Isa::portable})
    EXPECT_NEAR(sum<float>(
                    isa, 1000, [](auto v) { return v; }, x.data()),
                exact, 1000 * 0x1p-24 * size);
}

TEST(Simd, MaximumOfEveryLengthAndPlace) {
  for (Index n = 1; n <= 3 * kWidth + 1; ++n)
    for (Index at = 0; at < n; ++at)
      for (const Isa isa : {Isa::simd, Isa::portable}) {
        std::vector<float> x(static_cast<std::size_t>(n) + 1, -kInf);
        x[static_cast<std::size_t>(at)] = -3;
        x.back() = 99;  // beyond the end
        ASSERT_EQ(maximum<float>(isa, n, x.data()), -3) << n << " " << at;
      }
}

TEST(Simd, MaximumPassesOverNanUnlessThereIsNothingElse) {
  for (Index n = 2; n <= 3 * kWidth + 1; ++n)
    for (Index at = 0; at < n; ++at)
      for (Index best = 0; best < n; ++best) {
        if (best == at) continue;
        std::vector<float> x(static_cast<std::size_t>(n), -5);
        x[static_cast<std::size_t>(best)] = 2;
        x[static_cast<std::size_t>(at)] = kNan;
        for (const Isa isa : {Isa::simd, Isa::portable})
          ASSERT_EQ(maximum<float>(isa, n, x.data()), 2) << n << ": NaN at " << at << ", best at " << best;
      }
  for (const Index n : {1, 3, 17, 40}) {
    const std::vector<float> x(static_cast<std::size_t>(n), kNan);
    EXPECT_TRUE(std::isnan(maximum<float>(Isa::simd, n, x.data())));
  }
}

TEST(Simd, OtherNumbersTakeTheSameFormulas) {
  const Dual x[] = {Dual(1, 10), Dual(5, 20), Dual(3, 30)};
  Dual y[3];
  transform<Dual>(
      Isa::simd, 3, [](auto v) { return v * v; }, y, x);
  EXPECT_EQ(y[1].v, 25);
  EXPECT_EQ(y[1].d, 200);
  EXPECT_EQ((sum<Dual>(
                 Isa::simd, 3, [](auto v) { return v; }, x)
                 .d),
            60);
  EXPECT_EQ((maximum<Dual>(Isa::simd, 3, x).d), 20);
  const double z[] = {1, 2, 4};
  EXPECT_EQ((sum<double>(
                Isa::simd, 3, [](auto v) { return v; }, z)),
            7);
}

}  // namespace
}  // namespace gatefold::kernels::simd
