#include "gatefold/routing/plan_top_k.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/threads.hpp"

// What a plan of choices means is tested in dispatch_plan_test.cpp; here, that it is the same plan for floats and
// doubles, for long batches that are cut into blocks, and for any number of threads.
namespace gatefold::plan_top_k_test {
namespace {

using Lists = std::vector<std::vector<Index>>;

std::vector<Index> list(View<const Index, 1> v) { return {v.data(), v.data() + v.size()}; }
Lists lists(const DispatchPlan& p) {
  return {list(p.offset), list(p.token),     list(p.expert),       list(p.rank),
          list(p.demand), list(p.requested), list(p.token_offset), list(p.token_slot)};
}

struct Case {
  SeatingOptions options{};
  Index num_selected = 1;
  std::vector<std::uint8_t> modality{};
};

/// Seats one request after the other at lists of guests, and numbers the slots when all sit.
template <class T>
Lists guests(const Tensor<T, 2>& gates, View<const Index, 2> choice, const Case& c) {
  const Index rows = gates.extent(0), num_experts = gates.extent(1);
  const Index size = c.options.group_size ? c.options.group_size : std::max<Index>(rows, 1);
  using Guest = std::pair<Index, Index>;  // token, rank
  std::vector<std::vector<Guest>> seated(static_cast<std::size_t>(num_experts));
  std::vector<Index> demand(static_cast<std::size_t>(num_experts)), requested(static_cast<std::size_t>(rows));
  for (Index begin = 0; begin < rows; begin += size) {
    std::vector<std::pair<double, Index>> tokens;
    for (Index t = begin; t < std::min(rows, begin + size); ++t) {
      if (choice(t, 0) < 0) continue;
      double score = 0;
      for (Index k = 0; k < c.num_selected; ++k) {
        if (choice(t, k) < 0) continue;
        ++requested[static_cast<std::size_t>(t)];
        if (c.options.priority == Priority::gate_sum || (c.options.priority == Priority::max_gate && k == 0))
          score += gates.view()(t, choice(t, k));
      }
      tokens.emplace_back(score, t);
    }
    std::stable_sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) {
      if (std::isnan(a.first) || std::isnan(b.first)) return std::isnan(b.first) && !std::isnan(a.first);
      return a.first > b.first;
    });
    const Index limit = c.options.capacity.seats(
        {.tokens = static_cast<Index>(tokens.size()), .num_selected = c.num_selected, .num_experts = num_experts});
    std::vector<Index> taken(static_cast<std::size_t>(num_experts));
    const auto ask = [&](Index t, Index k) {
      if (choice(t, k) < 0) return;
      const auto e = static_cast<std::size_t>(choice(t, k));
      ++demand[e];
      if (taken[e] == limit) return;
      ++taken[e];
      seated[e].emplace_back(t, k);
    };
    if (c.options.claim_order == ClaimOrder::rank_major)
      for (Index k = 0; k < c.num_selected; ++k)
        for (const auto& [score, t] : tokens) ask(t, k);
    else
      for (const auto& [score, t] : tokens)
        for (Index k = 0; k < c.num_selected; ++k) ask(t, k);
  }
  std::vector<Index> offset{0}, token, expert, rank, token_offset{0}, token_slot;
  std::vector<std::vector<Guest>> slots_of(static_cast<std::size_t>(rows));  // rank, slot
  for (Index e = 0; e < num_experts; ++e) {
    for (const auto& [t, k] : seated[static_cast<std::size_t>(e)]) {
      slots_of[static_cast<std::size_t>(t)].emplace_back(k, static_cast<Index>(token.size()));
      token.push_back(t), expert.push_back(e), rank.push_back(k);
    }
    offset.push_back(static_cast<Index>(token.size()));
  }
  for (auto& slots : slots_of) {
    std::sort(slots.begin(), slots.end());
    for (const auto& [k, slot] : slots) token_slot.push_back(slot);
    token_offset.push_back(static_cast<Index>(token_slot.size()));
  }
  return {offset, token, expert, rank, demand, requested, token_offset, token_slot};
}

Case random_case(Index rows, Index num_experts, Rng& rng) {
  Case c{.options = {.capacity = {.factor = rng.below(4) == 0 ? Capacity::kUnlimited : rng.uniform(.2, 1.6)},
                     .claim_order = rng.below(2) ? ClaimOrder::rank_major : ClaimOrder::token_major,
                     .priority = std::array{Priority::position, Priority::max_gate,
                                            Priority::gate_sum}[static_cast<std::size_t>(rng.below(3))],
                     .group_size = rng.below(2) ? 0 : 1 + rng.below(std::max<Index>(1, rows))},
         .num_selected = 1 + rng.below(std::min<Index>(num_experts, 5))};
  const Index padding = rng.below(3);  // none, some, much
  for (Index t = 0; t < rows; ++t) c.modality.push_back(rng.below(4) < padding ? kPadding : std::uint8_t{0});
  return c;
}
template <class T>
Tensor<T, 2> random_gates(Index rows, Index num_experts, Rng& rng) {
  Tensor<T, 2> gates({rows, num_experts});
  const bool ties = rng.below(2) == 0;
  for (T& g : gates.flat()) g = ties ? static_cast<T>(rng.below(5)) / T(4) : static_cast<T>(rng.uniform());
  const bool closes = rng.below(2) == 0;
  for (Index t = 0; t < rows; ++t) {
    if (rng.below(20) == 0) std::fill_n(gates.view()[t].data(), num_experts, std::numeric_limits<T>::quiet_NaN());
    if (closes && rng.below(3) == 0) {  // some of the experts, or all
      const bool all = rng.below(3) == 0;
      for (Index e = 0; e < num_experts; ++e)
        if (all || rng.below(2)) gates.view()(t, e) = -std::numeric_limits<T>::infinity();
    }
  }
  return gates;
}

template <class T>
void check_against_guests(Index most_rows, int cases, ParallelFor parallel_for) {
  Rng rng(1);
  Context ctx;
  ctx.parallel_for = std::move(parallel_for);
  for (int i = 0; i < cases; ++i) {
    SCOPED_TRACE(i);
    const Index rows = most_rows > 1000 ? most_rows - rng.below(100) : rng.below(most_rows);
    const Index num_experts = 1 + rng.below(40);
    const auto c = random_case(rows, num_experts, rng);
    const auto gates = random_gates<T>(rows, num_experts, rng);
    const TokenLayout layout{.offset = {}, .modality = {c.modality.data(), {rows}}};
    ctx.layout = &layout;
    const auto scope = ctx.workspace.scope();
    auto choice = ctx.workspace.take<Index>(rows, c.num_selected);
    select_top_k<T>(gates, choice, ctx);
    ASSERT_EQ(lists(plan_top_k<T>(gates, choice, c.options, ctx)), guests(gates, choice, c));
  }
}
TEST(PlanTopK, IsTheListsOfGuestsForFloats) { check_against_guests<float>(120, 1500, {}); }
TEST(PlanTopK, IsTheListsOfGuestsForDoubles) { check_against_guests<double>(120, 500, {}); }
TEST(PlanTopK, IsTheListsOfGuestsForManyBlocks) {
  for (const Index workers : {1, 2, 3, 7})
    check_against_guests<float>(3 * detail::ClaimBlocks::kRows + 200, 12, test::threads(workers));
}

TEST(PlanTopK, ClosedExpertsAreNotAskedAndTakeNoSeat) {
  constexpr double kClosed = -std::numeric_limits<double>::infinity();
  Tensor<double, 2> scores({4, 3});
  std::ranges::copy(std::array{.5, .3, .2, kClosed, .4, kClosed, kClosed, kClosed, kClosed, kClosed, .1, .2},
                    scores.data());
  Context ctx;
  auto choice = ctx.workspace.take<Index>(4, 2);
  select_top_k<double>(scores, choice, ctx);
  EXPECT_THAT(list({choice.data(), {8}}), testing::ElementsAre(0, 1, 1, -1, -1, -1, 2, 1));
  for (const auto order : {ClaimOrder::rank_major, ClaimOrder::token_major})
    for (const auto priority : {Priority::position, Priority::max_gate, Priority::gate_sum}) {
      // 3 of the 4 tokens ask: ceil(2 * 3 / 3) seats each.
      const auto p = plan_top_k<double>(scores, choice,
                                        {.capacity = {.factor = 1}, .claim_order = order, .priority = priority}, ctx);
      EXPECT_THAT(list(p.requested), testing::ElementsAre(2, 1, 0, 2));
      EXPECT_THAT(list(p.demand), testing::ElementsAre(1, 3, 1));
      EXPECT_THAT(list(p.offset), testing::ElementsAre(0, 1, 3, 4));
      EXPECT_EQ(p.slots_of_token(2).extent(0), 0);
    }
}

TEST(PlanTopK, ChoicesMayLieInAWiderMatrix) {
  Rng rng(3);
  Context ctx;
  const auto gates = random_gates<float>(50, 6, rng);
  auto wide = ctx.workspace.take<Index>(50, 7), narrow = ctx.workspace.take<Index>(50, 3);
  select_top_k<float>(gates, wide.columns(2, 5), ctx);
  select_top_k<float>(gates, narrow, ctx);
  for (const auto priority : {Priority::position, Priority::gate_sum}) {
    const SeatingOptions o{.capacity = {.factor = .7}, .priority = priority};
    EXPECT_EQ(lists(plan_top_k<float>(gates, wide.columns(2, 5), o, ctx)),
              lists(plan_top_k<float>(gates, narrow, o, ctx)));
  }
}

TEST(PlanTopK, StopsAllocating) {
  Rng rng(4);
  const auto gates = random_gates<float>(2000, 8, rng);
  for (const auto priority : {Priority::position, Priority::max_gate, Priority::gate_sum}) {
    Context ctx;
    std::size_t blocks = 0;
    for (int pass = 0; pass < 3; ++pass) {
      const auto scope = ctx.workspace.scope();
      auto choice = ctx.workspace.take<Index>(2000, 2);
      select_top_k<float>(gates, choice, ctx);
      (void)plan_top_k<float>(gates, choice, {.capacity = {.factor = 1}, .priority = priority}, ctx);
      if (pass == 0) blocks = ctx.workspace.allocations();
    }
    EXPECT_EQ(ctx.workspace.allocations(), blocks);
  }
}

}  // namespace
}  // namespace gatefold::plan_top_k_test
