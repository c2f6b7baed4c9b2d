#include "gatefold/nn/gated_mlp.hpp"

#include "tests/support/layer_contract.hpp"
#include "tests/support/refused.hpp"

namespace gatefold {
namespace {

// Limits that cut some of what the contract's inputs give, on either side.
struct Near {
  static constexpr double kAlpha = 1.3, kLimit = 0.8, kShift = 0.5;
};

template <class Act>
void check(Bias bias, const std::vector<std::string>& paths) {
  test::check_layer(
      [=](auto type) { return GatedMlp<typename decltype(type)::type, Act>({.width = 3, .hidden = 4, .bias = bias}); },
      {.in = 3, .out = 3, .rows = 4, .paths = paths, .copies = 1500});
}

TEST(GatedMlp, KeepsTheContractOfALayer) {
  check<Silu>(Bias::none, {"gate.weight", "up.weight", "down.weight"});
  check<ClampedSwiglu<Near>>(Bias::zero,
                             {"gate.weight", "gate.bias", "up.weight", "up.bias", "down.weight", "down.bias"});
}

TEST(GatedMlp, MayClampAndShift) {
  // What transformers' GptOssExperts makes of these gates and ups: (up + 1) g σ(1.702 g), both within 7.
  const auto formula = [](double gate, double up) {
    const double g = std::min(gate, 7.0), u = std::clamp(up, -7.0, 7.0);
    return (u + 1) * g / (1 + std::exp(-1.702 * g));
  };
  for (const double gate : {-50.0, -7.5, -1.0, 0.0, 0.3, 6.9, 7.1, 40.0})
    for (const double up : {-30.0, -7.5, -1.0, 0.0, 2.0, 6.9, 7.5, 40.0}) {
      const double wanted = formula(gate, up);
      EXPECT_NEAR(GptOssSwiglu::value(gate, up), wanted, 1e-14 * std::abs(wanted)) << gate << " " << up;
      EXPECT_EQ(GptOssSwiglu::gate_grad(1.0, gate, up) == 0, gate > 7 || up == -1) << gate << " " << up;
      EXPECT_EQ(GptOssSwiglu::up_grad(1.0, gate, up) == 0, std::abs(up) > 7 || gate == 0) << gate << " " << up;
    }
}

TEST(GatedMlp, IsTheProductOfTwoBranches) {
  // relu(gate) * up with gate = 2 x, up = x + 3, down = identity: at x = 2, 4 * 5; at x = -2, 0.
  GatedMlp<float, Relu> mlp({.width = 1, .hidden = 1});
  mlp.gate.weight.flat()[0] = 2;
  mlp.up.weight.flat()[0] = 1, mlp.up.bias.flat()[0] = 3;
  mlp.down.weight.flat()[0] = 1;
  Tensor<float, 2> x({2, 1}), y({2, 1});
  x.flat()[0] = 2, x.flat()[1] = -2;
  Context ctx;
  infer<GatedMlp<float, Relu>>(mlp, x, y, ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAre(20, 0));
}

TEST(GatedMlp, ManyInOneGoAreTheSameAsOneByOne) {
  constexpr auto kExpert = [](auto type) {
    return GatedMlp<typename decltype(type)::type>({.width = 6, .hidden = 19});
  };
  test::check_grouped(kExpert, {.width = 6, .counts = {3, 0, 40, 1, 9}, .tokens = 30});
  test::check_grouped(kExpert, {.width = 6, .counts = {0, 0, 23}});
  test::check_grouped(kExpert, {.width = 6, .counts = {0, 0}, .tokens = 3});
  test::check_grouped(
      [](auto type) { return GatedMlp<typename decltype(type)::type, Relu>({.width = 33, .hidden = 140}); },
      {.width = 33, .counts = {70, 1, 0, 8}, .tokens = 60});
}

TEST(GatedMlp, MayBePacked) {
  GatedMlp<float> mlp({.width = 70, .hidden = 530});
  test::disturb(mlp, 1, 0.1);
  test::check_packed(mlp, {.in = 70, .out = 70, .products = 3});
  test::check_packed(mlp, {.in = 70, .out = 70, .rows = 230, .products = 3});

  // Hidden units of a size that the limits cut.
  GatedMlp<float, ClampedSwiglu<Near>> clamped({.width = 70, .hidden = 530, .bias = Bias::none});
  test::disturb(clamped, 1, 0.2);
  test::check_packed_as<bf16>(clamped, {.in = 70, .out = 70, .products = 3});
}

TEST(GatedMlp, UnlikeOnesInOneGoAreTheSameAsOneByOne) {
  constexpr auto kUnlike = [](auto type, std::size_t e) {
    constexpr Index kHidden[] = {19, 7, 140, 1, 64};
    return GatedMlp<typename decltype(type)::type>({.width = 6, .hidden = kHidden[e]});
  };
  test::check_grouped(kUnlike, {.width = 6, .counts = {3, 0, 40, 1, 9}, .tokens = 30});
  test::check_grouped(kUnlike, {.width = 6, .counts = {300, 80, 0, 5}});
}

TEST(GatedMlp, RefusesWhatDoesNotFit) {
  using Net = GatedMlp<float>;
  test::expect_option_error([] { Net net({.width = 0, .hidden = 5}); }, "GatedMlp: width is 0, expected at least 1");
  test::expect_option_error([] { Net net({.width = 5, .hidden = -5}); }, "GatedMlp: hidden is -5");
  std::vector nets{Net({.width = 8, .hidden = 16}), Net({.width = 8, .hidden = 4})};
  Net::expect_fit(nets);
  nets[1].gate = Linear<float>({.in = 8, .out = 5});
  test::expect_shape_error([&] { Net::expect_fit(nets); },
                           "GatedMlp: experts[1].gate.weight has shape [5, 8], expected [4, 8]");
  const Net net({.width = 3, .hidden = 5});
  Net grad({.width = 3, .hidden = 4});
  const Tensor<float, 2> x({2, 3});
  Tensor<float, 2> y({2, 3}), dx({2, 3});
  Context ctx;
  const auto saved = net.forward(x, y, ctx);
  test::expect_shape_error([&] { net.backward(saved, y, dx, grad, ctx); },
                           "GatedMlp::backward: the gradient of gate.weight has shape [4, 3], expected [5, 3]");
}

}  // namespace
}  // namespace gatefold
