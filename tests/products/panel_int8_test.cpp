#include "gatefold/products/panel_int8.hpp"

#include <gtest/gtest.h>

#include "tests/support/panel.hpp"

namespace gatefold::kernels::panel_int8_test {
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

auto contract() {
  const auto prepare = [](Isa isa) { return preparer(isa); };
  const auto close = [](const auto&... arguments) { expect_close(arguments...); };
  return PanelContract<Int8Format, decltype(prepare), decltype(close)>{
      std::vector<Isa>(isas_here().begin(), isas_here().end()), prepare, close};
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

TEST(PanelInt8, EveryPathAgreesWithSumsInDouble) { contract().every_path_agrees_with_sums_in_double(); }

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

TEST(PanelInt8, PartsOfTheDepthAddUp) { contract().parts_of_the_depth_add_up(); }

TEST(PanelInt8, ARowDoesNotDependOnItsNeighbours) { contract().a_row_does_not_depend_on_its_neighbours(); }

TEST(PanelInt8, NotANumberFillsItsRowAndNoOther) { contract().not_a_number_fills_its_row_and_no_other(); }

TEST(PanelInt8, ZerosAndDenormalsGiveZeroAndHugeRowsStayFinite) {
  contract().zeros_and_denormals_give_zero_and_huge_rows_stay_finite();
}

}  // namespace
}  // namespace gatefold::kernels::panel_int8_test
