#include "gatefold/nn/gated_mlp.hpp"

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

template <class Act>
void check() {
  test::check_layer([](auto type) { return GatedMlp<typename decltype(type)::type, Act>({.width = 3, .hidden = 4}); },
                    {.in = 3,
                     .out = 3,
                     .rows = 4,
                     .paths = {"gate.weight", "gate.bias", "up.weight", "up.bias", "down.weight", "down.bias"},
                     .copies = 1500});
}

TEST(GatedMlp, KeepsTheContractOfALayer) {
  check<Silu>();
  check<GeluErf>();
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
}

}  // namespace
}  // namespace gatefold
