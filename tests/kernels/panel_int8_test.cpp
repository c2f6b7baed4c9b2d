#include "gatefold/kernels/panel_int8.hpp"

#include <gtest/gtest.h>

#include "tests/support/panel.hpp"

namespace gatefold::kernels {
namespace {

using namespace test;

struct Int8Format {
  using Type = int8;
  class Storage {
   public:
    Storage(Index n, Index k)
        : k_(k),
          u_(static_cast<std::size_t>(num_panels(n) * panel_values<int8>(k))),
          scale_(static_cast<std::size_t>(num_panels(n) * kPanel), kNan) {}
    void pack(Index p, Rows<const float> w) {
      pack_panel_int8(w, u_.data() + p * panel_values<int8>(k_), scale_.data() + p * kPanel);
    }
    PanelView<int8> panel(Index p) const {
      return {u_.data() + p * panel_values<int8>(k_), scale_.data() + p * kPanel, k_};
    }
    const void* next(Index p) const { return panel(p + 1).u; }

   private:
    Index k_;
    std::vector<std::uint8_t> u_;
    std::vector<float> scale_;
  };
};
using Q8Weights = Weights<Int8Format>;

auto preparer(Isa isa) {
  return [isa](const float* const* x, Index rows, Index k, std::vector<std::byte>& scratch) {
    return prepare_rows<int8>(isa, x, rows, k, aligned(scratch, prepared_bytes<int8>(isa, rows, k)));
  };
}

/// Against sums in double of the activations as they came: each is at most half a step off, and a few fp32 roundings
/// come on top.
void expect_close(const Q8Weights& w, const GuardedRows& x, Call call, const Result& before, const Result& after) {
  const Index k1 = call.k1 < 0 ? w.k : call.k1, group = std::max<Index>(1, k1 - call.k0);
  for (Index i = 0; i < after.rows; ++i) {
    std::vector<double> step;  // of each group of activations
    for (Index g0 = call.k0; g0 < k1; g0 += group) {
      double most = 0;
      for (Index k = g0; k < std::min(k1, g0 + group); ++k) most = std::max(most, std::abs(double(x.at(i, k))));
      step.push_back(most / 127);
    }
    for (Index j = 0; j < w.n; ++j) {
      double exact = 0, size = 0, bound = 0;
      for (Index k = call.k0; k < k1; ++k) {
        exact += double(x.at(i, k)) * w.at(j, k);
        size += std::abs(double(x.at(i, k)) * w.at(j, k));
        bound += 0.5001 * step[static_cast<std::size_t>((k - call.k0) / group)] * std::abs(w.at(j, k));
      }
      if (call.bias) exact += double(call.bias[j]), size += std::abs(double(call.bias[j]));
      if (call.store == Store::add) exact += double(before.at(i, j)), size += std::abs(double(before.at(i, j)));
      bound += (double(k1 - call.k0) / 64 + 6) * 0x1p-23 * (size + bound);
      ASSERT_NEAR(after.at(i, j), exact, bound) << "row " << i << ", column " << j;
    }
  }
}

TEST(PanelInt8, PacksToHalfAStepOfEachOutput) {
  std::mt19937 random(1);
  for (const Index k : {1, 2, 63, 64, 65, 200})
    for (const Index n : {1, 31, 32, 33, 70}) {
      const auto values = random_values(n * k, random);
      const Q8Weights w(values, n, k);
      for (Index j = 0; j < n; ++j) {
        double most = 0;
        for (Index i = 0; i < k; ++i)
          most = std::max(most, std::abs(double(values[static_cast<std::size_t>(j * k + i)])));
        for (Index i = 0; i < k; ++i)
          ASSERT_NEAR(w.at(j, i), double(values[static_cast<std::size_t>(j * k + i)]), 0.5001 * most / 127);
      }
    }
}

TEST(PanelInt8, LaysFourOfAnOutputSideBySide) {
  const std::vector<float> values = {127, -127, 3, 64, -5, 1};  // scale 1
  std::vector<std::uint8_t> u(static_cast<std::size_t>(panel_values<int8>(6)));
  std::vector<float> scale(kPanel, kNan);
  pack_panel_int8(Rows<const float>(values.data(), {1, 6}), u.data(), scale.data());
  EXPECT_EQ(std::vector<std::uint8_t>(u.begin(), u.begin() + 5), (std::vector<std::uint8_t>{255, 1, 131, 192, 128}));
  EXPECT_EQ(std::vector<std::uint8_t>(u.begin() + 128, u.begin() + 131), (std::vector<std::uint8_t>{123, 129, 128}));
  EXPECT_EQ(scale[0], 1.0f);
  EXPECT_EQ(scale[1], 0.0f);
}

TEST(PanelInt8, AnOutputWithoutNumbersIsNotANumber) {
  std::vector<float> values(3 * 5, 1.0f);
  values[7] = kNan, values[12] = kInf;
  const Q8Weights w(values, 3, 5);
  EXPECT_EQ(w.at(0, 0), 1.0);
  EXPECT_TRUE(std::isnan(w.at(1, 0)));
  EXPECT_TRUE(std::isnan(w.at(2, 0)));
}

TEST(PanelInt8, EveryPathAgreesWithSumsInDouble) {
  std::mt19937 random(2);
  for_sizes([&](Size s) {
    const Q8Weights w(random_values(s.columns * s.k, random), s.columns, s.k);
    GuardedRows x(s.rows, s.k);
    x.fill(random);
    const auto bias = random_values(s.columns, random), old = random_values(s.rows * s.columns, random);
    for (const Isa isa : isas_here())
      for (const Call call :
           {Call{}, Call{Store::add, bias.data()}, Call{Store::overwrite, bias.data()}, Call{Store::add}}) {
        SCOPED_TRACE(testing::Message() << name(isa) << ", " << s.rows << " x " << s.columns << " x " << s.k);
        Result c(s.rows, s.columns);
        for (Index i = 0; i < s.rows && call.store == Store::add; ++i)
          for (Index j = 0; j < s.columns; ++j) c.at(i, j) = old[static_cast<std::size_t>(i * s.columns + j)];
        const Result before = c;
        multiply(w, x.pointers(), s.rows, isa, preparer(isa), call, c);
        expect_close(w, x, call, before, c);
        c.expect_guard();
      }
  });
}

TEST(PanelInt8, EveryPathOfIntegersGivesTheSameBits) {
  std::mt19937 random(6);
  for_sizes([&](Size s) {
    const Q8Weights w(random_values(s.columns * s.k, random), s.columns, s.k);
    GuardedRows x(s.rows, s.k);
    x.fill(random);
    Result expected(s.rows, s.columns);
    multiply(w, x.pointers(), s.rows, Isa::portable, preparer(Isa::portable), {}, expected);
    for (const Isa isa : isas_here()) {
      if (isa == Isa::simd) continue;  // in fp32, and so rounded between strips
      Result c(s.rows, s.columns);
      multiply(w, x.pointers(), s.rows, isa, preparer(isa), {}, c);
      for (Index i = 0; i < s.rows; ++i) ASSERT_TRUE(c.row_equals(i, expected, i)) << name(isa) << " row " << i;
    }
  });
}

/// The largest sums there are: all products 127 * 127 of one sign.
TEST(PanelInt8, LargestSumsDoNotOverflow) {
  const Index k = 65536;
  const Q8Weights w(std::vector<float>(static_cast<std::size_t>(k), -1.0f), 1, k);
  GuardedRows x(1, k);
  for (Index i = 0; i < k; ++i) x.at(0, i) = 1.0f;
  for (const Isa isa : isas_here()) {
    Result c(1, 1);
    multiply(w, x.pointers(), 1, isa, preparer(isa), {}, c);
    EXPECT_NEAR(c.at(0, 0), -65536.0f, 0.05f) << name(isa);
  }
}

TEST(PanelInt8, PartsOfTheDepthAddUp) {
  std::mt19937 random(3);
  const Index n = 40, k = 300, rows = 19;
  const Q8Weights w(random_values(n * k, random), n, k);
  GuardedRows x(rows, k);
  x.fill(random);
  for (const Isa isa : isas_here()) {
    Result c(rows, n);
    for (const Call call : {Call{Store::overwrite, nullptr, 0, 64}, Call{Store::add, nullptr, 64, 192},
                            Call{Store::add, nullptr, 192, 300}}) {
      const Result before = c;
      multiply(w, x.pointers(), rows, isa, preparer(isa), call, c);
      expect_close(w, x, call, before, c);
    }
  }
}

TEST(PanelInt8, ARowDoesNotDependOnItsNeighbours) {
  std::mt19937 random(4);
  const Index n = 40, k = 333, most = 67;
  const Q8Weights w(random_values(n * k, random), n, k);
  GuardedRows x(most, k);
  x.fill(random);
  const auto bias = random_values(n, random);
  for (const Isa isa : isas_here()) {
    Result all(most, n);
    multiply(w, x.pointers(), most, isa, preparer(isa), {Store::overwrite, bias.data()}, all);
    for (Index rows = 1; rows < most; ++rows) {
      const Index first = (most - rows) / 2;
      Result some(rows, n);
      multiply(w, x.pointers() + first, rows, isa, preparer(isa), {Store::overwrite, bias.data()}, some);
      for (Index i = 0; i < rows; ++i) ASSERT_TRUE(some.row_equals(i, all, first + i)) << name(isa) << rows;
    }
  }
}

TEST(PanelInt8, NotANumberFillsItsRowAndNoOther) {
  std::mt19937 random(5);
  const Index n = 33, k = 70, rows = 18;
  const Q8Weights w(random_values(n * k, random), n, k);
  for (const float bad : {kNan, kInf, -kInf})
    for (const Isa isa : isas_here())
      for (const Index row : {0, 3, 16}) {
        GuardedRows x(rows, k);
        x.fill(random);
        Result clean(rows, n), c(rows, n);
        multiply(w, x.pointers(), rows, isa, preparer(isa), {}, clean);
        x.at(row, k - 1) = bad;
        multiply(w, x.pointers(), rows, isa, preparer(isa), {}, c);
        for (Index i = 0; i < rows; ++i) {
          if (i != row) {
            ASSERT_TRUE(c.row_equals(i, clean, i)) << name(isa) << " row " << i;
          } else {
            for (Index j = 0; j < n; ++j) ASSERT_TRUE(std::isnan(c.at(i, j))) << name(isa);
          }
        }
      }
}

TEST(PanelInt8, ZerosAndDenormalsGiveZeroAndHugeRowsStayFinite) {
  const Index n = 5, k = 9;
  const Q8Weights w(std::vector<float>(static_cast<std::size_t>(n * k), 1.0f), n, k);
  GuardedRows x(4, k);
  constexpr float kValues[] = {0.0f, 0x1p-140f, -0x1p-140f, 0x1p+120f};
  for (Index i = 0; i < 4; ++i)
    for (Index at = 0; at < k; ++at) x.at(i, at) = kValues[i];
  for (const Isa isa : isas_here()) {
    Result c(4, n);
    multiply(w, x.pointers(), 4, isa, preparer(isa), {}, c);
    for (Index j = 0; j < n; ++j) {
      for (Index i = 0; i < 3; ++i) EXPECT_EQ(c.at(i, j), 0.0f) << name(isa);
      EXPECT_NEAR(c.at(3, j), 9 * 0x1p+120, 9 * 0x1p+120 * 1e-6) << name(isa);
    }
  }
}

}  // namespace
}  // namespace gatefold::kernels
