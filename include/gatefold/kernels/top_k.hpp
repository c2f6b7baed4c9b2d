#pragma once
#include <array>
#include <cmath>

#include "gatefold/kernels/softmax.hpp"

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
  View<T, 1> log_total{};   // [S] log sum exp of the logits: logit - log_total is the log-probability
};

namespace detail {

/// The definition, and the way of every number that is no float. O(n k).
template <class T>
void top_k_row(Index n, const T* score, View<Index, 1> choice) {
  Ranked last{std::numeric_limits<double>::infinity(), -1};
  for (Index k = 0; k < choice.extent(0); ++k) {
    Ranked best{std::numeric_limits<double>::quiet_NaN(), n};
    for (Index e = 0; e < n; ++e)
      if (const Ranked it{to_double(score[e]), e}; last < it && it < best) best = it;
    choice[k] = best.at;
    last = best;
  }
}

template <class T>
T log_total_row(Isa isa, Index n, const T* x) {
  using std::exp, std::log;
  const T most = simd::maximum<T>(isa, n, x);
  T total(0);
  for (Index e = 0; e < n; ++e) total = total + exp(x[e] - most);
  return most + log(total);
}

/// One row of softmax_top_k_rows: also what rows without a proper maximum get, see softmax_row.
template <class T>
void softmax_top_k_row(Isa isa, Rows<const T> logits, Index row, const SoftmaxTopK<T>& out) {
  const Index n = logits.extent(1);
  if (out.log_total.size()) out.log_total[row] = log_total_row<T>(isa, n, logits[row].data());
  if (!out.gates.size()) return;
  softmax_row<T>(isa, n, T(1), logits[row].data(), out.gates[row].data());
  if (out.choice.size()) top_k_row<T>(n, out.gates[row].data(), out.choice[row]);
}

#if GATEFOLD_HAS_SIMD
/// As many rows as a vector has lanes, turned so that a vector holds one column: then neither a maximum nor a sum nor a
/// choice needs a step between lanes, and short rows waste none. Rows beyond the matrix repeat its last one.
template <class Arch>
class RowBlock {
 public:
  using V = simd::Batch<float, Arch>;
  static constexpr Index kRows = simd::kLanes<float, Arch>;

  /// Floats of scratch that it borrows: the columns, and a place for rows that vectors would read or write beyond.
  static Index scratch(Index columns) { return 2 * kRows * std::max(columns, kRows) + kRows; }
  RowBlock(float* scratch, Index columns)
      : columns_(columns), column_(scratch), staged_(scratch + kRows * std::max(columns, kRows)) {}

  V operator[](Index e) const { return V::load_aligned(column_ + e * kRows); }
  float at(Index e, Index row) const { return column_[e * kRows + row]; }
  void set(Index e, const V& v) { v.store_aligned(column_ + e * kRows); }

  void load(Rows<const float> x, Index begin) {
    const Index rows = std::min(kRows, x.extent(0) - begin), stride = x.stride(0);
    const float* const first = x.data() + begin * stride;
    // Short rows are read with their successors, as long as those are there.
    const bool whole = rows == kRows &&
                       (columns_ >= kRows || (stride == columns_ && (x.extent(0) - begin - kRows) * columns_ >= kRows));
    if (whole) return turn(first, stride);
    for (Index i = 0; i < kRows; ++i)
      std::copy_n(first + std::min(i, rows - 1) * stride, columns_, staged_ + i * columns_);
    turn(staged_, columns_);
  }

  void store(Rows<float> y, Index begin) {
    const Index rows = std::min(kRows, y.extent(0) - begin), stride = y.stride(0);
    float* const first = y.data() + begin * stride;
    if (rows == kRows && columns_ >= kRows) {
      for (Index e = 0; e < columns_; e += kRows) {
        const Index at = std::min(e, columns_ - kRows);
        simd::transpose_square<Arch>(column_ + at * kRows, kRows, first + at, stride);
      }
      return;
    }
    const Index pitch = std::max(columns_, kRows);
    for (Index e = 0; e < columns_; e += kRows) {
      const Index at = std::max<Index>(0, std::min(e, columns_ - kRows));
      simd::transpose_square<Arch>(column_ + at * kRows, kRows, staged_ + at, pitch);
    }
    Index i = 0;
    if (columns_ < kRows && stride == columns_)  // what a vector writes beyond its row, the next row overwrites
      for (; i * columns_ + kRows <= rows * columns_; ++i)
        V::load_unaligned(staged_ + i * pitch).store_unaligned(first + i * stride);
    for (; i < rows; ++i) std::copy_n(staged_ + i * pitch, columns_, first + i * stride);
  }

 private:
  void turn(const float* rows, Index stride) {
    for (Index e = 0; e < columns_; e += kRows) {
      const Index at = std::max<Index>(0, std::min(e, columns_ - kRows));
      simd::transpose_square<Arch>(rows + at, stride, column_ + at * kRows, kRows);
    }
  }

  Index columns_;
  float *column_, *staged_;
};

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
/// Choices `done`..`done + kMost` of each row of a block. `column(e, at)` gives the scores of column e to choose from;
/// where there are too few, the choice is -1.
template <int kMost, class Arch, class F>
void choose(Index columns, Index done, Index begin, View<Index, 2> choice, F&& column) {
  using V = simd::Batch<float, Arch>;
  constexpr Index kRows = simd::kLanes<float, Arch>;
  Best<kMost, V> best;
  V at(0.0f);
  for (Index e = 0; e < columns; ++e, at = at + V(1.0f)) best.offer(column(e, at), at);
  alignas(64) float chosen[kMost][kRows];
#pragma GCC unroll 8
  for (int k = 0; k < kMost; ++k) best.at[k].store_aligned(chosen[k]);
  const Index rows = std::min(kRows, choice.extent(0) - begin),
              wanted = std::min<Index>(kMost, choice.extent(1) - done);
  Index* to = choice.data() + begin * choice.stride(0) + done;
  for (Index i = 0; i < rows; ++i, to += choice.stride(0))
    for (Index k = 0; k < wanted; ++k) to[k] = static_cast<Index>(chosen[k][i]);
}

/// choose for any K: lists of 1, 2, 4 or 8 vectors, and beyond 8 in rounds, each among what comes after the last.
template <class Arch, class F>
void choose_all(Index columns, Index begin, View<Index, 2> choice, RowBlock<Arch>& block, F&& column) {
  using V = simd::Batch<float, Arch>;
  const Index most = choice.extent(1);
  if (most == 1) return choose<1, Arch>(columns, 0, begin, choice, column);
  if (most == 2) return choose<2, Arch>(columns, 0, begin, choice, column);
  if (most <= 4) return choose<4, Arch>(columns, 0, begin, choice, column);
  choose<8, Arch>(columns, 0, begin, choice, column);
  constexpr Index kRows = RowBlock<Arch>::kRows;
  const V none(-std::numeric_limits<float>::infinity());
  for (Index done = 8; done < most; done += 8) {
    alignas(64) float last[kRows], last_at[kRows];
    for (Index i = 0; i < kRows; ++i) {
      const Index at = choice(std::min(begin + i, choice.extent(0) - 1), done - 1);
      last_at[i] = static_cast<float>(at);
      last[i] = at < 0 ? -std::numeric_limits<float>::infinity() : block.at(at, i);  // after nothing comes nothing
    }
    const V bar = V::load_aligned(last), bar_at = V::load_aligned(last_at);
    choose<8, Arch>(columns, done, begin, choice, [&](Index e, const V& at) {
      const V v = block[e];
      return select(v < bar, v, select(at > bar_at, select(bar < v, none, v), none));
    });
  }
}

template <class Arch>
void softmax_top_k_block(Rows<const float> logits, Index begin, float* scratch, const SoftmaxTopK<float>& out) {
  using V = simd::Batch<float, Arch>;
  constexpr Index kRows = RowBlock<Arch>::kRows;
  const Index n = logits.extent(1), rows = std::min(kRows, logits.extent(0) - begin);
  RowBlock<Arch> block(scratch, n);
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
  if (out.log_total.size()) {
    alignas(64) float lane[kRows];
    (most + log(total)).store_aligned(lane);
    std::copy_n(lane, rows, out.log_total.data() + begin);
  }
  if (!out.gates.size()) return;
  const V inverse = V(1.0f) / total;
  const auto gate = [&](Index e, const V&) {
    const V p = block[e] * inverse;
    block.set(e, p);
    return p;
  };
  if (out.choice.size())
    choose_all<Arch>(n, begin, out.choice, block, gate);
  else
    for (Index e = 0; e < n; ++e) gate(e, inverse);
  block.store(out.gates, begin);
  if (all(total == total)) return;
  alignas(64) float lane[kRows];
  total.store_aligned(lane);
  for (Index i = 0; i < rows; ++i)
    if (lane[i] != lane[i])
      softmax_top_k_row<float>(Isa::simd, logits, begin + i, {.gates = out.gates, .choice = out.choice});
}

template <class Arch>
void top_k_block(Rows<const float> scores, Index begin, float* scratch, View<Index, 2> choice) {
  using V = simd::Batch<float, Arch>;
  RowBlock<Arch> block(scratch, scores.extent(1));
  block.load(scores, begin);
  for (Index e = 0; e < scores.extent(1); ++e) {
    const V v = block[e];
    block.set(e, select(v == v, v, V(-std::numeric_limits<float>::infinity())));
  }
  choose_all<Arch>(scores.extent(1), begin, choice, block, [&](Index e, const V&) { return block[e]; });
  const Index end = std::min(begin + block.kRows, scores.extent(0));
  for (Index row = begin; row < end; ++row)  // NaN or -inf among its best
    if (choice(row, choice.extent(1) - 1) < 0) top_k_row<float>(scores.extent(1), scores[row].data(), choice[row]);
}

/// Calls body(begin, scratch) for every block of rows, in parallel.
template <class Arch, class F>
void for_each_block(Index rows, Index columns, Context& ctx, F&& body) {
  constexpr Index kRows = RowBlock<Arch>::kRows;
  const auto scope = ctx.workspace.scope();
  const Index step = (rows_per_task(columns) + kRows - 1) / kRows;  // blocks of a task
  const Index blocks = (rows + kRows - 1) / kRows, floats = (RowBlock<Arch>::scratch(columns) + 15) / 16 * 16;
  auto scratch = ctx.workspace.take<float>(ctx.parallel_for.workers(), floats);
  ctx.parallel_for((blocks + step - 1) / step, [&](Index first, Index last, Index worker) {
    for (Index b = first * step; b < std::min(blocks, last * step); ++b)
      body(b * kRows, scratch.data() + worker * floats);
  });
}
#endif

inline constexpr Index kMostColumns = Index{1} << 24;  // that Best can count

}  // namespace detail

/// The K largest scores of each row, best first; the lower column among equals, NaN last. // scores [S, E], choice [S,
/// K]
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
  for_each_row(rows, columns * choice.extent(1), ctx,
               [&](Index row) { detail::top_k_row<T>(columns, scores[row].data(), choice[row]); });
}

/// Softmax of each row, its K largest in the order of top_k_rows, and the logarithm of its sum, in one pass. A row with
/// NaN or +inf gets NaN throughout, one of nothing but -inf gates of 0. Gates below 2^-125 may be 0. `out` must not
/// overlap the logits. // logits [S, E]
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
