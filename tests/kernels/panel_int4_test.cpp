#include "gatefold/kernels/panel_int4.hpp"

#include <gtest/gtest.h>

#include "tests/support/panel.hpp"

namespace gatefold::kernels {
namespace {

using namespace test;

struct Int4Format {
  using Type = int4;
  class Storage {
   public:
    Storage(Index n, Index k)
        : k_(k),
          u_(static_cast<std::size_t>(num_panels(n) * panel_values<int4>(k))),
          scale_(static_cast<std::size_t>(num_panels(n) * panel_scales<int4>(k)), kNan) {}
    void pack(Index p, Rows<const float> w) {
      pack_panel_int4(w, u_.data() + p * panel_values<int4>(k_), scale_.data() + p * panel_scales<int4>(k_));
    }
    PanelView<int4> panel(Index p) const {
      return {u_.data() + p * panel_values<int4>(k_), scale_.data() + p * panel_scales<int4>(k_), k_};
    }
    const void* next(Index p) const { return panel(p + 1).u; }

   private:
    Index k_;
    std::vector<std::uint8_t> u_;
    std::vector<float> scale_;
  };
};
using Q4Weights = Weights<Int4Format>;

auto preparer(Isa isa) {
  return [isa](const float* const* x, Index rows, Index k, std::vector<std::byte>& scratch) {
    return prepare_rows<int4>(isa, x, rows, k, aligned(scratch, prepared_bytes<int4>(isa, rows, k)));
  };
}

/// Against sums in double of the activations as they came: each is at most half a step off, and a few fp32 roundings
/// come on top.
void expect_close(const Q4Weights& w, const GuardedRows& x, Call call, const Result& before, const Result& after) {
  const Index k1 = call.k1 < 0 ? w.k : call.k1, group = 64;
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

double squared_error(const std::vector<float>& values, const Q4Weights& w) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += std::pow(double(values[i]) - w.value[i], 2);
  return sum;
}

TEST(PanelInt4, PacksWithLessErrorThanTheLargestMagnitudeAsScale) {
  std::mt19937 random(1);
  for (const Index k : {1, 2, 8, 63, 64, 65, 200})
    for (const Index n : {1, 33, 70}) {
      const auto values = random_values(n * k, random);
      const Q4Weights w(values, n, k);
      double plain = 0;  // scale = magnitude / 7, to the nearest
      for (Index j = 0; j < n; ++j)
        for (Index k0 = 0; k0 < k; k0 += 64) {
          const auto at = [&](Index i) { return double(values[static_cast<std::size_t>(j * k + i)]); };
          double most = 0;
          for (Index i = k0; i < std::min(k, k0 + 64); ++i) most = std::max(most, std::abs(at(i)));
          for (Index i = k0; i < std::min(k, k0 + 64); ++i) {
            const double s = most / 7;
            plain += std::pow(at(i) - s * std::nearbyint(at(i) / s), 2);
          }
        }
      EXPECT_LE(squared_error(values, w), plain + 1e-12 * double(n * k)) << n << " x " << k;
      if (k >= 64) {
        EXPECT_LE(squared_error(values, w), 0.85 * plain) << n << " x " << k;
      }
    }
}

TEST(PanelInt4, LaysEightOfAnOutputInOneWord) {
  std::vector<float> values(10);
  for (Index i = 0; i < 10; ++i) values[static_cast<std::size_t>(i)] = static_cast<float>(i - 8);  // -8..1, scale 1
  std::vector<std::uint8_t> u(static_cast<std::size_t>(panel_values<int4>(10)));
  std::vector<float> scale(static_cast<std::size_t>(panel_scales<int4>(10)), kNan);
  pack_panel_int4(Rows<const float>(values.data(), {1, 10}), u.data(), scale.data());
  EXPECT_EQ(std::vector<std::uint8_t>(u.begin(), u.begin() + 5),
            (std::vector<std::uint8_t>{0x40, 0x51, 0x62, 0x73, 0x88}));
  EXPECT_EQ(std::vector<std::uint8_t>(u.begin() + 128, u.begin() + 131), (std::vector<std::uint8_t>{0x88, 0x89, 0x88}));
  EXPECT_NEAR(scale[0], 1.0f, 1e-6f);
  EXPECT_EQ(scale[1], 0.0f);
}

TEST(PanelInt4, AGroupWithoutNumbersIsNotANumber) {
  std::vector<float> values(2 * 100, 1.0f);
  values[70] = kNan, values[100] = kInf;
  const Q4Weights w(values, 2, 100);
  EXPECT_NEAR(w.at(0, 0), 1.0, 1e-6);
  EXPECT_TRUE(std::isnan(w.at(0, 64)));
  EXPECT_TRUE(std::isnan(w.at(1, 0)));
  EXPECT_NEAR(w.at(1, 99), 1.0, 1e-6);
}

TEST(PanelInt4, EveryPathAgreesWithSumsInDouble) {
  std::mt19937 random(2);
  for_sizes([&](Size s) {
    const Q4Weights w(random_values(s.columns * s.k, random), s.columns, s.k);
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

TEST(PanelInt4, PartsOfTheDepthAddUp) {
  std::mt19937 random(3);
  const Index n = 40, k = 300, rows = 19;
  const Q4Weights w(random_values(n * k, random), n, k);
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

TEST(PanelInt4, ARowDoesNotDependOnItsNeighbours) {
  std::mt19937 random(4);
  const Index n = 40, k = 333, most = 67;
  const Q4Weights w(random_values(n * k, random), n, k);
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

TEST(PanelInt4, NotANumberFillsItsRowAndNoOther) {
  std::mt19937 random(5);
  const Index n = 33, k = 70, rows = 18;
  const Q4Weights w(random_values(n * k, random), n, k);
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

TEST(PanelInt4, ZerosAndDenormalsGiveZeroAndHugeRowsStayFinite) {
  const Index n = 5, k = 9;
  const Q4Weights w(std::vector<float>(static_cast<std::size_t>(n * k), 1.0f), n, k);
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
