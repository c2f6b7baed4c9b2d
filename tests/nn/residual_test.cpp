#include "gatefold/nn/residual.hpp"

#include "gatefold/nn/attention.hpp"
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

TEST(Residual, OneRowOfEachSequenceGetsWhatForwardGivesIt) {
  Residual<Attention<float>> layer({.width = 32}, Attention<float>({.width = 32, .num_heads = 2}));
  test::disturb(layer, 1, 0.2);
  const auto x = test::random_matrix<float>({7, 32}, 2);
  const std::vector<Index> row{5};
  Tensor<float, 2> all({7, 32}), one({1, 32});
  Context ctx;
  infer(layer, x, all, ctx);
  layer.infer_at(x, {row.data(), {1}}, one, ctx);
  test::expect_near<float, float>(one.flat(), all.flat().subspan(5 * 32, 32), 100, "y");
}

TEST(Residual, PackedKeepsNothingAndGivesTheSame) {
  Residual<Mlp<float>> layer({.width = 32}, Mlp<float>({.width = 32, .hidden = 64}));
  test::disturb(layer, 1, 0.2);
  const auto packed = pack<float>(layer);
  const auto x = test::random_matrix<float>({7, 32}, 2);
  Tensor<float, 2> y({7, 32}), z({7, 32});
  Context ctx;
  infer(layer, x, y, ctx);
  infer(packed, x, z, ctx);
  test::expect_near<float, float>(z.flat(), y.flat(), 100, "y");
}

}  // namespace
}  // namespace gatefold
