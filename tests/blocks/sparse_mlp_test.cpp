#include "gatefold/blocks/sparse_mlp.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "gatefold/losses/limoe_losses.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/expert_choice_router.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/blocks/exact_gradient.hpp"
#include "tests/support/threads.hpp"

namespace gatefold {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;
using testing::Property;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class T, std::size_t Rank>
std::vector<std::remove_const_t<T>> list(View<T, Rank> v) {
  return {v.data(), v.data() + v.size()};
}

/// Gates that are given, not learned: the oracles of V-MoE state them.
struct FixedRouter {
  using Scalar = double;
  struct Saved : Routing<double> {};
  Tensor<double, 2> gates;
  Index num_selected = 2;
  SeatingOptions seating{};
  std::vector<double> last_dweight{};  ///< Of a gradient: what came back.

  static void visit(auto&, auto&...) {}
  Index num_experts() const { return gates.extent(1); }
  Saved forward(Rows<const double>, Context& ctx) const {
    auto choice = ctx.workspace.take<Index>(gates.extent(0), num_selected);
    select_top_k<double>(gates, choice, ctx);
    Saved saved;
    saved.gates = saved.scores.logits = saved.scores.log_probs = gates;
    saved.scores.choice = choice;
    saved.plan = plan_top_k<double>(gates, choice, seating, ctx);
    auto weight = ctx.workspace.take<double>(saved.plan.num_slots());
    for (Index n = 0; n < weight.size(); ++n) weight[n] = gates.view()(saved.plan.token[n], saved.plan.expert[n]);
    saved.weight = weight;
    return saved;
  }
  void backward(const Saved&, View<const double, 1> dweight, Rows<const double>, Rows<double> dx, FixedRouter& grad,
                Context&) const {
    std::fill_n(dx.data(), dx.size(), 0.0);
    grad.last_dweight = list(dweight);
  }
};
static_assert(Router<FixedRouter>);

/// y = factor x + shift
template <class T>
struct Affine {
  using Scalar = T;
  struct Saved {
    Rows<const T> x;
  };
  Tensor<T, 1> factor{{1}}, shift{{1}};
  static void visit(auto& v, auto&... self) {
    v("factor", self.factor...);
    v("shift", self.shift...);
  }
  Saved forward(Rows<const T> x, Rows<T> y, Context&) const {
    for (Index i = 0; i < x.extent(0); ++i)
      for (Index d = 0; d < x.extent(1); ++d) y(i, d) = factor.data()[0] * x(i, d) + shift.data()[0];
    return {x};
  }
  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Affine& grad, Context&) const {
    for (Index i = 0; i < dy.extent(0); ++i)
      for (Index d = 0; d < dy.extent(1); ++d) {
        grad.factor.data()[0] += dy(i, d) * saved.x(i, d);
        grad.shift.data()[0] += dy(i, d);
        dx(i, d) = factor.data()[0] * dy(i, d);
      }
  }
};

std::vector<Affine<double>> affine_experts(const std::vector<std::pair<double, double>>& factor_and_shift) {
  std::vector<Affine<double>> out(factor_and_shift.size());
  for (std::size_t e = 0; e < out.size(); ++e) {
    out[e].factor.data()[0] = factor_and_shift[e].first;
    out[e].shift.data()[0] = factor_and_shift[e].second;
  }
  return out;
}
Tensor<double, 2> column(const std::vector<double>& values) {
  Tensor<double, 2> x({static_cast<Index>(values.size()), 1});
  std::copy(values.begin(), values.end(), x.data());
  return x;
}
/// Two seats for three tokens, whatever K.
const Capacity kTwoOfThree{.factor = 2, .counts = Capacity::Counts::tokens};

struct ScalarOracle {
  Priority priority;
  std::vector<double> y, dweight, dx, dfactor;
};

TEST(SparseMlp, ScalarTokensByHand) {  // the gates of T2, experts x, 2x, 4x
  FixedRouter router{.gates = Tensor<double, 2>({3, 3}), .seating = {.capacity = kTwoOfThree}};
  std::ranges::copy(std::array{.4, 0., .2, .5, .1, .4, .3, .2, .6}, router.gates.data());
  for (const auto& o :
       {ScalarOracle{Priority::position, {1.2, 1.0, 7.2}, {1, 2, 12, 4}, {1.2, .5, 2.4}, {1.4, 0, 2.0}},
        ScalarOracle{Priority::max_gate, {.4, 4.2, 7.2}, {2, 1, 12, 8}, {.4, 2.1, 2.4}, {1.4, 0, 2.6}}}) {
    router.seating.priority = o.priority;
    const SparseMlp<FixedRouter, Affine<double>> layer(router, affine_experts({{1, 0}, {2, 0}, {4, 0}}));
    const auto x = column({1, 2, 3}), dy = column({1, 1, 1});
    auto y = column({kNan, kNan, kNan}), dx = y;
    auto grad = zeros_like(layer);
    Context ctx;
    const auto saved = layer.forward(x, y, ctx);
    layer.backward(saved, dy, dx, grad, ctx);
    EXPECT_THAT(y.flat(), Pointwise(DoubleNear(1e-15), o.y));
    EXPECT_THAT(dx.flat(), Pointwise(DoubleNear(1e-15), o.dx));
    EXPECT_THAT(grad.router.last_dweight, Pointwise(DoubleNear(1e-15), o.dweight));
    for (std::size_t e = 0; e < 3; ++e) EXPECT_NEAR(grad.experts[e].factor.data()[0], o.dfactor[e], 1e-15);
  }
}

TEST(SparseMlp, T5OfVMoe) {
  FixedRouter router{.gates = Tensor<double, 2>({32, 4}), .seating = {.capacity = {.factor = 1}, .group_size = 4}};
  Tensor<double, 2> x({32, 1}), y({32, 1});
  for (Index i = 0; i < 32; ++i) {
    x.data()[i] = 10.0 * static_cast<double>(i + 1);
    router.gates.view()(i, 2 * i % 4) = .7;
    router.gates.view()(i, (2 * i + 1) % 4) = .3;
  }
  const SparseMlp<FixedRouter, Affine<double>> layer(router, affine_experts({{1, 1}, {1, 2}, {1, 3}, {1, 4}}));
  Context ctx;
  const auto saved = layer.forward(x, y, ctx);
  EXPECT_EQ(saved.routing.plan.num_slots(), 64) << "two seats at four experts in eight groups: all full, none dropped";
  for (Index i = 0; i < 32; ++i) EXPECT_NEAR(y.data()[i] - x.data()[i], i % 2 ? 3.3 : 1.3, 1e-12);
}

TEST(SparseMlp, T5bOfVMoe) {
  FixedRouter router{.gates = Tensor<double, 2>({16, 4}), .num_selected = 1, .seating = {.capacity = {.factor = 1}}};
  Tensor<double, 2> x({16, 1}), y({16, 1});
  for (Index s = 0; s < 16; ++s) {
    x.data()[s] = static_cast<double>(s);
    router.gates.view()(s, s / 4) = 1;
  }
  const SparseMlp<FixedRouter, Affine<double>> layer(router, affine_experts({{1, 1}, {1, 2}, {1, 3}, {1, 4}}));
  Context ctx;
  (void)layer.forward(x, y, ctx);
  for (Index s = 0; s < 16; ++s) EXPECT_EQ(y.data()[s], static_cast<double>(s + s / 4 + 1));
}

template <class T>
using Net = SparseMlp<TopKRouter<T>, Mlp<T>>;
static_assert(Layer<Net<float>> && Expert<Net<double>>);
template <class T>
Net<T> top_k_net(const typename TopKRouter<T>::Options& o) {
  Net<T> net(TopKRouter<T>(o), Mlp<T>({.width = o.width, .hidden = 5}));
  disturb_params(net, 1);
  return net;
}

TEST(SparseMlp, AllExpertsWithoutLimitAreTheDenseMixture) {
  const auto net = top_k_net<double>({.width = 4, .num_experts = 5, .num_selected = 5});
  const auto x = random_tensor<double>(Shape<2>{11, 4}, 2);
  Tensor<double, 2> y({11, 4}), expert_y({11, 4}), dense({11, 4});
  Context ctx;
  const auto saved = net.forward(x, y, ctx);
  for (Index e = 0; e < 5; ++e) {
    (void)net.experts[static_cast<std::size_t>(e)].forward(x, expert_y, ctx);
    for (Index t = 0; t < 11; ++t)
      for (Index d = 0; d < 4; ++d) dense.view()(t, d) += saved.routing.gates(t, e) * expert_y.view()(t, d);
  }
  EXPECT_THAT(y.flat(), Pointwise(DoubleNear(1e-13), dense.flat()));
}

TEST(SparseMlp, ADroppedTokenGivesExactlyZero) {
  const auto net = top_k_net<double>({.width = 4, .num_experts = 4, .capacity = {.factor = .5}});
  const auto x = random_tensor<double>(Shape<2>{24, 4}, 3);
  Tensor<double, 2> y({24, 4}), dx({24, 4}), dy({24, 4});
  Context ctx;
  const auto saved = net.forward(x, y, ctx);
  std::fill(dy.flat().begin(), dy.flat().end(), 1.0);
  auto grad = zeros_like(net);
  net.backward(saved, dy, dx, grad, ctx);
  Index dropped = 0;
  for (Index t = 0; t < 24; ++t) {
    if (saved.routing.plan.slots_of_token(t).extent(0) > 0) continue;
    ++dropped;
    EXPECT_THAT(list(y.view()[t]), Each(0.0));
    EXPECT_THAT(list(dx.view()[t]), Each(0.0));
  }
  EXPECT_GE(dropped, 12);
}

TEST(SparseMlp, ANanTokenStaysAlone) {
  const auto net = top_k_net<float>({.width = 4, .num_experts = 3, .num_selected = 2});
  auto x = random_tensor<float>(Shape<2>{9, 4}, 4);
  Tensor<float, 2> clean({9, 4}), y({9, 4});
  Context ctx;
  (void)net.forward(x, clean, ctx);
  x.view()(4, 2) = std::numeric_limits<float>::quiet_NaN();
  (void)net.forward(x, y, ctx);
  for (Index t = 0; t < 9; ++t)
    if (t == 4)
      EXPECT_THAT(list(y.view()[t]), Each(testing::IsNan()));
    else
      EXPECT_EQ(list(y.view()[t]), list(clean.view()[t]));
}

TEST(SparseMlp, AnIdleExpertHasNoGradient) {
  auto net = top_k_net<double>({.width = 4, .num_experts = 3});
  std::fill_n(net.router.weight.data(), 12, 0.0);  // ties: everybody asks expert 0
  const auto x = random_tensor<double>(Shape<2>{6, 4}, 5);
  Tensor<double, 2> y({6, 4}), dx({6, 4});
  auto grad = zeros_like(net);
  Context ctx;
  const auto saved = net.forward(x, y, ctx);
  net.backward(saved, y, dx, grad, ctx);
  EXPECT_GT(norm(grad.experts[0]), 0);
  EXPECT_EQ(norm(grad.experts[1]), 0);
  EXPECT_EQ(norm(grad.experts[2]), 0);
  EXPECT_GT(norm(grad.router), 0) << "the gate of an idle expert still learns through the softmax";
}

TEST(SparseMlp, NoTokens) {
  const auto net = top_k_net<double>({.width = 4, .num_experts = 3, .capacity = {.factor = 1}});
  Tensor<double, 2> none({0, 4});
  auto grad = zeros_like(net);
  Context ctx;
  const auto saved = net.forward(none, none, ctx);
  net.backward(saved, none, none, grad, ctx);
  EXPECT_EQ(norm(grad), 0);
}

struct GradientCase {
  const char* name;
  TopKRouter<double>::Options router;
  PassSetup setup = {};
};

const std::array<std::uint8_t, 10> kModality{0, 0, kPadding, 1, 1, 0, 1, kPadding, 1, 0};
const std::array<Index, 3> kOffset{0, 5, 10};
const TokenLayout kLayout{.offset = {kOffset.data(), {3}}, .modality = {kModality.data(), {10}}, .num_modalities = 2};

std::vector<GradientCase> gradient_cases() {
  const TopKRouter<double>::Options base{.width = 4, .num_experts = 4, .num_selected = 2, .capacity = {.factor = .75}};
  std::vector<GradientCase> cases;
  const auto add = [&](const char* name, auto&& change, PassSetup setup = {}) {
    auto o = base;
    change(o);
    cases.push_back({name, o, setup});
  };
  add("one expert per token", [](auto& o) { o.num_selected = 1; });
  add("two, some dropped", [](auto&) {});
  add("unlimited", [](auto& o) { o.capacity = {}; });
  add("before dropping", [](auto& o) { o.renormalise = Renormalise::before_dropping; });
  add("before dropping, three", [](auto& o) {
    o.renormalise = Renormalise::before_dropping;
    o.num_selected = 3;
  });
  add("after dropping", [](auto& o) { o.renormalise = Renormalise::after_dropping; });
  add("batch priority", [](auto& o) { o.priority = Priority::gate_sum; });
  add("token major", [](auto& o) { o.claim_order = ClaimOrder::token_major; });
  add("groups", [](auto& o) { o.group_size = 4; });
  add("noise", [](auto& o) { o.noise = 1; }, {.seed = 5});
  add("jitter", [](auto& o) { o.jitter = .3; }, {.seed = 6});
  add("padding", [](auto&) {}, {.layout = &kLayout});
  add("everything",
      [](auto& o) {
        o.renormalise = Renormalise::before_dropping;
        o.priority = Priority::max_gate;
        o.noise = 1;
        o.jitter = .1;
        o.group_size = 5;
      },
      {.layout = &kLayout, .seed = 7});
  return cases;
}

TEST(SparseMlp, GradientIsExact) {
  const auto x = random_tensor<double>(Shape<2>{10, 4}, 8);
  for (const auto& [name, options, setup] : gradient_cases()) {
    SCOPED_TRACE(name);
    const auto net = top_k_net<double>(options);
    const std::type_identity_t<TopKRouter<Dual>::Options> o{.width = options.width,
                                                            .num_experts = options.num_experts,
                                                            .num_selected = options.num_selected,
                                                            .capacity = options.capacity,
                                                            .claim_order = options.claim_order,
                                                            .priority = options.priority,
                                                            .renormalise = options.renormalise,
                                                            .noise = options.noise,
                                                            .jitter = options.jitter,
                                                            .group_size = options.group_size};
    Net<Dual> lifted(TopKRouter<Dual>(o), Mlp<Dual>({.width = 4, .hidden = 5}));
    expect_exact_gradient(net, lifted, x, setup);
  }
}

TEST(SparseMlp, GradientIsExactWithPenalties) {
  const auto x = random_tensor<double>(Shape<2>{10, 4}, 9);
  const auto losses = limoe_losses({.coefficient = .5, .min_image_experts = 3.9, .min_text_experts = 3.9});
  const auto make = [&]<class T>(T) {
    using Net = SparseMlp<TopKRouter<T>, Mlp<T>, LimoeLosses>;
    Net net(TopKRouter<T>({.width = 4, .num_experts = 4, .capacity = {.factor = 1}, .noise = 4, .group_size = 5}),
            Mlp<T>({.width = 4, .hidden = 5}), losses);
    net.aux_scale = .25;
    return net;
  };
  auto net = make(0.0);
  disturb_params(net, 2);
  auto lifted = make(Dual{});
  expect_exact_gradient(net, lifted, x, {.layout = &kLayout, .seed = 3});
}

TEST(SparseMlp, GradientIsExactWhereExpertsChoose) {
  const auto x = random_tensor<double>(Shape<2>{10, 4}, 10);
  const auto make = []<class T>(T, double noise) {
    return SparseMlp<ExpertChoiceRouter<T>, Mlp<T>>(
        ExpertChoiceRouter<T>({.width = 4, .num_experts = 3, .capacity = {.factor = 1.2}, .noise = noise}),
        Mlp<T>({.width = 4, .hidden = 5}));
  };
  for (const double noise : {0.0, 1.0}) {
    auto net = make(0.0, noise);
    disturb_params(net, 3);
    auto lifted = make(Dual{}, noise);
    expect_exact_gradient(net, lifted, x, {.layout = &kLayout, .seed = 4});
  }
}

TEST(SparseMlp, BackwardAddsToTheGradientAndOverwritesDx) {
  const auto net = top_k_net<double>({.width = 4, .num_experts = 3, .num_selected = 2});
  const auto x = random_tensor<double>(Shape<2>{7, 4}, 11);
  Tensor<double, 2> y({7, 4}), dx({7, 4}), again({7, 4});
  Context ctx;
  const auto saved = net.forward(x, y, ctx);
  auto once = zeros_like(net), twice = zeros_like(net);
  net.backward(saved, x, dx, once, ctx);
  net.backward(saved, x, again, twice, ctx);
  net.backward(saved, x, again, twice, ctx);
  EXPECT_EQ(dx, again);
  for_each_param(
      [](std::string_view, const auto& one, const auto& two) {
        for (std::size_t i = 0; i < one.flat().size(); ++i)
          EXPECT_NEAR(2 * one.flat()[i], two.flat()[i], 1e-13 * (1 + std::abs(two.flat()[i])));
      },
      std::as_const(once), std::as_const(twice));
}

TEST(SparseMlp, ResultsDoNotDependOnThreadsAndMemorySettles) {
  SparseMlp<TopKRouter<float>, Mlp<float>, LimoeLosses> net(
      TopKRouter<float>({.width = 24,
                         .num_experts = 5,
                         .num_selected = 2,
                         .capacity = {.factor = .9},
                         .priority = Priority::max_gate,
                         .noise = 1}),
      Mlp<float>({.width = 24, .hidden = 40}), limoe_losses({.min_image_experts = 4, .min_text_experts = 4}));
  disturb_params(net, 4);
  const auto x = random_tensor<float>(Shape<2>{700, 24}, 12);
  std::vector<float> first;
  for (const Index workers : {1, 2, 7}) {
    Context ctx;
    ctx.parallel_for = test::threads(workers);
    std::size_t blocks = 0;
    for (int pass = 0; pass < 3; ++pass) {
      Rng rng(1);
      ctx.rng = &rng;
      const auto scope = ctx.workspace.scope();
      Tensor<float, 2> y({700, 24}), dx({700, 24});
      auto grad = zeros_like(net);
      net.backward(net.forward(x, y, ctx), y, dx, grad, ctx);
      std::vector<float> all = list(y.view());
      all.insert(all.end(), dx.flat().begin(), dx.flat().end());
      for_each_param([&](std::string_view, const auto& g) { all.insert(all.end(), g.flat().begin(), g.flat().end()); },
                     std::as_const(grad));
      if (first.empty()) first = all;
      EXPECT_EQ(all, first) << workers << " threads, pass " << pass;
      if (pass == 0) blocks = ctx.workspace.allocations();
    }
    EXPECT_EQ(ctx.workspace.allocations(), blocks);
  }
}

/// Runs all experts in one call, the last expert first, and never gathers.
struct GroupedAffine : Affine<double> {
  struct GroupedSaved {
    Rows<const double> x;
    SlotRows slots;
  };
  static GroupedSaved forward_grouped(std::span<const GroupedAffine> experts, Rows<const double> x, SlotRows slots,
                                      Rows<double> ys, Context&) {
    for (Index e = static_cast<Index>(experts.size()) - 1; e >= 0; --e)
      for (Index n = slots.offset[e]; n < slots.offset[e + 1]; ++n)
        for (Index d = 0; d < x.extent(1); ++d) {
          const auto& expert = experts[static_cast<std::size_t>(e)];
          ys(n, d) = expert.factor.data()[0] * x(slots.token[n], d) + expert.shift.data()[0];
        }
    return {x, slots};
  }
  static void backward_grouped(std::span<const GroupedAffine> experts, const GroupedSaved& saved,
                               Rows<const double> dys, Rows<double> dxs, std::span<GroupedAffine> grads, Context&) {
    for (std::size_t e = 0; e < experts.size(); ++e)
      for (Index n = saved.slots.offset[static_cast<Index>(e)]; n < saved.slots.offset[static_cast<Index>(e) + 1]; ++n)
        for (Index d = 0; d < dys.extent(1); ++d) {
          grads[e].factor.data()[0] += dys(n, d) * saved.x(saved.slots.token[n], d);
          grads[e].shift.data()[0] += dys(n, d);
          dxs(n, d) = experts[e].factor.data()[0] * dys(n, d);
        }
  }
};
static_assert(GroupedExpert<GroupedAffine> && !GroupedExpert<Affine<double>>);

TEST(SparseMlp, GroupedExpertsEqualOneCallPerExpert) {
  const TopKRouter<double>::Options o{.width = 3, .num_experts = 4, .num_selected = 2, .capacity = {.factor = .7}};
  SparseMlp<TopKRouter<double>, Affine<double>> plain(TopKRouter<double>(o), Affine<double>{});
  SparseMlp<TopKRouter<double>, GroupedAffine> grouped(TopKRouter<double>(o), GroupedAffine{});
  disturb_params(plain, 6);
  convert(plain, grouped);
  const auto x = random_tensor<double>(Shape<2>{17, 3}, 13);
  Tensor<double, 2> y({17, 3}), dx({17, 3}), grouped_y({17, 3}), grouped_dx({17, 3});
  Context ctx;
  auto grad = zeros_like(plain);
  auto grouped_grad = zeros_like(grouped);
  plain.backward(plain.forward(x, y, ctx), x, dx, grad, ctx);
  grouped.backward(grouped.forward(x, grouped_y, ctx), x, grouped_dx, grouped_grad, ctx);
  EXPECT_EQ(y, grouped_y);
  EXPECT_EQ(dx, grouped_dx);
  for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; },
                 std::as_const(grad), std::as_const(grouped_grad));
}

TEST(SparseMlp, NamesItsParametersAndRefusesWrongSizes) {
  const auto net = top_k_net<double>({.width = 4, .num_experts = 2});
  std::vector<std::string> paths;
  for_each_param([&](std::string_view path, const auto&) { paths.emplace_back(path); }, net);
  EXPECT_THAT(paths, ElementsAre("router.weight", "experts.0.up.weight", "experts.0.up.bias", "experts.0.down.weight",
                                 "experts.0.down.bias", "experts.1.up.weight", "experts.1.up.bias",
                                 "experts.1.down.weight", "experts.1.down.bias"));
  EXPECT_THAT([&] { Net<double>(net.router, std::vector(1, net.experts[0])); },
              testing::Throws<OptionError>(
                  Property(&OptionError::what, HasSubstr("there are 1 experts, expected 2 as in the router"))));
  Context ctx;
  Tensor<double, 2> x({3, 4}), y({3, 5});
  EXPECT_THAT([&] { (void)net.forward(x, y, ctx); },
              testing::Throws<ShapeError>(
                  Property(&ShapeError::what, HasSubstr("SparseMlp::forward: y has shape [3, 5], expected [3, 4]"))));
}

TEST(SparseMlp, ReportsWhatItDid) {
  SparseMlp<TopKRouter<double>, Mlp<double>, LimoeLosses> net(
      TopKRouter<double>({.width = 4, .num_experts = 4, .capacity = {.factor = 1}}),
      Mlp<double>({.width = 4, .hidden = 5}),
      limoe_losses({.coefficient = 1, .min_image_experts = 3, .min_text_experts = 3, .load = false}));
  disturb_params(net, 7);
  net.aux_scale = .5;
  const auto x = random_tensor<double>(Shape<2>{10, 4}, 14);
  Tensor<double, 2> y({10, 4});
  RoutingReport report;
  Context ctx;
  ctx.layout = &kLayout;
  ctx.report = &report;
  const auto saved = net.forward(x, y, ctx);
  ASSERT_EQ(report.layers().size(), 1u);
  const auto& layer = report.layers()[0];
  EXPECT_EQ(layer.total().tokens, 8);
  double sum = 0;
  std::vector<std::string> names;
  for (const auto& loss : layer.losses) {
    names.push_back(loss.name);
    sum += loss.mean();
  }
  EXPECT_THAT(names,
              ElementsAre("importance", "z", "local_entropy_text", "global_entropy_image", "global_entropy_text"));
  EXPECT_NEAR(net.aux_loss(saved, ctx), .5 * sum, 1e-14);
}

/// Hides that all experts can run in one go.
template <class T>
struct OneByOne : Mlp<T> {
  using Mlp<T>::Mlp;
  struct GroupedSaved {
    std::vector<int> unfit;  // so that this is no GroupedExpert
  };
};
static_assert(!GroupedExpert<OneByOne<float>> && Expert<OneByOne<float>> && GroupedExpert<Mlp<float>>);

template <class T>
void expect_grouped_equals_one_by_one(double tolerance) {
  const typename TopKRouter<T>::Options o{.width = 20, .num_experts = 5, .num_selected = 2, .capacity = {.factor = .8}};
  SparseMlp<TopKRouter<T>, Mlp<T>> grouped(TopKRouter<T>(o), Mlp<T>({.width = 20, .hidden = 40}));
  SparseMlp<TopKRouter<T>, OneByOne<T>> single(TopKRouter<T>(o),
                                               OneByOne<T>(typename Mlp<T>::Options{.width = 20, .hidden = 40}));
  disturb_params(grouped, 6);
  std::fill_n(&grouped.router.weight.view()(3, 0), 20, T(-30));  // and an expert that nearly nobody asks
  convert(grouped, single);
  const auto x = random_tensor<T>(Shape<2>{170, 20}, 13);
  for (const Isa isa : {Isa::portable, Isa::simd}) {
    Tensor<T, 2> y({170, 20}), dx({170, 20}), grouped_y({170, 20}), grouped_dx({170, 20});
    Context ctx;
    ctx.isa = isa;
    auto grad = zeros_like(single);
    auto grouped_grad = zeros_like(grouped);
    const auto saved = single.forward(x, y, ctx);
    single.backward(saved, x, dx, grad, ctx);
    grouped.backward(grouped.forward(x, grouped_y, ctx), x, grouped_dx, grouped_grad, ctx);
    const auto expect_near = [&](std::string_view what, auto a, auto b) {
      for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance * (1 + std::abs(b[i]))) << what;
    };
    expect_near("y", grouped_y.flat(), y.flat());
    expect_near("dx", grouped_dx.flat(), dx.flat());
    for_each_param([&](std::string_view path, const auto& a, const auto& b) { expect_near(path, a.flat(), b.flat()); },
                   std::as_const(grouped_grad), std::as_const(grad));
    EXPECT_GT(norm(grad.experts[0]), 0);
  }
}
TEST(SparseMlp, GroupedMlpsEqualOneCallPerExpert) {
  expect_grouped_equals_one_by_one<float>(0);  // the same sums
  expect_grouped_equals_one_by_one<double>(1e-12);
}

TEST(SparseMlp, PackedExpertsAreNearlyTheSameAndSeatTheSameTokens) {
  using Whole = SparseMlp<TopKRouter<float>, Mlp<float>>;
  for (const Index selected : {1, 2}) {
    Whole net(TopKRouter<float>({.width = 64, .num_experts = 5, .num_selected = selected, .capacity = {.factor = .9}}),
              Mlp<float>({.width = 64, .hidden = 200}));
    disturb_params(net, 7, .15);
    net.aux_scale = .25;
    const auto x = random_tensor<float>(Shape<2>{300, 64}, 14);
    const auto check = [&]<class F>(std::type_identity<F>, double tolerance) {
      const auto packed = pack<F>(net);
      EXPECT_EQ(packed.aux_scale, .25);
      EXPECT_EQ(packed.router.weight, net.router.weight);
      const auto begins = [](const auto& tensor) { return reinterpret_cast<const std::byte*>(tensor.data()); };
      for (std::size_t e = 1; e < packed.experts.size(); ++e)
        EXPECT_EQ(begins(packed.experts[e].up.weight.values) - begins(packed.experts[e - 1].up.weight.values),
                  begins(packed.experts[1].up.weight.values) - begins(packed.experts[0].up.weight.values))
            << "experts lie one behind the other";
      static_assert(ForwardLayer<decltype(pack<F>(net))> && !Layer<decltype(pack<F>(net))>);
      for (const Isa isa : isas_here()) {
        Context ctx;
        ctx.isa = isa;
        Tensor<float, 2> y({300, 64}), wanted({300, 64});
        const auto exact = net.forward(x, wanted, ctx);
        const auto saved = packed.forward(x, y, ctx);
        EXPECT_EQ(list(saved.routing.plan.token), list(exact.routing.plan.token));
        double error = 0, size = 0;
        for (std::size_t i = 0; i < y.flat().size(); ++i) {
          error += std::pow(double(y.flat()[i]) - double(wanted.flat()[i]), 2);
          size += std::pow(double(wanted.flat()[i]), 2);
          if (wanted.flat()[i] == 0) {
            ASSERT_EQ(y.flat()[i], 0) << "a token without a seat";
          }
        }
        EXPECT_LE(std::sqrt(error / size), tolerance) << name(isa);
        for (const Index workers : {2, 3, 7}) {
          Context parallel;
          parallel.isa = isa;
          parallel.parallel_for = test::threads(workers);
          Tensor<float, 2> other({300, 64});
          (void)packed.forward(x, other, parallel);
          EXPECT_EQ(other, y) << name(isa) << ", " << workers << " threads";
        }
      }
    };
    // Two products with weights and activations rounded to 24, 8, 8 and 4 bits (see kPackedError), or weights alone to
    // 3 and 4.
    check(std::type_identity<float>{}, 2e-5);
    check(std::type_identity<bf16>{}, 0x1p-6);
    check(std::type_identity<int8>{}, .06);
    check(std::type_identity<int4>{}, .5);
    check(std::type_identity<mxfp4>{}, .5);
    check(std::type_identity<fp8>{}, .12);
  }
}

// Llama-4: y = sum of expert(w x). Experts that are no lines tell the two places of a weight apart.
TEST(SparseMlp, WeighedInputsByHand) {
  FixedRouter router{.gates = Tensor<double, 2>({2, 2})};
  std::ranges::copy(std::array{.25, .5, 1., .125}, router.gates.data());
  SparseMlp<FixedRouter, Affine<double>> layer(router, affine_experts({{2, 10}, {4, 20}}));
  layer.weighed = Weighed::inputs;
  const auto x = column({8, 16}), dy = column({1, 3});
  auto y = column({kNan, kNan}), dx = y;
  auto grad = zeros_like(layer);
  Context ctx;
  const auto saved = layer.forward(x, y, ctx);
  layer.backward(saved, dy, dx, grad, ctx);
  EXPECT_THAT(y.flat(), ElementsAre(2 * 2 + 10 + 4 * 4 + 20, 2 * 16 + 10 + 4 * 2 + 20));
  EXPECT_THAT(dx.flat(), ElementsAre(2 * .25 + 4 * .5, 3 * (2 + 4 * .125)));
  EXPECT_THAT(grad.router.last_dweight, ElementsAre(3 * 2 * 16, 2 * 8, 4 * 8, 3 * 4 * 16)) << "first choices first";
  EXPECT_EQ(grad.experts[0].factor.data()[0], 1 * 2 + 3 * 16) << "what the expert saw";
  EXPECT_EQ(grad.experts[0].shift.data()[0], 1 + 3) << "not weighed";
}

template <class T, class E>
auto weighed_inputs(const E& expert, const Capacity& capacity = {}) {
  SparseMlp layer(
      TopKRouter<T>(
          {.width = 4, .num_experts = 5, .num_selected = 2, .score = RouterScore::sigmoid, .capacity = capacity}),
      expert);
  layer.weighed = Weighed::inputs;
  return layer;
}

TEST(SparseMlp, WeighedInputsHaveExactGradients) {
  for (const auto& capacity : {Capacity{}, Capacity{.factor = .6}}) {  // some tokens get half of a seat, or none
    const auto check = [&](auto plain, auto dual) {
      auto layer = weighed_inputs<double>(plain, capacity);
      auto lifted = weighed_inputs<Dual>(dual, capacity);
      disturb_params(layer, 31);
      expect_exact_gradient(layer, lifted, random_tensor<double>(Shape<2>{9, 4}, 32));
    };
    check(Mlp<double>({.width = 4, .hidden = 3}), Mlp<Dual>({.width = 4, .hidden = 3}));  // grouped
    check(Linear<double>({.in = 4, .out = 4}), Linear<Dual>({.in = 4, .out = 4}));        // one by one
  }
}

TEST(SparseMlp, WeighedInputsArePackedAsSuch) {
  auto layer = weighed_inputs<float>(Mlp<float>({.width = 4, .hidden = 8}));
  disturb_params(layer, 33);
  const auto packed = pack<float>(layer);
  const auto x = random_tensor<float>(Shape<2>{20, 4}, 34);
  Tensor<float, 2> y({20, 4}), wanted({20, 4}), outputs({20, 4});
  Context ctx;
  infer(layer, x.view(), wanted.view(), ctx);
  infer(packed, x.view(), y.view(), ctx);
  layer.weighed = Weighed::outputs;
  infer(layer, x.view(), outputs.view(), ctx);
  EXPECT_THAT(y.flat(), Pointwise(::testing::FloatNear(1e-4f), wanted.flat()));
  EXPECT_THAT(outputs.flat(), ::testing::Not(Pointwise(::testing::FloatNear(1e-2f), wanted.flat())));
}

TEST(SparseMlp, InputNoiseIsWhatRouterAndExpertsSee) {
  for (const Weighed weighed : {Weighed::outputs, Weighed::inputs}) {
    auto layer = weighed_inputs<double>(Linear<double>({.in = 4, .out = 4}));
    disturb_params(layer, 35);
    layer.weighed = weighed;
    auto noisy = layer;
    noisy.input_noise = 0.3;
    const auto x = random_tensor<double>(Shape<2>{20, 4}, 36), dy = random_tensor<double>(Shape<2>{20, 4}, 37);
    Tensor<double, 2> seen({20, 4}), y({20, 4}), dx({20, 4}), wanted({20, 4}), wanted_dx({20, 4});
    auto grad = zeros_like(layer), wanted_grad = grad;
    const auto pass = [&](const auto& l, const auto& in, auto& out, auto& din, auto& g, Rng* rng) {
      Context ctx;
      ctx.rng = rng;
      const auto saved = l.forward(in, out, ctx);
      l.backward(saved, dy, din, g, ctx);
    };
    pass(noisy, x, y, dx, grad, nullptr);
    pass(layer, x, wanted, wanted_dx, wanted_grad, nullptr);
    EXPECT_EQ(y, wanted) << "without random numbers there is none";
    EXPECT_EQ(dx, wanted_dx);

    Rng rng(1), same(1);
    Context ctx;
    ctx.rng = &same;
    const Jitter<double> jitter({.amount = 0.3});
    const auto saved = jitter.forward(x, seen, ctx);
    grad = wanted_grad = zeros_like(layer);
    pass(noisy, x, y, dx, grad, &rng);
    pass(layer, seen, wanted, wanted_dx, wanted_grad, nullptr);
    Jitter<double>::apply(saved, wanted_dx, wanted_dx, ctx);
    EXPECT_EQ(y, wanted);
    EXPECT_EQ(dx, wanted_dx);
    EXPECT_EQ(grad.router.weight, wanted_grad.router.weight);
    EXPECT_EQ(grad.experts[0].weight, wanted_grad.experts[0].weight);
  }
}

/// Where nobody is turned away, a token's result is the same bits for any batch around it: packed experts, and routers
/// of the usual kinds. (Not so experts that are not packed: up to 16 rows take a way of their own there, see
/// products/matmul_simd.hpp.)
TEST(SparseMlp, APackedTokenIsTheSameInAnyBatch) {
  constexpr Index kMost = 4096, kWidth = 96;
  const auto x = random_tensor<float>(Shape<2>{kMost, kWidth}, 21);
  const auto check = [&]<class F>(std::type_identity<F>, RouterScore score) {
    SparseMlp<TopKRouter<float>, GatedMlp<float>> net(
        TopKRouter<float>({.width = kWidth, .num_experts = 12, .num_selected = 3, .score = score}),
        GatedMlp<float>({.width = kWidth, .hidden = 24}));
    disturb_params(net, 22, .3);
    const auto packed = pack<F>(net);
    for (const Isa isa : isas_here()) {
      Context ctx;
      ctx.isa = isa;
      ctx.parallel_for = test::threads(2);
      Tensor<float, 2> all({kMost, kWidth});
      infer(packed, x, all, ctx);
      for (const Index rows : {1, 2, 3, 4, 7, 8, 9, 16, 33, 64, 257})
        for (const Index first : {Index{0}, Index{1000}, kMost - rows}) {
          Tensor<float, 2> y({rows, kWidth});
          infer(packed, x.view().rows(first, first + rows), y.view(), ctx);
          ASSERT_EQ(std::memcmp(y.data(), &all.view()(first, 0), static_cast<std::size_t>(y.size()) * sizeof(float)), 0)
              << name(isa) << ", " << rows << " rows from " << first;
        }
    }
  };
  for (const RouterScore score : {RouterScore::softmax, RouterScore::sigmoid})
    check(std::type_identity<float>{}, score);
  check(std::type_identity<bf16>{}, RouterScore::softmax);
  check(std::type_identity<int8>{}, RouterScore::softmax);
  check(std::type_identity<int4>{}, RouterScore::softmax);
  check(std::type_identity<mxfp4>{}, RouterScore::softmax);
  check(std::type_identity<fp8>{}, RouterScore::softmax);
}

}  // namespace
}  // namespace gatefold
