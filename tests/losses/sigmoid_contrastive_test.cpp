#include "gatefold/losses/sigmoid_contrastive.hpp"

#include <gtest/gtest.h>

#include "tests/losses/contrastive_case.hpp"

namespace gatefold {
namespace {

using namespace test;

template <class T>
struct Result {
  T loss{};
  Pairs<T> d;
};

template <class T>
Result<T> run(const Pairs<T>& p, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  const SigmoidContrastive loss;
  const SigmoidContrastive::Params<T> params{.log_scale = p.log_scale, .bias = p.bias};
  const auto saved = loss.forward(p.a, p.b, params, ctx);
  Result<T> r{.loss = saved.loss, .d = {.a = Tensor<T, 2>(p.a.shape()), .b = Tensor<T, 2>(p.b.shape())}};
  std::ranges::fill(r.d.a.flat(), T(99.0));  // to be overwritten
  std::ranges::fill(r.d.b.flat(), T(99.0));
  SigmoidContrastive::Params<T> dparams{.log_scale = T(3.0), .bias = T(5.0)};  // to be added to
  loss.backward(saved, T(1.0), r.d.a, r.d.b, dparams, ctx);
  r.d.log_scale = dparams.log_scale - T(3.0);
  r.d.bias = dparams.bias - T(5.0);
  return r;
}

TEST(SigmoidContrastive, ValueAndGradientByHand) {
  Context ctx;
  const auto r = run(hand_pairs(), ctx);
  // The numbers are those of unit vectors; eps = 1e-8 in the lengths moves them by about 1e-8.
  EXPECT_NEAR(r.loss, 1.2218257187, 5e-8);
  EXPECT_NEAR(r.d.bias, .1376480698, 5e-8);
  EXPECT_NEAR(r.d.log_scale, .1194905114, 5e-8);
  // dU = 2 dA V and dV = 2 dA^T U with dA = [[-.17717185, .13447071], [.35752105, -.17717185]], less the part along.
  const double da[2][2] = {{-.17717185, .13447071}, {.35752105, -.17717185}};
  const auto p = hand_pairs();
  const Rows<const double> u = p.a, v = p.b;
  for (Index i = 0; i < 2; ++i) {
    double du[2], dv[2];
    for (Index k = 0; k < 2; ++k) {
      du[k] = 2 * (da[i][0] * v(0, k) + da[i][1] * v(1, k));
      dv[k] = 2 * (da[0][i] * u(0, k) + da[1][i] * u(1, k));
    }
    for (Index k = 0; k < 2; ++k) {
      EXPECT_NEAR(r.d.a.view()(i, k), du[k] - u(i, k) * (du[0] * u(i, 0) + du[1] * u(i, 1)), 5e-8);
      EXPECT_NEAR(r.d.b.view()(i, k), dv[k] - v(i, k) * (dv[0] * v(i, 0) + dv[1] * v(i, 1)), 5e-8);
    }
  }
}

TEST(SigmoidContrastive, MatchesTheDefinition) {
  Context ctx;
  for (const auto& shape : pair_shapes())
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const auto p = random_pairs(shape, seed);
      const Rows<const double> a = p.a, b = p.b;
      long double sum = 0;
      for (Index i = 0; i < a.extent(0); ++i)
        for (Index j = 0; j < b.extent(0); ++j) {
          long double dot = 0, aa = 0, bb = 0;
          for (Index k = 0; k < a.extent(1); ++k) {
            dot += static_cast<long double>(a(i, k)) * b(j, k);
            aa += static_cast<long double>(a(i, k)) * a(i, k);
            bb += static_cast<long double>(b(j, k)) * b(j, k);
          }
          const long double logit = std::exp(static_cast<long double>(p.log_scale)) * dot /
                                        ((std::sqrt(aa) + 1e-8L) * (std::sqrt(bb) + 1e-8L)) +
                                    p.bias;
          const long double right = 1 / (1 + std::exp(i == j ? -logit : logit));
          sum -= std::log(right);
        }
      EXPECT_NEAR(run(p, ctx).loss, static_cast<double>(sum / static_cast<long double>(a.extent(0))), 1e-13);
    }
}

// Sums of tens of terms of size below 10: 1e-13 is some hundred roundings.
TEST(SigmoidContrastive, GradientIsExact) {
  Context ctx;
  for (const auto& shape : pair_shapes()) {
    const auto p = random_pairs(shape, 4);
    const auto r = run(p, ctx);
    for (Index i = 0; i < p.num_inputs(); ++i) {
      auto dual = convert_pairs<Dual>(p);
      dual.input(i).d = 1;
      const auto scope = ctx.workspace.scope();
      const SigmoidContrastive::Params<Dual> params{.log_scale = dual.log_scale, .bias = dual.bias};
      EXPECT_NEAR(r.d.input(i), SigmoidContrastive{}.forward(dual.a, dual.b, params, ctx).loss.d, 1e-13)
          << "input " << i;
    }
  }
}

TEST(SigmoidContrastive, AllZeroEmbeddings) {
  Context ctx;
  EXPECT_NEAR(run(zero_pairs(5, 1, 0), ctx).loss, 5 * std::numbers::ln2, 1e-14);
  EXPECT_NEAR(run(zero_pairs(2, 1, -10), ctx).loss, 10.00009080, 5e-9);
  EXPECT_NEAR(run(zero_pairs(4, 1, -10), ctx).loss, 10.00018160, 5e-9);
  const auto r = run(zero_pairs(3, 1, -10), ctx);
  for (const double x : r.d.a.flat()) EXPECT_EQ(x, 0);
  EXPECT_NE(r.d.bias, 0);
}

TEST(SigmoidContrastive, HugeLogitsStayFinite) {
  Context ctx;
  auto p = random_pairs({.batch = 5, .width = 3}, 6);
  p.log_scale = std::log(1e4);
  for (const double bias : {-1e4, 0., 1e4}) {
    p.bias = bias;
    const auto r = run(p, ctx);
    EXPECT_TRUE(std::isfinite(r.loss));
    for (Index i = 0; i < r.d.num_inputs(); ++i) EXPECT_TRUE(std::isfinite(r.d.input(i)));
  }
}

// As for the softmax loss; a row sums 79 terms over B = 70, which keeps errors at their size.
TEST(SigmoidContrastive, FloatAgreesWithDouble) {
  Context ctx;
  const auto p = random_pairs({.batch = 70, .extra = 9, .width = 16}, 7);
  const auto wanted = run(p, ctx);
  const auto got = run(convert_pairs<float>(p), ctx);
  EXPECT_NEAR(got.loss, wanted.loss, 2e-6 * wanted.loss);
  for (Index i = 0; i < p.num_inputs(); ++i)
    EXPECT_NEAR(got.d.input(i), wanted.d.input(i), 2e-6 * (1 + std::abs(wanted.d.input(i)))) << "input " << i;
}

TEST(SigmoidContrastive, TheSplitOfTheWorkDoesNotShow) {
  const auto p = convert_pairs<float>(random_pairs({.batch = 150, .extra = 31, .width = 8}, 8));
  Context ctx, serial, odd;
  serial.parallel_for = {};
  odd.parallel_for = backwards();
  const auto wanted = run(p, serial);
  for (auto* other : {&ctx, &odd}) {
    const auto got = run(p, *other);
    EXPECT_EQ(got.loss, wanted.loss);
    for (Index i = 0; i < p.num_inputs(); ++i) ASSERT_EQ(got.d.input(i), wanted.d.input(i)) << "input " << i;
  }
}

TEST(SigmoidContrastive, AllocatesInTheFirstPassOnly) {
  Context ctx;
  const auto p = random_pairs({.batch = 100, .width = 8}, 9);
  (void)run(p, ctx);
  const auto allocations = ctx.workspace.allocations();
  (void)run(p, ctx);
  EXPECT_EQ(ctx.workspace.allocations(), allocations);
}

// A bias that all but cancels the scaled cosines, as SigLIP learns it.
TEST(SigmoidContrastive, ScaleAndBiasMayNearlyCancel) {
  constexpr Index kBatch = 8;
  for (const double scale : {1e1, 1e3, 1e4}) {
    Rng rng(13);
    Tensor<float, 2> a({kBatch, 4}), b({kBatch, 4});
    for (auto* side : {&a, &b})
      for (float& v : side->flat()) v = static_cast<float>(1 + rng.normal() / std::sqrt(scale));
    Context ctx;
    const SigmoidContrastive loss;
    const auto saved = loss.forward<float>(
        a, b, {.log_scale = static_cast<float>(std::log(scale)), .bias = static_cast<float>(-scale)}, ctx);
    long double wanted = 0, most = 0;
    for (Index i = 0; i < kBatch; ++i)
      for (Index j = 0; j < kBatch; ++j) {
        const long double logit =
            static_cast<long double>(saved.scale) * saved.pairs.similarity(i, j) + static_cast<long double>(saved.bias);
        wanted += std::log1p(std::exp(i == j ? -logit : logit)) / kBatch;
        most = std::max(most, std::abs(logit));
      }
    // Each of B^2 terms rounds at the size of what is left of its logit, and in two functions.
    EXPECT_NEAR(saved.loss, static_cast<double>(wanted), 0x1p-24 * (static_cast<double>(most) + 8) * kBatch) << scale;
  }
}

}  // namespace
}  // namespace gatefold
