#include "gatefold/routing/top_k_router.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/losses/limoe_losses.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/routing/routing_report.hpp"
#include "tests/routing/logit_router.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::top_k_router_test {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::Property;

using Options = TopKRouter<double>::Options;

template <class T>
Tensor<T, 2> random(Shape<2> shape, std::uint64_t seed) {
  Rng rng(seed);
  Tensor<T, 2> t(shape);
  for (T& v : t.flat()) v = T(rng.normal());
  return t;
}
template <class T>
TopKRouter<T> router(const typename TopKRouter<T>::Options& o) {
  TopKRouter<T> r(o);
  r.weight = random<T>({o.num_experts, o.width}, 7);
  return r;
}
template <class T, std::size_t Rank>
std::vector<T> list(View<const T, Rank> v) {
  return {v.data(), v.data() + v.size()};
}

TEST(TopKRouter, GatesAreTheSoftmaxOfThePlainProduct) {
  const auto r = router<double>({.width = 5, .num_experts = 3, .num_selected = 2});
  const auto x = random<double>({4, 5}, 1);
  Context ctx;
  const auto saved = r.forward(x, ctx);
  for (Index t = 0; t < 4; ++t) {
    std::array<double, 3> power{};
    double total = 0;
    for (Index e = 0; e < 3; ++e) {
      double logit = 0;
      for (Index d = 0; d < 5; ++d) logit += x.view()(t, d) * r.weight.view()(e, d);
      EXPECT_NEAR(saved.scores.logits(t, e), logit, 1e-14);
      total += power[static_cast<std::size_t>(e)] = std::exp(logit);
    }
    for (Index e = 0; e < 3; ++e) {
      EXPECT_NEAR(saved.gates(t, e), power[static_cast<std::size_t>(e)] / total, 1e-15);
      EXPECT_NEAR(saved.scores.log_probs(t, e), std::log(power[static_cast<std::size_t>(e)] / total), 1e-13);
    }
  }
  EXPECT_EQ(saved.scores.group_size, 4);
  EXPECT_EQ(saved.scores.noise_std, 0);
  for (Index n = 0; n < saved.plan.num_slots(); ++n)
    EXPECT_EQ(saved.weight[n], saved.gates(saved.plan.token[n], saved.plan.expert[n])) << "not renormalised";
}

TEST(TopKRouter, RenormalisedBeforeDroppingIsTheSoftmaxOfTheSelectedLogits) {  // CLIP-MoE, eq. 3
  const auto r =
      router<double>({.width = 5, .num_experts = 6, .num_selected = 3, .renormalise = Renormalise::before_dropping});
  Context ctx;
  const auto saved = r.forward(random<double>({9, 5}, 2), ctx);
  ASSERT_EQ(saved.plan.num_slots(), 27);
  for (Index t = 0; t < 9; ++t) {
    std::vector<double> logits = list<double>(saved.scores.logits[t]);
    std::sort(logits.rbegin(), logits.rend());
    const double total = std::exp(logits[0]) + std::exp(logits[1]) + std::exp(logits[2]);
    for (Index k = 0; k < 3; ++k)
      EXPECT_NEAR(saved.weight[saved.plan.slots_of_token(t)[k]], std::exp(logits[static_cast<std::size_t>(k)]) / total,
                  1e-14);
  }
}

TEST(TopKRouter, DroppingLeavesOrSpreadsTheWeight) {
  Options o{.width = 5, .num_experts = 4, .num_selected = 2, .capacity = {.factor = .6}};
  const auto x = random<double>({12, 5}, 3);
  for (const auto how : {Renormalise::before_dropping, Renormalise::after_dropping}) {
    o.renormalise = how;
    Context ctx;
    const auto saved = router<double>(o).forward(x, ctx);
    ASSERT_LT(saved.plan.num_slots(), 24);
    Index halves = 0;
    for (Index t = 0; t < 12; ++t) {
      const auto slots = saved.plan.slots_of_token(t);
      double sum = 0;
      for (Index i = 0; i < slots.extent(0); ++i) sum += saved.weight[slots[i]];
      if (slots.extent(0) == 2 || (how == Renormalise::after_dropping && slots.extent(0) == 1))
        EXPECT_NEAR(sum, 1, 1e-15);
      else
        EXPECT_LT(sum, 1);
      halves += slots.extent(0) == 1;
    }
    EXPECT_GT(halves, 0);
  }
}

// Token 0 fills expert 0; token 1's other choices lie so far below it that their gates are 0.
TEST(TopKRouter, AfterDroppingWeighsTheSeatedHoweverFarBelowTheFirstChoice) {
  const auto check = []<class T>(T, double far) {
    for (const Isa isa : {Isa::portable, Isa::simd}) {
      TopKRouter<T> r({.width = 6,
                       .num_experts = 6,
                       .num_selected = 3,
                       .capacity = {.factor = 0.67, .rounding = Capacity::Rounding::floor, .minimum = 1},
                       .renormalise = Renormalise::after_dropping});
      for (Index e = 0; e < 6; ++e) r.weight.view()(e, e) = 1;
      Tensor<T, 2> x({2, 6}), dx({2, 6});
      const T big = T(2 * far + 200), f = T(far);
      // The second choice stands behind the third, so that the order of the columns does not decide.
      std::ranges::copy(std::array<T, 12>{0, -big, -big, -1, -2, -big, 0, T(-f - T(.5)), -f, -big, -big, -big},
                        x.data());
      Context ctx;
      ctx.isa = isa;
      const auto saved = r.forward(x, ctx);
      EXPECT_THAT(list(saved.scores.choice[1]), ElementsAre(0, 2, 1));
      const auto slots = saved.plan.slots_of_token(1);
      ASSERT_EQ(slots.extent(0), 2);
      EXPECT_EQ(saved.plan.expert[slots[0]], 2);
      EXPECT_EQ(saved.plan.expert[slots[1]], 1);
      const double w = 1 / (1 + std::exp(-.5)), unit = 4 * std::numeric_limits<T>::epsilon();
      EXPECT_NEAR(saved.weight[slots[0]], w, unit);
      EXPECT_NEAR(saved.weight[slots[1]], 1 - w, unit);

      auto dweight = ctx.workspace.take_zeroed<T>(saved.plan.num_slots());
      dweight[slots[0]] = 1;
      auto grad = zeros_like(r);
      r.backward(saved, dweight, {}, dx, grad, ctx);
      for (Index e = 0; e < 6; ++e)
        EXPECT_NEAR(dx.view()(1, e), e == 2 ? w * (1 - w) : e == 1 ? -w * (1 - w) : 0, unit) << e;
    }
  };
  for (const double far : {1., 50., 80., 88., 100., 1e3}) check(0.0f, far);
  for (const double far : {1., 88., 600., 700., 745., 1e4}) check(0.0, far);
}

// Of the seats that tokens got: exact for every mode and gap, by dual numbers.
TEST(TopKRouter, GradientsOfRenormalisedWeightsAreExact) {
  for (const auto how : {Renormalise::before_dropping, Renormalise::after_dropping})
    for (const double stretch : {1., 400.}) {
      const Options o{.width = 5, .num_experts = 6, .num_selected = 3, .capacity = {.factor = .6}, .renormalise = how};
      const auto r = router<double>(o);
      auto x = random<double>({9, 5}, 3);
      for (double& v : x.flat()) v *= stretch;
      Context ctx;
      const auto saved = r.forward(x, ctx);
      const auto dweight = random<double>({1, saved.plan.num_slots()}, 4);
      auto grad = zeros_like(r);
      Tensor<double, 2> dx(x.shape());
      r.backward(saved, dweight.view()[0], {}, dx, grad, ctx);
      TopKRouter<Dual> lifted(
          {.width = 5, .num_experts = 6, .num_selected = 3, .capacity = {.factor = .6}, .renormalise = how});
      std::ranges::transform(r.weight.flat(), lifted.weight.flat().begin(), [](double v) { return Dual(v); });
      Tensor<Dual, 2> lifted_x(x.shape());
      std::ranges::transform(x.flat(), lifted_x.flat().begin(), [](double v) { return Dual(v); });
      for (std::size_t i = 0; i < x.flat().size(); ++i) {
        lifted_x.flat()[i].d = 1;
        Context dual_ctx;
        const auto other = lifted.forward(lifted_x, dual_ctx);
        lifted_x.flat()[i].d = 0;
        ASSERT_EQ(other.plan.num_slots(), saved.plan.num_slots());
        double sum = 0;
        for (Index n = 0; n < other.plan.num_slots(); ++n) sum += dweight.data()[n] * other.weight[n].d;
        EXPECT_NEAR(dx.flat()[i], sum, 1e-12) << i;
      }
    }
}

// 2 of 3 experts: token 1 has one open, token 2 none, token 3 is a NaN.
template <class T>
void expect_closed_experts_left_alone(Isa isa) {
  constexpr double kClosed = -std::numeric_limits<double>::infinity();
  TopKRouter<T> r({.width = 3, .num_experts = 3, .num_selected = 2, .renormalise = Renormalise::before_dropping});
  test::set_weights_for_logits(r);
  auto x = test::inputs_for_logits<T>(
      {{1, 2, 3}, {kClosed, kClosed, 5}, {kClosed, kClosed, kClosed}, {1, 1, 1}, {2, 1, kClosed}});
  x.view()(3, 0) = std::numeric_limits<T>::quiet_NaN();
  Context ctx;
  ctx.isa = isa;
  const auto saved = r.forward(x, ctx);
  ASSERT_EQ(saved.scores.logits(1, 0), T(kClosed));
  EXPECT_THAT(list(View<const Index, 1>(saved.scores.choice.data(), {10})),
              ElementsAre(2, 1, 2, -1, -1, -1, 0, 1, 0, 1));
  EXPECT_THAT(list(saved.plan.requested), ElementsAre(2, 1, 0, 2, 2));
  EXPECT_THAT(list(saved.plan.demand), ElementsAre(2, 3, 2));
  EXPECT_EQ(saved.plan.num_slots(), 7);
  EXPECT_THAT(list(saved.gates[2]), Each(T(0)));
  EXPECT_EQ(saved.weight[saved.plan.slots_of_token(1)[0]], T(1));

  // Neither backward nor the losses know of the token without experts.
  auto grad = zeros_like(r);
  Tensor<T, 2> dx(x.shape()), dlogits(x.shape());
  const auto losses = limoe_losses({.coefficient = 1, .min_image_experts = 3, .min_text_experts = 3});
  auto without = saved.scores;
  const std::array<std::uint8_t, 5> modality{0, 0, kPadding, 0, 0};
  const TokenLayout layout{.offset = {}, .modality = {modality.data(), {5}}};
  without.layout = &layout;
  EXPECT_EQ(losses.value(saved.scores, ctx), losses.value(without, ctx));
  EXPECT_TRUE(std::isfinite(losses.value(saved.scores, ctx)));
  losses.add_gradient(saved.scores, T(1), dlogits, ctx);
  EXPECT_THAT(list(View<const T, 2>(dlogits)[2]), Each(T(0)));
  r.backward(saved, saved.weight, dlogits, dx, grad, ctx);
  EXPECT_THAT(list(View<const T, 2>(dx)[2]), Each(T(0)));
  for (const Index t : {0, 1, 4})
    for (const T v : list(View<const T, 2>(dx)[t])) EXPECT_TRUE(std::isfinite(v)) << t;

  RoutingReport report;
  report.record(saved);
  const auto usage = report.layers()[0].total();
  EXPECT_EQ(usage.tokens, 5);
  EXPECT_EQ(usage.closed_tokens, 1);
  EXPECT_EQ(usage.nan_tokens, 1);
  EXPECT_EQ(usage.unseated, 1);
  EXPECT_THAT(usage.requests, ElementsAre(2, 3, 2));
  const double confidence = std::exp(3.) / (std::exp(1.) + std::exp(2.) + std::exp(3.)) + 1 + 1 / (1 + std::exp(-1.));
  EXPECT_NEAR(usage.mean_confidence(), confidence / 3, 1e-6);
}
TEST(TopKRouter, ClosedExpertsAreNotAskedAndATokenWithoutAnyTakesNoSeat) {
  for (const Isa isa : {Isa::portable, Isa::simd}) {
    expect_closed_experts_left_alone<float>(isa);
    expect_closed_experts_left_alone<double>(isa);
  }
}

TEST(TopKRouter, NoiseIsOneStreamAndOnlyForTraining) {
  const auto r = router<double>({.width = 5, .num_experts = 4, .num_selected = 2, .noise = 2});
  const auto x = random<double>({6, 5}, 4);
  Context ctx;
  const auto quiet = r.forward(x, ctx);
  EXPECT_EQ(quiet.scores.noise_std, 0);
  EXPECT_EQ(quiet.scores.noisy_logits.data(), quiet.scores.logits.data());

  Rng rng(11);
  ctx.rng = &rng;
  const auto noisy = r.forward(x, ctx);
  const Rng stream = Rng(11).next_stream();
  EXPECT_EQ(noisy.scores.noise_std, .5) << "noise / E";
  for (Index i = 0; i < 24; ++i)
    EXPECT_EQ(noisy.scores.noisy_logits.data()[i], quiet.scores.logits.data()[i] + .5 * stream.normal_at(i));
  EXPECT_EQ(list(noisy.scores.log_probs), list(quiet.scores.log_probs)) << "of the clean logits";
  EXPECT_NE(list(noisy.gates), list(quiet.gates));
  const auto again = r.forward(x, ctx);
  EXPECT_NE(list(noisy.gates), list(again.gates)) << "the next pass draws the next stream";
}

TEST(TopKRouter, JitterScalesWhatTheRouterSees) {
  const auto r = router<double>({.width = 5, .num_experts = 4, .jitter = .25});
  const auto x = random<double>({40, 5}, 5);
  Context ctx;
  Rng rng(12);
  ctx.rng = &rng;
  const auto saved = r.forward(x, ctx);
  double least = 2, most = 0;
  for (Index i = 0; i < 200; ++i) {
    const double factor = saved.gating.x.data()[i] / x.data()[i];
    least = std::min(least, factor), most = std::max(most, factor);
  }
  EXPECT_GE(least, .75 - 1e-15);
  EXPECT_LT(least, .78);
  EXPECT_LE(most, 1.25 + 1e-15);
  EXPECT_GT(most, 1.22);
}

TEST(TopKRouter, NanAndInfinityStayInTheirToken) {
  const auto check = []<class T>(T) {
    for (const Isa isa : {Isa::portable, Isa::simd}) {
      const auto r = router<T>({.width = 5, .num_experts = 20, .num_selected = 2});
      auto x = random<T>({6, 5}, 6);
      Context ctx;
      ctx.isa = isa;
      const auto clean = r.forward(x, ctx);
      x.view()(2, 1) = std::numeric_limits<T>::quiet_NaN();
      x.view()(4, 0) = std::numeric_limits<T>::infinity();
      const auto saved = r.forward(x, ctx);
      for (const Index t : {0, 1, 3, 5}) {
        EXPECT_EQ(list(saved.gates[t]), list(clean.gates[t]));
        for (Index k = 0; k < 2; ++k)
          EXPECT_EQ(saved.weight[saved.plan.slots_of_token(t)[k]], clean.weight[clean.plan.slots_of_token(t)[k]]);
      }
      EXPECT_THAT(list(saved.gates[2]), Each(testing::IsNan()));
      EXPECT_THAT(list(saved.scores.log_probs[2]), Each(testing::IsNan()));
    }
  };
  check(0.0);
  check(0.0f);
}

TEST(TopKRouter, MaskedLogitsGetNoGate) {
  Context ctx;
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::array<double, 3> logits{1, -kInf, 2};
  std::array<double, 3> gates{}, logs{};
  kernels::softmax_rows<double>({logits.data(), {1, 3}}, {gates.data(), {1, 3}}, ctx);
  kernels::log_softmax_rows<double>({logits.data(), {1, 3}}, {logs.data(), {1, 3}}, ctx);
  EXPECT_EQ(gates[1], 0);
  EXPECT_EQ(logs[1], -kInf);
  EXPECT_NEAR(gates[0], 1 / (1 + std::exp(1.)), 1e-15);
}

TEST(TopKRouter, PaddingMayHoldAnything) {
  const auto r = router<double>({.width = 5, .num_experts = 4, .num_selected = 2, .capacity = {.factor = 1}});
  auto x = random<double>({6, 5}, 8);
  const std::array<std::uint8_t, 6> modality{0, kPadding, 0, 0, kPadding, 0};
  const TokenLayout layout{.offset = {}, .modality = {modality.data(), {6}}};
  std::fill_n(x.view()[1].data(), 5, std::numeric_limits<double>::quiet_NaN());
  Tensor<double, 2> kept({4, 5});  // the same tokens without the padding
  Index row = 0;
  for (const Index t : {0, 2, 3, 5}) std::copy_n(x.view()[t].data(), 5, kept.view()[row++].data());

  Context ctx;
  const auto alone = r.forward(kept, ctx);
  ctx.layout = &layout;
  const auto saved = r.forward(x, ctx);
  EXPECT_EQ(list(saved.weight), list(alone.weight));
  EXPECT_EQ(list(saved.plan.expert), list(alone.plan.expert));
  EXPECT_THAT(list(saved.scores.choice[1]), ElementsAre(-1, -1));

  auto grad = zeros_like(r), grad_alone = zeros_like(r);
  Tensor<double, 2> dx({6, 5}), dx_alone({4, 5});
  r.backward(saved, saved.weight, {}, dx, grad, ctx);
  ctx.layout = nullptr;
  r.backward(alone, alone.weight, {}, dx_alone, grad_alone, ctx);
  for (std::size_t i = 0; i < grad.weight.flat().size(); ++i)
    EXPECT_NEAR(grad.weight.flat()[i], grad_alone.weight.flat()[i], 1e-15);
  EXPECT_THAT(list(View<const double, 2>(dx)[1]), Each(0.0));
}

TEST(TopKRouter, LooksAgainAtWhatWasAssigned) {
  auto r = router<double>({.width = 4, .num_experts = 2});
  const auto x = random<double>({3, 4}, 1);
  Context ctx;
  r.options.num_selected = 3;
  EXPECT_THROW((void)r.forward(x, ctx), OptionError);
  r.options.num_selected = 1;
  r.weight = Tensor<double, 2>({1, 4});
  EXPECT_THAT([&] { (void)r.forward(x, ctx); },
              testing::ThrowsMessage<ShapeError>(HasSubstr("weight has shape [1, 4], expected [2, 4]")));
}

TEST(TopKRouter, RefusesContradictions) {
  const auto refused = [](const Options& o, const char* why) {
    EXPECT_THAT([&] { TopKRouter<double>{o}; },
                testing::Throws<OptionError>(Property(&OptionError::what, HasSubstr(why))));
  };
  refused({.width = 4, .num_experts = 2, .num_selected = 3}, "num_selected is 3, expected 1..2");
  refused({.width = 4, .num_experts = 2, .num_selected = 0}, "num_selected is 0, expected 1..2");
  refused({.width = 4, .num_experts = 2, .renormalise = Renormalise::before_dropping}, "gets no gradient");
  refused({.width = 4, .num_experts = 2, .renormalise = Renormalise::after_dropping}, "gets no gradient");
  refused({.width = 0, .num_experts = 2}, "width is 0");
  refused({.width = 4, .num_experts = 0}, "num_experts is 0");
  refused({.width = 4, .num_experts = 2, .capacity = {.factor = 0}}, "factor is 0");
  refused({.width = 4, .num_experts = 2, .noise = -1}, "noise is -1");
  refused({.width = 4, .num_experts = 2, .jitter = 1}, "jitter is 1");
  refused({.width = 4, .num_experts = 2, .group_size = -1}, "group_size is -1");

  Context ctx;
  const auto r = router<double>({.width = 4, .num_experts = 2});
  EXPECT_THAT(
      [&] {
        (void)r.forward(random<double>({3, 5}, 1), ctx);
      },
      testing::Throws<ShapeError>(
          Property(&ShapeError::what, HasSubstr("TopKRouter::forward: x has shape [3, 5], expected [3, 4]"))));
}

TEST(TopKRouter, OneExpertAndNoTokens) {
  Context ctx;
  const auto r = router<double>({.width = 4, .num_experts = 1});
  EXPECT_THAT(list(r.forward(random<double>({3, 4}, 1), ctx).weight), Each(1.0));
  auto grad = zeros_like(r);
  Tensor<double, 2> none({0, 4});
  const auto saved = r.forward(none, ctx);
  r.backward(saved, saved.weight, {}, none, grad, ctx);
  EXPECT_THAT(grad.weight.flat(), Each(0.0));
}

TEST(TopKRouter, NoiseDoesNotDependOnThreads) {
  const auto r = router<float>({.width = 16, .num_experts = 8, .num_selected = 2, .noise = 1, .jitter = .1});
  const auto x = random<float>({3000, 16}, 9);
  std::vector<float> first;
  for (const Index workers : {1, 2, 7}) {
    Context ctx;
    Rng rng(5);
    ctx.rng = &rng;
    ctx.parallel_for = test::threads(workers);
    const auto weight = list(r.forward(x, ctx).weight);
    if (first.empty()) first = weight;
    EXPECT_EQ(weight, first) << workers;
  }
}

}  // namespace
}  // namespace gatefold::top_k_router_test
