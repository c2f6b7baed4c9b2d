// Layers made of layers: Sequence, Sum, Gated, PostNorm, Identity. Residual and OneOf have tests of their own.
#include "gatefold/nn/gated.hpp"
#include "gatefold/nn/identity.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/post_norm.hpp"
#include "gatefold/nn/residual.hpp"
#include "gatefold/nn/sequence.hpp"
#include "gatefold/nn/sum.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold::combinators_test {
namespace {

/// All in one, from 3 columns to 5: in the middle a branch that must be told that it has 4.
constexpr auto kMake = [](auto type) {
  using T = typename decltype(type)::type;
  const Linear<T> in({.in = 3, .out = 4}), out({.in = 4, .out = 5}), beside({.in = 3, .out = 5, .bias = Bias::none});
  const PostNorm middle({.width = 4}, Mlp<T>({.width = 4, .hidden = 2}));
  const Residual<PostNorm<Mlp<T>>, Identity<T>> last(Identity<T>({}), middle);
  return Sum(Gated({.width = 3}, Sequence(in, middle, last, out)), beside);
};

TEST(Combinators, TogetherKeepTheContractOfALayer) {
  std::vector<std::string> paths{"a.gate.weight", "a.inner.0.weight", "a.inner.0.bias"};
  for (const char* at : {"a.inner.1.", "a.inner.2.inner."})
    for (const char* path :
         {"inner.up.weight", "inner.up.bias", "inner.down.weight", "inner.down.bias", "norm.gain", "norm.bias"})
      paths.push_back(std::string(at) + path);
  for (const char* path : {"a.inner.3.weight", "a.inner.3.bias", "b.weight"}) paths.push_back(path);
  test::check_layer(kMake, {.in = 3, .out = 5, .rows = 4, .paths = paths, .copies = 1300});
}

TEST(Combinators, AHandComputedRow) {
  // Relu(2 x) in one branch; in the other 3 x, gated by σ(x · 0) = 1/2: at x = 4, 8 + 6.
  const auto times = [](float factor) {
    Linear<float> layer({.in = 1, .out = 1, .bias = Bias::none});
    layer.weight.flat()[0] = factor;
    return layer;
  };
  Mlp<float, Relu> relu({.width = 1, .hidden = 1});
  relu.up = times(2), relu.down = times(1);
  const Sum layer(Sequence(relu, Identity<float>({})), Gated({.width = 1}, times(3)));
  // x + 2 x = 12 against a constant row of one column, which its norm makes the bias.
  PostNorm post({.width = 1}, times(2));
  post.norm.bias.flat()[0] = 7;
  Tensor<float, 2> x({1, 1}), y({1, 1});
  x.flat()[0] = 4;
  Context ctx;
  infer(layer, std::as_const(x).view(), y.view(), ctx);
  EXPECT_EQ(y.flat()[0], 14);
  infer(post, std::as_const(x).view(), y.view(), ctx);
  EXPECT_EQ(y.flat()[0], 7);
}

TEST(Combinators, PackedKeepNothingAndGiveTheSame) {
  const PostNorm branch({.width = 32}, Mlp<float>({.width = 32, .hidden = 48}));
  Sum layer(
      Gated({.width = 32}, Sequence(branch, LayerNorm<float>({.width = 32}), Linear<float>({.in = 32, .out = 16}))),
      Linear<float>({.in = 32, .out = 16}));
  test::disturb(layer, 1, 0.2);
  auto packed = pack<float>(layer);
  static_assert(ForwardLayer<decltype(packed)> && !Layer<decltype(packed)>);
  const auto x = test::random_matrix<float>({7, 32}, 2);
  Tensor<float, 2> y({7, 16}), z({7, 16});
  Context ctx;
  infer(layer, x, y, ctx);
  float* const before = ctx.workspace.take<float>(1).data();
  (void)packed.forward(x, z, ctx);
  EXPECT_EQ(ctx.workspace.take<float>(1).data() - before, Index{kAlignment / sizeof(float)}) << "something was kept";
  test::expect_near<float, float>(z.flat(), y.flat(), 200, "y");
}

}  // namespace
}  // namespace gatefold::combinators_test
