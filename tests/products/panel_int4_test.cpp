#include "gatefold/products/panel_int4.hpp"

#include <gtest/gtest.h>

#include "tests/support/panel.hpp"

namespace gatefold::kernels::panel_int4_test {
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

auto contract() {
  const auto prepare = [](Isa isa) { return preparer(isa); };
  const auto close = [](const auto&... arguments) { expect_close(arguments...); };
  return PanelContract<Int4Format, decltype(prepare), decltype(close)>{
      std::vector<Isa>(isas_here().begin(), isas_here().end()), prepare, close};
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

TEST(PanelInt4, EveryPathAgreesWithSumsInDouble) { contract().every_path_agrees_with_sums_in_double(); }

TEST(PanelInt4, PartsOfTheDepthAddUp) { contract().parts_of_the_depth_add_up(); }

TEST(PanelInt4, ARowDoesNotDependOnItsNeighbours) { contract().a_row_does_not_depend_on_its_neighbours(); }

TEST(PanelInt4, NotANumberFillsItsRowAndNoOther) { contract().not_a_number_fills_its_row_and_no_other(); }

TEST(PanelInt4, ZerosAndDenormalsGiveZeroAndHugeRowsStayFinite) {
  contract().zeros_and_denormals_give_zero_and_huge_rows_stay_finite();
}

}  // namespace
}  // namespace gatefold::kernels::panel_int4_test
