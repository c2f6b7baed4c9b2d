#include "gatefold/simd/long_sum.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/kernels/norm.hpp"
#include "gatefold/products/matmul.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels {
namespace {

template <class T>
Tensor<T, 2> random_rows(Shape<2> shape, std::uint64_t seed, double mean = 0) {
  Tensor<T, 2> t(shape);
  Rng rng(seed);
  for (T& v : t.flat()) v = T(static_cast<double>(static_cast<float>(mean + rng.uniform(-1, 1))));
  return t;
}
Context context(Isa isa, ParallelFor parallel_for = {}) {
  Context ctx;
  ctx.isa = isa;
  ctx.parallel_for = std::move(parallel_for);
  return ctx;
}

TEST(LongSum, AddsChainsOfWholeNumbersExactly) {
  LongSum<double> sum;
  for (int i = 1; i <= 1000; ++i) sum.add(i);
  EXPECT_EQ(sum.value(), 500500);
  EXPECT_EQ(LongSum<double>().value(), 0);
}

TEST(LongSum, OfManyTermsOfOneSignKeepsItsDigits) {
  // A single chain of 65536 errs by some 2^-24 sqrt(65536 / 3) = 9e-6; two of 256 by a fifteenth of it.
  Rng rng(1);
  LongSum<float> sum;
  double exact = 0;
  for (Index i = 0; i < kChain * kChain; ++i) {
    const auto term = static_cast<float>(rng.uniform(1, 2));
    sum.add(term);
    exact += double{term};
  }
  EXPECT_NEAR(sum.value() / exact, 1, 0x1p-24 * 3 * std::sqrt(2 * static_cast<double>(kChain) / 3));
}

TEST(ColumnSums, OfExpertsKeepTheirDigitsAsThoseOfOneLayerDo) {
  // Two experts of unlike width; the bits are those of each by itself.
  const std::array<Tensor<float, 2>, 2> dy{random_rows<float>({100'000, 70}, 1, 1), random_rows<float>({300, 9}, 2)};
  std::array<Tensor<float, 1>, 2> alone{Tensor<float, 1>({70}), Tensor<float, 1>({9})}, together = alone;
  for (const auto& pool : {ParallelFor{}, test::threads(7)}) {
    auto ctx = context(Isa::simd, pool);
    for (auto* sums : {&alone, &together})
      for (auto& sum : *sums) std::ranges::fill(sum.flat(), 0.5f);
    for (std::size_t e = 0; e < 2; ++e) add_column_sums<float>(dy[e].view(), alone[e].view(), ctx);
    add_expert_column_sums<float>(
        2, [&](Index e) { return dy[static_cast<std::size_t>(e)].view(); },
        [&](Index e) { return together[static_cast<std::size_t>(e)].view(); }, ctx);
    EXPECT_EQ(alone, together);
  }
  double exact = 0.5;
  for (Index i = 0; i < 100'000; ++i) exact += double{dy[0].view()(i, 3)};
  EXPECT_NEAR(together[0].view()[3] / exact, 1, 0x1p-24 * 3 * std::sqrt(static_cast<double>(kChain) / 3));
}

TEST(ColumnSums, OfEveryWidthAddToWhatIsThere) {
  for (Index n = 0; n <= 130; ++n) {
    const auto dy = random_rows<float>({11, n + 3}, static_cast<std::uint64_t>(n));
    const auto before = random_rows<float>({1, n + 2}, 2);
    auto serial = before, parallel = before;
    auto one = context(Isa::simd), seven = context(Isa::simd, test::threads(7));
    const Rows<const float> part = dy.view().columns(1, n + 1);
    add_column_sums<float>(part, View<float, 1>(serial.data() + 1, {n}), one);
    add_column_sums<float>(part, View<float, 1>(parallel.data() + 1, {n}), seven);
    EXPECT_EQ(serial, parallel);
    EXPECT_EQ(serial.flat().front(), before.flat().front());
    EXPECT_EQ(serial.flat().back(), before.flat().back());
    for (Index j = 0; j < n; ++j) {
      float sum = 0;  // in the order of the rows
      for (Index i = 0; i < 11; ++i) sum += part(i, j);
      ASSERT_EQ(serial.data()[j + 1], static_cast<float>(double{before.data()[j + 1]} + double{sum})) << n << " " << j;
    }
  }
}

TEST(ColumnSums, OfEveryKindOfNumber) {
  const auto check = []<class T>(T, Isa isa) {
    Tensor<T, 2> dy({2, 2});
    for (std::size_t i = 0; i < 4; ++i) dy.flat()[i] = T(static_cast<float>(i + 1));
    Tensor<T, 1> db({2});
    db.data()[0] = db.data()[1] = T(50.0f);
    auto ctx = context(isa);
    add_column_sums<T>(dy, db, ctx);
    EXPECT_EQ(db.data()[0], T(54.0f));
    EXPECT_EQ(db.data()[1], T(56.0f));
  };
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    check(float{}, isa);
    check(double{}, isa);
    check(Dual{}, isa);
  }
}

// 2^-24 is the last rounding. Each chain errs by 2^-24 sqrt(256 / 3) of its size, of whose mean over a thousand chains
// hardly anything is left (three times the standard deviation is 1 % of it); a single chain would be off by 6e-6.
constexpr Index kTall = 256 * 1000 + 77;
constexpr double kLeft = 0x1p-24 * (1 + 3 * 0.3);

TEST(ColumnSums, OverAQuarterOfAMillionRowsKeepTheirDigits) {
  const auto dy = random_rows<float>({kTall, 21}, 3, 1.5);
  std::vector<double> exact(21);
  for (Index i = 0; i < kTall; ++i)
    for (Index j = 0; j < 21; ++j) exact[static_cast<std::size_t>(j)] += double{dy.view()(i, j)};
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    Tensor<float, 1> first({21});
    for (const Index workers : {1, 2, 7}) {
      auto ctx = context(isa, test::threads(workers));
      Tensor<float, 1> db({21});
      add_column_sums<float>(dy, db, ctx);
      for (std::size_t j = 0; j < 21; ++j) EXPECT_NEAR(db.flat()[j] / exact[j], 1, kLeft) << name(isa) << " " << j;
      if (workers == 1) first = db;
      EXPECT_EQ(db, first);
    }
  }
}

TEST(ColumnSums, OfALayerNormKeepTheirDigits) {
  const auto x = random_rows<float>({kTall, 21}, 4), dy = random_rows<float>({kTall, 21}, 5, 1.5);
  Tensor<float, 2> stats({kTall, 2});
  std::vector<double> gain(21), bias(21);
  for (Index i = 0; i < kTall; ++i) {
    stats.view()(i, 0) = -1.5f, stats.view()(i, 1) = .5f;  // any will do: they keep all terms positive
    for (Index j = 0; j < 21; ++j) {
      gain[static_cast<std::size_t>(j)] += double{dy.view()(i, j)} * (x.view()(i, j) + 1.5) * .5;
      bias[static_cast<std::size_t>(j)] += double{dy.view()(i, j)};
    }
  }
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    auto ctx = context(isa);
    Tensor<float, 2> got({2, 21});
    add_layer_norm_grad_params<float>(x, stats, dy, got.view()[0], got.view()[1], ctx);
    for (std::size_t j = 0; j < 21; ++j) {
      EXPECT_NEAR(got.flat()[j] / gain[j], 1, kLeft) << name(isa) << " " << j;
      EXPECT_NEAR(got.flat()[21 + j] / bias[j], 1, kLeft) << name(isa) << " " << j;
    }
  }
}

// The product's sums over k come in parts of 512, on every path. Over 65536 that is 128 parts: 3 standard deviations of
// both sums; one chain would be off by 9e-6.
TEST(ColumnSums, WeightGradientsOverManyRowsKeepTheirDigits) {
  constexpr Index kRows = 1 << 16;
  const auto dy = random_rows<float>({kRows, 3}, 6, 1.5), x = random_rows<float>({kRows, 20}, 7, 1.5);
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    auto ctx = context(isa);
    Tensor<float, 2> dw({3, 20});
    add_matmul_grad_weight<float>(dy, x, dw, ctx);
    for (Index n = 0; n < 3; ++n)
      for (Index j = 0; j < 20; ++j) {
        double exact = 0;
        for (Index i = 0; i < kRows; ++i) exact += double{dy.view()(i, n)} * x.view()(i, j);
        EXPECT_NEAR(dw.view()(n, j) / exact, 1, 0x1p-24 * 3 * std::sqrt((512 + 128) / 3.0)) << name(isa);
      }
  }
}

}  // namespace
}  // namespace gatefold::kernels
