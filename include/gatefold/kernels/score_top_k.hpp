#pragma once
#include "gatefold/kernels/router_score.hpp"
#include "gatefold/kernels/top_k.hpp"

namespace gatefold {

/// What speaks for a group of experts: its best, or the sum of its two best.
enum class GroupScore { best, two_best };

}  // namespace gatefold

/// The scores of a router that are no softmax, or are not alone in deciding on the choice, with that choice in the same
/// pass over the logits.
namespace gatefold::kernels {

/// What decides on the choice beside the scores: each gets its bias added, and only experts of the best groups of
/// neighbours are chosen.
template <class T>
struct Choosing {
  View<const T, 1> bias{};  // [E] or empty
  Index num_groups = 1, groups_kept = 1;
  GroupScore group_score = GroupScore::best;

  bool limits_groups() const { return groups_kept < num_groups; }
  bool by_scores_alone() const { return !bias.size() && !limits_groups(); }
};

/// What score_top_k_rows writes; an empty view is not written.
template <class T>
struct ScoreTopK {
  Rows<T> scores;           // [S, E]
  View<Index, 2> choice{};  // [S, K]
  Rows<T> log_probs{};      // [S, E] of a softmax only
};

namespace detail {

/// The definition: ranked[e] = what an expert of one row is chosen by, -inf for one that is not to be. Behind them,
/// room for the scores of the groups. // ranked [E + groups]
template <class T>
void rank_row(const Choosing<T>& how, RouterScore score, Index n, const T* s, const T* logit, T* ranked) {
  const T nobody(-std::numeric_limits<double>::infinity());
  for (Index e = 0; e < n; ++e) {
    const bool closed =
        to_double(logit[e]) == to_double(nobody) || (score == RouterScore::relu && to_double(s[e]) == 0);
    ranked[e] = closed ? nobody : how.bias.size() ? T(s[e] + how.bias[e]) : s[e];
  }
  if (!how.limits_groups()) return;
  const Index size = n / how.num_groups;
  T* const group = ranked + n;
  for (Index g = 0; g < how.num_groups; ++g) {
    T best = nobody, second = nobody;
    for (Index e = g * size; e < (g + 1) * size; ++e) {
      if (best < ranked[e])
        second = best, best = ranked[e];
      else if (second < ranked[e])
        second = ranked[e];
    }
    group[g] = how.group_score == GroupScore::two_best ? T(best + second) : best;
  }
  for (Index g = 0; g < how.num_groups; ++g) {
    Index before = 0;
    for (Index h = 0; h < how.num_groups; ++h) before += group[g] < group[h] || (h < g && !(group[h] < group[g]));
    if (before >= how.groups_kept) std::fill_n(ranked + g * size, size, nobody);
  }
}

template <class T>
void choose_ranked_row(const Choosing<T>& how, RouterScore score, Rows<const T> scores, Rows<const T> logits, Index row,
                       T* ranked, const View<Index, 2>& choice) {
  const Index n = scores.extent(1);
  rank_row<T>(how, score, n, scores[row].data(), logits[row].data(), ranked);
  top_k_row(n, choice[row], [&](Index e) { return to_double(ranked[e]); });
}

#if GATEFOLD_HAS_SIMD
/// s[i] = the score of x[i]. Says whether all are ordinary: numbers above 0 (those of ReLU from 0) and finite. Among
/// others hide closed experts and NaN, for which the definition knows what to do.
template <class Score, class Arch>
bool score_line(Index n, const float* x, float* s) {
  using V = simd::Batch<float, Arch>;
  constexpr Index kWidth = simd::kLanes<float, Arch>;
  const V zero(0.0f), infinite(std::numeric_limits<float>::infinity());
  auto ordinary = zero < infinite;
  const auto each = [&](const V& z) {
    const V v = Score::value(z);
    if constexpr (std::is_same_v<Score, SigmoidScore>)  // which is at most 1
      ordinary = ordinary & (v > zero);
    else if constexpr (std::is_same_v<Score, ReluScore>)
      ordinary = ordinary & (v >= zero) & (v < infinite);
    else
      ordinary = ordinary & (v > zero) & (v < infinite);
    return v;
  };
  Index i = 0;
  for (; i + kWidth <= n; i += kWidth) each(V::load_unaligned(x + i)).store_unaligned(s + i);
  if (i < n) {
    alignas(64) float rest[kWidth] = {};
    std::copy_n(x + i, n - i, rest);
    each(V::load_aligned(rest)).store_aligned(rest);
    std::copy_n(rest, n - i, s + i);
  }
  return all(ordinary);
}

/// Scores in place: what exists already is only looked at.
struct GivenScore {
  template <class V>
  static V value(const V& z) {
    return z;
  }
};

/// score_line of a block of rows.
template <class Arch>
bool score_block(bool (*line)(Index, const float*, float*), const Rows<const float>& logits, Index begin,
                 const Rows<float>& scores) {
  const Index n = logits.extent(1), rows = std::min(simd::kLanes<float, Arch>, logits.extent(0) - begin);
  const float* const x = logits.data() + begin * logits.stride(0);
  float* const s = scores.data() + begin * scores.stride(0);
  if (logits.stride(0) == n && scores.stride(0) == n) return line(rows * n, x, s);
  bool ordinary = true;
  for (Index i = 0; i < rows; ++i) ordinary &= line(n, x + i * logits.stride(0), s + i * scores.stride(0));
  return ordinary;
}

/// Of a block whose lanes are rows, -inf for the experts of all but the best groups. room [groups, lanes], aligned.
template <class Arch>
void limit_groups(RowBlock<Arch>& block, const Choosing<float>& how, float* room) {
  using V = simd::Batch<float, Arch>;
  constexpr Index kRows = simd::kLanes<float, Arch>;
  const Index groups = how.num_groups, size = block.columns() / groups;
  const V none(-std::numeric_limits<float>::infinity()), nowhere(static_cast<float>(groups));
  for (Index g = 0; g < groups; ++g) {
    V best = none, second = none;
    for (Index e = g * size; e < (g + 1) * size; ++e) {
      second = simd::max(second, simd::min(best, block[e]));
      best = simd::max(best, block[e]);
    }
    (how.group_score == GroupScore::two_best ? best + second : best).store_aligned(room + g * kRows);
  }
  V last(std::numeric_limits<float>::infinity()), last_at(-1.0f);  // of the groups that are kept
  for (Index k = 0; k < how.groups_kept; ++k) {
    V score = none, at = nowhere;
    for (Index g = 0; g < groups; ++g) {
      const V v = V::load_aligned(room + g * kRows), number(static_cast<float>(g));
      const auto next = (v < last) | ((v == last) & (number > last_at));
      const auto better = next & ((v > score) | (at == nowhere));
      score = select(better, v, score);
      at = select(better, number, at);
    }
    last = score, last_at = at;
  }
  for (Index g = 0; g < groups; ++g) {
    const V v = V::load_aligned(room + g * kRows), number(static_cast<float>(g));
    const auto kept = (v > last) | ((v == last) & (number <= last_at));
    for (Index e = g * size; e < (g + 1) * size; ++e) block.set(e, select(kept, block[e], none));
  }
}

template <class Block>
void choose_in_block(Block&& block, const Choosing<float>& how, RouterScore score, const Rows<float>& scores,
                     Index begin, float* room, const View<Index, 2>& choice) {
  using V = typename std::remove_reference_t<Block>::V;
  block.load(scores, begin);
  const bool relu = score == RouterScore::relu;
  if (relu || how.bias.size())
    for (Index e = 0; e < block.columns(); ++e) {
      const V v = block[e], sum = v + V(how.bias.size() ? how.bias[e] : 0.0f);
      block.set(e, relu ? select(v > V(0.0f), sum, V(-std::numeric_limits<float>::infinity())) : sum);
    }
  if constexpr (requires { limit_groups(block, how, room); })
    if (how.limits_groups()) limit_groups(block, how, room);
  choose_all(begin, choice, block);
}

/// Takes rows of kColumns, 2 kColumns, ... that stand one behind the other; says whether it did.
template <int kColumns, class Arch>
bool choose_packed(const Choosing<float>& how, RouterScore score, const Rows<float>& scores, Index begin,
                   const View<Index, 2>& choice) {
  if constexpr (kColumns < simd::kLanes<float, Arch>) {
    if (scores.extent(1) != kColumns) return choose_packed<2 * kColumns, Arch>(how, score, scores, begin, choice);
    if (how.limits_groups() || scores.stride(0) != kColumns || begin + simd::kLanes < float, Arch >> scores.extent(0))
      return false;
    choose_in_block(PackedBlock<Arch, kColumns>(), how, score, scores, begin, nullptr, choice);
    return true;
  }
  return false;
}

/// scratch: RowBlock's, then one vector a group.
template <class Arch>
void choose_block(const Choosing<float>& how, RouterScore score, bool ordinary, const Rows<float>& scores,
                  const Rows<const float>& logits, Index begin, float* scratch, const View<Index, 2>& choice) {
  constexpr Index kRows = simd::kLanes<float, Arch>;
  const Index n = scores.extent(1), most = choice.extent(1);
  if (!ordinary) {
    const Index end = std::min(begin + kRows, scores.extent(0));
    for (Index row = begin; row < end; ++row)
      choose_ranked_row<float>(how, score, scores, logits, row, scratch, choice);
    return;
  }
  const bool by_rounds = how.by_scores_alone() && score != RouterScore::relu && most <= 2;
  if (by_rounds && n >= 4 * kRows && n % kRows == 0) {
    if (most == 1)
      choose_by_rounds<1, Arch>(scores, begin, choice);
    else
      choose_by_rounds<2, Arch>(scores, begin, choice);
    return;
  }
  if (!choose_packed<4, Arch>(how, score, scores, begin, choice)) {
    const Index used = (RowBlock<Arch>::scratch(n) + 15) / 16 * 16;
    choose_in_block(RowBlock<Arch>(scratch, n), how, score, scores, begin, scratch + used, choice);
  }
}
#endif

}  // namespace detail

/// Scores of each row and its K experts with the largest score + bias among those of the best groups, best first; the
/// smaller index first among equals, of experts and of groups, NaN last. A logit of -inf closes an expert, as does a
/// score of 0 under ReLU: where too few are left, the rest of the choices is -1. Of a softmax chosen by the scores
/// alone, softmax_top_k_rows, whose gates of 0 are told apart by their logits.
/// // logits [S, E]; E is a multiple of the groups
template <class T, class Arch = simd::DefaultArch>
void score_top_k_rows(RouterScore score, Rows<const T> logits, const Choosing<T>& how, const ScoreTopK<T>& out,
                      Context& ctx) {
  const Index rows = logits.extent(0), columns = logits.extent(1);
  if (columns == 0) return;
  const bool softmax = score == RouterScore::softmax, chooses = out.choice.size() > 0;
  if (softmax) {
    const bool alone = how.by_scores_alone();
    softmax_top_k_rows<T, Arch>(
        logits, {.gates = out.scores, .choice = alone ? out.choice : View<Index, 2>(), .log_probs = out.log_probs},
        ctx);
    if (alone || !chooses) return;
  }
  const Index groups = how.limits_groups() ? how.num_groups : 0;
  if constexpr (simd::kVectorised<T>) {
    if (ctx.isa != Isa::portable && columns <= detail::kMostColumns) {
      auto* line = &detail::score_line<detail::GivenScore, Arch>;
      if (!softmax) line = with_score(score, []<class Score>(Score) { return &detail::score_line<Score, Arch>; });
      const Rows<const float> from = softmax ? Rows<const float>(out.scores) : logits;
      return detail::for_each_block<Arch>(
          rows, columns, ctx,
          [&](Index begin, float* scratch) {
            const bool ordinary = detail::score_block<Arch>(line, from, begin, out.scores);
            if (chooses)
              detail::choose_block<Arch>(how, score, ordinary, out.scores, logits, begin, scratch, out.choice);
          },
          groups * simd::kLanes<float, Arch>);
    }
  }
  const auto scope = ctx.workspace.scope();
  const Index step = rows_per_task(columns * (1 + out.choice.extent(1)));
  auto scratch = ctx.workspace.take<T>(ctx.parallel_for.workers(), columns + groups);
  ctx.parallel_for((rows + step - 1) / step, [&](Index first, Index last, Index worker) {
    for (Index row = first * step; row < std::min(rows, last * step); ++row) {
      if (!softmax)
        with_score(score, [&]<class Score>(Score) {
          for (Index e = 0; e < columns; ++e) out.scores(row, e) = Score::value(logits(row, e));
        });
      if (chooses)
        detail::choose_ranked_row<T>(how, score, out.scores, logits, row, scratch[worker].data(), out.choice);
    }
  });
}

}  // namespace gatefold::kernels
