#pragma once
#include <array>
#include <cmath>
#include <numeric>

#include "gatefold/kernels/softmax.hpp"
#include "gatefold/simd/row_block.hpp"

/// The best of each row, and the softmax of a router with its best in one pass over the logits.
namespace gatefold::kernels {

/// A score and where it stands. Sorts the larger first, NaN last, the lower index first among equals: a strict total
/// order, so that any algorithm gives the same result.
struct Ranked {
  double score;
  Index at;
  friend bool operator<(const Ranked& a, const Ranked& b) {
    if (a.score > b.score) return true;
    if (a.score < b.score) return false;
    const bool a_nan = std::isnan(a.score), b_nan = std::isnan(b.score);
    return a_nan != b_nan ? b_nan : a.at < b.at;
  }
};

/// What softmax_top_k_rows writes; an empty view is not written.
template <class T>
struct SoftmaxTopK {
  Rows<T> gates{};          // [S, E] softmax of the logits
  View<Index, 2> choice{};  // [S, K] the largest gates; needs gates
  Rows<T> log_probs{};      // [S, E] log softmax of the logits
};

namespace detail {

/// The definition, and the way of every number that is no float: the largest of score(e), none of -inf. Returns how
/// many there are; the other choices are -1. O(n k).
template <class Score>
Index top_k_row(Index n, View<Index, 1> choice, Score&& score) {
  constexpr double kNobody = -std::numeric_limits<double>::infinity();
  Ranked last{std::numeric_limits<double>::infinity(), -1};
  for (Index k = 0; k < choice.extent(0); ++k) {
    Ranked best{std::numeric_limits<double>::quiet_NaN(), n};
    for (Index e = 0; e < n; ++e)
      if (const Ranked it{score(e), e}; last < it && it < best && it.score != kNobody) best = it;
    if (best.at == n) {
      std::fill_n(choice.data() + k, choice.extent(0) - k, Index{-1});
      return k;
    }
    choice[k] = best.at;
    last = best;
  }
  return choice.extent(0);
}

/// The choice of one row of softmax_top_k_rows.
template <class T>
void choose_row(Index n, const T* gate, const T* logit, View<Index, 1> choice) {
  constexpr double kNobody = -std::numeric_limits<double>::infinity();
  const auto vanished = [&](Index e) { return to_double(gate[e]) == 0; };
  const Index done = top_k_row(n, choice, [&](Index e) { return vanished(e) ? kNobody : to_double(gate[e]); });
  if (done < choice.extent(0))
    top_k_row(n, choice.rows(done, choice.extent(0)),
              [&](Index e) { return vanished(e) ? to_double(logit[e]) : kNobody; });
}

/// One row of softmax_top_k_rows: also what rows without a proper maximum get, see softmax_row.
template <class T>
void softmax_top_k_row(Isa isa, Rows<const T> logits, Index row, const SoftmaxTopK<T>& out) {
  const Index n = logits.extent(1);
  const T* const x = logits[row].data();
  if (out.log_probs.size()) log_softmax_row<T>(isa, n, x, out.log_probs[row].data());
  if (!out.gates.size()) return;
  softmax_row<T>(isa, n, T(1), x, out.gates[row].data());
  if (out.choice.size()) choose_row<T>(n, out.gates[row].data(), x, out.choice[row]);
}

#if GATEFOLD_HAS_SIMD
/// The largest so far of each lane with their columns, best first; equal ones keep the earlier, -inf does not enter,
/// NaN must not come. Columns are counted in floats, which saves conversions and is exact up to 2^24.
template <int kMost, class V>
struct Best {
  V score[kMost], at[kMost];

  Best() {
#pragma GCC unroll 8
    for (int k = 0; k < kMost; ++k) score[k] = V(-std::numeric_limits<float>::infinity()), at[k] = V(-1.0f);
  }
  void offer(const V& v, const V& column) {
    using Condition = decltype(v > v);
    Condition better[kMost];
#pragma GCC unroll 8
    for (int k = 0; k < kMost; ++k) better[k] = v > score[k];
      // From the end, so that each place still knows what moves down into it. The scores go by min and max: comparing
      // and selecting takes three times as long, for which the next column would have to wait.
#pragma GCC unroll 8
    for (int k = kMost - 1; k > 0; --k) {
      score[k] = simd::max(score[k], simd::min(score[k - 1], v));
      at[k] = select(better[k], select(better[k - 1], at[k - 1], column), at[k]);
    }
    score[0] = simd::max(score[0], v);
    at[0] = select(better[0], column, at[0]);
  }
};

/// Writes the choices `done`..`done + kMost` of each row of a block, as far as it has so many.
template <int kMost, class V>
void store_choice(V (&at)[kMost], Index done, Index begin, const View<Index, 2>& choice) {
  constexpr Index kRows = static_cast<Index>(V::size);
  simd::zip_rounds(at, std::countr_zero(static_cast<unsigned>(kMost)));  // row after row
  alignas(64) float chosen[kMost * kRows];
#pragma GCC unroll 8
  for (int k = 0; k < kMost; ++k) at[k].store_aligned(chosen + k * kRows);
  const Index rows = std::min(kRows, choice.extent(0) - begin),
              wanted = std::min<Index>(kMost, choice.extent(1) - done);
  Index* to = choice.data() + begin * choice.stride(0) + done;
  if (rows == kRows && choice.stride(0) == kMost) {
    for (Index i = 0; i < kMost * kRows; ++i) to[i] = static_cast<Index>(chosen[i]);
    return;
  }
  for (Index i = 0; i < rows; ++i, to += choice.stride(0))
    for (Index k = 0; k < wanted; ++k) to[k] = static_cast<Index>(chosen[i * kMost + k]);
}

/// The columns of a block as they are.
template <class Block>
struct Columns {
  const Block& block;
  auto operator()(Index e) const { return block[e]; }
};

/// Choices `done`..`done + kMost` of each row of a block. `column(e)` gives the scores of column e to choose from;
/// where there are too few, the choice is -1. Returns the scores of the last choices that are wanted.
template <int kMost, class Block>
auto choose(const Block& block, Index done, Index begin, const View<Index, 2>& choice, auto&& column) {
  using V = typename Block::V;
  Best<kMost, V> best;
  V at(0.0f);
  for (Index e = 0; e < block.columns(); ++e, at = at + V(1.0f)) best.offer(column(e), at);
  store_choice(best.at, done, begin, choice);
  const Index wanted = std::min<Index>(kMost, choice.extent(1) - done);
  V last = best.score[0];
#pragma GCC unroll 8
  for (int k = 1; k < kMost; ++k)
    if (k < wanted) last = best.score[k];
  return last;
}

/// choose for any K: lists of 1, 2, 4 or 8 vectors, and beyond 8 in rounds, each among what comes after the last.
template <class Block>
auto choose_all(Index begin, const View<Index, 2>& choice, const Block& block) {
  using V = typename Block::V;
  const Columns<Block> column{block};
  const Index most = choice.extent(1);
  if (most == 1) return choose<1>(block, 0, begin, choice, column);
  if (most == 2) return choose<2>(block, 0, begin, choice, column);
  if (most <= 4) return choose<4>(block, 0, begin, choice, column);
  V lowest = choose<8>(block, 0, begin, choice, column);
  if constexpr (requires { block.at(0, 0); }) {
    constexpr Index kRows = Block::kRows;
    const V none(-std::numeric_limits<float>::infinity());
    for (Index done = 8; done < most; done += 8) {
      alignas(64) float last[kRows], last_at[kRows];
      for (Index i = 0; i < kRows; ++i) {
        const Index at = choice(std::min(begin + i, choice.extent(0) - 1), done - 1);
        last_at[i] = static_cast<float>(at);
        last[i] = at < 0 ? -std::numeric_limits<float>::infinity() : block.at(at, i);  // after nothing comes nothing
      }
      const V bar = V::load_aligned(last), bar_at = V::load_aligned(last_at);
      lowest = choose<8>(block, done, begin, choice, [&](Index e) {
        const V v = block[e], at(static_cast<float>(e));
        return select(v < bar, v, select(at > bar_at, select(bar < v, none, v), none));
      });
    }
  }
  return lowest;
}

/// Rows that take another way are done again one by one: those whose sum is no number, and those that chose a gate of
/// 0.
/// // total, lowest (the smallest gate that was chosen): one lane a row
template <class V>
void redo_improper_rows(const V& total, const V& lowest, const Rows<const float>& logits, Index begin,
                        const SoftmaxTopK<float>& out) {
  if (all((total == total) & (lowest > V(0.0f)))) return;
  alignas(64) float sum[V::size], gate[V::size];
  total.store_aligned(sum);
  lowest.store_aligned(gate);
  const Index rows = std::min(static_cast<Index>(V::size), logits.extent(0) - begin);
  for (Index i = 0; i < rows; ++i) {
    const Index row = begin + i;
    if (sum[i] != sum[i])
      softmax_top_k_row<float>(Isa::simd, logits, row, {.gates = out.gates, .choice = out.choice});
    else if (!(gate[i] > 0))
      choose_row<float>(logits.extent(1), out.gates[row].data(), logits[row].data(), out.choice[row]);
  }
}

/// A block of short rows, column by column.
template <class Block>
void softmax_top_k_columns(Block&& block, const Rows<const float>& logits, Index begin, const SoftmaxTopK<float>& out) {
  using V = typename std::remove_reference_t<Block>::V;
  const Index n = block.columns();
  block.load(logits, begin);
  V most = block[0], odd = block[n - 1];  // two, since each waits for its last
  for (Index e = 1; e + 1 < n; e += 2) most = simd::max(most, block[e]), odd = simd::max(odd, block[e + 1]);
  most = simd::max(most, odd);
  V total(0.0f);
  for (Index e = 0; e < n; ++e) {
    const V power = kernels::exp(block[e] - most);
    block.set(e, power);
    total = total + power;
  }
  if (out.gates.size()) {
    V lowest(1.0f);
    const V inverse = V(1.0f) / total;
    for (Index e = 0; e < n; ++e) block.set(e, block[e] * inverse);
    if (out.choice.size()) lowest = choose_all(begin, out.choice, block);
    block.store(out.gates, begin);
    redo_improper_rows(total, lowest, logits, begin, out);
  }
  if (out.log_probs.size()) {
    const V log_sum = kernels::log(total);
    block.load(logits, begin);
    for (Index e = 0; e < n; ++e) block.set(e, (block[e] - most) - log_sum);
    block.store(out.log_probs, begin);
  }
}

/// Lane i of the result: op over the lanes of v[i]. Consumes v.
template <std::size_t kLeft, class V>
V fold_lanes(V (&v)[V::size], auto&& op) {
  if constexpr (kLeft == 1) {
    return v[0];
  } else {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kLeft / 2; ++i) {
      V low, high;
      simd::zip(v[i], v[i + kLeft / 2], low, high);
      v[i] = op(low, high);
    }
    return fold_lanes<kLeft / 2>(v, op);
  }
}

/// Lane i of the result: where the largest of score[i] stands, by `at`; the lowest among equals. Consumes both.
template <std::size_t kLeft, class V>
V fold_best(V (&score)[V::size], V (&at)[V::size]) {
  if constexpr (kLeft == 1) {
    return at[0];
  } else {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kLeft / 2; ++i) {
      V low, high, low_at, high_at;
      simd::zip(score[i], score[i + kLeft / 2], low, high);
      simd::zip(at[i], at[i + kLeft / 2], low_at, high_at);
      const auto other = (low < high) | ((low == high) & (high_at < low_at));
      score[i] = simd::max(low, high);
      at[i] = select(other, high_at, low_at);
    }
    return fold_best<kLeft / 2>(score, at);
  }
}

/// The largest of each row of a block, kMost times, each round without what the last one found: cheaper for few choices
/// among many columns than turning them. Scores are of whole vectors and from 0. Returns the last round's scores.
template <int kMost, class Arch>
simd::Batch<float, Arch> choose_by_rounds(const Rows<float>& scores, Index begin, const View<Index, 2>& choice) {
  using V = simd::Batch<float, Arch>;
  constexpr Index kRows = simd::kLanes<float, Arch>;
  constexpr float kTaken = -1;
  const Index n = scores.extent(1), rows = std::min(kRows, scores.extent(0) - begin);
  float* const first = scores.data() + begin * scores.stride(0);
  alignas(64) float number[kRows], found[kMost][kRows], taken[kMost][kRows];
  std::iota(number, number + kRows, 0.0f);
  V best[kRows], best_at[kRows], found_at[kMost];
  for (int k = 0; k < kMost; ++k) {
    for (Index i = 0; i < kRows; ++i) {
      const float* const row = first + std::min(i, rows - 1) * scores.stride(0);
      V at = V::load_aligned(number), row_best(kTaken / 2), row_best_at = at;
      for (Index e = 0; e < n; e += kRows, at = at + V(static_cast<float>(kRows))) {
        const V score = V::load_unaligned(row + e);
        row_best_at = select(row_best < score, at, row_best_at);
        row_best = simd::max(row_best, score);
      }
      best[i] = row_best, best_at[i] = row_best_at;
    }
    found_at[k] = fold_best<kRows>(best, best_at);
    if (k + 1 == kMost) break;
    best[0].store_aligned(taken[k]);
    found_at[k].store_aligned(found[k]);
    for (Index i = 0; i < rows; ++i) first[i * scores.stride(0) + static_cast<Index>(found[k][i])] = kTaken;
  }
  for (int k = 0; k + 1 < kMost; ++k)
    for (Index i = 0; i < rows; ++i) first[i * scores.stride(0) + static_cast<Index>(found[k][i])] = taken[k][i];
  store_choice(found_at, 0, begin, choice);
  return best[0];
}

/// A block of rows of whole vectors, row by row, of which only maxima, sums and the best are turned to have one lane a
/// row.
template <class Arch>
void softmax_top_k_rows_block(const Rows<const float>& logits, Index begin, float* scratch,
                              const SoftmaxTopK<float>& out) {
  using V = simd::Batch<float, Arch>;
  constexpr Index kRows = simd::kLanes<float, Arch>;
  const Index n = logits.extent(1), rows = std::min(kRows, logits.extent(0) - begin);
  V part[kRows];
  alignas(64) float lane[kRows];
  for (Index i = 0; i < kRows; ++i) {
    const float* const x = logits.data() + (begin + std::min(i, rows - 1)) * logits.stride(0);
    V row_most = V::load_unaligned(x),
      odd = V::load_unaligned(x + kRows);  // two, since each waits for its last
    for (Index e = kRows; e + kRows < n; e += 2 * kRows) {
      row_most = simd::max(row_most, V::load_unaligned(x + e));
      odd = simd::max(odd, V::load_unaligned(x + e + kRows));
    }
    part[i] = simd::max(simd::max(row_most, odd), V::load_unaligned(x + n - kRows));
  }
  const V most = fold_lanes<kRows>(part, [](const V& a, const V& b) { return simd::max(a, b); });
  most.store_aligned(lane);
  for (Index i = 0; i < kRows; ++i) {
    const Index row = begin + std::min(i, rows - 1);
    const float* const x = logits.data() + row * logits.stride(0);
    float* const power = out.gates.size() ? out.gates.data() + row * out.gates.stride(0) : scratch;
    const V shift(lane[i]);
    V sum(0.0f);
    for (Index e = 0; e < n; e += kRows) {
      const V p = kernels::exp(V::load_unaligned(x + e) - shift);
      p.store_unaligned(power + e);
      sum = sum + p;
    }
    part[i] = sum;
  }
  const V total = fold_lanes<kRows>(part, [](const V& a, const V& b) { return a + b; });
  if (out.log_probs.size()) {
    alignas(64) float log_sum[kRows];
    kernels::log(total).store_aligned(log_sum);
    for (Index i = 0; i < rows; ++i) {
      const float* const x = logits.data() + (begin + i) * logits.stride(0);
      float* const log_p = out.log_probs.data() + (begin + i) * out.log_probs.stride(0);
      const V shift(lane[i]), rest(log_sum[i]);
      for (Index e = 0; e < n; e += kRows) ((V::load_unaligned(x + e) - shift) - rest).store_unaligned(log_p + e);
    }
  }
  if (!out.gates.size()) return;

  (V(1.0f) / total).store_aligned(lane);
  for (Index i = 0; i < rows; ++i) {
    float* const p = out.gates.data() + (begin + i) * out.gates.stride(0);
    const V inverse(lane[i]);
    for (Index e = 0; e < n; e += kRows) (V::load_unaligned(p + e) * inverse).store_unaligned(p + e);
  }
  const Index most_wanted = out.choice.size() ? out.choice.extent(1) : 0;
  V lowest(1.0f);
  if (most_wanted == 1) lowest = choose_by_rounds<1, Arch>(out.gates, begin, out.choice);
  if (most_wanted == 2) lowest = choose_by_rounds<2, Arch>(out.gates, begin, out.choice);
  if (most_wanted > 2) {
    RowBlock<Arch> block(scratch, n);
    block.load(out.gates, begin);
    lowest = choose_all(begin, out.choice, block);
  }
  redo_improper_rows(total, lowest, logits, begin, out);
}

/// Takes rows of kColumns, 2 kColumns, ... that stand one behind the other; says whether it did.
template <int kColumns, class Arch>
bool softmax_top_k_packed(const Rows<const float>& logits, Index begin, const SoftmaxTopK<float>& out) {
  if constexpr (kColumns < simd::kLanes<float, Arch>) {
    if (logits.extent(1) != kColumns) return softmax_top_k_packed<2 * kColumns, Arch>(logits, begin, out);
    const auto dense = [](const auto& rows) { return !rows.size() || rows.stride(0) == kColumns; };
    const bool packed = dense(logits) && dense(out.gates) && dense(out.log_probs);
    if (!packed || begin + simd::kLanes < float, Arch >> logits.extent(0)) return false;
    PackedBlock<Arch, kColumns> block;
    softmax_top_k_columns(block, logits, begin, out);
    return true;
  }
  return false;
}

template <class Arch>
void softmax_top_k_block(const Rows<const float>& logits, Index begin, float* scratch, const SoftmaxTopK<float>& out) {
  const Index n = logits.extent(1);
  if (n >= 4 * simd::kLanes<float, Arch> && n % simd::kLanes<float, Arch> == 0)
    return softmax_top_k_rows_block<Arch>(logits, begin, scratch, out);
  if (!softmax_top_k_packed<4, Arch>(logits, begin, out))
    softmax_top_k_columns(RowBlock<Arch>(scratch, n), logits, begin, out);
}

template <class Arch>
void top_k_block(const Rows<const float>& scores, Index begin, float* scratch, const View<Index, 2>& choice) {
  using V = simd::Batch<float, Arch>;
  RowBlock<Arch> block(scratch, scores.extent(1));
  block.load(scores, begin);
  for (Index e = 0; e < scores.extent(1); ++e) {
    const V v = block[e];
    block.set(e, select(v == v, v, V(-std::numeric_limits<float>::infinity())));
  }
  choose_all(begin, choice, block);
  const Index end = std::min(begin + block.kRows, scores.extent(0));
  for (Index row = begin; row < end; ++row)  // NaN or -inf among its best
    if (choice(row, choice.extent(1) - 1) < 0)
      top_k_row(scores.extent(1), choice[row], [&](Index e) { return static_cast<double>(scores(row, e)); });
}

/// Calls body(begin, scratch) for every block of rows, in parallel; `extra` floats of scratch more than a RowBlock's.
template <class Arch, class F>
void for_each_block(Index rows, Index columns, Context& ctx, F&& body, Index extra = 0) {
  constexpr Index kRows = RowBlock<Arch>::kRows;
  const auto scope = ctx.workspace.scope();
  const Index step = (rows_per_task(columns) + kRows - 1) / kRows;  // blocks of a task
  const Index blocks = (rows + kRows - 1) / kRows, floats = (RowBlock<Arch>::scratch(columns) + 15) / 16 * 16 + extra;
  auto scratch = ctx.workspace.take<float>(ctx.parallel_for.workers(), floats);
  ctx.parallel_for((blocks + step - 1) / step, [&](Index first, Index last, Index worker) {
    for (Index b = first * step; b < std::min(blocks, last * step); ++b)
      body(b * kRows, scratch.data() + worker * floats);
  });
}
#endif

inline constexpr Index kMostColumns = Index{1} << 24;  // that Best can count

}  // namespace detail

/// The K largest scores of each row, best first; the lower column among equals, NaN last. A score of -inf is never
/// chosen: where too few others are left, the rest of the choices is -1. // scores [S, E], choice [S, K]
template <class T, class Arch = simd::DefaultArch>
void top_k_rows(Rows<const T> scores, View<Index, 2> choice, Context& ctx) {
  const Index rows = scores.extent(0), columns = scores.extent(1);
  if (choice.size() == 0) return;
  if constexpr (simd::kVectorised<T>) {
    if (ctx.isa != Isa::portable && columns <= detail::kMostColumns)
      return detail::for_each_block<Arch>(rows, columns, ctx, [&](Index begin, float* scratch) {
        detail::top_k_block<Arch>(scores, begin, scratch, choice);
      });
  }
  for_each_row(rows, columns * choice.extent(1), ctx, [&](Index row) {
    detail::top_k_row(columns, choice[row], [&](Index e) { return to_double(scores(row, e)); });
  });
}

/// Softmax of each row, its K largest in the order of top_k_rows, and its logarithm, in one pass. Gates below 2^-125
/// may be 0; those come in the order of their logits, and a logit of -inf is never chosen (-1). A row with NaN or +inf
/// gets NaN throughout, one of nothing but -inf gates of 0, no choice and NaN for logarithms. The logarithms are (logit
/// - largest) - log sum, so that a common shift of the logits costs no digits. `out` must not overlap the logits.
/// // logits [S, E]
template <class T, class Arch = simd::DefaultArch>
void softmax_top_k_rows(Rows<const T> logits, const SoftmaxTopK<T>& out, Context& ctx) {
  const Index rows = logits.extent(0), columns = logits.extent(1);
  if (columns == 0) return;
  if constexpr (simd::kVectorised<T>) {
    if (ctx.isa != Isa::portable && columns <= detail::kMostColumns)
      return detail::for_each_block<Arch>(rows, columns, ctx, [&](Index begin, float* scratch) {
        detail::softmax_top_k_block<Arch>(logits, begin, scratch, out);
      });
  }
  for_each_row(rows, columns * (1 + out.choice.extent(1)), ctx,
               [&](Index row) { detail::softmax_top_k_row<T>(ctx.isa, logits, row, out); });
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void top_k_rows<float>(Rows<const float>, View<Index, 2>, Context&);
GATEFOLD_COMPILED void softmax_top_k_rows<float>(Rows<const float>, const SoftmaxTopK<float>&, Context&);

}  // namespace gatefold::kernels
#endif
