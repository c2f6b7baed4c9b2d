#include "gatefold/train/adafactor.hpp"

#include <gtest/gtest.h>

#include "tests/support/refused.hpp"
#include "tests/train/optimizer_model.hpp"

namespace gatefold {
namespace {

using test::scatter;
using test::Toy;

static_assert(Optimizer<Adafactor<Toy<float>>, Toy<float>>);

constexpr Index kRows = 9, kColumns = 8;
using Matrix = std::array<std::array<double, kColumns>, kRows>;

double root_mean_square(const Matrix& m) {
  double sum = 0;
  for (const auto& row : m)
    for (const double x : row) sum += x * x;
  return std::sqrt(sum / (kRows * kColumns));
}

/// Algorithm 4 of the paper as it is printed, with sums instead of means: R = b R + (1-b)(G^2 + eps) 1,
/// C = b C + (1-b) 1'(G^2 + eps), V = R C / 1'R, U = G / sqrt(V), clipped.
struct PaperAdafactor {
  std::array<double, kRows> r{};
  std::array<double, kColumns> c{};
  Matrix w{}, mean{};
  int t = 0;

  void step(const Matrix& g, double beta1, double weight_decay) {
    ++t;
    const double rho = std::min(1e-2, 1 / std::sqrt(t));
    const double beta2 = 1 - std::pow(t, -0.8);
    std::array<double, kRows> row_sum{};
    std::array<double, kColumns> column_sum{};
    for (std::size_t i = 0; i < kRows; ++i)
      for (std::size_t j = 0; j < kColumns; ++j) {
        row_sum[i] += g[i][j] * g[i][j] + 1e-30;
        column_sum[j] += g[i][j] * g[i][j] + 1e-30;
      }
    double total = 0;
    for (std::size_t i = 0; i < kRows; ++i) total += r[i] = beta2 * r[i] + (1 - beta2) * row_sum[i];
    for (std::size_t j = 0; j < kColumns; ++j) c[j] = beta2 * c[j] + (1 - beta2) * column_sum[j];
    Matrix u{};
    for (std::size_t i = 0; i < kRows; ++i)
      for (std::size_t j = 0; j < kColumns; ++j) u[i][j] = g[i][j] / std::sqrt(r[i] * c[j] / total);
    const double alpha = std::max(1e-3, root_mean_square(w)) * rho / std::max(1.0, root_mean_square(u));
    for (std::size_t i = 0; i < kRows; ++i)
      for (std::size_t j = 0; j < kColumns; ++j) {
        mean[i][j] = beta1 * mean[i][j] + (1 - beta1) * alpha * u[i][j];
        w[i][j] -= rho * weight_decay * w[i][j] + mean[i][j];
      }
  }
};

Matrix slice(const Tensor<double, 3>& t, Index l) {
  Matrix m{};
  for (Index i = 0; i < kRows; ++i)
    for (Index j = 0; j < kColumns; ++j)
      m[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] = t.view()(l, i, j);
  return m;
}

class AdafactorPaper : public testing::TestWithParam<double> {};

// A stack of one matrix, so that the clipping of the tensor is that of the matrix.
struct Single {
  using Scalar = double;
  Tensor<double, 3> stack{{1, kRows, kColumns}};
  static void visit(auto& v, auto&... self) { v("stack", self.stack...); }
};

TEST_P(AdafactorPaper, EqualsAlgorithm4) {
  Single model, grad;
  scatter(model, 1);
  PaperAdafactor paper;
  paper.w = slice(model.stack, 0);
  Adafactor optimizer(model, {.beta1 = GetParam(), .min_dim_to_factor = 4, .weight_decay = 0.1});
  EXPECT_EQ(optimizer.mean.has_value(), GetParam() > 0);
  for (std::uint64_t s = 0; s < 5; ++s) {
    scatter(grad, 10 + s, s == 2 ? 100 : 1);  // the third is an outlier: clipped
    optimizer.step(model, grad);
    paper.step(slice(grad.stack, 0), GetParam(), 0.1);
  }
  const Matrix got = slice(model.stack, 0);
  for (std::size_t i = 0; i < kRows; ++i)
    for (std::size_t j = 0; j < kColumns; ++j) EXPECT_NEAR(got[i][j], paper.w[i][j], 1e-14);
}
INSTANTIATE_TEST_SUITE_P(Momentum, AdafactorPaper, testing::Values(0.0, 0.9));

TEST(Adafactor, FactorsTheLastTwoAxesOnly) {
  Toy<float> model;
  Adafactor optimizer(model, {.beta1 = 0, .min_dim_to_factor = 8});
  std::vector<std::pair<std::string, Shape<2>>> found;
  for_each_param(
      [&](std::string_view path, const auto& t) {
        if constexpr (std::remove_cvref_t<decltype(t)>::kRank == 2) found.emplace_back(path, t.shape());
      },
      optimizer);
  const std::vector<std::pair<std::string, Shape<2>>> expected{{"variance.wide.row", {1, 90}},
                                                               {"variance.wide.column", {1, 101}},
                                                               {"variance.stack.row", {3, 9}},
                                                               {"variance.stack.column", {3, 8}}};
  EXPECT_EQ(found, expected);
}

// Where g^2 has rank one, the factored moment is the exact one, so the first update is the sign of g.
TEST(Adafactor, IsExactOnOuterProducts) {
  Toy<double> model, grad;
  const auto stack = grad.stack.view();
  for (Index l = 0; l < 3; ++l)
    for (Index i = 0; i < kRows; ++i)
      for (Index j = 0; j < kColumns; ++j)
        stack(l, i, j) =
            ((i + j) % 3 ? 1.0 : -1.0) * static_cast<double>((l + 1) * (i + 1)) / static_cast<double>(j + 1);
  Adafactor optimizer(model, {.lr = 0.25, .relative = false, .beta1 = 0, .min_dim_to_factor = 8});
  optimizer.step(model, grad);
  for (std::size_t i = 0; i < model.stack.flat().size(); ++i)
    EXPECT_NEAR(model.stack.flat()[i], grad.stack.flat()[i] > 0 ? -0.25 : 0.25, 1e-14);
}

// Unfactored: after g1, g2 the moment is g1^2 (1 - k) + g2^2 k with k = 2^-0.8.
TEST(Adafactor, KeepsSmallTensorsWhole) {
  Toy<double> model, grad;
  Adafactor optimizer(model, {.lr = 1, .relative = false, .beta1 = 0, .clip_threshold = 1e9});
  scatter(grad, 1);
  const double g1 = grad.router.bias.flat()[3];
  optimizer.step(model, grad);
  EXPECT_NEAR(model.router.bias.flat()[3], g1 > 0 ? -1 : 1, 1e-15);
  const double before = model.router.bias.flat()[3];
  scatter(grad, 2);
  const double g2 = grad.router.bias.flat()[3], k = std::pow(2, -0.8);
  optimizer.step(model, grad);
  EXPECT_NEAR(model.router.bias.flat()[3], before - g2 / std::sqrt((1 - k) * g1 * g1 + k * g2 * g2), 1e-14);
}

TEST(Adafactor, ZeroGradientMovesNothing) {
  Toy<float> model;
  scatter(model, 1);
  const Toy<float> start = model;
  Adafactor optimizer(model, {.min_dim_to_factor = 8});
  optimizer.step(model, zeros_like(model));
  EXPECT_TRUE(test::same_bits(model, start));
}

TEST(Adafactor, StepOptionsScaleTheGradient) {
  Toy<double> a, grad;
  scatter(a, 1);
  scatter(grad, 2);
  Toy<double> b = a;
  Adafactor one(a, {.min_dim_to_factor = 8}), other(b, {.min_dim_to_factor = 8});
  // The first update does not see the scale; the moments do, by its square.
  one.step(a, grad);
  other.step(b, grad, {.gradient_scale = 0.5});
  const auto va = test::values(a), vb = test::values(b);
  for (std::size_t i = 0; i < va.size(); ++i) EXPECT_NEAR(va[i], vb[i], 1e-14);
  EXPECT_NEAR(other.variance.each[8].row.flat()[0] / one.variance.each[8].row.flat()[0], 0.25, 1e-14);
}

TEST(Adafactor, FloatFollowsDouble) {
  Toy<double> model, grad;
  scatter(model, 1);
  Toy<float> small_model, small_grad;
  convert(model, small_model);
  Adafactor optimizer(model, {.min_dim_to_factor = 8});
  Adafactor small(small_model, {.min_dim_to_factor = 8});
  for (std::uint64_t s = 0; s < 4; ++s) {
    scatter(grad, 20 + s);
    convert(grad, small_grad);
    convert(small_grad, grad);
    optimizer.step(model, grad);
    small.step(small_model, small_grad);
  }
  const auto want = test::values(model), got = test::values(small_model);
  for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 8 * 5 * 6e-8);
}

TEST(Adafactor, ThreadsChangeNoBit) {
  test::for_thread_counts([](const auto& model) { return Adafactor(model, {.min_dim_to_factor = 8}); },
                          [](bool same, Index count) { EXPECT_TRUE(same) << count << " threads"; });
}

TEST(Adafactor, ResumedEqualsUninterrupted) {
  EXPECT_TRUE(test::resumes_bitwise([](const auto& model) { return Adafactor(model, {.min_dim_to_factor = 8}); }));
  EXPECT_TRUE(test::resumes_bitwise([](const auto& model) { return Adafactor(model, {.beta1 = 0}); }));
}

TEST(Adafactor, FrozenStaysToTheBit) {
  Toy<float> model, grad;
  scatter(model, 1);
  scatter(grad, 2);
  const Toy<float> start = model;
  Adafactor optimizer(model, {.min_dim_to_factor = 8, .weight_decay = 1, .trainable = Trainable::all_but({"wide"})});
  const auto moment = optimizer.variance.each[8];
  ASSERT_EQ(moment.path, "wide");
  optimizer.step(model, grad);
  EXPECT_EQ(model.wide, start.wide);
  EXPECT_TRUE(test::same_bits(optimizer.variance.each[8], moment));
  EXPECT_NE(model.stack, start.stack);
}

TEST(Adafactor, DoesNotAllocateAfterTheFirstStep) {
  Toy<float> model, grad;
  scatter(grad, 2);
  Adafactor optimizer(model, {.min_dim_to_factor = 8});
  Context ctx;
  optimizer.step(model, grad, ctx);
  const auto before = ctx.workspace.allocations();
  optimizer.step(model, grad, ctx);
  EXPECT_EQ(ctx.workspace.allocations(), before);
}

TEST(Adafactor, RefusesWhatDoesNotFit) {
  Toy<float> model;
  EXPECT_THROW(Adafactor(model, {.max_decay = 1.5}), OptionError);
  Adafactor optimizer(model, {});
  Toy<float> other;
  other.stack = Tensor<float, 3>({3, 8, 9});
  EXPECT_THROW(optimizer.step(model, other), ShapeError);
  Toy<float> more;
  more.experts.resize(4);
  EXPECT_THROW(optimizer.step(more, more), ShapeError);
  EXPECT_EQ(optimizer.step_count(), 0);
}

TEST(Adafactor, NamesTheOptionThatMakesNoSense) {
  using test::expect_option_error;
  Toy<float> model;
  const auto refused = [&](const AdafactorOptions& o, std::string_view text) {
    expect_option_error([&] { Adafactor optimizer(model, o); }, text);
  };
  refused({.lr = -1}, "Adafactor: lr is -1");
  refused({.beta1 = 1}, "beta1 is 1, expected a number in [0, 1)");
  refused({.decay_exponent = 0}, "decay_exponent is 0");
  refused({.max_decay = 1.5}, "max_decay is 1.5, expected a number in (0, 1]");
  refused({.clip_threshold = 0}, "clip_threshold is 0");
  refused({.epsilon1 = 0}, "epsilon1 is 0");
  refused({.epsilon2 = -1}, "epsilon2 is -1");
  refused({.min_dim_to_factor = 0}, "min_dim_to_factor is 0");
  refused({.weight_decay = -1}, "weight_decay is -1");
  Adafactor optimizer(model, {});
  expect_option_error([&] { optimizer.step(model, model, {.learning_rate = -1}); }, "learning_rate is -1");
  EXPECT_EQ(optimizer.step_count(), 0);
  const auto moved = std::move(optimizer);
  EXPECT_ANY_THROW(optimizer.step(model, model)) << "moved from";
}

}  // namespace
}  // namespace gatefold
