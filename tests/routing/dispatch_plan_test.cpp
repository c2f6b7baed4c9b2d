#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "gatefold/routing/plan_expert_choice.hpp"
#include "gatefold/routing/plan_top_k.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::dispatch_plan_test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<Index> list(View<const Index, 1> v) { return {v.data(), v.data() + v.size()}; }

Tensor<double, 2> matrix(const std::vector<std::vector<double>>& rows) {
  Tensor<double, 2> m({static_cast<Index>(rows.size()), static_cast<Index>(rows.at(0).size())});
  Index i = 0;
  for (const auto& row : rows) std::copy(row.begin(), row.end(), m.view()[i++].data());
  return m;
}

struct Planned {
  View<Index, 2> choice;
  DispatchPlan plan;
};
Planned plan(Rows<const double> gates, Index num_selected, const SeatingOptions& options, Context& ctx) {
  auto choice = ctx.workspace.take<Index>(gates.extent(0), num_selected);
  select_top_k<double>(gates, choice, ctx);
  return {choice, plan_top_k<double>(gates, choice, options, ctx)};
}
/// Two seats at every expert, however many tokens, choices and experts there are.
Capacity two_seats(const Tensor<double, 2>& gates) {
  return {.factor = 2.0 * static_cast<double>(gates.extent(1)) / static_cast<double>(gates.extent(0)),
          .counts = Capacity::Counts::tokens};
}
/// token -> expert:seat, in the order of the slots.
std::vector<std::array<Index, 3>> seats(const DispatchPlan& p) {
  std::vector<std::array<Index, 3>> out;
  for (Index n = 0; n < p.num_slots(); ++n) out.push_back({p.token[n], p.expert[n], n - p.offset[p.expert[n]]});
  return out;
}

const auto kGates = matrix({{.4, 0, .2}, {.5, .1, .4}, {.3, .2, .6}});  // oracles T2, T3, T4

TEST(SelectTopK, BestFirstTiesToTheLowerExpertNanLast) {
  Context ctx;
  const auto gates = matrix({{.1, .7, .2}, {.5, .5, .5}, {kNan, .1, .2}, {kNan, kNan, kNan}, {0, 0, 1}});
  auto choice = ctx.workspace.take<Index>(5, 2);
  select_top_k<double>(gates, choice, ctx);
  EXPECT_THAT(list(choice[0]), ElementsAre(1, 2));
  EXPECT_THAT(list(choice[1]), ElementsAre(0, 1));
  EXPECT_THAT(list(choice[2]), ElementsAre(2, 1));
  EXPECT_THAT(list(choice[3]), ElementsAre(0, 1));
  EXPECT_THAT(list(choice[4]), ElementsAre(2, 0)) << "a gate of 0 is asked when nothing better is left";
}

TEST(PlanTopK, T2T3VanillaSeatsByPosition) {
  Context ctx;
  const auto [choice, p] = plan(kGates, 2, {.capacity = two_seats(kGates)}, ctx);
  EXPECT_THAT(list(choice[0]), ElementsAre(0, 2));
  EXPECT_THAT(list(choice[1]), ElementsAre(0, 2));
  EXPECT_THAT(list(choice[2]), ElementsAre(2, 0));
  using S = std::array<Index, 3>;
  EXPECT_THAT(seats(p), ElementsAre(S{0, 0, 0}, S{1, 0, 1}, S{2, 2, 0}, S{0, 2, 1}));
  EXPECT_THAT(list(p.demand), ElementsAre(3, 0, 3));
  EXPECT_THAT(list(p.requested), ElementsAre(2, 2, 2));
}

TEST(PlanTopK, T2T3BatchPriorityTurnsAwayTheWeak) {
  Context ctx;
  for (const auto priority : {Priority::max_gate, Priority::gate_sum}) {
    const auto p = plan(kGates, 2, {.capacity = two_seats(kGates), .priority = priority}, ctx).plan;
    using S = std::array<Index, 3>;  // the order of the tokens is 2, 1, 0 by the best gate, and 1 = 2, 0 by the sum
    EXPECT_THAT(seats(p), ElementsAre(S{1, 0, 0}, S{0, 0, 1}, S{2, 2, 0}, S{1, 2, 1}));
  }
}

TEST(PlanTopK, TokenMajorMayLoseAFirstChoice) {
  Context ctx;
  const auto p = plan(kGates, 2, {.capacity = two_seats(kGates), .claim_order = ClaimOrder::token_major}, ctx).plan;
  using S = std::array<Index, 3>;
  EXPECT_THAT(seats(p), ElementsAre(S{0, 0, 0}, S{1, 0, 1}, S{0, 2, 0}, S{1, 2, 1}));
  EXPECT_EQ(p.slots_of_token(2).size(), 0);
}

TEST(PlanTopK, SumAndMaximumAreTwoPriorities) {
  // One seat, expert 0 is everybody's first choice; token 1 has the best gate, token 2 the best pair.
  const auto gates = matrix({{.4, .3, .3}, {.6, .2, .2}, {.5, .45, .05}});
  const Capacity one{.factor = 1, .counts = Capacity::Counts::tokens};
  Context ctx;
  const auto first = [&](Priority priority) {
    return plan(gates, 2, {.capacity = one, .priority = priority}, ctx).plan.token[0];
  };
  EXPECT_EQ(first(Priority::position), 0);
  EXPECT_EQ(first(Priority::max_gate), 1);
  EXPECT_EQ(first(Priority::gate_sum), 2);
}

TEST(PlanTopK, ATokenWithNanGatesIsLastInPriority) {
  const auto gates = matrix({{kNan, kNan}, {.6, .4}, {.9, .1}});
  Context ctx;
  const Capacity two{.factor = 2.0 / 3 * 2, .counts = Capacity::Counts::tokens};
  const auto p = plan(gates, 1, {.capacity = two, .priority = Priority::max_gate}, ctx).plan;
  EXPECT_THAT(list(p.token), ElementsAre(2, 1));
}

TEST(PlanTopK, PaddingAsksForNothingAndBuysNoSeat) {
  const auto gates = matrix({{.9, .1}, {.8, .2}, {.7, .3}, {.6, .4}});
  const std::array<std::uint8_t, 4> modality{kPadding, 0, kPadding, 0};
  const std::array<Index, 2> offset{0, 4};
  const TokenLayout layout{.offset = {offset.data(), {2}}, .modality = {modality.data(), {4}}};
  Context ctx;
  ctx.layout = &layout;
  const auto [choice, p] = plan(gates, 1, {.capacity = {.factor = 1}}, ctx);  // 2 tokens, 2 experts: 1 seat
  EXPECT_EQ(choice(0, 0), -1);
  EXPECT_THAT(list(p.token), ElementsAre(1));
  EXPECT_THAT(list(p.requested), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(list(p.demand), ElementsAre(2, 0));
  EXPECT_THAT(list(p.token_offset), ElementsAre(0, 0, 1, 1, 1));
}

TEST(PlanTopK, EmptyInputAndOneExpert) {
  Context ctx;
  const auto none = plan(Tensor<double, 2>({0, 3}), 2, {.capacity = {.factor = 1}}, ctx).plan;
  EXPECT_EQ(none.num_slots(), 0);
  EXPECT_THAT(list(none.offset), ElementsAre(0, 0, 0, 0));
  const auto one = plan(matrix({{1}, {1}, {1}}), 1, {.capacity = {.factor = .5}}, ctx).plan;
  EXPECT_THAT(list(one.token), ElementsAre(0, 1));
}

// The oracle goes expert by expert and sorts whole lists of requests, instead of counting claims.
struct Seat {
  Index expert, group, token, rank;
  auto operator<=>(const Seat&) const = default;
};
std::vector<Seat> slow_plan(const Tensor<double, 2>& gates, Index num_selected, const SeatingOptions& o,
                            const std::vector<std::uint8_t>& modality) {
  const Index rows = gates.extent(0), num_experts = gates.extent(1);
  const auto after = [](double a, double b) { return std::isnan(a) ? -HUGE_VAL : std::isnan(b) ? HUGE_VAL : a - b; };
  std::vector<std::vector<Index>> wish(static_cast<std::size_t>(rows));
  std::vector<double> score(static_cast<std::size_t>(rows));
  for (Index t = 0; t < rows; ++t) {
    const auto gate = gates.view()[t];
    auto& mine = wish[static_cast<std::size_t>(t)];
    for (Index e = 0; e < num_experts; ++e) mine.push_back(e);
    std::stable_sort(mine.begin(), mine.end(), [&](Index a, Index b) {
      return (!std::isnan(gate[a]) && std::isnan(gate[b])) || after(gate[a], gate[b]) > 0;
    });
    mine.resize(static_cast<std::size_t>(modality[static_cast<std::size_t>(t)] == kPadding ? 0 : num_selected));
    if (mine.empty()) continue;
    auto& s = score[static_cast<std::size_t>(t)];
    if (o.priority == Priority::max_gate) s = gate[mine[0]];
    if (o.priority == Priority::gate_sum)
      for (const Index e : mine) s += gate[e];
  }
  std::vector<Seat> out;
  const Index size = o.group_size ? o.group_size : std::max<Index>(rows, 1);
  for (Index e = 0; e < num_experts; ++e)
    for (Index begin = 0; begin < rows; begin += size) {
      std::vector<Seat> requests;
      Index tokens = 0;
      for (Index t = begin; t < std::min(rows, begin + size); ++t) {
        const auto& mine = wish[static_cast<std::size_t>(t)];
        tokens += !mine.empty();
        for (std::size_t k = 0; k < mine.size(); ++k)
          if (mine[k] == e) requests.push_back({e, begin / size, t, static_cast<Index>(k)});
      }
      std::stable_sort(requests.begin(), requests.end(), [&](const Seat& a, const Seat& b) {
        if (o.claim_order == ClaimOrder::rank_major && a.rank != b.rank) return a.rank < b.rank;
        const double sa = score[static_cast<std::size_t>(a.token)], sb = score[static_cast<std::size_t>(b.token)];
        return (!std::isnan(sa) && std::isnan(sb)) || after(sa, sb) > 0;
      });
      const Index limit =
          o.capacity.seats({.tokens = tokens, .num_selected = num_selected, .num_experts = num_experts});
      requests.resize(std::min(requests.size(), static_cast<std::size_t>(limit)));
      out.insert(out.end(), requests.begin(), requests.end());
    }
  return out;
}

struct Case {
  Tensor<double, 2> gates{};
  std::vector<std::uint8_t> modality{};
  Index num_selected = 1;
  SeatingOptions options{};
};
/// Coarse gates, so that ties abound; zeros, NaN rows, padding, short last groups, tight and loose capacities.
Case random_case(Rng& rng) {
  Case c;
  const Index rows = rng.below(40), num_experts = 1 + rng.below(7);
  c.num_selected = 1 + rng.below(num_experts);
  c.gates = Tensor<double, 2>({rows, num_experts});
  const bool ties = rng.below(2) == 0;
  for (double& g : c.gates.flat()) g = ties ? static_cast<double>(rng.below(5)) / 4 : rng.uniform();
  for (Index t = 0; t < rows; ++t) {
    if (rng.below(20) == 0) std::fill_n(c.gates.view()[t].data(), num_experts, kNan);
    c.modality.push_back(rng.below(6) == 0 ? kPadding : std::uint8_t{0});
  }
  c.options = {.capacity = {.factor = rng.below(4) == 0 ? Capacity::kUnlimited : rng.uniform(.1, 2)},
               .claim_order = rng.below(2) ? ClaimOrder::rank_major : ClaimOrder::token_major,
               .priority = std::array{Priority::position, Priority::max_gate,
                                      Priority::gate_sum}[static_cast<std::size_t>(rng.below(3))],
               .group_size = rng.below(2) ? 0 : 1 + rng.below(15)};
  return c;
}
TokenLayout layout_of(const Case& c) {
  return {.offset = {}, .modality = {c.modality.data(), {static_cast<Index>(c.modality.size())}}};
}

TEST(PlanTopK, EqualsASlowOracleOnThousandsOfCases) {
  Rng rng(1);
  Context ctx;
  Index dropped = 0;
  for (int i = 0; i < 4000; ++i) {
    SCOPED_TRACE(i);
    const auto c = random_case(rng);
    const auto layout = layout_of(c);
    ctx.layout = &layout;
    const auto scope = ctx.workspace.scope();
    const auto p = plan(c.gates, c.num_selected, c.options, ctx).plan;
    const auto expected = slow_plan(c.gates, c.num_selected, c.options, c.modality);
    ASSERT_EQ(p.num_slots(), static_cast<Index>(expected.size()));
    const Index size = c.options.group_size ? c.options.group_size : c.gates.extent(0);
    for (Index n = 0; n < p.num_slots(); ++n)
      ASSERT_EQ(expected[static_cast<std::size_t>(n)], (Seat{p.expert[n], p.token[n] / size, p.token[n], p.rank[n]}));
    for (const Index d : list(p.demand)) dropped += d;
    dropped -= p.num_slots();
  }
  EXPECT_GT(dropped, 1000) << "the cases must turn tokens away, or they test nothing";
}

TEST(PlanTopK, KeepsTheLawsOfSeating) {
  Rng rng(2);
  Context ctx;
  for (int i = 0; i < 4000; ++i) {
    SCOPED_TRACE(i);
    auto c = random_case(rng);
    const auto layout = layout_of(c);
    ctx.layout = &layout;
    const auto scope = ctx.workspace.scope();
    const auto [choice, p] = plan(c.gates, c.num_selected, c.options, ctx);
    const Index rows = c.gates.extent(0), num_experts = c.gates.extent(1);
    const Index size = c.options.group_size ? c.options.group_size : std::max<Index>(rows, 1);

    std::set<std::pair<Index, Index>> pairs;
    std::map<std::pair<Index, Index>, Index> served, asked;  // by group and expert
    std::map<Index, Index> tokens;
    for (Index t = 0; t < rows; ++t) {
      const auto slots = p.slots_of_token(t);
      ASSERT_LE(slots.extent(0), p.requested[t]);
      ASSERT_EQ(p.requested[t], c.modality[static_cast<std::size_t>(t)] == kPadding ? 0 : c.num_selected);
      tokens[t / size] += p.requested[t] > 0;
      for (Index k = 0; k < p.requested[t]; ++k) ++asked[{t / size, choice(t, k)}];
      for (Index s = 0; s < slots.extent(0); ++s) {
        ASSERT_EQ(p.token[slots[s]], t);
        ASSERT_EQ(choice(t, p.rank[slots[s]]), p.expert[slots[s]]);
        if (s > 0) {
          ASSERT_LT(p.rank[slots[s - 1]], p.rank[slots[s]]);
        }
        ASSERT_TRUE(pairs.insert({t, p.expert[slots[s]]}).second) << "a token sits twice at one expert";
      }
    }
    ASSERT_EQ(static_cast<Index>(pairs.size()), p.num_slots());
    for (Index e = 0; e < num_experts; ++e) {
      const auto [begin, end] = p.slots(e);
      Index total = 0;
      for (Index n = begin; n < end; ++n) {
        ASSERT_EQ(p.expert[n], e);
        ++served[{p.token[n] / size, e}];
      }
      for (const auto& [group, count] : tokens) {
        const Index limit =
            c.options.capacity.seats({.tokens = count, .num_selected = c.num_selected, .num_experts = num_experts});
        total += asked[{group, e}];
        // Neither more than the seats, nor anybody turned away from a free one.
        ASSERT_EQ((served[{group, e}]), std::min(limit, asked[{group, e}]));
      }
      ASSERT_EQ(p.demand[e], total);
    }
  }
}

TEST(PlanTopK, BatchPriorityNeverPrefersAWeakerTokenOfTheSameRank) {
  Rng rng(3);
  Context ctx;
  for (int i = 0; i < 1000; ++i) {
    auto c = random_case(rng);
    c.options.claim_order = ClaimOrder::rank_major;
    c.options.priority = Priority::max_gate;
    c.options.group_size = 0;
    const auto scope = ctx.workspace.scope();
    const auto [choice, p] = plan(c.gates, c.num_selected, c.options, ctx);
    const auto seated = [&, plan = p](Index t, Index k) {
      const auto slots = list(plan.slots_of_token(t));
      return std::any_of(slots.begin(), slots.end(), [&](Index n) { return plan.rank[n] == k; });
    };
    const Index rows = c.gates.extent(0);
    for (Index k = 0; k < c.num_selected; ++k)
      for (Index weak = 0; weak < rows; ++weak)
        for (Index strong = 0; strong < rows; ++strong)
          if (choice(weak, k) == choice(strong, k) &&
              c.gates.view()(strong, choice(strong, 0)) > c.gates.view()(weak, choice(weak, 0)) && seated(weak, k)) {
            ASSERT_TRUE(seated(strong, k)) << "case " << i << ", rank " << k << ": " << weak << " before " << strong;
          }
  }
}

TEST(PlanTopK, BatchPriorityOfEqualScoresIsByPosition) {
  Rng rng(4);
  Context ctx;
  for (int i = 0; i < 200; ++i) {
    const Index rows = 1 + rng.below(30), num_experts = 2 + rng.below(5), num_selected = 1 + rng.below(2);
    Tensor<double, 2> gates({rows, num_experts});
    for (Index t = 0; t < rows; ++t) {  // the same two gates for everyone, at different experts
      const Index first = rng.below(num_experts), second = (first + 1 + rng.below(num_experts - 1)) % num_experts;
      gates.view()(t, first) = .5;
      gates.view()(t, second) = .25;
    }
    const auto scope = ctx.workspace.scope();
    SeatingOptions o{.capacity = {.factor = .6}};
    const auto by_position = seats(plan(gates, num_selected, o, ctx).plan);
    for (const auto priority : {Priority::max_gate, Priority::gate_sum}) {
      o.priority = priority;
      ASSERT_EQ(seats(plan(gates, num_selected, o, ctx).plan), by_position);
    }
  }
}

TEST(PlanTopK, PermutingTokensOrExpertsPermutesAnUnlimitedPlan) {
  Rng rng(5);
  Context ctx;
  const Index rows = 23, num_experts = 6;
  Tensor<double, 2> gates({rows, num_experts}), shuffled({rows, num_experts});
  for (double& g : gates.flat()) g = rng.uniform();
  for (Index t = 0; t < rows; ++t)
    for (Index e = 0; e < num_experts; ++e) shuffled.view()((t * 5) % rows, (e + 2) % num_experts) = gates.view()(t, e);
  const auto a = plan(gates, 3, {}, ctx).plan, b = plan(shuffled, 3, {}, ctx).plan;
  std::set<std::array<Index, 3>> moved, expected;
  for (Index n = 0; n < a.num_slots(); ++n)
    expected.insert({(a.token[n] * 5) % rows, (a.expert[n] + 2) % num_experts, a.rank[n]});
  for (Index n = 0; n < b.num_slots(); ++n) moved.insert({b.token[n], b.expert[n], b.rank[n]});
  EXPECT_EQ(moved, expected);
}

TEST(PlanExpertChoice, T4) {
  Context ctx;
  const auto p = plan_expert_choice<double>(kGates, two_seats(kGates), 0, ctx);
  using S = std::array<Index, 3>;
  EXPECT_THAT(seats(p), ElementsAre(S{1, 0, 0}, S{0, 0, 1}, S{2, 1, 0}, S{1, 1, 1}, S{2, 2, 0}, S{1, 2, 1}));
  EXPECT_THAT(list(p.requested), ElementsAre(1, 3, 2));
  EXPECT_THAT(list(p.rank), ElementsAre(0, 0, 0, 1, 1, 2));
  EXPECT_THAT(list(p.token_slot), ElementsAre(1, 0, 3, 5, 2, 4));
}

TEST(PlanExpertChoice, EqualsAFullSortAndKeepsItsLaws) {
  Rng rng(6);
  Context ctx;
  for (int i = 0; i < 2000; ++i) {
    SCOPED_TRACE(i);
    const auto c = random_case(rng);
    const auto layout = layout_of(c);
    ctx.layout = &layout;
    const auto scope = ctx.workspace.scope();
    const auto p = plan_expert_choice<double>(c.gates, c.options.capacity, c.options.group_size, ctx);
    const Index rows = c.gates.extent(0), num_experts = c.gates.extent(1);
    const Index size = c.options.group_size ? c.options.group_size : std::max<Index>(rows, 1);
    std::vector<Index> token, count(static_cast<std::size_t>(rows));
    for (Index e = 0; e < num_experts; ++e)
      for (Index begin = 0; begin < rows; begin += size) {
        std::vector<Index> best;
        for (Index t = begin; t < std::min(rows, begin + size); ++t)
          if (c.modality[static_cast<std::size_t>(t)] != kPadding) best.push_back(t);
        const auto tokens = static_cast<Index>(best.size());
        const auto gate = [&](Index t) { return c.gates.view()(t, e); };
        std::stable_sort(best.begin(), best.end(), [&](Index a, Index b) {
          return std::isnan(gate(b)) ? !std::isnan(gate(a)) : gate(a) > gate(b);
        });
        best.resize(static_cast<std::size_t>(
            std::min(tokens, c.options.capacity.seats({.tokens = tokens, .num_experts = num_experts}))));
        token.insert(token.end(), best.begin(), best.end());
      }
    ASSERT_THAT(list(p.token), ElementsAreArray(token));
    for (const Index t : token) ++count[static_cast<std::size_t>(t)];
    ASSERT_THAT(list(p.requested), ElementsAreArray(count));
    for (Index t = 0; t < rows; ++t)
      for (Index s = 0; s < p.slots_of_token(t).extent(0); ++s) {
        ASSERT_EQ(p.token[p.slots_of_token(t)[s]], t);
        ASSERT_EQ(p.rank[p.slots_of_token(t)[s]], s);
      }
  }
}

TEST(PlanExpertChoice, NoExpertTakesATokenItIsClosedTo) {
  constexpr double kClosed = -std::numeric_limits<double>::infinity();
  Rng rng(8);
  for (int i = 0; i < 300; ++i) {
    SCOPED_TRACE(i);
    const Index rows = 1 + rng.below(30), num_experts = 1 + rng.below(6), size = 1 + rng.below(rows);
    Tensor<double, 2> gates({rows, num_experts}), logits({rows, num_experts});
    for (Index t = 0; t < rows; ++t)
      for (Index e = 0; e < num_experts; ++e) {
        const bool closed = rng.below(4) == 0 || t % 7 == 3;
        logits.view()(t, e) = closed ? kClosed : -900;
        gates.view()(t, e) = closed ? 0 : static_cast<double>(rng.below(5)) / 8;  // 0 is a gate like any
      }
    const Capacity capacity{.factor = rng.uniform(.3, 3), .rounding = Capacity::Rounding::half_even, .minimum = 1};
    std::vector<Index> token, expert, offset{0};
    for (Index e = 0; e < num_experts; ++e) {
      for (Index begin = 0; begin < rows; begin += size) {
        std::vector<Index> best;
        Index tokens = 0;
        for (Index t = begin; t < std::min(rows, begin + size); ++t) {
          bool any = false;
          for (Index other = 0; other < num_experts; ++other) any = any || logits.view()(t, other) != kClosed;
          tokens += any;
          if (logits.view()(t, e) != kClosed) best.push_back(t);
        }
        std::ranges::stable_sort(best, [&](Index a, Index b) { return gates.view()(a, e) > gates.view()(b, e); });
        const auto seats = static_cast<std::size_t>(capacity.seats({.tokens = tokens, .num_experts = num_experts}));
        if (best.size() > seats) best.resize(seats);
        token.insert(token.end(), best.begin(), best.end());
        expert.insert(expert.end(), best.size(), e);
      }
      offset.push_back(std::ssize(token));
    }
    for (const Index workers : {1, 3}) {
      Context ctx;
      ctx.parallel_for = test::threads(workers);
      const auto p = plan_expert_choice<double>(gates, logits, capacity, size, ctx);
      ASSERT_THAT(list(p.token), ElementsAreArray(token));
      ASSERT_THAT(list(p.expert), ElementsAreArray(expert));
      ASSERT_THAT(list(p.offset), ElementsAreArray(offset));
      for (Index e = 0; e < num_experts; ++e) ASSERT_EQ(p.demand[e], p.offset[e + 1] - p.offset[e]);
      for (Index t = 0; t < rows; ++t)
        for (Index s = 0; s < p.slots_of_token(t).extent(0); ++s) ASSERT_EQ(p.token[p.slots_of_token(t)[s]], t);
    }
  }
}

TEST(Plans, DoNotDependOnThreadsAndStopAllocating) {
  Rng rng(7);
  Tensor<double, 2> gates({300, 8});
  for (double& g : gates.flat()) g = static_cast<double>(rng.below(6));
  const SeatingOptions options{.capacity = {.factor = .8}, .priority = Priority::max_gate, .group_size = 64};
  std::vector<std::vector<Index>> first;
  for (const Index workers : {1, 2, 7}) {
    Context ctx;
    ctx.parallel_for = test::threads(workers);
    std::size_t blocks = 0;
    for (int pass = 0; pass < 3; ++pass) {
      const auto scope = ctx.workspace.scope();
      const auto a = plan(gates, 2, options, ctx).plan;
      const auto b = plan_expert_choice<double>(gates, {.factor = 1}, 64, ctx);
      const std::vector<std::vector<Index>> got{list(a.token), list(a.token_slot), list(b.token), list(b.token_slot)};
      if (first.empty()) first = got;
      EXPECT_EQ(got, first) << workers << " threads";
      if (pass == 0) blocks = ctx.workspace.allocations();
    }
    EXPECT_EQ(ctx.workspace.allocations(), blocks);
  }
}

}  // namespace
}  // namespace gatefold::dispatch_plan_test
