#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "gatefold/losses/token_groups.hpp"
#include "tests/support/dual.hpp"

/// Router scores to test losses with, and the laws that hold for each of them.
namespace gatefold::test {

inline constexpr double kMasked = -std::numeric_limits<double>::infinity();

/// A router's forward pass as plain numbers, to be looked at in any scalar.
struct RouterCase {
  Tensor<double, 2> logits, noise;     // [S, E]
  std::vector<std::uint8_t> modality;  // [S]; empty: no layout
  Index num_selected = 1;
  Index group_size = 0;
  double noise_std = 0;

  Index num_tokens() const { return logits.extent(0); }
  Index num_experts() const { return logits.extent(1); }
};

/// What the case looks like in T; owns what `scores` views.
template <class T>
struct Scored {
  Tensor<T, 2> logits, log_probs, noisy;
  Tensor<Index, 2> choice;
  std::vector<std::uint8_t> modality;
  std::vector<Index> offset;
  TokenLayout layout;
  RouterScores<T> scores;
};

/// `varied`: the flat index of the logit whose derivative is 1, for dual numbers.
template <class T>
void look_at(const RouterCase& c, Scored<T>& s, std::optional<Index> varied = {}) {
  using std::exp, std::log;
  const Index tokens = c.num_tokens(), experts = c.num_experts();
  s.logits = s.log_probs = s.noisy = Tensor<T, 2>({tokens, experts});
  s.choice = Tensor<Index, 2>({tokens, c.num_selected});
  s.modality = c.modality;
  s.offset = {0, tokens};
  s.layout = {.offset = {s.offset.data(), {2}}, .modality = {s.modality.data(), {tokens}}, .num_modalities = 2};
  for (Index t = 0; t < tokens; ++t) {
    T top(kMasked), sum(0.0);
    for (Index e = 0; e < experts; ++e) {
      T& l = s.logits.view()(t, e) = T(c.logits.view()(t, e));
      if constexpr (std::same_as<T, Dual>) l.d = varied == t * experts + e;
      s.noisy.view()(t, e) = c.noise_std > 0 ? l + T(c.noise.view()(t, e)) : l;
      if (top < l) top = l;
    }
    for (Index e = 0; e < experts; ++e) sum += exp(s.logits.view()(t, e) - top);
    for (Index e = 0; e < experts; ++e) s.log_probs.view()(t, e) = (s.logits.view()(t, e) - top) - log(sum);
    std::vector<Index> order(static_cast<std::size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    const auto key = [&](Index e) {
      const double x = to_double(s.noisy.view()(t, e));
      return std::isnan(x) ? kMasked : x;
    };
    std::ranges::stable_sort(order, [&](Index a, Index b) { return key(a) > key(b); });
    const bool padding = !c.modality.empty() && c.modality[static_cast<std::size_t>(t)] == kPadding;
    for (Index k = 0; k < c.num_selected; ++k)
      s.choice.view()(t, k) = padding ? -1 : order[static_cast<std::size_t>(k)];
  }
  s.scores = {.logits = s.logits.view(),
              .log_probs = s.log_probs.view(),
              .noisy_logits = c.noise_std > 0 ? s.noisy.view() : s.logits.view(),
              .choice = s.choice.view(),
              .noise_std = c.noise_std,
              .group_size = c.group_size,
              .layout = c.modality.empty() ? nullptr : &s.layout};
}

inline RouterCase from_logits(const std::vector<std::vector<double>>& rows) {
  RouterCase c;
  c.logits = c.noise = Tensor<double, 2>({static_cast<Index>(rows.size()), static_cast<Index>(rows.at(0).size())});
  for (std::size_t t = 0; t < rows.size(); ++t)
    std::ranges::copy(rows[t], c.logits.view()[static_cast<Index>(t)].data());
  return c;
}
inline RouterCase from_probs(std::vector<std::vector<double>> rows) {
  for (auto& row : rows)
    for (auto& p : row) p = std::log(p);
  return from_logits(rows);
}

/// The probabilities of the published V-MoE loss tests.
inline RouterCase vmoe_case() { return from_probs({{.5, .4, .1}, {.3, .3, .4}, {.1, .2, .7}, {.8, .2, 0}}); }

struct RandomCase {
  std::uint64_t seed = 0;
  Index tokens = 12, experts = 5, num_selected = 1, group_size = 0;
  double noise_std = 0;
  double padding = 0, masked = 0;  ///< Shares of rows, of experts per token (never all of a token's).
  double second_modality = 0;      ///< Share of rows.
};
inline RouterCase random_case(const RandomCase& o) {
  Rng rng(o.seed);
  RouterCase c;
  c.logits = c.noise = Tensor<double, 2>({o.tokens, o.experts});
  c.num_selected = o.num_selected;
  c.group_size = o.group_size;
  c.noise_std = o.noise_std;
  // Floats, so that a float sees the very same numbers.
  for (auto& l : c.logits.flat()) l = static_cast<float>(1.5 * rng.normal());
  for (auto& n : c.noise.flat()) n = static_cast<float>(o.noise_std * rng.normal());
  for (Index t = 0; t < o.tokens; ++t) {
    const Index open = rng.below(o.experts);
    for (Index e = 0; e < o.experts; ++e)
      if (e != open && rng.uniform() < o.masked) c.logits.view()(t, e) = kMasked;
    c.modality.push_back(rng.uniform() < o.padding ? kPadding : rng.uniform() < o.second_modality ? 1 : 0);
  }
  return c;
}

/// Shapes and features together: several groups with a short last one, one expert, K = E, masks, padding, noise.
inline std::vector<RouterCase> random_cases() {
  std::vector<RouterCase> cases;
  for (std::uint64_t seed = 1; seed <= 3; ++seed)
    for (const RandomCase& o : {RandomCase{.tokens = 1, .experts = 4},
                                {.tokens = 9, .experts = 1, .num_selected = 1, .group_size = 4, .noise_std = .5},
                                {.tokens = 13, .experts = 4, .num_selected = 2, .group_size = 5, .noise_std = .25},
                                {.tokens = 8, .experts = 3, .num_selected = 3, .noise_std = .4, .padding = .3},
                                {.tokens = 16,
                                .experts = 6,
                                .num_selected = 2,
                                .group_size = 6,
                                .noise_std = 1,
                                .padding = .3,
                                .masked = .5,
                                .second_modality = .5},
                                {.tokens = 12,
                                .experts = 5,
                                .num_selected = 2,
                                .group_size = 4,
                                .padding = .6,
                                .masked = .3,
                                .second_modality = .4}}) {
      RandomCase r = o;
      r.seed = seed;
      cases.push_back(random_case(r));
    }
  return cases;
}

template <class T, class L>
T value_of(const L& loss, const RouterCase& c) {
  Context ctx;
  Scored<T> s;
  look_at(c, s);
  return loss.value(s.scores, ctx);
}

/// d value / d logits // [S, E]
template <class T = double, class L>
Tensor<T, 2> gradient_of(const L& loss, const RouterCase& c) {
  Context ctx;
  Scored<T> s;
  look_at(c, s);
  Tensor<T, 2> d(s.logits.shape());
  loss.add_gradient(s.scores, T(1.0), d, ctx);
  return d;
}

inline void expect_rows(const Tensor<double, 2>& actual, const std::vector<std::vector<double>>& wanted,
                        double tolerance) {
  ASSERT_EQ(actual.extent(0), static_cast<Index>(wanted.size()));
  for (Index t = 0; t < actual.extent(0); ++t)
    for (Index e = 0; e < actual.extent(1); ++e)
      EXPECT_NEAR(actual.view()(t, e), wanted[static_cast<std::size_t>(t)][static_cast<std::size_t>(e)], tolerance)
          << "token " << t << ", expert " << e;
}

inline void expect_zero(const Tensor<double, 2>& actual, double tolerance = 0) {
  for (const double x : actual.flat()) EXPECT_NEAR(x, 0, tolerance);
}

/// add_gradient against the exact derivative of `value` with respect to each logit, added to what was there. Both sum
/// a few hundred terms of size 1 to 100 in double, hence 1e-12 relative to the largest.
template <class L>
void expect_exact_gradient(const L& loss, const RouterCase& c) {
  Context ctx;
  Scored<double> s;
  look_at(c, s);
  Tensor<double, 2> d(s.logits.shape());
  std::ranges::fill(d.flat(), .25);
  loss.add_gradient(s.scores, 1.5, d, ctx);
  double largest = 1;
  for (const double x : d.flat()) largest = std::max(largest, std::abs(x));
  for (Index i = 0; i < d.size(); ++i) {
    Scored<Dual> dual;
    look_at(c, dual, i);
    const Dual value = loss.value(dual.scores, ctx);
    const double got = d.flat()[static_cast<std::size_t>(i)];
    if (c.logits.flat()[static_cast<std::size_t>(i)] == kMasked)
      EXPECT_EQ(got, .25) << "a masked expert has no gradient; logit " << i;
    else
      EXPECT_NEAR(got, .25 + 1.5 * value.d, 1e-12 * largest) << "logit " << i;
    EXPECT_NEAR(value.v, loss.value(s.scores, ctx), 1e-13 * (1 + std::abs(value.v)));
  }
}

/// Each probability in float is within some 8 ulp, and the losses amplify that less than 20-fold here; the gradient
/// likewise, relative to its largest element.
template <class L>
void expect_float_agrees(const L& loss, const RouterCase& c) {
  constexpr double kTolerance = 8 * 20 * 6e-8;
  const double value = value_of<double>(loss, c);
  EXPECT_NEAR(value_of<float>(loss, c), value, kTolerance * (1 + std::abs(value)));
  const auto wanted = gradient_of<double>(loss, c);
  const auto got = gradient_of<float>(loss, c);
  double largest = .1;
  for (const double x : wanted.flat()) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < wanted.flat().size(); ++i)
    EXPECT_NEAR(got.flat()[i], wanted.flat()[i], kTolerance * largest) << "logit " << i;
}

/// The rows of `c` for which keep(t) holds.
template <class Keep>
RouterCase rows_where(const RouterCase& c, Keep keep) {
  RouterCase r = c;
  std::vector<Index> kept;
  for (Index t = 0; t < c.num_tokens(); ++t)
    if (keep(t)) kept.push_back(t);
  r.logits = r.noise = Tensor<double, 2>({static_cast<Index>(kept.size()), c.num_experts()});
  r.modality.clear();
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const auto at = static_cast<Index>(i);
    std::ranges::copy_n(c.logits.view()[kept[i]].data(), c.num_experts(), r.logits.view()[at].data());
    std::ranges::copy_n(c.noise.view()[kept[i]].data(), c.num_experts(), r.noise.view()[at].data());
    if (!c.modality.empty()) r.modality.push_back(c.modality[static_cast<std::size_t>(kept[i])]);
  }
  return r;
}

inline constexpr double kSameSum = 1e-14;  // the same terms in the same order; only the divisions may differ

/// Padding inside a group, and a whole group of it, changes neither value nor the others' gradient.
template <class L>
void expect_padding_ignored(const L& loss) {
  RouterCase c = random_case({.seed = 7,
                              .tokens = 12,
                              .experts = 4,
                              .num_selected = 2,
                              .noise_std = .5,
                              .padding = .4,
                              .second_modality = .5});
  const auto is_token = [&](Index t) { return c.modality[static_cast<std::size_t>(t)] != kPadding; };
  ASSERT_EQ(std::ranges::count(c.modality, kPadding) > 2, true);
  const RouterCase tokens = rows_where(c, is_token);
  EXPECT_NEAR(value_of<double>(loss, c), value_of<double>(loss, tokens), kSameSum);
  const auto d = gradient_of(loss, c), d_tokens = gradient_of(loss, tokens);
  for (Index t = 0, i = 0; t < c.num_tokens(); ++t) {
    for (Index e = 0; e < 4; ++e)
      EXPECT_NEAR(d.view()(t, e), is_token(t) ? d_tokens.view()(i, e) : 0, is_token(t) ? kSameSum : 0);
    i += is_token(t);
  }
  RouterCase trailing = c;
  trailing.group_size = 6;
  for (std::size_t t = 6; t < 12; ++t) trailing.modality[t] = kPadding;
  EXPECT_NEAR(value_of<double>(loss, trailing), value_of<double>(loss, rows_where(c, [](Index t) { return t < 6; })),
              kSameSum);
  for (auto& m : c.modality) m = kPadding;
  EXPECT_EQ(value_of<double>(loss, c), 0);
  expect_zero(gradient_of(loss, c));
}

/// A token with a NaN logit is left out like padding, and the others' gradient is what it would be without it.
template <class L>
void expect_nan_token_left_out(const L& loss) {
  RouterCase c = random_case({.seed = 8, .tokens = 10, .experts = 4, .num_selected = 2, .noise_std = .5});
  RouterCase padded = c;
  c.logits.view()(3, 1) = std::numeric_limits<double>::quiet_NaN();
  padded.modality[3] = kPadding;
  EXPECT_EQ(value_of<double>(loss, c), value_of<double>(loss, padded));
  EXPECT_EQ(gradient_of(loss, c), gradient_of(loss, padded));
}

/// The value is the mean of the values of the groups alone.
template <class L>
void expect_mean_over_groups(const L& loss) {
  const RouterCase c =
      random_case({.seed = 9, .tokens = 11, .experts = 4, .num_selected = 2, .group_size = 4, .noise_std = .5});
  double sum = 0;
  for (Index g = 0; g < 3; ++g) sum += value_of<double>(loss, rows_where(c, [&](Index t) { return t / 4 == g; }));
  EXPECT_NEAR(value_of<double>(loss, c), sum / 3, kSameSum);
}

template <class L>
void expect_no_allocation_after_first(const L& loss) {
  Context ctx;
  Scored<float> s;
  look_at(random_case({.seed = 10, .tokens = 3000, .experts = 16, .num_selected = 2, .noise_std = .5}), s);
  Tensor<float, 2> d(s.logits.shape());
  const auto once = [&] {
    (void)loss.value(s.scores, ctx);
    loss.add_gradient(s.scores, 1, d, ctx);
  };
  once();
  const auto allocations = ctx.workspace.allocations();
  const void* const free = ctx.workspace.take<float>(1).data();
  once();
  EXPECT_EQ(ctx.workspace.allocations(), allocations);
  EXPECT_EQ(static_cast<const void*>(ctx.workspace.take<float>(kAlignment / sizeof(float)).data()),
            static_cast<const std::byte*>(free) + kAlignment)
      << "scratch was not given back";
}

template <class L>
void expect_wrong_shapes_refused(const L& loss) {
  Context ctx;
  Scored<double> s;
  look_at(random_case({.seed = 11, .tokens = 4, .experts = 3, .noise_std = .5}), s);
  Tensor<double, 2> d({4, 2});
  EXPECT_THROW(loss.add_gradient(s.scores, 1, d, ctx), ShapeError);
  s.scores.log_probs = s.log_probs.view().rows(0, 3);
  EXPECT_THROW((void)loss.value(s.scores, ctx), ShapeError);
}

/// All of the above but the shapes.
template <class L>
void expect_router_loss_laws_of_values(const L& loss) {
  for (const auto& c : random_cases()) {
    SCOPED_TRACE(::testing::Message() << "tokens " << c.num_tokens() << ", experts " << c.num_experts());
    expect_exact_gradient(loss, c);
    expect_float_agrees(loss, c);
  }
  expect_padding_ignored(loss);
  expect_nan_token_left_out(loss);
  expect_mean_over_groups(loss);
  expect_no_allocation_after_first(loss);
}

/// All of the above.
template <class L>
void expect_router_loss_laws(const L& loss) {
  expect_router_loss_laws_of_values(loss);
  expect_wrong_shapes_refused(loss);
}

}  // namespace gatefold::test
