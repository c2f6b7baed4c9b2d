#include "gatefold/kernels/score_top_k.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels::score_top_k_test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::array kScores{RouterScore::sigmoid, RouterScore::sqrt_softplus, RouterScore::relu};

long double definition(RouterScore score, long double z) {
  switch (score) {
    case RouterScore::sigmoid:
      return 1 / (1 + std::exp(-z));
    case RouterScore::sqrt_softplus:
      return std::sqrt(std::log1p(std::exp(z)));
    default:
      return std::max(z, 0.0L);
  }
}

// From where e^z is no float any more to where the score is the root of z; in between every tenth, near 0 finer.
TEST(RouterScore, IsItsDefinitionAndSoIsItsSlope) {
  Tensor<float, 2> z({1, 4001});
  for (Index i = 0; i < z.size(); ++i) {
    const double at = static_cast<double>(i - 2000) / 2000;
    z.data()[i] = static_cast<float>(85 * at * at * at);
  }
  Tensor<float, 2> s(z.shape());
  for (const RouterScore score : kScores)
    for (const Isa isa : {Isa::portable, Isa::simd}) {
      Context ctx;
      ctx.isa = isa;
      score_top_k_rows<float>(score, z, {}, {.scores = s}, ctx);
      std::vector<float> slope(static_cast<std::size_t>(z.size()), 1.0f), log_p(slope), scratch(slope);
      log_score_grad_row<float>(isa, score, z.size(), s.data(), z.data(), slope.data());
      log_probs_row<float>(isa, score, z.size(), z.data(), scratch.data(), log_p.data());
      long double total = 0;
      for (const float x : z.flat()) total += definition(score, x);
      for (Index i = 0; i < z.size(); ++i) {
        const long double x = z.data()[i], wanted = definition(score, x);
        const auto at = static_cast<std::size_t>(i);
        ASSERT_NEAR(s.data()[i], static_cast<double>(wanted), static_cast<double>(6 * 0x1p-24L * wanted)) << x;
        if (wanted == 0) {
          ASSERT_EQ(log_p[at], -kInf);
          ASSERT_EQ(slope[at], 0);
          continue;
        }
        // Differences of logarithms up to 90: their rounding, and that of the terms.
        ASSERT_NEAR(log_p[at], static_cast<double>(std::log(wanted / total)), 90 * 4 * 0x1p-24) << x;
        const long double e = std::exp(-std::abs(x)), low = e / (1 + e), high = 1 / (1 + e);
        const long double by_log = score == RouterScore::sigmoid ? (x < 0 ? high : low)
                                   : score == RouterScore::relu  ? 1 / x
                                                                 : (x < 0 ? low : high) / (2 * std::log1p(std::exp(x)));
        ASSERT_NEAR(slope[at], static_cast<double>(by_log), static_cast<double>(16 * 0x1p-24L * by_log)) << x;
      }
    }
}

TEST(RouterScore, KnowsTheEnds) {
  const std::array<float, 4> z{-kInf, kInf, kNan, -1e4f};
  std::array<float, 4> s{};
  for (const Isa isa : {Isa::portable, Isa::simd}) {
    Context ctx;
    ctx.isa = isa;
    const auto score = [&](RouterScore which) {
      score_top_k_rows<float>(which, {z.data(), {1, 4}}, {}, {.scores = {s.data(), {1, 4}}}, ctx);
      EXPECT_EQ(s[0], 0);
      EXPECT_TRUE(std::isnan(s[2]));
      EXPECT_EQ(s[3], 0);
      return s[1];
    };
    EXPECT_EQ(score(RouterScore::sigmoid), 1);
    EXPECT_EQ(score(RouterScore::sqrt_softplus), kInf);
    EXPECT_EQ(score(RouterScore::relu), kInf);
  }
}

/// What is chosen by sorting: groups by their members sorted, then experts; nothing is shared with the kernel but the
/// scores, so that rounding decides nothing.
std::vector<Index> by_sorting(const std::vector<float>& s, const std::vector<float>& z, RouterScore score,
                              const Choosing<float>& how, Index k) {
  const auto experts = s.size(), size = experts / static_cast<std::size_t>(how.num_groups);
  std::vector<float> c(experts);
  for (std::size_t e = 0; e < experts; ++e) {
    const bool closed = z[e] == -kInf || (score == RouterScore::relu && s[e] == 0);
    c[e] = closed ? -kInf : how.bias.size() ? s[e] + how.bias[static_cast<Index>(e)] : s[e];
  }
  if (how.groups_kept < how.num_groups) {
    std::vector<std::pair<float, std::size_t>> groups;  // minus what speaks for it
    for (std::size_t g = 0; g < experts / size; ++g) {
      std::vector<float> members(c.begin() + static_cast<std::ptrdiff_t>(g * size),
                                 c.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      std::erase_if(members, [](float v) { return std::isnan(v); });
      members.insert(members.end(), 2, -kInf);
      std::sort(members.rbegin(), members.rend());
      groups.emplace_back(how.group_score == GroupScore::best ? -members[0] : -(members[0] + members[1]), g);
    }
    std::sort(groups.begin(), groups.end());
    for (auto i = static_cast<std::size_t>(how.groups_kept); i < groups.size(); ++i)
      std::fill_n(c.begin() + static_cast<std::ptrdiff_t>(groups[i].second * size), size, -kInf);
  }
  std::vector<Index> order(experts);
  std::iota(order.begin(), order.end(), Index{0});
  std::erase_if(order, [&](Index e) { return c[static_cast<std::size_t>(e)] == -kInf; });
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    const float x = c[static_cast<std::size_t>(a)], y = c[static_cast<std::size_t>(b)];
    return std::isnan(y) ? !std::isnan(x) : x > y;
  });
  order.resize(static_cast<std::size_t>(k), -1);
  return order;
}

// Few values, so that experts and groups are equal often; closed ones, NaN and logits whose scores are 0 in some rows.
void fill_logits(Rows<float> z, std::uint64_t seed) {
  Rng rng(seed);
  for (Index t = 0; t < z.extent(0); ++t) {
    const Index kind = rng.below(8);
    for (Index e = 0; e < z.extent(1); ++e) {
      z(t, e) = static_cast<float>(rng.below(24) - 12) / 4;
      if (kind == 0 && rng.below(3) == 0) z(t, e) = -kInf;
      if (kind == 1 && rng.below(6) == 0) z(t, e) = kNan;
      if (kind == 2 && rng.below(3) == 0) z(t, e) = -200;
    }
  }
}

TEST(ScoreTopK, ChoosesWhatSortingDoes) {
  struct Limit {
    Index groups, kept;
    GroupScore score;
  };
  for (const Index experts : {4, 8, 12, 20, 32, 64, 128}) {
    Tensor<float, 2> z({37, experts}), s(z.shape());
    fill_logits(z, static_cast<std::uint64_t>(experts));
    Tensor<float, 1> bias({experts});
    for (Index e = 0; e < experts; ++e) bias.data()[e] = static_cast<float>((e * 7) % 5 - 2) / 8;
    for (const Limit& limit : {Limit{1, 1, GroupScore::best}, Limit{4, 2, GroupScore::best},
                               Limit{experts / 4, experts / 8 + 1, GroupScore::two_best}})
      for (const RouterScore score : {RouterScore::softmax, kScores[0], kScores[1], kScores[2]})
        for (const bool biased : {false, true}) {
          Choosing<float> how{.num_groups = limit.groups, .groups_kept = limit.kept, .group_score = limit.score};
          if (biased) how.bias = bias;
          if (score == RouterScore::softmax && how.by_scores_alone()) continue;  // softmax_top_k_rows
          for (const Index k : {1, 2, 3, 11})
            for (const Isa isa : {Isa::portable, Isa::simd}) {
              if (k > experts / limit.groups * limit.kept) continue;
              Tensor<Index, 2> choice({37, k}), again({37, k});
              Context ctx;
              ctx.isa = isa;
              score_top_k_rows<float>(score, z, how, {.scores = s, .choice = choice}, ctx);
              for (Index t = 0; t < 37; ++t) {
                const auto row = [&](const Tensor<float, 2>& m) {
                  return std::vector<float>(m.view()[t].data(), m.view()[t].data() + experts);
                };
                const std::vector<Index> chosen(choice.view()[t].data(), choice.view()[t].data() + k);
                ASSERT_EQ(chosen, by_sorting(row(s), row(z), score, how, k))
                    << "E " << experts << " K " << k << " groups " << limit.groups << " token " << t;
              }
              ctx.parallel_for = test::threads(7);
              score_top_k_rows<float>(score, z, how, {.scores = s, .choice = again}, ctx);
              ASSERT_EQ(choice, again);
            }
        }
  }
}

// A row keeps to its own columns of a wider matrix, and its bits whatever rows are beside it.
TEST(ScoreTopK, RowsDoNotDisturbEachOther) {
  for (const Index experts : {5, 8, 64}) {
    Tensor<float, 2> z({33, experts + 3}), s(z.shape()), alone({1, experts});
    fill_logits(z.view(), 5);
    std::ranges::fill(s.flat(), -7.0f);
    Tensor<Index, 2> choice({33, 2}), one({1, 2});
    Context ctx;
    const auto in = z.view().columns(1, 1 + experts), out = s.view().columns(1, 1 + experts);
    score_top_k_rows<float>(RouterScore::sigmoid, in, {}, {.scores = out, .choice = choice}, ctx);
    for (Index t = 0; t < 33; ++t) {
      score_top_k_rows<float>(RouterScore::sigmoid, in.rows(t, t + 1), {}, {.scores = alone, .choice = one}, ctx);
      EXPECT_EQ(std::memcmp(alone.data(), out[t].data(), static_cast<std::size_t>(experts) * sizeof(float)), 0) << t;
      EXPECT_TRUE(std::ranges::equal(one.flat(), std::span(choice.view()[t].data(), 2))) << t;
      for (const Index edge : {Index{0}, experts + 1, experts + 2}) EXPECT_EQ(s.view()(t, edge), -7);
    }
  }
}

}  // namespace
}  // namespace gatefold::kernels::score_top_k_test
