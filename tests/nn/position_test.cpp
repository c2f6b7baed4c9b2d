#include "gatefold/nn/position.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

View<const Index, 1> view(const std::vector<Index>& v) { return {v.data(), {std::ssize(v)}}; }

TEST(LearnedPosition, CountsFromTheStartOfEachSequence) {
  LearnedPosition<float> position({.length = 3, .width = 2});
  for (std::size_t i = 0; i < 6; ++i) position.table.flat()[i] = static_cast<float>(i + 1);
  const std::vector<Index> offset{0, 2, 2, 5, 6};
  Tensor<float, 2> x({6, 2});
  std::ranges::fill(x.flat(), 100.0f);
  Context ctx;
  const auto saved = position.forward(view(offset), x, ctx);
  EXPECT_THAT(x.flat(), testing::ElementsAre(101, 102, 103, 104, 101, 102, 103, 104, 105, 106, 101, 102));

  auto grad = zeros_like(position);
  std::ranges::fill(grad.table.flat(), 1000.0f);
  Tensor<float, 2> dx({6, 2});
  for (std::size_t i = 0; i < 12; ++i) dx.flat()[i] = static_cast<float>(i);
  position.backward(saved, dx, grad, ctx);
  EXPECT_THAT(grad.table.flat(), testing::ElementsAre(1000 + 0 + 4 + 10, 1000 + 1 + 5 + 11, 1000 + 2 + 6, 1000 + 3 + 7,
                                                      1000 + 8, 1000 + 9));
}

TEST(LearnedPosition, RefusesOffsetsThatAreNotThoseOfTheRows) {
  LearnedPosition<float> position({.length = 3, .width = 2});
  Tensor<float, 2> x({5, 2});
  Context ctx;
  for (const std::vector<Index>& offset :
       {std::vector<Index>{0, 4, 5}, {0, 3}, {0, 3, 6}, {1, 3, 5}, {0, 3, 2, 5}, {}, {0}})
    EXPECT_THROW((void)position.forward(view(offset), x, ctx), ShapeError);
  const std::vector<Index> long_sequence{0, 1, 5};
  try {
    (void)position.forward(view(long_sequence), x, ctx);
    FAIL();
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "LearnedPosition::forward: sequence 1 has 4 tokens, expected at most 3");
  }
}

TEST(LearnedPosition, KeepsTheContractOfALayer) {
  const test::OwnedLayout layout{.offset = {0, 3, 3, 5}, .modality = {0, kPadding, 0, 0, 0}};
  test::check_layer(
      [](auto type) {
        using T = typename decltype(type)::type;
        return LearnedPosition<T>({.length = 6, .width = 3});
      },
      {.in = 3, .out = 3, .rows = 5, .paths = {"table"}, .layout = &layout, .copies = 1500});
}

TEST(LearnedPosition, AsALayerCountsTokensOrStandsWhereTheLayoutSays) {
  LearnedPosition<float> position({.length = 4, .width = 1});
  for (std::size_t i = 0; i < 4; ++i) position.table.flat()[i] = static_cast<float>(i + 1);
  const std::vector<Index> offset{0, 4, 5}, place{3, 9, 1, 1, 2};
  const std::vector<std::uint8_t> modality{0, kPadding, 0, 0, 0};
  TokenLayout layout{.offset = view(offset), .modality = {modality.data(), {5}}};
  Tensor<float, 2> x({5, 1}), y({5, 1});
  Context ctx;
  ctx.layout = &layout;
  (void)position.forward(x.view(), y.view(), ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAre(1, 0, 2, 3, 1));
  layout.place = view(place);
  (void)position.forward(x.view(), y.view(), ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAre(4, 0, 2, 2, 3));
  ctx.layout = nullptr;
  EXPECT_THROW((void)position.forward(x.view(), y.view(), ctx), ShapeError) << "five tokens of a table of four";
}

TEST(LearnedPosition, DecodesFromWhereItStopped) {
  LearnedPosition<float> position({.length = 5, .width = 2});
  test::disturb(position, 1);
  const auto x = test::random_matrix<float>({7, 2}, 2);
  const std::vector<Index> all{0, 5, 7}, first{0, 3, 3}, then{0, 2, 4};
  const auto pass = [&](const std::vector<Index>& offset, auto&& run) {
    const std::vector<std::uint8_t> modality(static_cast<std::size_t>(offset.back()));
    const TokenLayout layout{.offset = view(offset), .modality = {modality.data(), {offset.back()}}};
    Context ctx;
    ctx.layout = &layout;
    Tensor<float, 2> y({offset.back(), 2});
    run(y, ctx);
    return std::vector<float>(y.flat().begin(), y.flat().end());
  };
  const auto whole = pass(all, [&](auto& y, Context& ctx) { (void)position.forward(x, y.view(), ctx); });
  auto cache = make_cache(position, {.capacity = 9, .sequences = 2});
  auto parts = pass(first, [&](auto& y, Context& ctx) { decode(position, x.view().rows(0, 3), y.view(), cache, ctx); });
  const auto rest = pass(then, [&](auto& y, Context& ctx) {
    decode(position, x.view().rows(3, 7), y.view(), cache, ctx);
    EXPECT_THAT(cache.length, testing::ElementsAre(5, 2));
    EXPECT_THROW(decode(position, x.view().rows(3, 7), y.view(), cache, ctx), CacheError) << "the table ends";
  });
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
}

TEST(SinCos2d, OracleOfVMoe) {
  // vmoe/nn/vit_moe_test.py: a 2 x 2 grid, D = 8, temperature 1, so that all frequencies are 1. Raster order; within a
  // row sin x, cos x, sin y, cos y, two of each.
  const auto table = sincos2d<double>({.height = 2, .width_in_patches = 2, .width = 8, .temperature = 1});
  ASSERT_EQ(table.shape(), (Shape<2>{4, 8}));
  for (Index row = 0; row < 4; ++row) {
    const double x = row % 2 ? 1 : 0, y = row / 2 ? 1 : 0;
    EXPECT_THAT(std::vector<double>(&table.view()(row, 0), &table.view()(row, 0) + 8),
                testing::Pointwise(testing::DoubleNear(1e-15), {std::sin(x), std::sin(x), std::cos(x), std::cos(x),
                                                                std::sin(y), std::sin(y), std::cos(y), std::cos(y)}));
  }
}

TEST(SinCos2d, FrequenciesFallGeometricallyToTheTemperature) {
  // D = 16: frequencies 1, T^(-1/3), T^(-2/3), T^(-1) with T = 1000, so 1, 0.1, 0.01, 0.001.
  const auto table = sincos2d<float>({.height = 3, .width_in_patches = 5, .width = 16, .temperature = 1000});
  const auto row = table.view()[2 * 5 + 4];  // y = 2, x = 4
  const double frequency[] = {1, 0.1, 0.01, 0.001};
  for (Index i = 0; i < 4; ++i) {
    EXPECT_NEAR(row[i], std::sin(4 * frequency[i]), 1e-7);
    EXPECT_NEAR(row[4 + i], std::cos(4 * frequency[i]), 1e-7);
    EXPECT_NEAR(row[8 + i], std::sin(2 * frequency[i]), 1e-7);
    EXPECT_NEAR(row[12 + i], std::cos(2 * frequency[i]), 1e-7);
  }
  EXPECT_EQ((SinCos2d{.height = 1, .width_in_patches = 1, .width = 8}.temperature), 10000);
}

TEST(SinCos2d, RefusesWidthsThatAreNoFourParts) {
  for (const Index width : {0, 4, 6, 9, 10})
    EXPECT_THROW(sincos2d<float>({.height = 1, .width_in_patches = 1, .width = width}), OptionError) << width;
}

}  // namespace
}  // namespace gatefold
