#include "gatefold/nn/patch_embed.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

using Embed = PatchEmbed<float>;

/// Projects onto nothing: what comes out is the patch itself.
Embed identity(Index patch, Index channels) {
  const Index n = patch * patch * channels;
  Embed embed({.patch = patch, .channels = channels, .width = n, .bias = Bias::none});
  for (Index i = 0; i < n; ++i) embed.projection.weight.view()(i, i) = 1;
  return embed;
}

Tensor<float, 4> counting(Shape<4> shape) {
  Tensor<float, 4> images(shape);
  std::iota(images.flat().begin(), images.flat().end(), 0.0f);
  return images;
}

TEST(PatchEmbed, PatchesInRasterOrderAndPixelsWithinThem) {
  const auto images = counting({2, 4, 6, 3});
  const auto embed = identity(2, 3);
  EXPECT_EQ(embed.num_patches({4, 6}), 6);
  Tensor<float, 2> y({12, 12});
  Context ctx;
  (void)embed.forward(images, y, ctx);
  for (Index b = 0; b < 2; ++b)
    for (Index row = 0; row < 4; ++row)
      for (Index column = 0; column < 6; ++column)
        for (Index c = 0; c < 3; ++c)
          ASSERT_EQ(y.view()(b * 6 + row / 2 * 3 + column / 2, (row % 2 * 2 + column % 2) * 3 + c),
                    images.view()(b, row, column, c));
}

TEST(PatchEmbed, ReadsThroughTheStridesOfAView) {
  // Colours of RGBA pictures, cropped, every second picture.
  const auto images = counting({4, 6, 8, 4});
  const auto full = images.view();
  const View<const float, 4> crop(&full(1, 2, 3, 0), {2, 4, 4, 3},
                                  {2 * full.stride(0), full.stride(1), full.stride(2)});
  Tensor<float, 4> copy({2, 4, 4, 3});
  for (Index b = 0; b < 2; ++b)
    for (Index i = 0; i < 4; ++i)
      for (Index j = 0; j < 4; ++j)
        for (Index c = 0; c < 3; ++c) copy.view()(b, i, j, c) = crop(b, i, j, c);
  const auto embed = identity(2, 3);
  Tensor<float, 2> y({8, 12}), wanted({8, 12});
  Context ctx;
  (void)embed.forward(crop, y, ctx);
  (void)embed.forward(copy, wanted, ctx);
  EXPECT_EQ(y, wanted);
}

TEST(PatchEmbed, GradientByDualNumbers) {
  const auto make = [](auto type) {
    return PatchEmbed<typename decltype(type)::type>({.patch = 2, .channels = 1, .width = 3});
  };
  auto embed = make(std::type_identity<double>{});
  test::disturb(embed, 1);
  auto lifted = make(std::type_identity<Dual>{});
  convert(embed, lifted);
  Tensor<double, 4> images({2, 4, 2, 1});
  std::iota(images.flat().begin(), images.flat().end(), 0.5);
  Tensor<Dual, 4> dual_images(images.shape());
  std::ranges::transform(images.flat(), dual_images.flat().begin(), [](double v) { return Dual(v); });
  const auto dy = test::random_matrix<double>({4, 3}, 2);
  Tensor<double, 2> y({4, 3});
  Tensor<Dual, 2> dual_y({4, 3});
  Context ctx;
  auto grad = zeros_like(embed);
  embed.backward(embed.forward(images, y, ctx), dy, grad, ctx);
  for_each_param(
      [&](std::string_view path, const auto& g, auto& variables) {
        for (std::size_t i = 0; i < g.flat().size(); ++i) {
          variables.flat()[i].d = 1;
          (void)lifted.forward(dual_images, dual_y, ctx);
          variables.flat()[i].d = 0;
          double wanted = 0;
          for (std::size_t j = 0; j < dy.flat().size(); ++j) wanted += dy.flat()[j] * dual_y.flat()[j].d;
          EXPECT_NEAR(g.flat()[i], wanted, 1e-12) << path;
        }
      },
      std::as_const(grad), lifted);
}

TEST(PatchEmbed, RefusesImagesThatDoNotFit) {
  const auto embed = identity(2, 3);
  Tensor<float, 2> y({6, 12});
  Context ctx;
  for (const Shape<4> shape : {Shape<4>{1, 5, 6, 3}, Shape<4>{1, 4, 7, 3}, Shape<4>{1, 4, 6, 1}}) try {
      (void)embed.forward(Tensor<float, 4>(shape), y, ctx);
      ADD_FAILURE() << to_string(shape);
    } catch (const ShapeError& error) {
      EXPECT_EQ(error.what(),
                "PatchEmbed::forward: images has shape " + to_string(shape) + ", expected [B, n * 2, m * 2, 3]");
    }
  test::expect_refusal([&] { (void)embed.forward(Tensor<float, 4>({2, 4, 6, 3}), y, ctx); }, "a short y");
}

TEST(PatchEmbed, NoImages) {
  const auto embed = identity(2, 3);
  Context ctx;
  auto grad = zeros_like(embed);
  const auto saved = embed.forward(Tensor<float, 4>({0, 4, 6, 3}), Rows<float>(nullptr, {0, 12}), ctx);
  embed.backward(saved, Rows<const float>(nullptr, {0, 12}), grad, ctx);
  EXPECT_THAT(grad.projection.weight.flat(), testing::Each(0));
}

}  // namespace
}  // namespace gatefold
