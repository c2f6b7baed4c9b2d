#include "gatefold/nn/residual.hpp"

#include "gatefold/nn/mlp.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

constexpr auto kMake = [](auto type) {
  using T = typename decltype(type)::type;
  return Residual<Mlp<T>>({.width = 3}, Mlp<T>({.width = 3, .hidden = 4}));
};

TEST(Residual, KeepsTheContractOfALayer) {
  test::check_layer(kMake, {.in = 3,
                            .out = 3,
                            .rows = 4,
                            .paths = {"norm.gain", "norm.bias", "inner.up.weight", "inner.up.bias", "inner.down.weight",
                                      "inner.down.bias"},
                            .copies = 1500});
}

TEST(Residual, AnInnerLayerOfZerosIsTheIdentity) {
  const auto layer = kMake(std::type_identity<float>{});
  const auto x = test::random_matrix<float>({4, 3}, 1), dy = test::random_matrix<float>({4, 3}, 2);
  Context ctx;
  const auto pass = test::run_pass(layer, x, dy, ctx);
  EXPECT_EQ(pass.y, x);
  EXPECT_EQ(pass.dx, dy);
}

}  // namespace
}  // namespace gatefold
