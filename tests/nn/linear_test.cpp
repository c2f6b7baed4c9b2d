#include "gatefold/nn/linear.hpp"

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

constexpr auto kMake = [](auto type) { return Linear<typename decltype(type)::type>({.in = 4, .out = 3}); };
constexpr auto kMakeWithoutBias = [](auto type) {
  using L = Linear<typename decltype(type)::type>;
  return L({.in = 19, .out = 37, .bias = Bias::none});
};

TEST(Linear, KeepsTheContractOfALayer) {
  test::check_layer(kMake, {.in = 4, .out = 3, .paths = {"weight", "bias"}});
  test::check_layer(kMakeWithoutBias, {.in = 19, .out = 37, .rows = 3, .paths = {"weight"}, .copies = 100});
}

TEST(Linear, AHandComputedRow) {
  Linear<float> linear({.in = 2, .out = 3});
  std::ranges::copy(std::vector<float>{1, 2, 3, 4, 5, 6}, linear.weight.flat().begin());  // [out, in]
  std::ranges::copy(std::vector<float>{100, 200, 300}, linear.bias.flat().begin());
  Tensor<float, 2> x({1, 2}), y({1, 3});
  x.flat()[0] = 10, x.flat()[1] = 1;
  Context ctx;
  infer<Linear<float>>(linear, x, y, ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAre(112, 234, 356));
}

TEST(Linear, BackwardParamsIsBackwardWithoutDx) {
  auto linear = kMake(std::type_identity<float>{});
  test::disturb(linear, 5);
  const auto x = test::random_matrix<float>({6, 4}, 1), dy = test::random_matrix<float>({6, 3}, 2);
  Context ctx;
  const auto pass = test::run_pass(linear, x, dy, ctx);
  auto grad = zeros_like(linear);
  linear.backward_params({.x = x}, dy, grad, ctx);
  EXPECT_EQ(grad.weight, pass.grad.weight);
  EXPECT_EQ(grad.bias, pass.grad.bias);
}

TEST(Linear, RefusesToBeVisitedWithOneThatHasNoBias) {
  const Linear<float> with({.in = 2, .out = 2}), without({.in = 2, .out = 2, .bias = Bias::none});
  const auto nothing = [](std::string_view, const auto&...) {};
  EXPECT_THROW(for_each_param(nothing, with, without), std::invalid_argument);
  EXPECT_THROW(for_each_param(nothing, without, with), std::invalid_argument);
}

TEST(Linear, NanStaysInItsRow) {
  auto linear = kMake(std::type_identity<float>{});
  test::disturb(linear, 5);
  auto x = test::random_matrix<float>({40, 4}, 1);
  Tensor<float, 2> y({40, 3});
  x.view()(17, 2) = std::numeric_limits<float>::quiet_NaN();
  Context ctx;
  infer<Linear<float>>(linear, x, y, ctx);
  for (Index i = 0; i < 40; ++i)
    for (Index j = 0; j < 3; ++j) EXPECT_EQ(std::isnan(y.view()(i, j)), i == 17) << i << " " << j;
}

TEST(Linear, MayBePackedWithAndWithoutABias) {
  for (const Bias bias : {Bias::none, Bias::zero}) {
    Linear<float> linear({.in = 130, .out = 70, .bias = bias});
    test::disturb(linear, 6);
    test::check_packed(linear, {.in = 130, .out = 70});
    test::check_packed(linear, {.in = 130, .out = 70, .rows = 1});
    test::check_packed(linear, {.in = 130, .out = 70, .rows = 300});
    EXPECT_EQ(pack<bf16>(linear).bias, linear.bias);
  }
}

}  // namespace
}  // namespace gatefold
