// The settings of TopKRouter that published models are, against a slow definition that shares nothing with it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "gatefold/losses/aux_losses.hpp"
#include "gatefold/losses/balance.hpp"
#include "gatefold/losses/entropy.hpp"
#include "gatefold/losses/importance.hpp"
#include "gatefold/losses/load.hpp"
#include "gatefold/losses/z_loss.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/routing/routing_report.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/support/alloc_guard.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/refused.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::published_routers_test {
namespace {

using Options = TopKRouterOptions;
constexpr auto kBefore = Renormalise::before_dropping;

struct Setting {
  std::string name;
  Options options;
};
/// The table of TopKRouter's head comment, row by row, for 12 experts of which 4 are chosen, and what is in no row.
std::vector<Setting> settings() {
  const auto sigmoid = RouterScore::sigmoid;
  const ExpertGroups none{};
  std::vector<Setting> all{
      {"OLMoE, Qwen2-MoE, nomic", {}},
      {"Mixtral, Qwen3-MoE, Granite, DBRX", {.renormalise = kBefore}},
      {"GPT-OSS", {.bias = true, .renormalise = kBefore}},
      {"DeepSeek-V2", {.groups = {.count = 4, .kept = 2, .score = GroupScore::best}, .scale = 16}},
      {"DeepSeek-V3",
       {.score = sigmoid,
        .selection_bias = true,
        .groups = {.count = 4, .kept = 2, .score = GroupScore::two_best},
        .renormalise = kBefore,
        .epsilon = 1e-20,
        .scale = 2.5}},
      {"DeepSeek-V4",
       {.score = RouterScore::sqrt_softplus,
        .selection_bias = true,
        .groups = none,
        .renormalise = kBefore,
        .epsilon = 1e-20,
        .scale = 1.5}},
      {"MiniMax-M2", {.score = sigmoid, .selection_bias = true, .groups = none, .renormalise = kBefore}},
      {"LFM2-MoE", {.score = sigmoid, .selection_bias = true, .renormalise = kBefore, .epsilon = 1e-6}},
      {"Ernie 4.5", {.selection_bias = true, .renormalise = kBefore, .floor = 1e-12}},
      {"LongCat", {.selection_bias = true, .scale = 6}},
      {"Llama-4", {.num_selected = 1, .score = sigmoid}},
      {"ReMoE", {.num_selected = 12, .score = RouterScore::relu}},
      {"MoE++", {.renormalise = kBefore, .zeros = 1}},
      {"many zeros", {.score = sigmoid, .bias = true, .renormalise = kBefore, .epsilon = 0.1, .zeros = 3}},
      {"large epsilon", {.score = sigmoid, .renormalise = kBefore, .epsilon = 0.3, .scale = 2}},
      {"softmax with epsilon and bias", {.bias = true, .selection_bias = true, .renormalise = kBefore, .epsilon = 0.3}},
      {"floor that some tokens meet", {.score = sigmoid, .renormalise = kBefore, .floor = 2.6}},
      {"ReLU of some", {.score = RouterScore::relu, .bias = true, .selection_bias = true, .renormalise = kBefore}},
      {"min-p", {.score = sigmoid, .bias = true, .selection_bias = true, .min_p = 0.7, .renormalise = kBefore}},
      {"min-p of a softmax", {.min_p = 0.3}}};
  for (Setting& each : all) {
    each.options.width = 5, each.options.num_experts = 12;
    if (each.options.num_selected == 1 && each.name != "Llama-4") each.options.num_selected = 4;
  }
  return all;
}

/// Numbers that a float holds, the same for every scalar.
template <class T>
void fill(std::span<T> values, std::uint64_t seed, double std = 1) {
  Rng rng(seed);
  for (T& v : values) v = T(static_cast<double>(static_cast<float>(std * rng.normal())));
}
template <class T>
TopKRouter<T> router(const Options& o) {
  TopKRouter<T> r(o);
  fill(r.weight.flat(), 7);
  fill(r.bias.flat(), 8);
  fill(r.selection_bias.flat(), 9, 0.3);
  return r;
}
template <class T>
Tensor<T, 2> tokens(Index rows, std::uint64_t seed = 1) {
  Tensor<T, 2> x({rows, 5});
  fill(x.flat(), seed);
  return x;
}

/// The weights of one token by its experts.
std::map<Index, double> by_definition(const TopKRouter<double>& r, const double* x) {
  const Options& o = r.options;
  const auto experts = static_cast<std::size_t>(o.num_experts);
  std::vector<double> s(experts), c(experts);
  for (std::size_t e = 0; e < experts; ++e) {
    const auto at = static_cast<Index>(e);
    double z = o.bias ? r.bias.data()[e] : 0;
    for (Index d = 0; d < o.width; ++d) z += x[d] * r.weight.view()(at, d);
    s[e] = o.score == RouterScore::softmax         ? std::exp(z)
           : o.score == RouterScore::sigmoid       ? 1 / (1 + std::exp(-z))
           : o.score == RouterScore::sqrt_softplus ? std::sqrt(std::log1p(std::exp(z)))
                                                   : std::max(z, 0.);
  }
  const double all = std::accumulate(s.begin(), s.end(), 0.);
  for (std::size_t e = 0; e < experts; ++e) {
    if (o.score == RouterScore::softmax) s[e] /= all;
    c[e] = s[e] + (o.selection_bias ? r.selection_bias.data()[e] : 0);
  }
  const auto size = experts / static_cast<std::size_t>(o.groups.count);
  std::multimap<double, std::size_t, std::greater<>> groups, ranked;
  for (std::size_t g = 0; g < experts / size; ++g) {
    std::multiset<double, std::greater<>> members(&c[g * size], &c[g * size] + size);
    groups.emplace(*members.begin() + (o.groups.score == GroupScore::two_best ? *std::next(members.begin()) : 0), g);
  }
  groups.erase(std::next(groups.begin(), o.groups.kept), groups.end());
  for (const auto& [score, g] : groups)
    for (std::size_t e = g * size; e < (g + 1) * size; ++e)
      if (o.score != RouterScore::relu || s[e] > 0) ranked.emplace(c[e], e);
  std::map<Index, double> weights;
  double most = 0, sum = 0;
  for (const auto& [rank, e] : ranked)
    if (std::ssize(weights) < o.num_selected) most = std::max(most, weights[static_cast<Index>(e)] = s[e]);
  std::erase_if(weights, [&](const auto& each) { return each.second < o.min_p * most; });
  for (auto& [e, w] : weights) sum += w = e < o.num_experts - o.zeros ? w : 0;
  for (auto& [e, w] : weights) w *= o.scale / (o.renormalise == kBefore ? std::max(sum, o.floor) + o.epsilon : 1);
  return weights;
}

template <class T>
void expect_definition(const Options& options, Isa isa, double precision) {
  const Index rows = 35;
  const auto r = router<T>(options);
  const auto exact = router<double>(options);
  const auto x = tokens<T>(rows);
  const auto exact_x = tokens<double>(rows);
  Context ctx;
  ctx.isa = isa;
  const auto saved = r.forward(x, ctx);
  for (Index t = 0; t < rows; ++t) {
    const auto wanted = by_definition(exact, exact_x.view()[t].data());
    const auto slots = saved.plan.slots_of_token(t);
    ASSERT_EQ(slots.extent(0), std::ssize(wanted)) << t;
    ASSERT_EQ(saved.plan.requested[t], std::ssize(wanted)) << t;
    for (Index i = 0; i < slots.extent(0); ++i) {
      const auto at = wanted.find(saved.plan.expert[slots[i]]);
      ASSERT_NE(at, wanted.end()) << t;
      ASSERT_NEAR(to_double(saved.weight[slots[i]]), at->second, precision * (1 + at->second)) << t;
    }
  }
}

TEST(PublishedRouters, AreTheirDefinition) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    expect_definition<double>(setting.options, Isa::simd, 1e-13);
    for (const Isa isa : {Isa::portable, Isa::simd}) expect_definition<float>(setting.options, isa, 1e-5);
  }
}

using Losses = AuxLosses<Importance, Balance, ZLoss, LocalEntropy, GlobalEntropy>;

/// Of sum a_te w_te + the losses, and once more with few seats, in which tokens are turned away.
void expect_exact_gradient(const Options& options) {
  const Index rows = 7;
  const auto r = router<double>(options);
  const auto x = tokens<double>(rows);
  const Losses losses{.coefficient = 0.3};
  Tensor<double, 2> a({rows, 12}), dlogits(a.shape()), dx(x.shape());
  fill(a.flat(), 3);
  auto grad = zeros_like(r);
  Context ctx;
  const auto saved = r.forward(x, ctx);
  auto dweight = ctx.workspace.take<double>(saved.plan.num_slots());
  for (Index n = 0; n < dweight.size(); ++n) dweight[n] = a.view()(saved.plan.token[n], saved.plan.expert[n]);
  losses.add_gradient(saved.scores, 1.0, dlogits, ctx);
  r.backward(saved, dweight, dlogits, dx, grad, ctx);

  auto lifted = router<Dual>(options);
  auto lifted_x = tokens<Dual>(rows);
  const auto derivative = [&](Dual& variable) {
    const auto scope = ctx.workspace.scope();
    variable.d = 1;
    const auto pass = lifted.forward(lifted_x, ctx);
    double sum = losses.value(pass.scores, ctx).d;
    variable.d = 0;
    for (Index n = 0; n < pass.plan.num_slots(); ++n)
      sum += a.view()(pass.plan.token[n], pass.plan.expert[n]) * pass.weight[n].d;
    return sum;
  };
  const auto check = [&](std::string_view what, std::span<const double> found, std::span<Dual> variables) {
    ASSERT_EQ(found.size(), variables.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double wanted = derivative(variables[i]);
      ASSERT_NEAR(found[i], wanted, 1e-11 * (1 + std::abs(wanted))) << what << " " << i;
    }
  };
  check("x", dx.flat(), lifted_x.flat());
  check("weight", grad.weight.flat(), lifted.weight.flat());
  check("bias", grad.bias.flat(), lifted.bias.flat());
  EXPECT_THAT(grad.selection_bias.flat(), testing::Each(0.0));
}

TEST(PublishedRouters, HaveExactGradientsAndSoHaveTheLossesOnThem) {
  for (Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    expect_exact_gradient(setting.options);
    setting.options.capacity = {.factor = .5};
    for (const auto how : {kBefore, Renormalise::after_dropping}) {
      if (setting.options.renormalise == Renormalise::none) continue;
      setting.options.renormalise = how;
      expect_exact_gradient(setting.options);
    }
  }
}

TEST(PublishedRouters, TheSelectionBiasDecidesOnTheChoiceOnly) {
  auto r = router<float>(
      {.width = 5, .num_experts = 12, .num_selected = 3, .score = RouterScore::sigmoid, .selection_bias = true});
  std::ranges::fill(r.selection_bias.flat(), 0.0f);
  const auto x = tokens<float>(50);
  Context ctx;
  const auto before = r.forward(x, ctx);
  r.selection_bias.data()[7] = 2;   // more than any score
  r.selection_bias.data()[2] = -2;  // less than any other
  const auto after = r.forward(x, ctx);
  EXPECT_LT(before.plan.demand[7], 50);
  EXPECT_GT(before.plan.demand[2], 0);
  EXPECT_EQ(after.plan.demand[7], 50);
  EXPECT_EQ(after.plan.demand[2], 0);
  for (Index n = 0; n < after.plan.num_slots(); ++n)
    EXPECT_EQ(after.weight[n], before.gates(after.plan.token[n], after.plan.expert[n]));
}

// Groups keep together, so whole groups are exchanged, and experts within them.
TEST(PublishedRouters, ExpertsMayBeExchanged) {
  const std::array<std::size_t, 12> from{9, 11, 10, 3, 4, 5, 1, 0, 2, 8, 7, 6};
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    const auto r = router<double>(setting.options);
    auto other = r;
    for (std::size_t e = 0; e < 12; ++e) {
      const auto at = static_cast<Index>(e), was = static_cast<Index>(from[e]);
      std::copy_n(r.weight.view()[was].data(), 5, other.weight.view()[at].data());
      if (setting.options.bias) other.bias.data()[e] = r.bias.data()[from[e]];
      if (setting.options.selection_bias) other.selection_bias.data()[e] = r.selection_bias.data()[from[e]];
    }
    const auto x = tokens<double>(40);
    Context ctx;
    const auto a = r.forward(x, ctx), b = other.forward(x, ctx);
    for (Index t = 0; t < 40; ++t)
      for (Index k = 0; k < setting.options.num_selected; ++k) {
        const Index mine = b.scores.choice(t, k);
        ASSERT_EQ(mine < 0 ? -1 : static_cast<Index>(from[static_cast<std::size_t>(mine)]), a.scores.choice(t, k));
      }
  }
}

TEST(PublishedRouters, AmongEqualsTheSmallerIndexIsFirst) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    TopKRouter<float> r(setting.options);
    std::ranges::fill(r.weight.flat(), 0.25f);
    Tensor<float, 2> x({20, 5});
    std::ranges::fill(x.flat(), 1.0f);
    Context ctx;
    const auto saved = r.forward(x, ctx);
    for (Index t = 0; t < 20; ++t)
      for (Index k = 0; k < setting.options.num_selected; ++k) ASSERT_EQ(saved.scores.choice(t, k), k);
  }
}

TEST(PublishedRouters, NanStaysInItsToken) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    const auto r = router<float>(setting.options);
    auto x = tokens<float>(40);
    Context ctx;
    const auto clean = r.forward(x, ctx);
    x.view()(11, 2) = std::numeric_limits<float>::quiet_NaN();
    const auto saved = r.forward(x, ctx);
    Tensor<float, 2> dx(x.shape()), dlogits({40, 12});
    auto grad = zeros_like(r);
    const Losses losses{};
    EXPECT_TRUE(std::isfinite(losses.value(saved.scores, ctx)));
    losses.add_gradient(saved.scores, 1.0f, dlogits, ctx);
    r.backward(saved, saved.weight, dlogits, dx, grad, ctx);
    for (Index t = 0; t < 40; ++t) {
      if (t == 11) continue;
      const auto slots = saved.plan.slots_of_token(t), were = clean.plan.slots_of_token(t);
      ASSERT_EQ(slots.extent(0), were.extent(0));
      for (Index i = 0; i < slots.extent(0); ++i) ASSERT_EQ(saved.weight[slots[i]], clean.weight[were[i]]) << t;
      for (Index d = 0; d < 5; ++d) ASSERT_TRUE(std::isfinite(dx.view()(t, d))) << t;
    }
    RoutingReport report;
    report.record(saved);
    EXPECT_EQ(report.layers()[0].total().nan_tokens, 1);
  }
}

// Of logits far below 0 the scores are 0 or vanish; what they share out is then what it tends to.
TEST(PublishedRouters, VanishingScoresAreSharedAsTheirLogitsSay) {
  const auto check = []<class T>(T, RouterScore score, double power) {
    TopKRouter<T> r({.width = 2, .num_experts = 3, .num_selected = 2, .score = score, .renormalise = kBefore});
    std::ranges::copy(std::array<T, 6>{1, 0, 1, 1, 9, 0}, r.weight.data());
    Tensor<T, 2> x({1, 2}), dx({1, 2});
    x.data()[0] = std::is_same_v<T, float> ? T(-150) : T(-1500), x.data()[1] = T(-.5);
    Context ctx;
    const auto saved = r.forward(x, ctx);
    const double share = 1 / (1 + std::exp(-.5 * power));
    ASSERT_EQ(saved.plan.num_slots(), 2);
    EXPECT_NEAR(saved.weight[0], share, 1e-6);
    EXPECT_NEAR(saved.weight[1], 1 - share, 1e-6);
    auto dweight = ctx.workspace.take_zeroed<T>(2);
    dweight[1] = 1;
    auto grad = zeros_like(r);
    r.backward(saved, dweight, {}, dx, grad, ctx);
    EXPECT_NEAR(dx.data()[0], 0, 1e-6);
    EXPECT_NEAR(dx.data()[1], power * share * (1 - share), 1e-6);
  };
  check(0.0f, RouterScore::sigmoid, 1);
  check(0.0, RouterScore::sigmoid, 1);
  check(0.0f, RouterScore::sqrt_softplus, 0.5);
  check(0.0, RouterScore::sqrt_softplus, 0.5);
}

TEST(PublishedRouters, ThreadsChangeNoBitAndAPassAllocatesNothing) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    if (setting.name != "DeepSeek-V3" && setting.name != "ReLU of some" && setting.name != "min-p") continue;
    const auto r = router<float>(setting.options);
    const auto x = tokens<float>(3000);
    Tensor<float, 2> dx(x.shape());
    std::vector<float> first;
    for (const Index workers : {1, 2, 7}) {
      Context ctx;
      ctx.parallel_for = workers == 1 ? ParallelFor() : test::threads(workers);
      auto grad = zeros_like(r);
      const auto pass = [&] {
        const auto scope = ctx.workspace.scope();
        const auto saved = r.forward(x, ctx);
        r.backward(saved, saved.weight, {}, dx, grad, ctx);
      };
      pass();
      std::vector<float> bits(dx.flat().begin(), dx.flat().end());
      bits.insert(bits.end(), grad.weight.flat().begin(), grad.weight.flat().end());
      if (first.empty()) first = bits;
      ASSERT_EQ(bits, first) << workers;
      if (workers != 1) continue;
      const test::AllocGuard guard;
      pass();
      EXPECT_EQ(guard.count(), 0);
    }
  }
}

TEST(PublishedRouters, LoadIsForThoseThatChooseByTheirLogits) {
  Rng rng(1);
  Context ctx;
  ctx.rng = &rng;
  const auto x = tokens<double>(20);
  const auto value = [&](Options o) {
    o.noise = 1;
    return Load{}.value(router<double>(o).forward(x, ctx).scores, ctx);
  };
  const Options plain{.width = 5, .num_experts = 12, .num_selected = 2};
  Options sigmoid = plain, biased = plain, grouped = plain, relu = plain, min_p = plain;
  sigmoid.score = RouterScore::sigmoid;
  biased.selection_bias = true;
  grouped.groups = {.count = 3, .kept = 2};
  relu.score = RouterScore::relu;
  min_p.min_p = 0.1;
  EXPECT_GT(value(plain), 0);
  EXPECT_GT(value(sigmoid), 0);
  for (const Options& o : {biased, grouped, relu, min_p})
    test::expect_option_error([&] { value(o); }, "Load: the router chooses by more than its noisy logits");
}

TEST(PublishedRouters, RefuseContradictions) {
  const Options base{.width = 5, .num_experts = 12, .num_selected = 4};
  const auto refused = [&](auto&& change, std::string_view why) {
    Options o = base;
    change(o);
    test::expect_option_error([&] { TopKRouter<float>{o}; }, why);
  };
  refused([](Options& o) { o.groups.count = 5; }, "groups.count is 5, expected a divisor of the 12 experts");
  refused([](Options& o) { o.groups = {.count = 4, .kept = 5}; }, "groups.kept is 5, expected 1..4");
  refused([](Options& o) { o.groups = {.count = 4, .kept = 1}; }, "num_selected is 4, expected at most 3");
  refused([](Options& o) { o.groups = {.count = 12, .kept = 6, .score = GroupScore::two_best}; }, "groups.count is 12");
  refused([](Options& o) { o.min_p = 1.5; }, "min_p is 1.5");
  refused([](Options& o) { o.epsilon = 1e-6; }, "without a division");
  refused([](Options& o) { o.floor = 1e-6; }, "without a division");
  refused([](Options& o) { o.renormalise = kBefore, o.epsilon = -1; }, "epsilon is -1");
  refused([](Options& o) { o.scale = 0; }, "scale is 0");
  refused([](Options& o) { o.zeros = 1; }, "zeros is 1, expected 0 where weights are not renormalised");
  refused([](Options& o) { o.renormalise = kBefore, o.zeros = 12; }, "zeros is 12, expected 0 to fewer");
  TopKRouter<float> r(base);
  r.options.selection_bias = true;
  Context ctx;
  test::expect_shape_error([&] { (void)r.forward(tokens<float>(3), ctx); },
                           "selection_bias has shape [0], expected [12]");
  TopKRouter<float> with(r.options);
  test::expect_error<std::invalid_argument>([&] { for_each_param([](std::string_view, auto&, auto&) {}, r, with); },
                                            "only some of the modules");
}

}  // namespace
}  // namespace gatefold::published_routers_test
