#include "gatefold/kernels/softmax.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels::softmax_test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
std::vector<T> random_row(Index n, std::uint64_t seed, double size = 1) {
  Rng rng(seed);
  std::vector<T> x(static_cast<std::size_t>(n));
  for (T& v : x) v = T(size * rng.normal());
  return x;
}

/// The definition, in long double.
template <class T>
std::vector<double> definition(const std::vector<T>& x, double scale) {
  long double most = -std::numeric_limits<long double>::infinity(), total = 0;
  for (const T v : x) most = std::max(most, static_cast<long double>(v) * scale);
  std::vector<long double> e;
  for (const T v : x) total += e.emplace_back(std::exp(static_cast<long double>(v) * scale - most));
  std::vector<double> p;
  for (const auto v : e) p.push_back(static_cast<double>(v / total));
  return p;
}

// exp(t) turns a rounding of t, up to u |t| with |t| up to the spread of the row, into a relative error of that size;
// exp itself, the sum of n terms, the reciprocal and the product add n + 6 units.
double relative_bound(Index n, double spread, double unit) { return (static_cast<double>(n) + 6 + 2 * spread) * unit; }

TEST(Softmax, EveryLengthAgainstTheDefinition) {
  for (Index n = 1; n <= 50; ++n)
    for (const Isa isa : {Isa::simd, Isa::portable})
      for (const double scale : {1.0, 0.25}) {
        const auto x = random_row<float>(n, static_cast<std::uint64_t>(n), 3);
        const auto wanted = definition(x, scale);
        auto p = x;
        softmax_row<float>(isa, n, static_cast<float>(scale), p.data(), p.data());  // in place
        for (std::size_t i = 0; i < p.size(); ++i)
          ASSERT_NEAR(p[i], wanted[i], wanted[i] * relative_bound(n, 20, 0x1p-24)) << n << " " << i;
        const auto x_double = random_row<double>(n, static_cast<std::uint64_t>(n), 3);
        const auto wanted_double = definition(x_double, scale);
        auto p_double = x_double;
        softmax_row<double>(isa, n, scale, x_double.data(), p_double.data());
        for (std::size_t i = 0; i < p.size(); ++i)
          ASSERT_NEAR(p_double[i], wanted_double[i], wanted_double[i] * relative_bound(n, 20, 0x1p-53));
      }
}

template <class T>
void check_masked_rows() {
  for (Index n = 1; n <= 40; ++n)
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      const auto size = static_cast<std::size_t>(n);
      std::vector<T> x(size, T(-kInf)), p(size, T(9));
      softmax_row<T>(isa, n, T(1), x.data(), p.data());
      EXPECT_THAT(p, testing::Each(T(0))) << n;  // nothing to attend to

      x[size / 2] = T(5);
      softmax_row<T>(isa, n, T(0.5), x.data(), p.data());
      for (std::size_t i = 0; i < size; ++i) EXPECT_EQ(p[i], T(i == size / 2)) << n;
    }
}
TEST(Softmax, MaskedEntriesGetExactlyZero) {
  check_masked_rows<float>();
  check_masked_rows<double>();
}

TEST(Softmax, HugeNumbersAndScales) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    const std::vector<float> x{-3e38f, 3e38f, 3e38f, 0}, y{1000, 1001, 999, 1001};
    std::vector<float> p(4);
    softmax_row<float>(isa, 4, 1.0f, x.data(), p.data());
    EXPECT_THAT(p, testing::ElementsAre(0, 0.5f, 0.5f, 0));
    softmax_row<float>(isa, 4, 1e4f, y.data(), p.data());
    EXPECT_THAT(p, testing::ElementsAre(0, 0.5f, 0.5f - 0.5f, 0.5f));
    softmax_row<float>(isa, 4, 1e30f, y.data(), p.data());
    EXPECT_THAT(p, testing::ElementsAre(0, 0.5f, 0, 0.5f));
    softmax_row<float>(isa, 0, 1.0f, nullptr, nullptr);
  }
}

TEST(Softmax, NanIsNotSwallowed) {
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (Index n = 1; n <= 40; ++n)
      for (Index at = 0; at < n; ++at)
        for (const float others : {1.0f, -kInf}) {
          std::vector<float> x(static_cast<std::size_t>(n), others), p(x.size());
          x[static_cast<std::size_t>(at)] = kNan;
          softmax_row<float>(isa, n, 1.0f, x.data(), p.data());
          ASSERT_TRUE(std::isnan(p[static_cast<std::size_t>(at)])) << n << " " << at << " " << others;
        }
}

TEST(Softmax, GradientByDualNumbers) {
  for (Index n = 1; n <= 9; ++n) {
    const auto x = random_row<double>(n, 7), dp = random_row<double>(n, 8);
    const double scale = 0.7;
    std::vector<double> p(x.size()), dx(dp);
    softmax_row<double>(Isa::simd, n, scale, x.data(), p.data());
    softmax_row_grad<double>(Isa::simd, n, scale, p.data(), dx.data(), dx.data());  // in place
    for (std::size_t i = 0; i < x.size(); ++i) {
      std::vector<Dual> lifted(x.begin(), x.end()), out(x.size());
      lifted[i].d = 1;
      softmax_row<Dual>(Isa::simd, n, Dual(scale), lifted.data(), out.data());
      double wanted = 0;
      for (std::size_t j = 0; j < x.size(); ++j) wanted += dp[j] * out[j].d;
      EXPECT_NEAR(dx[i], wanted, 1e-14);
    }
  }
}

TEST(Softmax, FloatGradientAgainstDouble) {
  for (Index n = 1; n <= 50; ++n)
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      const auto p = definition(random_row<double>(n, 3), 1), dp = random_row<double>(n, 4);
      const std::vector<float> p_float(p.begin(), p.end()), dp_float(dp.begin(), dp.end());
      std::vector<double> wanted(p.size());
      std::vector<float> got(p.size());
      softmax_row_grad<double>(isa, n, 2.0, p.data(), dp.data(), wanted.data());
      softmax_row_grad<float>(isa, n, 2.0f, p_float.data(), dp_float.data(), got.data());
      for (std::size_t i = 0; i < p.size(); ++i)  // |dp| < 4: p sums to 1, so <p, dp> is of that size
        ASSERT_NEAR(got[i], wanted[i], 2 * p[i] * 4 * static_cast<double>(n + 6) * 0x1p-24);
    }
}

TEST(Softmax, RowsOfWiderMatricesAndThreads) {
  Tensor<float, 2> x({700, 60}), y({700, 60});
  Rng rng(1);
  for (float& v : x.flat()) v = static_cast<float>(rng.normal());
  const auto run = [&](ParallelFor parallel_for) {
    std::ranges::fill(y.flat(), -7.0f);
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    softmax_rows<float>(x.view().columns(2, 39), y.view().columns(5, 42), ctx);
    return y;
  };
  const auto serial = run(ParallelFor());
  for (Index i = 0; i < 700; ++i) {
    double sum = 0;
    for (Index j = 5; j < 42; ++j) sum += serial.view()(i, j);
    ASSERT_NEAR(sum, 1, 40 * 0x1p-24);
    ASSERT_EQ(serial.view()(i, 4), -7);
    ASSERT_EQ(serial.view()(i, 42), -7);
  }
  EXPECT_EQ(run(test::threads(2)), serial);
  EXPECT_EQ(run(test::threads(7)), serial);
}

TEST(Softmax, LogarithmAgainstTheDefinition) {
  for (const Isa isa : {Isa::portable, Isa::simd})
    for (const double shift : {0.0, 1e2, 1e4, -1e6})
      for (const double size : {1.0, 30.0, 1e4})
        for (Index n = 1; n <= 20; ++n) {
          Context ctx;
          ctx.isa = isa;
          Tensor<float, 2> x({1, n}), y({1, n});
          auto values = random_row<float>(n, 5, size);
          for (float& v : values) v = static_cast<float>(v + shift);
          std::ranges::copy(values, x.flat().begin());
          log_softmax_rows<float>(x, y, ctx);
          long double most = -1e30L, total = 0;
          for (const float v : values) most = std::max<long double>(most, v);
          for (const float v : values) total += std::exp(static_cast<long double>(v) - most);
          for (std::size_t i = 0; i < values.size(); ++i) {
            const auto below = static_cast<double>(static_cast<long double>(values[i]) - most);
            const double wanted = below - static_cast<double>(std::log(total));
            // Roundings at the size of x - largest and of the result, n + 3 in a sum of at least 1; whatever the shift.
            ASSERT_NEAR(y.flat()[i], wanted,
                        (std::abs(below) + std::abs(wanted) + 2 * static_cast<double>(n) + 8) * 0x1p-24)
                << shift;
          }
        }
}

TEST(Softmax, LogarithmStaysFiniteWhereTheProbabilityVanishes) {
  Context ctx;
  Tensor<float, 2> x({1, 2}), y({1, 2});
  x.flat()[0] = 500;
  log_softmax_rows<float>(x, y, ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAre(0, -500));
}

TEST(Softmax, RowsGradientTakesEachRow) {
  Tensor<double, 2> p({3, 4}), dp({3, 4}), dx({3, 4});
  Rng rng(1);
  for (double& v : p.flat()) v = rng.uniform();
  for (double& v : dp.flat()) v = rng.normal();
  Context ctx;
  softmax_rows_grad<double>(p, dp, dx, ctx);
  for (Index i = 0; i < 3; ++i) {
    double dot = 0;
    for (Index j = 0; j < 4; ++j) dot += p.view()(i, j) * dp.view()(i, j);
    for (Index j = 0; j < 4; ++j) EXPECT_NEAR(dx.view()(i, j), p.view()(i, j) * (dp.view()(i, j) - dot), 1e-15);
  }
}

}  // namespace
}  // namespace gatefold::kernels::softmax_test
