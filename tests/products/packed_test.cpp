#include "gatefold/products/packed.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "gatefold/module/ops.hpp"
#include "tests/support/alloc_guard.hpp"
#include "tests/support/packed.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::packed_test {
namespace {

using test::Uncertain;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kGuard = 12345.0f;

struct Size {
  Index rows, outputs, depth;
};
/// Around panels of 32, groups of 64, blocks of 112 rows, with nothing in them, and few rows in streams of panels.
constexpr Size kSizes[] = {{0, 33, 64},   {1, 0, 5},      {3, 5, 0},     {1, 1, 1},     {2, 31, 63},   {5, 32, 64},
                           {15, 33, 65},  {16, 64, 128},  {17, 70, 200}, {33, 96, 511}, {1, 129, 512}, {4, 64, 513},
                           {111, 40, 96}, {112, 33, 127}, {113, 65, 64}, {225, 34, 70}, {64, 1, 1000}, {8, 200, 31},
                           {1, 300, 65},  {2, 290, 130},  {3, 235, 33},  {4, 230, 70}};

Tensor<float, 2> random_matrix(Shape<2> shape, std::uint64_t seed) {
  Rng rng(seed);
  Tensor<float, 2> m(shape);
  for (float& v : m.flat()) v = static_cast<float>(rng.normal());
  return m;
}
Context context(Isa isa, ParallelFor parallel_for = ParallelFor()) {
  Context ctx;
  ctx.parallel_for = std::move(parallel_for);
  ctx.isa = isa;
  return ctx;
}
bool same_bits(View<const float, 1> a, View<const float, 1> b) {
  return a.extent(0) == b.extent(0) &&
         (a.extent(0) == 0 ||
          std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.extent(0)) * sizeof(float)) == 0);
}

template <class F>
class PackedTest : public testing::Test {};
using Formats = testing::Types<float, bf16, int8, int4, mxfp4, fp8>;
TYPED_TEST_SUITE(PackedTest, Formats);

template <class F>
Tensor<float, 2> multiply(const Tensor<float, 2>& x, const Packed<F>& w, Context& ctx, const float* bias = nullptr) {
  Tensor<float, 2> y({x.extent(0), w.extent(0)});
  std::ranges::fill(y.flat(), kNan);
  kernels::matmul<float>(x, w, y, ctx, bias);
  return y;
}

TYPED_TEST(PackedTest, KeepsWeightsAsFarAsTheFormatHasDigits) {
  using F = TypeParam;
  for (const auto [unused, n, k] : kSizes) {
    const auto w = random_matrix({n, k}, static_cast<std::uint64_t>(n + k));
    const Packed<F> packed(w);
    EXPECT_EQ(packed.shape(), w.shape());
    EXPECT_EQ(packed.extent(0), n);
    EXPECT_EQ(packed.extent(1), k);
    const auto back = test::unpacked(packed);
    double most_of_all = 0;
    for (const float v : w.flat()) most_of_all = std::max(most_of_all, std::abs(double(v)));
    for (Index j = 0; j < n; ++j)
      for (Index k0 = 0; k0 < k; k0 += 64) {
        const Index k1 = std::min(k, k0 + 64);
        double most_of_output = 0, most = 0, squares = 0, plain = 0;
        for (Index i = 0; i < k; ++i) most_of_output = std::max(most_of_output, std::abs(double(w.view()(j, i))));
        for (Index i = k0; i < k1; ++i) most = std::max(most, std::abs(double(w.view()(j, i))));
        for (Index i = k0; i < k1; ++i) {
          const double value = w.view()(j, i), off = back.view()(j, i) - value;
          if constexpr (std::same_as<F, float>) {
            ASSERT_EQ(off, 0);
          }
          if constexpr (std::same_as<F, bf16>) {
            ASSERT_LE(std::abs(off), std::abs(value) * 0x1p-8);
          }
          if constexpr (std::same_as<F, int8>) {
            ASSERT_LE(std::abs(off), .5001 * most_of_output / 127);
          }
          if constexpr (std::same_as<F, mxfp4>) {
            // 6 and 8 times the scale meet in the middle at worst, where 8 is the next power of two.
            const Index g0 = i / 32 * 32, g1 = std::min(k, g0 + 32);
            double most_of_group = 0;
            for (Index g = g0; g < g1; ++g) most_of_group = std::max(most_of_group, std::abs(double(w.view()(j, g))));
            ASSERT_LE(std::abs(off), most_of_group / 4);
          }
          if constexpr (std::same_as<F, fp8>) {
            ASSERT_LE(std::abs(off), std::abs(value) * 0x1.001p-4 + most_of_all / 448 * 0x1p-10);
          }
          squares += off * off;
          const double step = most / 7;
          plain += std::pow(std::nearbyint(value / step) * step - value, 2);
        }
        // No worse than 15 levels from -most to most.
        if constexpr (std::same_as<F, int4>) {
          ASSERT_LE(squares, plain * 1.0001 + most * most * 1e-12);
        }
      }
  }
}

TYPED_TEST(PackedTest, ProductsAgreeWithSumsInDouble) {
  using F = TypeParam;
  for (const auto [m, n, k] : kSizes) {
    const auto x = random_matrix({m, k}, 1), bias = random_matrix({1, n}, 2);
    const Packed<F> w(random_matrix({n, k}, 3));
    const auto values = test::unpacked(w);
    for (const float* const b : {static_cast<const float*>(nullptr), bias.data()}) {
      Tensor<double, 2> exact({m, n}), bound({m, n});
      for (Index i = 0; i < m; ++i) {
        std::vector<Uncertain> row;
        for (Index l = 0; l < k; ++l) row.push_back({double(x.view()(i, l)), 0});
        const auto rounding = test::rounding_error<F>(std::span<const Uncertain>(row));
        for (Index j = 0; j < n; ++j) {
          const auto sum = test::packed_dot<F>(
              std::span<const Uncertain>(row), rounding, [&](Index l) { return double(values.view()(j, l)); },
              b ? double(b[j]) : 0.0);
          exact.view()(i, j) = sum.value, bound.view()(i, j) = sum.error;
        }
      }
      for (const Isa isa : isas_here()) {
        SCOPED_TRACE(testing::Message() << name(isa) << ", " << m << " x " << n << " x " << k);
        auto ctx = context(isa);
        const auto y = multiply(x, w, ctx, b);
        for (Index i = 0; i < m; ++i)
          for (Index j = 0; j < n; ++j)
            ASSERT_NEAR(y.view()(i, j), exact.view()(i, j), bound.view()(i, j)) << i << ", " << j;
      }
    }
  }
}

TYPED_TEST(PackedTest, ARowIsTheSameAloneAndAmongAnyOthers) {
  using F = TypeParam;
  const Index n = 70, k = 200;
  const Packed<F> w(random_matrix({n, k}, 4));
  const auto bias = random_matrix({1, n}, 5);
  for (const Isa isa : isas_here())
    for (Index m = 2; m <= 230; m += m < 35 ? 1 : 39) {  // each number of rows of a tile, and blocks of 112
      auto ctx = context(isa);
      auto x = random_matrix({m, k}, 6), turned = x, among_nan = x;
      for (Index i = 0; i < m; ++i)
        for (Index l = 0; l < k; ++l) {
          turned.view()(m - 1 - i, l) = x.view()(i, l);
          if (i % 3) among_nan.view()(i, l) = l % 2 ? kNan : std::numeric_limits<float>::infinity();
        }
      const auto y = multiply(x, w, ctx, bias.data()), back = multiply(turned, w, ctx, bias.data()),
                 some = multiply(among_nan, w, ctx, bias.data());
      Tensor<float, 2> one({1, k});
      for (Index i = 0; i < m; ++i) {
        std::copy_n(&x.view()(i, 0), k, one.data());
        ASSERT_TRUE(same_bits(y.view()[i], multiply(one, w, ctx, bias.data()).view()[0])) << name(isa) << " " << i;
        ASSERT_TRUE(same_bits(y.view()[i], back.view()[m - 1 - i])) << name(isa) << " " << i;
        if (i % 3 == 0) {
          ASSERT_TRUE(same_bits(y.view()[i], some.view()[i])) << name(isa) << " " << i;
        } else {
          for (const float v : std::span(&some.view()(i, 0), static_cast<std::size_t>(n)))
            ASSERT_TRUE(std::isnan(v)) << name(isa) << " " << i;
        }
      }
    }
}

TYPED_TEST(PackedTest, SameBitsForAnyNumberOfThreads) {
  using F = TypeParam;
  for (const Isa isa : isas_here())
    for (const Size size : {Size{1, 300, 70}, {5, 31, 64}, {113, 200, 65}, {500, 65, 40}}) {
      const Packed<F> w(random_matrix({size.outputs, size.depth}, 7));
      const auto x = random_matrix({size.rows, size.depth}, 8);
      auto alone = context(isa);
      const auto y = multiply(x, w, alone);
      for (const Index workers : {2, 3, 7, 64}) {
        auto ctx = context(isa, test::threads(workers));
        EXPECT_EQ(multiply(x, w, ctx), y) << name(isa) << ", " << workers << " threads";
      }
    }
}

TYPED_TEST(PackedTest, StridedRowsLeaveTheirNeighboursAlone) {
  using F = TypeParam;
  const Index m = 19, n = 37, k = 66;
  const Packed<F> w(random_matrix({n, k}, 9));
  const auto x = random_matrix({m, k}, 10);
  for (const Isa isa : isas_here()) {
    auto ctx = context(isa);
    const auto expected = multiply(x, w, ctx);
    Tensor<float, 2> wide_x({m, k + 5}), wide_y({m, n + 4});
    std::ranges::fill(wide_x.flat(), kNan);
    std::ranges::fill(wide_y.flat(), kGuard);
    for (Index i = 0; i < m; ++i) std::copy_n(&x.view()(i, 0), k, &wide_x.view()(i, 3));
    kernels::matmul<float>(std::as_const(wide_x).view().columns(3, 3 + k), w, wide_y.view().columns(1, 1 + n), ctx);
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n + 4; ++j)
        ASSERT_EQ(wide_y.view()(i, j), j < 1 || j > n ? kGuard : expected.view()(i, j - 1)) << name(isa);
  }
}

TYPED_TEST(PackedTest, NoAllocationAfterWarmUp) {
  using F = TypeParam;
  const Packed<F> w(random_matrix({100, 130}, 11));
  const auto x = random_matrix({120, 130}, 12);
  Tensor<float, 2> y({120, 100});
  for (const Isa isa : isas_here()) {
    auto ctx = context(isa);
    kernels::matmul<float>(x, w, y, ctx);
    const auto blocks = ctx.workspace.allocations();
    const test::AllocGuard guard;
    kernels::matmul<float>(x, w, y, ctx);
    EXPECT_EQ(guard.count(), 0);
    EXPECT_EQ(ctx.workspace.allocations(), blocks);
  }
}

TYPED_TEST(PackedTest, IsAModuleWhoseCopiesShareTheirMemory) {
  using F = TypeParam;
  const Packed<F> w(random_matrix({70, 130}, 13));
  const auto copy = w;
  EXPECT_EQ(copy.values.data(), w.values.data());
  std::vector<std::string> paths;
  for_each_param([&](std::string_view path, const auto&) { paths.emplace_back(path); }, w);
  if constexpr (std::same_as<F, float> || std::same_as<F, bf16>) {
    EXPECT_THAT(paths, testing::ElementsAre("values"));
  } else {
    EXPECT_THAT(paths, testing::ElementsAre("values", "scale"));
  }

  // One without content takes it over, and so what a file holds.
  Packed<F> other(Shape<2>{70, 130});
  for_each_param(
      [](std::string_view, auto& to, const auto& from) {
        ASSERT_EQ(to.shape(), from.shape());
        to = from;
      },
      other, w);
  const auto x = random_matrix({3, 130}, 14);
  auto ctx = context(Isa::portable);
  EXPECT_EQ(multiply(x, other, ctx), multiply(x, w, ctx));
}

TYPED_TEST(PackedTest, APanelBeginsWhereItIsSaidTo) {
  using F = TypeParam;
  const auto w = random_matrix({70, 200}, 15);
  const Packed<F> packed(w);
  const auto values = test::unpacked(packed);
  for (Index p = 0; p < 3; ++p) {
    const Index n = std::min<Index>(32, 70 - 32 * p);
    Tensor<float, 2> part({n, 200 - 128});
    kernels::unpack_panel(packed.panel(p).depth(128, 200), part.view());
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < 72; ++i) ASSERT_EQ(part.view()(j, i), values.view()(32 * p + j, 128 + i));
    const auto address = [](const auto& view) {
      if constexpr (requires { view.w; })
        return static_cast<const void*>(view.w);
      else
        return static_cast<const void*>(view.u);
    };
    EXPECT_EQ(static_cast<const void*>(packed.panel_data(p, 128)), address(packed.panel(p).depth(128, 200)));
  }
}

TYPED_TEST(PackedTest, UnpackRefusesAnotherShape) {
  const Packed<TypeParam> w(random_matrix({4, 5}, 16));
  Tensor<float, 2> other({5, 4});
  EXPECT_THROW(w.unpack(other.view()), ShapeError);
}

/// Bytes as files hold them, of any meaning but NaN.
struct Bytes {
  std::vector<std::uint8_t> data;
  Bytes(Index count, std::uint64_t seed, unsigned least, unsigned values) {
    Rng rng(seed);
    for (Index i = 0; i < count; ++i)
      data.push_back(static_cast<std::uint8_t>(least + static_cast<unsigned>(rng.below(values))));
  }
};

TEST(PackedFromFile, Mxfp4TakesRowsByTurns) {
  const Index n = 70, groups = 3;  // of gates and units that lie by turns
  const Bytes blocks(2 * n * groups * 16, 17, 0, 256), scales(2 * n * groups, 18, 120, 10);
  const View<const std::uint8_t, 3> both(blocks.data.data(), {2 * n, groups, 16});
  const Rows<const std::uint8_t> both_scales(scales.data.data(), {2 * n, groups});
  const auto whole = test::unpacked(Packed<mxfp4>::from_file(both, both_scales));
  for (const Index odd : {0, 1}) {
    const View<const std::uint8_t, 3> part(both[odd].data(), {n, groups, 16}, {2 * groups * 16, 16});
    const Rows<const std::uint8_t> part_scales(both_scales[odd].data(), {n, groups}, {2 * groups});
    const auto values = test::unpacked(Packed<mxfp4>::from_file(part, part_scales));
    ASSERT_EQ(values.shape(), (Shape<2>{n, 96}));
    for (Index j = 0; j < n; ++j)
      for (Index k = 0; k < 96; ++k) ASSERT_EQ(values.view()(j, k), whole.view()(2 * j + odd, k));
  }
  for (Index j = 0; j < 2 * n; ++j)
    for (Index k = 0; k < 96; ++k) {
      const int byte = both(j, k / 32, k % 32 / 2), code = k % 2 ? byte / 16 : byte % 16, s = both_scales(j, k / 32);
      constexpr double kTwice[] = {0, 1, 2, 3, 4, 6, 8, 12};
      ASSERT_EQ(double(whole.view()(j, k)), kTwice[code % 8] * (code / 8 ? -1 : 1) * std::exp2(s - 128));
    }
}

TEST(PackedFromFile, Fp8HasAScaleForEachBlock) {
  for (const auto& [n, k] : {std::pair<Index, Index>{130, 300}, {128, 128}, {1, 1}, {257, 129}}) {
    const Bytes bytes(n * k, 19, 0, 127);
    const auto scales = random_matrix({(n + 127) / 128, (k + 127) / 128}, 20);
    const Rows<const std::uint8_t> w(bytes.data.data(), {n, k});
    const auto values = test::unpacked(Packed<fp8>::from_file(w, scales.view()));
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < k; ++i) {
        const unsigned code = w(j, i), exponent = code / 8, fraction = code % 8;
        const double value = exponent ? std::exp2(double(exponent) - 7) * (1 + fraction / 8.) : fraction * 0x1p-9;
        ASSERT_EQ(values.view()(j, i), static_cast<float>(value * double(scales.view()(j / 128, i / 128))));
      }
  }
}

TEST(PackedFromFile, RefusesOtherShapes) {
  const std::vector<std::uint8_t> bytes(4096);
  const Tensor<float, 2> scales({2, 1});
  const auto blocks = [&](Index n, Index groups, Index size) {
    return View<const std::uint8_t, 3>(bytes.data(), {n, groups, size});
  };
  const auto rows = [&](Index n, Index k) { return Rows<const std::uint8_t>(bytes.data(), {n, k}); };
  EXPECT_THROW(Packed<mxfp4>::from_file(blocks(4, 2, 15), rows(4, 2)), ShapeError);
  EXPECT_THROW(Packed<mxfp4>::from_file(blocks(4, 2, 16), rows(4, 3)), ShapeError);
  EXPECT_THROW(Packed<mxfp4>::from_file(blocks(4, 2, 16), rows(3, 2)), ShapeError);
  EXPECT_THROW(Packed<fp8>::from_file(rows(4, 100), scales.view()), ShapeError);
  EXPECT_NO_THROW(Packed<fp8>::from_file(rows(30, 100), scales.view().rows(0, 1)));
}

}  // namespace
}  // namespace gatefold::packed_test
