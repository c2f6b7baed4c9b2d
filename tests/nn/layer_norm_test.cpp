#include "gatefold/nn/layer_norm.hpp"

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

TEST(LayerNorm, KeepsTheContractOfALayer) {
  for (const Index width : {3, 37}) {
    test::check_layer([&](auto type) { return LayerNorm<typename decltype(type)::type>({.width = width}); },
                      {.in = width, .out = width, .rows = 4, .paths = {"gain", "bias"}, .copies = 1500});
  }
}

TEST(LayerNorm, StartsWithoutGainAndBias) {
  const LayerNorm<float> norm({.width = 4});
  EXPECT_THAT(norm.gain.flat(), testing::Each(1));
  EXPECT_THAT(norm.bias.flat(), testing::Each(0));
  EXPECT_EQ(norm.epsilon, 1e-5);
}

TEST(LayerNorm, AHandComputedRow) {
  // (1, 3, 5, 7): mean 4, variance (9 + 1 + 1 + 9) / 4 = 5; with epsilon 4 the divisor is 3.
  LayerNorm<float> norm({.width = 4, .epsilon = 4});
  std::ranges::copy(std::vector<float>{3, 6, 9, 12}, norm.gain.flat().begin());
  std::ranges::fill(norm.bias.flat(), 10.0f);
  Tensor<float, 2> x({1, 4}), y({1, 4});
  std::ranges::copy(std::vector<float>{1, 3, 5, 7}, x.flat().begin());
  Context ctx;
  infer<LayerNorm<float>>(norm, x, y, ctx);
  EXPECT_THAT(y.flat(), testing::Pointwise(testing::FloatNear(2e-6f), {7.0f, 8.0f, 13.0f, 22.0f}));
}

TEST(LayerNorm, AConstantRowGivesTheBias) {
  LayerNorm<float> norm({.width = 5});
  test::disturb(norm, 1);
  Tensor<float, 2> x({1, 5}), y({1, 5});
  std::ranges::fill(x.flat(), 3.0f);
  Context ctx;
  infer<LayerNorm<float>>(norm, x, y, ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAreArray(norm.bias.flat()));
}

}  // namespace
}  // namespace gatefold
