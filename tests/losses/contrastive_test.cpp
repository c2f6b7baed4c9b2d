#include "gatefold/losses/contrastive.hpp"

#include <gtest/gtest.h>

#include "tests/losses/contrastive_case.hpp"

namespace gatefold {
namespace {

using namespace test;

template <class T>
struct Result {
  T loss{};
  Pairs<T> d;
  Index correct_a_to_b = 0, correct_b_to_a = 0;
};

template <class T>
Result<T> run(const SoftmaxContrastive& loss, const Pairs<T>& p, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  const auto saved = loss.forward(p.a, p.b, p.log_scale, ctx);
  Result<T> r{.loss = saved.loss,
              .d = {.a = Tensor<T, 2>(p.a.shape()), .b = Tensor<T, 2>(p.b.shape())},
              .correct_a_to_b = saved.correct_a_to_b,
              .correct_b_to_a = saved.correct_b_to_a};
  std::ranges::fill(r.d.a.flat(), T(99.0));  // to be overwritten
  std::ranges::fill(r.d.b.flat(), T(99.0));
  loss.backward(saved, T(1.0), r.d.a, r.d.b, r.d.log_scale, ctx);
  return r;
}

/// From the definition: long double loops, probabilities in full, targets in full.
double naive_loss(const Pairs<double>& p, double eps) {
  const Index batch = p.a.extent(0), candidates = p.b.extent(0);
  std::vector<std::vector<long double>> e(static_cast<std::size_t>(batch));
  const auto length = [](View<const double, 1> z) {
    long double sum = 0;
    for (Index k = 0; k < z.extent(0); ++k) sum += static_cast<long double>(z[k]) * z[k];
    return std::sqrt(sum) + 1e-8L;
  };
  const Rows<const double> a = p.a, b = p.b;
  for (Index i = 0; i < batch; ++i)
    for (Index j = 0; j < candidates; ++j) {
      long double dot = 0;
      for (Index k = 0; k < a.extent(1); ++k) dot += static_cast<long double>(a(i, k)) * b(j, k);
      e[static_cast<std::size_t>(i)].push_back(
          std::exp(std::exp(static_cast<long double>(p.log_scale)) * dot / (length(a[i]) * length(b[j]))));
    }
  const auto at = [&](Index i, Index j) { return e[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)]; };
  long double loss = 0;
  for (Index i = 0; i < batch; ++i) {
    long double row = 0, column = 0;
    for (Index j = 0; j < candidates; ++j) row += at(i, j);
    for (Index j = 0; j < batch; ++j) column += at(j, i);
    for (Index j = 0; j < candidates; ++j)
      loss -= ((i == j ? 1 - eps : 0) + eps / static_cast<double>(candidates)) * std::log(at(i, j) / row);
    for (Index j = 0; j < batch; ++j)
      loss -= ((i == j ? 1 - eps : 0) + eps / static_cast<double>(batch)) * std::log(at(j, i) / column);
  }
  return static_cast<double>(loss / static_cast<long double>(2 * batch));
}

TEST(SoftmaxContrastive, ValueAndGradientByHand) {
  Context ctx;
  const auto r = run(SoftmaxContrastive{}, hand_pairs(), ctx);
  // The numbers are those of unit vectors; eps = 1e-8 in the lengths moves them by about 1e-8.
  EXPECT_NEAR(r.loss, .5248968390, 5e-8);
  EXPECT_NEAR(r.d.log_scale, -.0416934115, 5e-8);
  // dz is dU without its part along u, since |z| = 1.
  const double du[2][2] = {{-.29892235, -.05621015}, {.46345940, -.02605838}};
  const double dv[2][2] = {{-.02605838, .46345940}, {-.05621015, -.29892235}};
  const auto p = hand_pairs();
  for (Index i = 0; i < 2; ++i) {
    const Rows<const double> u = p.a, v = p.b;
    const double along_u = du[i][0] * u(i, 0) + du[i][1] * u(i, 1), along_v = dv[i][0] * v(i, 0) + dv[i][1] * v(i, 1);
    for (Index k = 0; k < 2; ++k) {
      EXPECT_NEAR(r.d.a.view()(i, k), du[i][k] - along_u * u(i, k), 5e-8);
      EXPECT_NEAR(r.d.b.view()(i, k), dv[i][k] - along_v * v(i, k), 5e-8);
    }
  }
  // A = [[1.6, 0], [1.92, 1.6]]: row 1 and column 0 have a nearer stranger.
  EXPECT_EQ(r.correct_a_to_b, 1);
  EXPECT_EQ(r.correct_b_to_a, 1);
}

TEST(SoftmaxContrastive, MatchesTheDefinition) {
  Context ctx;
  for (const auto& shape : pair_shapes())
    for (const double eps : {0., .1, 1.})
      for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        const auto p = random_pairs(shape, seed);
        EXPECT_NEAR(run(SoftmaxContrastive{eps}, p, ctx).loss, naive_loss(p, eps), 1e-13);
      }
}

// Sums of tens of terms of size below 10: 1e-13 is some hundred roundings.
TEST(SoftmaxContrastive, GradientIsExact) {
  Context ctx;
  for (const auto& shape : pair_shapes())
    for (const double eps : {0., .2}) {
      const SoftmaxContrastive loss{eps};
      const auto p = random_pairs(shape, 4);
      const auto r = run(loss, p, ctx);
      for (Index i = 0; i + 1 < p.num_inputs(); ++i) {  // all but the bias
        auto dual = convert_pairs<Dual>(p);
        dual.input(i).d = 1;
        const auto scope = ctx.workspace.scope();
        EXPECT_NEAR(r.d.input(i), loss.forward(dual.a, dual.b, dual.log_scale, ctx).loss.d, 1e-13) << "input " << i;
      }
    }
}

TEST(SoftmaxContrastive, BackwardScalesByDlossAndAddsToTheTemperature) {
  Context ctx;
  const auto p = random_pairs({.batch = 3, .extra = 1, .width = 2}, 5);
  const auto once = run(SoftmaxContrastive{}, p, ctx);
  const auto saved = SoftmaxContrastive{}.forward(p.a, p.b, p.log_scale, ctx);
  Tensor<double, 2> da(p.a.shape()), db(p.b.shape());
  double dlog_scale = 7;
  SoftmaxContrastive{}.backward(saved, 4, da, db, dlog_scale, ctx);
  EXPECT_DOUBLE_EQ(dlog_scale, 7 + 4 * once.d.log_scale);
  for (Index i = 0; i < da.size(); ++i) EXPECT_NEAR(da.flat()[static_cast<std::size_t>(i)], 4 * once.d.input(i), 1e-14);
}

TEST(SoftmaxContrastive, AllZeroEmbeddingsGiveLogBAndNoGradient) {
  Context ctx;
  for (const Index batch : {1, 2, 7}) {
    const auto r = run(SoftmaxContrastive{}, zero_pairs(batch, std::log(2.), 0), ctx);
    EXPECT_NEAR(r.loss, std::log(static_cast<double>(batch)), 1e-15);
    for (Index i = 0; i < r.d.num_inputs(); ++i) EXPECT_EQ(r.d.input(i), 0);
    EXPECT_EQ(r.correct_a_to_b, batch == 1 ? 1 : 0) << "a tie is no hit";
    EXPECT_EQ(r.correct_b_to_a, batch == 1 ? 1 : 0);
  }
}

TEST(SoftmaxContrastive, CountsHitsInBothDirections) {
  Context ctx;
  // b 0 lies nearest to a 0 and a 1 lies nearest to b 1, while the extra row 2 takes a 0 away.
  Pairs<double> p{.a = Tensor<double, 2>({2, 2}), .b = Tensor<double, 2>({3, 2})};
  std::ranges::copy(std::array{1., 0., 0., 1.}, p.a.data());
  std::ranges::copy(std::array{1., .2, .1, 1., 1., .1}, p.b.data());
  const auto r = run(SoftmaxContrastive{}, p, ctx);
  EXPECT_EQ(r.correct_a_to_b, 1);
  EXPECT_EQ(r.correct_b_to_a, 2);
}

TEST(SoftmaxContrastive, HugeScalesStayFinite) {
  Context ctx;
  auto p = random_pairs({.batch = 6, .extra = 2, .width = 3}, 6);
  p.log_scale = std::log(1e6);
  const auto r = run(SoftmaxContrastive{}, p, ctx);
  // At this scale the loss is the mean gap between the best logit and the right one.
  const auto c = CosineSimilarity::forward<double>(p.a, p.b, ctx).similarity;
  double gap = 0;
  for (Index i = 0; i < 6; ++i) {
    double row = c(i, i), column = c(i, i);
    for (Index j = 0; j < 8; ++j) row = std::max(row, c(i, j));
    for (Index j = 0; j < 6; ++j) column = std::max(column, c(j, i));
    gap += 1e6 * (row + column - 2 * c(i, i)) / 12;
  }
  EXPECT_NEAR(r.loss, gap, 1e-8 * gap);
  for (Index i = 0; i < r.d.num_inputs(); ++i) EXPECT_TRUE(std::isfinite(r.d.input(i)));
  const auto f = run(SoftmaxContrastive{}, convert_pairs<float>(p), ctx);
  EXPECT_NEAR(f.loss, gap, 1e-5 * gap);
  for (Index i = 0; i < f.d.num_inputs(); ++i) EXPECT_TRUE(std::isfinite(f.d.input(i)));
}

// Cosines in float are right to some 4 ulp of 1 (3e-7), logits to twice that at scale 2; a softmax passes it on.
TEST(SoftmaxContrastive, FloatAgreesWithDouble) {
  Context ctx;
  const auto p = random_pairs({.batch = 70, .extra = 9, .width = 16}, 7);
  const auto wanted = run(SoftmaxContrastive{.1}, p, ctx);
  const auto got = run(SoftmaxContrastive{.1}, convert_pairs<float>(p), ctx);
  EXPECT_NEAR(got.loss, wanted.loss, 2e-6);
  for (Index i = 0; i < p.num_inputs(); ++i) EXPECT_NEAR(got.d.input(i), wanted.d.input(i), 2e-6);
  EXPECT_EQ(got.correct_a_to_b, wanted.correct_a_to_b);
  EXPECT_EQ(got.correct_b_to_a, wanted.correct_b_to_a);
}

// Near neighbours at a high temperature: logits of which all but a little is common to all. The loss of the cosines
// that float found is right to the roundings of differences, not of logits.
TEST(SoftmaxContrastive, WhatAllLogitsShareCostsNoDigits) {
  constexpr Index kBatch = 12, kFurther = 3;
  for (const double temperature : {1., 1e2, 1e3, 1e4}) {
    Rng rng(11);
    Tensor<float, 2> a({kBatch, 4}), b({kBatch + kFurther, 4});
    for (auto* side : {&a, &b})
      for (float& v : side->flat()) v = static_cast<float>(1 + rng.normal() / std::sqrt(temperature));
    Context ctx;
    const SoftmaxContrastive loss{.label_smoothing = .1};
    const auto saved = loss.forward(a, b, static_cast<float>(std::log(temperature)), ctx);
    Tensor<float, 2> da(a.shape()), db(b.shape());
    float got = 0;
    loss.backward(saved, 1.0f, da, db, got, ctx);

    const auto& c = saved.pairs.similarity;
    const auto at = [&](Index i, Index j) { return static_cast<long double>(saved.scale) * c(i, j); };
    long double wanted = 0, slope = 0, spread = 0;
    const auto softmax = [&](Index own, Index count, auto&& logit) {
      long double top = logit(0), total = 0;
      for (Index j = 1; j < count; ++j) top = std::max(top, logit(j));
      for (Index j = 0; j < count; ++j) total += std::exp(logit(j) - top);
      for (Index j = 0; j < count; ++j) {
        const long double log_p = logit(j) - top - std::log(total);
        const long double q = (j == own ? .9L : 0) + .1L / static_cast<long double>(count);
        wanted -= q * log_p / (2 * kBatch);
        slope += (std::exp(log_p) - q) * (logit(j) - top) / (2 * kBatch);
        spread = std::max(spread, std::abs(log_p));
      }
    };
    for (Index i = 0; i < kBatch; ++i) {
      softmax(i, kBatch + kFurther, [&](Index j) { return at(i, j); });
      softmax(i, kBatch, [&](Index j) { return at(j, i); });
    }
    // Differences reach `spread`; an exponential of one rounds once before and twice after, a sum of 15 of them more.
    const double unit = 0x1p-24 * (static_cast<double>(spread) + 20);
    EXPECT_NEAR(saved.loss, static_cast<double>(wanted), unit * (1 + static_cast<double>(wanted))) << temperature;
    EXPECT_NEAR(got, static_cast<double>(slope), 2 * unit * (1 + static_cast<double>(spread))) << temperature;
  }
}

TEST(SoftmaxContrastive, APairAloneInItsSoftmaxHasNoLoss) {
  Context ctx;
  const auto p = convert_pairs<float>(random_pairs({.batch = 2, .width = 3}, 12));
  Tensor<std::uint8_t, 2> left_out({2, 2});
  std::ranges::fill(left_out.flat(), std::uint8_t{1});
  const SoftmaxContrastive loss;
  const auto saved = loss.forward(p.a, p.b, std::log(100.0f), ctx, left_out);
  Tensor<float, 2> da(p.a.shape()), db(p.b.shape());
  float slope = 0;
  loss.backward(saved, 1.0f, da, db, slope, ctx);
  EXPECT_EQ(saved.loss, 0);
  EXPECT_EQ(slope, 0);
}

TEST(SoftmaxContrastive, TheSplitOfTheWorkDoesNotShow) {
  const auto p = convert_pairs<float>(random_pairs({.batch = 150, .extra = 31, .width = 8}, 8));
  Context ctx, serial, odd;
  serial.parallel_for = {};
  odd.parallel_for = backwards();
  const auto wanted = run(SoftmaxContrastive{}, p, serial);
  for (auto* other : {&ctx, &odd}) {
    const auto got = run(SoftmaxContrastive{}, p, *other);
    EXPECT_EQ(got.loss, wanted.loss);
    for (Index i = 0; i < p.num_inputs(); ++i) ASSERT_EQ(got.d.input(i), wanted.d.input(i)) << "input " << i;
  }
}

TEST(SoftmaxContrastive, AllocatesInTheFirstPassOnly) {
  Context ctx;
  const auto p = random_pairs({.batch = 100, .width = 8}, 9);
  (void)run(SoftmaxContrastive{}, p, ctx);
  const auto allocations = ctx.workspace.allocations();
  (void)run(SoftmaxContrastive{}, p, ctx);
  EXPECT_EQ(ctx.workspace.allocations(), allocations);
}

/// A pair that is left out equals one whose similarity is -inf, in value and gradient.
TEST(SoftmaxContrastive, LeavesOutPairsInBothDirections) {
  const PairShape shape{.batch = 5, .extra = 2, .width = 3};
  Tensor<std::uint8_t, 2> left_out({5, 7});
  auto out = left_out.view();
  out(0, 3) = out(2, 1) = out(2, 6) = out(4, 0) = 1;
  out(1, 1) = 1;  // the diagonal is not looked at
  for (const double smoothing : {0.0, 0.1}) {
    const SoftmaxContrastive loss{.label_smoothing = smoothing};
    auto p = random_pairs(shape, 3);
    Context ctx;
    const auto value = [&](const auto& pairs) {
      return loss.forward(pairs.a, pairs.b, pairs.log_scale, ctx, left_out).loss;
    };
    // From the definition.
    const auto u = loss.forward(p.a, p.b, p.log_scale, ctx).pairs.similarity;
    const double scale = std::exp(p.log_scale);
    const auto is_out = [&](Index i, Index j) { return i != j && out(i, j) != 0; };
    double wanted = 0;
    const auto direction = [&](Index own, Index count, const auto& similarity, const auto& skipped) {
      double total = 0, mean = 0, n = 0;
      for (Index j = 0; j < count; ++j)
        if (!skipped(j)) total += std::exp(scale * similarity(j)), mean += scale * similarity(j), n += 1;
      wanted += std::log(total) - (1 - smoothing) * scale * similarity(own) - smoothing * mean / n;
    };
    for (Index i = 0; i < 5; ++i) {
      direction(
          i, 7, [&](Index j) { return u(i, j); }, [&](Index j) { return is_out(i, j); });
      direction(
          i, 5, [&](Index j) { return u(j, i); }, [&](Index j) { return is_out(j, i); });
    }
    EXPECT_NEAR(value(p), wanted / 10, 1e-12);

    const auto saved = loss.forward(p.a, p.b, p.log_scale, ctx, left_out);
    Pairs<double> d{.a = Tensor<double, 2>(p.a.shape()), .b = Tensor<double, 2>(p.b.shape())};
    loss.backward(saved, 1.0, d.a, d.b, d.log_scale, ctx);
    auto lifted = convert_pairs<Dual>(p);
    for (Index i = 0; i + 1 < p.num_inputs(); ++i) {  // the last input is the bias of another loss
      lifted.input(i).d = 1;
      EXPECT_NEAR(value(lifted).d, d.input(i), 1e-12) << i;
      lifted.input(i).d = 0;
    }
  }
}

TEST(SoftmaxContrastive, RefusesContradictions) {
  Context ctx;
  const auto p = random_pairs({}, 10);
  for (const double eps : {-.1, 1.1, std::nan("")})
    EXPECT_THROW((void)run(SoftmaxContrastive{eps}, p, ctx), OptionError);
  EXPECT_THROW((void)(SoftmaxContrastive{}.forward(p.a, p.b.view().rows(0, 3), 0., ctx)), ShapeError);
}

}  // namespace
}  // namespace gatefold
