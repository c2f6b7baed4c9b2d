#include "gatefold/nn/mlp.hpp"

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

template <class Act>
void check() {
  test::check_layer(
      [](auto type) { return Mlp<typename decltype(type)::type, Act>({.width = 3, .hidden = 5}); },
      {.in = 3, .out = 3, .rows = 4, .paths = {"up.weight", "up.bias", "down.weight", "down.bias"}, .copies = 1700});
}

TEST(Mlp, KeepsTheContractOfALayer) {
  check<Gelu>();
  check<Relu>();
}

TEST(Mlp, AHandComputedRow) {
  // up = (2, -3) x + (1, 1), relu, down = (10, 100) . + 5, at x = 4: relu(9, -11) = (9, 0) -> 95; at x = -1: (0, 4).
  Mlp<float, Relu> mlp({.width = 1, .hidden = 2});
  mlp.up.weight.flat()[0] = 2, mlp.up.weight.flat()[1] = -3;
  std::ranges::fill(mlp.up.bias.flat(), 1.0f);
  mlp.down.weight.flat()[0] = 10, mlp.down.weight.flat()[1] = 100;
  mlp.down.bias.flat()[0] = 5;
  Tensor<float, 2> x({2, 1}), y({2, 1});
  x.flat()[0] = 4, x.flat()[1] = -1;
  Context ctx;
  infer<Mlp<float, Relu>>(mlp, x, y, ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAre(95, 405));
}

}  // namespace
}  // namespace gatefold
