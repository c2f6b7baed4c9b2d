#include "gatefold/train/sgd.hpp"

#include <gtest/gtest.h>

#include "tests/support/refused.hpp"
#include "tests/train/optimizer_model.hpp"

namespace gatefold {
namespace {

using test::scatter;
using test::Toy;

static_assert(Optimizer<Sgd<Toy<float>>, Toy<float>>);

TEST(Sgd, MomentumIsAGeometricSumOfGradients) {
  Toy<double> model, grad;
  scatter(model, 1);
  const Toy<double> start = model;
  Sgd optimizer(model, {.lr = 0.1, .momentum = 0.5});
  std::vector<double> g;
  for (std::uint64_t s = 0; s < 3; ++s) {
    scatter(grad, 10 + s);
    g.push_back(grad.wide.flat()[5]);
    optimizer.step(model, grad);
  }
  // Steps 1, 2, 3 move by g1, g2 + g1/2, g3 + g2/2 + g1/4.
  EXPECT_NEAR(model.wide.flat()[5], start.wide.flat()[5] - 0.1 * (1.75 * g[0] + 1.5 * g[1] + g[2]), 1e-14);
}

TEST(Sgd, WithoutMomentumItKeepsNoVelocity) {
  Toy<double> model, grad;
  scatter(model, 1);
  scatter(grad, 2);
  const Toy<double> start = model;
  Sgd optimizer(model, {.lr = 0.25, .weight_decay = 1});
  EXPECT_EQ(count_params(optimizer), 1);  // the step count
  optimizer.step(model, grad, {.gradient_scale = 2});
  EXPECT_NEAR(model.wide.flat()[7], 0.75 * start.wide.flat()[7] - 0.5 * grad.wide.flat()[7], 1e-15);
  EXPECT_NEAR(model.router.bias.flat()[2], start.router.bias.flat()[2] - 0.5 * grad.router.bias.flat()[2], 1e-15);
  EXPECT_EQ(model.packed, start.packed);
}

TEST(Sgd, ThreadsChangeNoBit) {
  test::for_thread_counts([](const auto& model) { return Sgd(model, {.momentum = 0.9, .weight_decay = 0.1}); },
                          [](bool same, Index count) { EXPECT_TRUE(same) << count << " threads"; });
}

TEST(Sgd, ResumedEqualsUninterrupted) {
  EXPECT_TRUE(test::resumes_bitwise([](const auto& model) { return Sgd(model, {.momentum = 0.9}); }));
}

TEST(Sgd, FrozenStaysToTheBit) {
  Toy<float> model, grad;
  scatter(model, 1);
  scatter(grad, 2);
  const Toy<float> start = model;
  Sgd optimizer(model, {.lr = 1, .weight_decay = 0.5, .trainable = Trainable::all_but({"router.*"})});
  optimizer.step(model, grad);
  EXPECT_TRUE(test::same_bits(model.router, start.router));
  EXPECT_FALSE(test::same_bits(model.experts[0], start.experts[0]));
}

TEST(Sgd, RefusesWhatDoesNotFit) {
  Toy<float> model, grad;
  EXPECT_THROW(Sgd(model, {.momentum = 1}), OptionError);
  Sgd optimizer(model, {});
  grad.experts[1].bias = Tensor<float, 1>(Shape<1>{4});
  EXPECT_THROW(optimizer.step(model, grad), ShapeError);
}

TEST(Sgd, NamesTheOptionThatMakesNoSense) {
  using test::expect_option_error;
  Toy<float> model;
  expect_option_error([&] { Sgd optimizer(model, {.lr = -1}); }, "Sgd: lr is -1");
  expect_option_error([&] { Sgd optimizer(model, {.momentum = -0.5}); }, "momentum is -0.5, expected a number in [0, 1)");
  expect_option_error([&] { Sgd optimizer(model, {.weight_decay = -1}); }, "weight_decay is -1");
  Sgd optimizer(model, {.momentum = 0.5});
  expect_option_error([&] { optimizer.step(model, model, {.learning_rate = -1}); }, "Sgd::step: learning_rate is -1");
  EXPECT_EQ(optimizer.step_count(), 0);
  const auto moved = std::move(optimizer);
  EXPECT_ANY_THROW(optimizer.step(model, model)) << "moved from";
}

}  // namespace
}  // namespace gatefold
