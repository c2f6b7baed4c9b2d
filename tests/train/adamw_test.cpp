#include "gatefold/train/adamw.hpp"

#include <gtest/gtest.h>

#include "tests/support/refused.hpp"
#include "tests/train/optimizer_model.hpp"

namespace gatefold {
namespace {

using test::scatter;
using test::Toy;

static_assert(Optimizer<AdamW<Toy<float>>, Toy<float>>);

/// Adam as Kingma & Ba write it: the moments as explicit sums over all gradients so far, no recursion.
double adam_by_sums(double w, const std::vector<double>& g, const AdamWOptions& o, double decay) {
  for (std::size_t t = 1; t <= g.size(); ++t) {
    double m = 0, v = 0, weight1 = 0, weight2 = 0;
    for (std::size_t s = 1; s <= t; ++s) {
      const double a = std::pow(o.beta1, static_cast<double>(t - s)), b = std::pow(o.beta2, static_cast<double>(t - s));
      m += a * g[s - 1];
      weight1 += a;
      v += b * g[s - 1] * g[s - 1];
      weight2 += b;
    }
    w -= o.lr * decay * w;
    w -= o.lr * (m / weight1) / (std::sqrt(v / weight2) + o.epsilon);
  }
  return w;
}

TEST(AdamW, EqualsTheExplicitSumsOfThePaper) {
  Toy<double> model;
  scatter(model, 1);
  const Toy<double> start = model;
  const AdamWOptions options{.lr = 0.03, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.1};
  AdamW optimizer(model, options);
  std::vector<Toy<double>> grads(5);
  for (std::size_t s = 0; s < grads.size(); ++s) {
    scatter(grads[s], 10 + s);
    optimizer.step(model, grads[s]);
  }
  EXPECT_EQ(optimizer.step_count(), 5);
  const auto check = [&](auto field, double decay) {
    for (std::size_t i = 0; i < field(model).flat().size(); ++i) {
      std::vector<double> g;
      for (const auto& grad : grads) g.push_back(field(grad).flat()[i]);
      // Five steps of a few roundings of numbers around one.
      EXPECT_NEAR(field(model).flat()[i], adam_by_sums(field(start).flat()[i], g, options, decay), 1e-13);
    }
  };
  check(
      [](auto& m) -> auto& { return m.experts[1].weight; }, options.weight_decay);
  check(
      [](auto& m) -> auto& { return m.stack; }, options.weight_decay);
  check(
      [](auto& m) -> auto& { return m.wide; }, options.weight_decay);
  check(
      [](auto& m) -> auto& { return m.experts[2].bias; }, 0);
}

TEST(AdamW, ClearsTheGradientInTheSameStep) {
  Toy<float> model, grad;
  scatter(model, 1);
  Toy<float> other = model;
  const AdamWOptions options{.weight_decay = 0.1, .trainable = Trainable::all_but({"experts.1.*"})};
  AdamW optimizer(model, options), reference(model, options);
  Context ctx;
  for (const std::uint64_t seed : {2, 3}) {
    scatter(grad, seed);
    reference.step(other, grad, {.gradient_scale = 0.5}, ctx);
    optimizer.step_and_clear(model, grad, {.gradient_scale = 0.5}, ctx);
    EXPECT_EQ(norm(grad), 0);
  }
  for_each_param([](std::string_view path, const auto& a,
                    const auto& b) { EXPECT_TRUE(std::ranges::equal(a.flat(), b.flat())) << path; },
                 model, other);
}

TEST(AdamW, FloatFollowsDouble) {
  Toy<double> model, grad;
  scatter(model, 1);
  Toy<float> small_model, small_grad;
  convert(model, small_model);
  AdamW optimizer(model, {.lr = 0.01, .weight_decay = 0.1});
  AdamW small(small_model, {.lr = 0.01, .weight_decay = 0.1});
  for (std::uint64_t s = 0; s < 4; ++s) {
    scatter(grad, 20 + s);
    convert(grad, small_grad);
    convert(small_grad, grad);
    optimizer.step(model, grad);
    small.step(small_model, small_grad);
  }
  const auto want = test::values(model), got = test::values(small_model);
  // Weights below 5 in size, four roundings of them; the updates are 100 times smaller.
  for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 8 * 5 * 6e-8);
}

TEST(AdamW, FirstStepMovesEachWeightByTheRate) {
  Toy<double> model, grad;
  scatter(grad, 3);
  AdamW optimizer(model, {.lr = 0.5, .epsilon = 0});
  optimizer.step(model, grad);
  for (std::size_t i = 0; i < 10; ++i) EXPECT_NEAR(model.wide.flat()[i], grad.wide.flat()[i] > 0 ? -0.5 : 0.5, 1e-15);
}

TEST(AdamW, StepOptionsReplaceTheRateAndScaleTheGradient) {
  Toy<double> a, grad;
  scatter(a, 1);
  scatter(grad, 2);
  Toy<double> b = a, half = grad;
  for_each_param(
      [](std::string_view, auto& t) {
        using T = typename std::remove_cvref_t<decltype(t)>::Scalar;
        for (auto& x : t.flat()) x = static_cast<T>(x / 2);
      },
      half);
  AdamW one(a, {.lr = 0.01}), other(b, {.lr = 123});
  one.step(a, half);
  other.step(b, grad, {.learning_rate = 0.01, .gradient_scale = 0.5});
  EXPECT_TRUE(test::same_bits(a, b));
}

TEST(AdamW, ThreadsChangeNoBit) {
  test::for_thread_counts([](const auto& model) { return AdamW(model, {.weight_decay = 0.1}); },
                          [](bool same, Index count) { EXPECT_TRUE(same) << count << " threads"; });
}

TEST(AdamW, ResumedEqualsUninterrupted) {
  EXPECT_TRUE(test::resumes_bitwise([](const auto& model) { return AdamW(model, {.weight_decay = 0.1}); }));
}

TEST(AdamW, FrozenStaysToTheBit) {
  Toy<float> model, grad;
  scatter(model, 1);
  scatter(grad, 2);
  const Toy<float> start = model;
  AdamW optimizer(model, {.lr = 1, .weight_decay = 0.5, .trainable = Trainable::only({"experts.*"})});
  optimizer.step(model, grad);
  for_each_param(
      [](std::string_view path, const auto& now, const auto& before, const auto& mean, const auto& variance) {
        const bool trained = path.starts_with("experts.");
        EXPECT_EQ(now == before, !trained) << path;
        const auto is_zero = [](auto x) { return x == 0; };
        EXPECT_EQ(std::ranges::all_of(mean.flat(), is_zero), !trained) << path;
        EXPECT_EQ(std::ranges::all_of(variance.flat(), is_zero), !trained) << path;
      },
      model, start, optimizer.mean, optimizer.variance);
}

TEST(AdamW, DecayRuleIsReplaceable) {
  Toy<double> model;
  scatter(model, 1);
  const Toy<double> start = model;
  const auto grad = zeros_like(model);
  AdamW optimizer(model, {.lr = 0.5, .weight_decay = 0.5, .decays = [](std::string_view path, std::size_t) {
                            return path == "router.bias";
                          }});
  optimizer.step(model, grad);
  EXPECT_EQ(model.router.bias.flat()[1], 0.75 * start.router.bias.flat()[1]);
  EXPECT_EQ(model.router.weight, start.router.weight);
}

TEST(AdamW, NanStaysInItsElement) {
  Toy<float> model, grad;
  scatter(grad, 1);
  grad.wide.flat()[17] = NAN;
  AdamW optimizer(model, {});
  optimizer.step(model, grad);
  for (std::size_t i = 0; i < model.wide.flat().size(); ++i) EXPECT_EQ(std::isnan(model.wide.flat()[i]), i == 17);
}

TEST(AdamW, RefusesWhatDoesNotFit) {
  Toy<float> model;
  EXPECT_THROW(AdamW(model, {.beta1 = 1}), OptionError);
  EXPECT_THROW(AdamW(model, {.trainable = Trainable::only({"rooter*"})}), OptionError);
  AdamW optimizer(model, {});
  Toy<float> grad;
  grad.wide = Tensor<float, 2>({101, 90});
  try {
    optimizer.step(model, grad);
    FAIL() << "not refused";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "AdamW::step: the gradient of wide has shape [101, 90], expected [90, 101]");
  }
  EXPECT_EQ(optimizer.step_count(), 0);
}

TEST(AdamW, NamesTheOptionThatMakesNoSense) {
  using test::expect_option_error;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  Toy<float> model;
  const auto refused = [&](const AdamWOptions& o, std::string_view text) {
    expect_option_error([&] { AdamW optimizer(model, o); }, text);
  };
  refused({.lr = -1}, "AdamW: lr is -1, expected a finite number of at least 0");
  refused({.lr = kNan}, "lr is nan");
  refused({.beta1 = 1.5}, "beta1 is 1.5, expected a number in [0, 1)");
  refused({.beta2 = 1}, "beta2 is 1,");
  refused({.beta2 = kNan}, "beta2 is nan");
  refused({.epsilon = -1e-8}, "epsilon is -1e-08");
  refused({.weight_decay = -0.1}, "weight_decay is -0.1");
  AdamW optimizer(model, {});
  const auto before = model;
  const auto grad = model;
  expect_option_error([&] { optimizer.step(model, grad, {.learning_rate = kNan}); },
                      "AdamW::step: learning_rate is nan");
  expect_option_error([&] { optimizer.step(model, grad, {.gradient_scale = kNan}); }, "gradient_scale is nan");
  EXPECT_TRUE(test::same_bits(model, before));
  EXPECT_EQ(optimizer.step_count(), 0);
}

TEST(AdamW, MovedFromIsRefusedNotRead) {
  Toy<float> model;
  AdamW optimizer(model, {});
  const auto moved = std::move(optimizer);
  EXPECT_ANY_THROW(optimizer.step(model, model));
  EXPECT_EQ(moved.step_count(), 0);
}

}  // namespace
}  // namespace gatefold
