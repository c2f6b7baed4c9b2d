#include "gatefold/products/panel_fp8.hpp"

#include <gtest/gtest.h>

#include "tests/support/panel.hpp"

namespace gatefold::kernels::panel_fp8_test {
namespace {

using namespace test;

struct Fp8Format {
  using Type = fp8;
  class Storage {
   public:
    Storage(Index n, Index k)
        : k_(k),
          u_(static_cast<std::size_t>(num_panels(n) * panel_values<fp8>(k))),
          scale_(static_cast<std::size_t>(num_panels(n) * panel_scales<fp8>(k)), kNan) {}
    void pack(Index p, Rows<const float> w) {
      const auto scale = [&](Index b) {
        return fp8_scale(w.columns(b * kFp8Block, std::min(w.extent(1), (b + 1) * kFp8Block)));
      };
      pack_panel_fp8(w, scale, u_.data() + p * panel_values<fp8>(k_), scale_.data() + p * panel_scales<fp8>(k_));
    }
    PanelView<fp8> panel(Index p) const {
      return {u_.data() + p * panel_values<fp8>(k_), scale_.data() + p * panel_scales<fp8>(k_), k_};
    }
    const void* next(Index p) const { return panel(p + 1).u; }

   private:
    Index k_;
    std::vector<std::uint8_t> u_;
    std::vector<float> scale_;
  };
};
using Fp8Weights = Weights<Fp8Format>;

auto preparer(Isa isa) {
  return [isa](const float* const* x, Index rows, Index k, std::vector<std::byte>& scratch) {
    return prepare_rows<fp8>(isa, x, rows, k, aligned(scratch, prepared_bytes<fp8>(isa, rows, k)));
  };
}

/// Against sums in double of the numbers that the kernel multiplies: the unpacked ones are rounded by their scale.
void expect_close(const Fp8Weights& w, const GuardedRows& x, Call call, const Result& before, const Result& after) {
  const Index k1 = call.k1 < 0 ? w.k : call.k1;
  for (Index i = 0; i < after.rows; ++i)
    for (Index j = 0; j < w.n; ++j) {
      double exact = 0, size = 0;
      for (Index k = call.k0; k < k1; ++k) {
        exact += double(x.at(i, k)) * w.at(j, k);
        size += std::abs(double(x.at(i, k)) * w.at(j, k));
      }
      if (call.bias) exact += double(call.bias[j]), size += std::abs(double(call.bias[j]));
      if (call.store == Store::add) exact += double(before.at(i, j)), size += std::abs(double(before.at(i, j)));
      const double bound = double(k1 - call.k0 + 5) * 0x1p-24 * 1.001 * size;
      ASSERT_NEAR(after.at(i, j), exact, bound) << "row " << i << ", column " << j;
    }
}

auto contract() {
  const auto prepare = [](Isa isa) { return preparer(isa); };
  const auto close = [](const auto&... arguments) { expect_close(arguments...); };
  return PanelContract<Fp8Format, decltype(prepare), decltype(close)>{
      std::vector<Isa>(isas_here().begin(), isas_here().end()), prepare, close};
}

/// From the definition: sign, four bits of exponent with bias 7, three of fraction.
double e4m3(unsigned code) {
  const unsigned exponent = code >> 3 & 15, fraction = code & 7;
  if (exponent == 15 && fraction == 7) return std::nan("");
  const double magnitude = exponent ? std::exp2(double(exponent) - 7) * (1 + fraction / 8.0) : fraction / 8.0 * 0x1p-6;
  return code & 128 ? -magnitude : magnitude;
}

/// A panel of 32 outputs and 256 inputs in which every code is at every place modulo 4 and in every lane.
struct AllCodes {
  static constexpr Index kDepth = 256;
  std::vector<std::uint8_t> w, u;
  std::vector<float> scale;
  PanelView<fp8> view;

  AllCodes(float first, float second)
      : w(32 * kDepth),
        u(static_cast<std::size_t>(panel_values<fp8>(kDepth))),
        scale(static_cast<std::size_t>(panel_scales<fp8>(kDepth))),
        view{u.data(), scale.data(), kDepth} {
    for (Index j = 0; j < 32; ++j)
      for (Index k = 0; k < kDepth; ++k) w[static_cast<std::size_t>(j * kDepth + k)] = code(j, k);
    pack_panel_fp8(
        Rows<const std::uint8_t>(w.data(), {32, kDepth}), [&](Index b) { return b ? second : first; }, u.data(),
        scale.data());
  }
  static std::uint8_t code(Index j, Index k) { return static_cast<std::uint8_t>((k + 37 * j) & 255); }
};

TEST(PanelFp8, HoldsTheValuesOfTheFile) {
  const AllCodes codes(0.75f, -3.0f);
  std::vector<float> back(32 * AllCodes::kDepth);
  unpack_panel(codes.view, Rows<float>(back.data(), {32, AllCodes::kDepth}));
  for (Index j = 0; j < 32; ++j)
    for (Index k = 0; k < AllCodes::kDepth; ++k) {
      const double wanted = e4m3(AllCodes::code(j, k)) * (k < 128 ? 0.75 : -3.0);
      const float value = back[static_cast<std::size_t>(j * AllCodes::kDepth + k)];
      ASSERT_TRUE(std::isnan(wanted) ? std::isnan(value) : double(value) == wanted) << j << ", " << k;
    }
}

/// Each code by itself on every path: all other inputs meet zeros, but where there is a NaN, which fills its output.
TEST(PanelFp8, EveryCodeIsExactOnEveryPath) {
  for (const Isa isa : isas_here()) {
    for (unsigned code = 0; code < 256; ++code) {
      std::vector<std::uint8_t> w(32 * 64, std::uint8_t{0}), u(static_cast<std::size_t>(panel_values<fp8>(64)));
      std::vector<float> scale(1);
      for (Index j = 0; j < 32; ++j)
        w[static_cast<std::size_t>(j * 64 + (code + j) % 64)] = static_cast<std::uint8_t>(code);
      pack_panel_fp8(
          Rows<const std::uint8_t>(w.data(), {32, 64}), [](Index) { return 0.5f; }, u.data(), scale.data());
      GuardedRows x(3, 64);
      for (Index k = 0; k < 64; ++k) x.at(0, k) = 1, x.at(1, k) = -2, x.at(2, k) = 3;
      std::vector<std::byte> scratch;
      const auto a = preparer(isa)(x.pointers(), 3, 64, scratch);
      Result c(3, 32);
      multiply_panel(isa, a, {u.data(), scale.data(), 64}, &c.c[2], c.stride, 32, Store::overwrite, nullptr);
      for (Index i = 0; i < 3; ++i)
        for (Index j = 0; j < 32; ++j) {
          const double wanted = e4m3(code) * (i == 0 ? 0.5 : i == 1 ? -1 : 1.5);
          if (std::isnan(wanted))
            ASSERT_TRUE(std::isnan(c.at(i, j))) << name(isa) << ", code " << code;
          else
            ASSERT_EQ(double(c.at(i, j)), wanted) << name(isa) << ", code " << code;
        }
    }
  }
}

TEST(PanelFp8, RoundsToTheNearestOfAllCodes) {
  for (unsigned code = 0; code < 256; ++code) {
    if (code == 128) continue;
    const unsigned back = detail::e4m3_code(static_cast<float>(e4m3(code)));
    EXPECT_EQ(back & 127, code & 127);
  }
  std::mt19937 random(1);
  std::normal_distribution<float> draw;
  for (int i = 0; i < 2000; ++i) {
    const float v = draw(random) * std::ldexp(1.0f, static_cast<int>(random() % 20) - 11);
    const double off = std::abs(e4m3(detail::e4m3_code(v)) - double(v));
    for (unsigned code = 0; code < 256; ++code)
      if ((code & 127) != 127) {
        ASSERT_LE(off, std::abs(e4m3(code) - double(v))) << v << ", " << code;
      }
  }
  EXPECT_EQ(detail::e4m3_code(1e9f), 126);
  EXPECT_EQ(detail::e4m3_code(-1e9f), 254);
  EXPECT_EQ(detail::e4m3_code(0x1.1p0f), 56);  // ties to even: 1 and 1.125
  EXPECT_EQ(detail::e4m3_code(0x1.3p0f), 58);  // 1.125 and 1.25
  EXPECT_EQ(detail::e4m3_code(0x1p-10f), 0);   // 0 and 2^-9
  EXPECT_EQ(detail::e4m3_code(0x1.8p-9f), 2);  // 2^-9 and 2^-8
}

TEST(PanelFp8, ScalesAtTheirEnds) {
  const auto scale_of = [](std::vector<float> values) {
    return fp8_scale(Rows<const float>(values.data(), {1, std::ssize(values)}));
  };
  EXPECT_EQ(scale_of({0, 0}), 1.0f);
  EXPECT_EQ(scale_of({1, -448}), 1.0f);
  EXPECT_TRUE(std::isnan(scale_of({1, kInf})));
  EXPECT_TRUE(std::isnan(scale_of({kNan, 1})));
  EXPECT_GT(scale_of({0x1p-149f}), 0.0f);
}

TEST(PanelFp8, EveryPathAgreesWithSumsInDouble) { contract().every_path_agrees_with_sums_in_double(); }
TEST(PanelFp8, PartsOfTheDepthAddUp) { contract().parts_of_the_depth_add_up(); }
TEST(PanelFp8, ARowDoesNotDependOnItsNeighbours) { contract().a_row_does_not_depend_on_its_neighbours(); }

TEST(PanelFp8, NotANumberStaysInItsRow) {
  contract().not_a_number_stays_in_its_row([](Isa isa, float bad, const Fp8Weights& w, Index j, float c) {
    const double factor = w.at(j, w.k - 1);
    if (std::isnan(bad) || factor == 0)
      ASSERT_TRUE(std::isnan(c)) << name(isa);
    else
      ASSERT_EQ(c, factor > 0 ? bad : -bad) << name(isa);
  });
}

}  // namespace
}  // namespace gatefold::kernels::panel_fp8_test
