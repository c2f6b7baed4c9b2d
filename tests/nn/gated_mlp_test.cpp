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

}  // namespace
}  // namespace gatefold
