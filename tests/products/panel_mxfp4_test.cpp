#include "gatefold/products/panel_mxfp4.hpp"

#include <gtest/gtest.h>

#include "tests/support/panel.hpp"

namespace gatefold::kernels::panel_mxfp4_test {
namespace {

using namespace test;

struct Mxfp4Format {
  using Type = mxfp4;
  class Storage {
   public:
    Storage(Index n, Index k)
        : k_(k),
          u_(static_cast<std::size_t>(num_panels(n) * panel_values<mxfp4>(k))),
          scale_(static_cast<std::size_t>(num_panels(n) * panel_scales<mxfp4>(k)), std::uint8_t{255}) {}
    void pack(Index p, Rows<const float> w) {
      pack_panel_mxfp4(w, u_.data() + p * panel_values<mxfp4>(k_), scale_.data() + p * panel_scales<mxfp4>(k_));
    }
    PanelView<mxfp4> panel(Index p) const {
      return {u_.data() + p * panel_values<mxfp4>(k_), scale_.data() + p * panel_scales<mxfp4>(k_), k_};
    }
    const void* next(Index p) const { return panel(p + 1).u; }

   private:
    Index k_;
    std::vector<std::uint8_t> u_, scale_;
  };
};
using MxWeights = Weights<Mxfp4Format>;

auto preparer(Isa isa) {
  return [isa](const float* const* x, Index rows, Index k, std::vector<std::byte>& scratch) {
    return prepare_rows<mxfp4>(isa, x, rows, k, aligned(scratch, prepared_bytes<mxfp4>(isa, rows, k)));
  };
}

/// Against sums in double: an activation is at most 2^-22 of the largest of its 32 off, and each of the additions
/// rounds.
void expect_close(const MxWeights& w, const GuardedRows& x, Call call, const Result& before, const Result& after) {
  const Index k1 = call.k1 < 0 ? w.k : call.k1;
  for (Index i = 0; i < after.rows; ++i)
    for (Index j = 0; j < w.n; ++j) {
      double exact = 0, size = 0, bound = 0;
      for (Index g0 = call.k0; g0 < k1; g0 += 32) {
        double most = 0;
        for (Index k = g0; k < std::min(k1, g0 + 32); ++k) most = std::max(most, std::abs(double(x.at(i, k))));
        for (Index k = g0; k < std::min(k1, g0 + 32); ++k) {
          exact += double(x.at(i, k)) * w.at(j, k);
          size += std::abs(double(x.at(i, k)) * w.at(j, k));
          bound += most * 0x1p-22 * std::abs(w.at(j, k));
        }
      }
      if (call.bias) exact += double(call.bias[j]), size += std::abs(double(call.bias[j]));
      if (call.store == Store::add) exact += double(before.at(i, j)), size += std::abs(double(before.at(i, j)));
      bound += double(k1 - call.k0 + 4) * 0x1p-24 * 1.001 * (size + bound);
      ASSERT_NEAR(after.at(i, j), exact, bound) << "row " << i << ", column " << j;
    }
}

auto contract() {
  const auto prepare = [](Isa isa) { return preparer(isa); };
  const auto close = [](const auto&... arguments) { expect_close(arguments...); };
  return PanelContract<Mxfp4Format, decltype(prepare), decltype(close)>{
      std::vector<Isa>(isas_here().begin(), isas_here().end()), prepare, close};
}

/// From the definition: sign, two bits of exponent with bias 1, one of fraction.
double e2m1(unsigned code) {
  const unsigned exponent = code >> 1 & 3, fraction = code & 1;
  const double magnitude = exponent ? std::exp2(double(exponent) - 1) * (1 + fraction / 2.0) : fraction / 2.0;
  return code & 8 ? -magnitude : magnitude;
}

/// Random bytes as a file would hold them. // blocks [n, groups, 16], scales [n, groups]
struct File {
  Index n, groups;
  std::vector<std::uint8_t> blocks, scales;

  File(Index rows, Index g, unsigned seed) : n(rows), groups(g) {
    std::mt19937 random(seed);
    for (Index i = 0; i < n * groups * 16; ++i) blocks.push_back(static_cast<std::uint8_t>(random() & 255));
    for (Index i = 0; i < n * groups; ++i) scales.push_back(static_cast<std::uint8_t>(100 + random() % 50));
  }
  View<const std::uint8_t, 3> block_view() const { return {blocks.data(), {n, groups, 16}}; }
  Rows<const std::uint8_t> scale_view() const { return {scales.data(), {n, groups}}; }
  double value(Index j, Index k) const {
    const unsigned byte = blocks[static_cast<std::size_t>((j * groups + k / 32) * 16 + k % 32 / 2)];
    const unsigned scale = scales[static_cast<std::size_t>(j * groups + k / 32)];
    return e2m1(k % 2 ? byte / 16 : byte % 16) * std::exp2(double(scale) - 127);
  }
};

struct Panel {
  std::vector<std::uint8_t> u, scale;
  PanelView<mxfp4> view;
  explicit Panel(Index k)
      : u(static_cast<std::size_t>(panel_values<mxfp4>(k)), std::uint8_t{0xA5}),
        scale(static_cast<std::size_t>(panel_scales<mxfp4>(k)), std::uint8_t{0xA5}),
        view{u.data(), scale.data(), k} {}
};

TEST(PanelMxfp4, HoldsTheValuesOfTheFile) {
  for (const Index n : {1, 31, 32})
    for (const Index groups : {1, 2, 3, 7}) {
      const File file(n, groups, 1);
      Panel panel(groups * 32);
      pack_panel_mxfp4(file.block_view(), file.scale_view(), panel.u.data(), panel.scale.data());
      std::vector<float> back(static_cast<std::size_t>(n * groups * 32));
      unpack_panel(panel.view, Rows<float>(back.data(), {n, groups * 32}));
      for (Index j = 0; j < n; ++j)
        for (Index k = 0; k < groups * 32; ++k)
          ASSERT_EQ(double(back[static_cast<std::size_t>(j * groups * 32 + k)]), file.value(j, k)) << j << ", " << k;
    }
}

/// Every code under every scale, on every path: one input of 1 picks one weight. Powers of two lose nothing, but for
/// the largest scale, which floats do not bear times 2 and more.
TEST(PanelMxfp4, EveryCodeUnderEveryScaleIsExactOnEveryPath) {
  File file(32, 1, 2);
  for (Index j = 0; j < 32; ++j)
    for (Index i = 0; i < 16; ++i)
      file.blocks[static_cast<std::size_t>(j * 16 + i)] =
          static_cast<std::uint8_t>((2 * i + j) % 16 | (i * 7 + j) % 16 << 4);
  GuardedRows x(32, 32);
  for (Index i = 0; i < 32; ++i)
    for (Index k = 0; k < 32; ++k) x.at(i, k) = i == k ? 1.0f : 0.0f;
  for (unsigned s = 0; s < 256; ++s) {
    std::ranges::fill(file.scales, static_cast<std::uint8_t>(s));
    Panel panel(32);
    pack_panel_mxfp4(file.block_view(), file.scale_view(), panel.u.data(), panel.scale.data());
    for (const Isa isa : isas_here()) {
      std::vector<std::byte> scratch;
      const auto a = preparer(isa)(x.pointers(), 32, 32, scratch);
      Result c(32, 32);
      multiply_panel(isa, a, panel.view, &c.c[2], c.stride, 32, Store::overwrite, nullptr);
      for (Index k = 0; k < 32; ++k)
        for (Index j = 0; j < 32; ++j) {
          if (s == 255) {
            ASSERT_TRUE(std::isnan(c.at(k, j))) << name(isa);
            continue;
          }
          // Where weights are made floats, an infinite one turns the other inputs' zeros into NaN.
          bool finite = true;
          for (Index other = 0; other < 32; ++other) finite = finite && std::abs(file.value(j, other)) < 0x1p128;
          ASSERT_TRUE(finite || s >= 253);
          if (!finite) continue;
          ASSERT_EQ(double(c.at(k, j)), file.value(j, k)) << name(isa) << ", scale " << s;
        }
    }
  }
}

TEST(PanelMxfp4, RoundsToTheNearestAndKeepsWhatIsMxfp4Already) {
  for (unsigned code = 0; code < 8; ++code) EXPECT_EQ(detail::e2m1_code(static_cast<float>(e2m1(code))), code);
  for (const auto& [value, code] : {std::pair{0.25f, 0},
                                    {0.26f, 1},
                                    {0.74f, 1},
                                    {0.75f, 2},
                                    {1.25f, 2},
                                    {1.75f, 4},
                                    {2.5f, 4},
                                    {3.5f, 6},
                                    {5.0f, 6},
                                    {5.1f, 7},
                                    {7.9f, 7}})
    EXPECT_EQ(detail::e2m1_code(value), code) << value;
  EXPECT_EQ(detail::e2m1_code(-3.0f), 13);

  const File file(32, 4, 3);
  std::vector<float> values;
  for (Index j = 0; j < 32; ++j)
    for (Index k = 0; k < 128; ++k) values.push_back(static_cast<float>(file.value(j, k)));
  const MxWeights again(values, 32, 128);
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(again.value[i], double(values[i]));
}

TEST(PanelMxfp4, ScalesAtTheirEnds) {
  std::vector<float> values(4 * 40, 0.0f);
  values[3] = kNan;                                // output 0, the first group only
  values[40] = 0x1p-149f, values[41] = 0x1p-128f;  // output 1: below the smallest scale times 1/2 is 0
  values[80] = std::numeric_limits<float>::max();  // output 2
  const MxWeights w(values, 4, 40);
  EXPECT_TRUE(std::isnan(w.at(0, 0)));
  EXPECT_EQ(w.at(0, 39), 0);
  EXPECT_EQ(w.at(1, 0), 0);
  EXPECT_EQ(w.at(1, 1), 0x1p-128);
  EXPECT_EQ(w.at(2, 0), 1.5 * 0x1p127);  // not infinite
  EXPECT_EQ(w.at(3, 0), 0);
}

TEST(PanelMxfp4, EveryPathAgreesWithSumsInDouble) { contract().every_path_agrees_with_sums_in_double(); }
TEST(PanelMxfp4, PartsOfTheDepthAddUp) { contract().parts_of_the_depth_add_up(); }
TEST(PanelMxfp4, ARowDoesNotDependOnItsNeighbours) { contract().a_row_does_not_depend_on_its_neighbours(); }

/// Activations in 8 digits that are not below 2^-14 of the largest lose nothing: with weights of two digits the sum
/// over a group is exact on all paths, whatever the order.
TEST(PanelMxfp4, ActivationsOfEightDigitsComeInExactly) {
  std::mt19937 random(6);
  const MxWeights w(random_values(40 * 32, random), 40, 32);
  GuardedRows x(5, 32);
  for (Index i = 0; i < 5; ++i)
    for (Index k = 0; k < 32; ++k)
      x.at(i, k) = static_cast<float>(bf16(std::ldexp(1 + float(random() % 128) / 128, int(random() % 8))));
  for (const Isa isa : isas_here()) {
    Result c(5, 40);
    multiply(w, x.pointers(), 5, isa, preparer(isa), {}, c);
    for (Index i = 0; i < 5; ++i)
      for (Index j = 0; j < 40; ++j) {
        double exact = 0;
        for (Index k = 0; k < 32; ++k) exact += double(x.at(i, k)) * w.at(j, k);
        ASSERT_EQ(double(c.at(i, j)), exact) << name(isa);
      }
  }
}

TEST(PanelMxfp4, NotANumberStaysInItsRow) {
  contract().not_a_number_stays_in_its_row([](Isa isa, float bad, const MxWeights&, Index, float c) {
    ASSERT_FALSE(std::isfinite(c)) << name(isa);
    if (std::isnan(bad) || isa >= Isa::avx512) {
      ASSERT_TRUE(std::isnan(c)) << name(isa);
    }
  });
}

#if defined(__x86_64__)
// A CPU with VBMI never takes the other way, which is for the first ones with VNNI.
TEST(PanelMxfp4, BothWaysToLookUpACodeGiveTheSameBits) {
  if (isas_here().back() < Isa::avx512 || !cpu().has(CpuFeatures{CpuFeature::avx512_vbmi})) GTEST_SKIP();
  constexpr Index kRows = 3, kDepth = 200;
  std::mt19937 random(8);
  std::vector<float> w(random_values(kPanel * kDepth, random)), found(kRows * kPanel), wanted(found);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(panel_values<mxfp4>(kDepth))),
      scale(static_cast<std::size_t>(panel_scales<mxfp4>(kDepth)));
  pack_panel_mxfp4(Rows<const float>(w.data(), {kPanel, kDepth}), codes.data(), scale.data());
  const std::vector<float> x(random_values(kRows * kDepth, random));
  std::vector<DigitGroup> digits(static_cast<std::size_t>(kRows * digit_groups(kDepth)));
  for (Index i = 0; i < kRows; ++i)
    avx512::to_digits(x.data() + i * kDepth, kDepth, digits.data() + i * digit_groups(kDepth));
  const auto job = [&](std::vector<float>& c) {
    return avx512::Mxfp4Job{.digits = digits.data(),
                            .groups = digit_groups(kDepth),
                            .codes = codes.data(),
                            .scale = scale.data(),
                            .out = {c.data(), kPanel, kPanel, Store::overwrite, nullptr}};
  };
  avx512::run_mxfp4<kRows, false>(job(wanted));
  avx512::run_mxfp4<kRows, true>(job(found));
  EXPECT_EQ(found, wanted);
  EXPECT_NE(found, std::vector<float>(kRows * kPanel));
}
#endif

TEST(PanelMxfp4, TinyAndHugeActivations) {
  const Index n = 5, k = 9;
  const MxWeights w(std::vector<float>(static_cast<std::size_t>(n * k), 1.0f), n, k);
  GuardedRows x(4, k);
  constexpr float kValues[] = {0.0f, 0x1p-140f, -0x1p-110f, 0x1p+120f};
  for (Index i = 0; i < 4; ++i)
    for (Index at = 0; at < k; ++at) x.at(i, at) = kValues[i];
  for (const Isa isa : isas_here()) {
    Result c(4, n);
    multiply(w, x.pointers(), 4, isa, preparer(isa), {}, c);
    for (Index j = 0; j < n; ++j) {
      EXPECT_EQ(c.at(0, j), 0.0f) << name(isa);
      EXPECT_TRUE(c.at(1, j) == 0 || c.at(1, j) == 9 * 0x1p-140f) << name(isa);
      EXPECT_EQ(c.at(2, j), -9 * 0x1p-110f) << name(isa);
      EXPECT_EQ(c.at(3, j), 9 * 0x1p+120f) << name(isa);
    }
  }
}

}  // namespace
}  // namespace gatefold::kernels::panel_mxfp4_test
