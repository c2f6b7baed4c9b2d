#include "gatefold/nn/class_token.hpp"

#include <numeric>

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

using test::random_matrix;

ClassToken<float> token() {
  ClassToken<float> layer({.width = 3});
  std::ranges::copy(std::vector<float>{1, 2, 3}, layer.token.flat().begin());
  return layer;
}

TEST(ClassToken, StandsInFrontOfEachSequence) {
  const auto x = random_matrix<float>({4, 3}, 1);
  Tensor<float, 2> y({6, 3});
  Context ctx;
  token().forward(2, x, y, ctx);
  const std::vector<Index> from{-1, 0, 1, -1, 2, 3};
  for (Index i = 0; i < 6; ++i)
    for (Index d = 0; d < 3; ++d) {
      const Index row = from[static_cast<std::size_t>(i)];
      EXPECT_EQ(y.view()(i, d), row < 0 ? static_cast<float>(d + 1) : x.view()(row, d));
    }
}

TEST(ClassToken, BackwardIsTheTransposeOfForward) {
  // <y(x, token), dy> = <x, dx> + <token, dtoken>, since forward is linear in both.
  const auto x = random_matrix<double>({6, 3}, 1), dy = random_matrix<double>({9, 3}, 2);
  ClassToken<double> layer({.width = 3}), grad({.width = 3});
  std::ranges::copy(std::vector<double>{0.5, -2, 3}, layer.token.flat().begin());
  Tensor<double, 2> y({9, 3}), dx({6, 3});
  Context ctx;
  layer.forward(3, x, y, ctx);
  layer.backward(3, dy, dx, grad, ctx);
  const auto dot = [](const auto& a, const auto& b) {
    return std::inner_product(a.flat().begin(), a.flat().end(), b.flat().begin(), 0.0);
  };
  EXPECT_NEAR(dot(y, dy), dot(x, dx) + dot(layer.token, grad.token), 1e-12);
  const auto first = grad;
  layer.backward(3, dy, dx, grad, ctx);  // gradients of parameters add up
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(grad.token.flat()[i], 2 * first.token.flat()[i]);
}

TEST(ClassToken, RefusesRowsThatAreNoSequencesOfEqualLength) {
  Tensor<float, 2> x({5, 3}), y({7, 3});
  Context ctx;
  EXPECT_THROW(token().forward(2, x, y, ctx), ShapeError);
  EXPECT_THROW(token().forward(1, x, y, ctx), ShapeError);
  EXPECT_THROW(token().forward(0, x, y, ctx), ShapeError);
}

}  // namespace
}  // namespace gatefold
