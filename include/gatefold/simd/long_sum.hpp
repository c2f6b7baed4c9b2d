#pragma once
#include <array>

#include "gatefold/simd/map.hpp"

/// Sums of many terms. One addition after the other, n of them round up to n times, so that a mean over a million rows
/// has five digits left in float. Terms are therefore taken in chains, whose sums are added by themselves.
namespace gatefold::kernels {

/// The terms seen so far; at most kChain of them and the number of chains stand one after the other.
template <class T>
class LongSum {
 public:
  void add(const T& term) {
    chain_ = chain_ + term;
    if (++length_ == kChain) {
      total_ = total_ + chain_;
      chain_ = T(0.0);
      length_ = 0;
    }
  }
  T value() const { return total_ + chain_; }

 private:
  T total_ = T(0.0), chain_ = T(0.0);
  Index length_ = 0;
};

namespace detail {

inline constexpr Index kSumColumns = 64;  // of one task: a few cache lines of a row

template <class T, std::size_t K>
using ColumnTotals = std::array<std::array<Wide<T>, static_cast<std::size_t>(kSumColumns)>, K>;

/// Adds one chain, the rows [begin, end), of `columns` columns from `first` on to the totals from `at` on.
template <class T, std::size_t K, class Terms>
void add_chain(Index begin, Index end, Index first, Index columns, Index at, Terms terms, ColumnTotals<T, K>& totals) {
  std::array<std::array<T, static_cast<std::size_t>(kSumColumns)>, K> sum;
  for (auto& one : sum) std::fill_n(one.data(), columns, T(0.0));
  for (Index i = begin; i < end; ++i) {
    const auto row_terms = terms(i);
    for (Index c = 0; c < columns; ++c) {
      const auto term = row_terms([&](const T* row) { return row[first + c]; });
      for (std::size_t k = 0; k < K; ++k) {
        T& s = sum[k][static_cast<std::size_t>(c)];
        s = s + term[k];
      }
    }
  }
  for (std::size_t k = 0; k < K; ++k)
    for (Index c = 0; c < columns; ++c) {
      Wide<T>& total = totals[k][static_cast<std::size_t>(at + c)];
      total = total + Wide<T>(sum[k][static_cast<std::size_t>(c)]);
    }
}

#if GATEFOLD_HAS_SIMD
/// The same for kVectors vectors of columns, in registers.
template <class V, int kVectors, class T, std::size_t K, class Terms>
void add_vector_chain(Index begin, Index end, Index first, Index at, Terms terms, ColumnTotals<T, K>& totals) {
  constexpr Index kWidth = static_cast<Index>(V::size);
  // One flat array, one loop at a time and nothing captured by reference: else the sums do not stay in registers.
  static_assert(K <= 2);
  constexpr int kSums = static_cast<int>(K) * kVectors;
  V sum[kSums];
#pragma GCC unroll 8
  for (int n = 0; n < kSums; ++n) sum[n] = V(T(0));
  for (Index i = begin; i < end; ++i) {
    const auto row_terms = terms(i);
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) {
      const Index column = first + c * kWidth;
      const auto term = row_terms([column](const T* row) { return V::load_unaligned(row + column); });
      sum[c] = sum[c] + term[0];
      if constexpr (K == 2) sum[kVectors + c] = sum[kVectors + c] + term[1];
    }
  }
  alignas(64) T lane[static_cast<std::size_t>(kSums * kWidth)];
#pragma GCC unroll 8
  for (int n = 0; n < kSums; ++n) sum[n].store_aligned(lane + n * kWidth);
  for (std::size_t k = 0; k < K; ++k)
    for (Index c = 0; c < kVectors * kWidth; ++c)
      totals[k][static_cast<std::size_t>(at + c)] += Wide<T>(lane[static_cast<Index>(k) * kVectors * kWidth + c]);
}
#endif

/// The totals of up to kSumColumns columns from `first` on, over the rows [begin, end), on the calling thread.
template <class T, std::size_t K, class Terms>
ColumnTotals<T, K> sum_columns(Isa isa, Index begin, Index end, Index first, Index columns, Terms terms) {
  ColumnTotals<T, K> totals{};
  for (Index i = begin; i < end; i += kChain) {
    const Index last = std::min(end, i + kChain);
    Index at = 0;
#if GATEFOLD_HAS_SIMD
    if constexpr (simd::kVectorised<T>) {
      using V = simd::Batch<T>;
      constexpr Index kWidth = simd::kLanes<T>;
      if (isa != Isa::portable) {
        for (; at + 4 * kWidth <= columns; at += 4 * kWidth)
          add_vector_chain<V, 4, T, K>(i, last, first + at, at, terms, totals);
        for (; at + kWidth <= columns; at += kWidth)
          add_vector_chain<V, 1, T, K>(i, last, first + at, at, terms, totals);
      }
    }
#endif
    if (at < columns) add_chain<T, K>(i, last, first + at, columns - at, at, terms, totals);
  }
  return totals;
}

/// sums[j] = the sum over the rows [begin, end) of terms(i)(load)[0] at column j, on the calling thread. // sums [N]
template <class T, class Terms>
void sum_rows(Isa isa, Index begin, Index end, Index columns, T* sums, Terms&& terms) {
  for (Index j = 0; j < columns; j += kSumColumns) {
    const Index n = std::min(kSumColumns, columns - j);
    const auto totals = sum_columns<T, 1>(isa, begin, end, j, n, terms);
    for (Index c = 0; c < n; ++c) sums[j + c] = static_cast<T>(totals[0][static_cast<std::size_t>(c)]);
  }
}

}  // namespace detail

/// The kSumColumns columns from j0 on of add_column_sums_of, on the calling thread.
template <class T, std::size_t K, class Terms>
void add_sums_of_some_columns(Index rows, const std::array<View<T, 1>, K>& out, Index j0, Isa isa, Terms&& terms) {
  const Index n = std::min(detail::kSumColumns, out[0].extent(0) - j0);
  const auto totals = detail::sum_columns<T, K>(isa, 0, rows, j0, n, terms);
  for (std::size_t k = 0; k < K; ++k)
    for (Index c = 0; c < n; ++c)
      out[k][j0 + c] = static_cast<T>(Wide<T>(out[k][j0 + c]) + totals[k][static_cast<std::size_t>(c)]);
}

/// out[k][j] += the sum over all rows i of term k: terms(i)(load) gives K terms as an array, where load(row) reads what
/// stands in `row` at the columns in question, a vector or a number. The order of the additions depends on the number
/// of rows only: each chain in the order of its rows, the chains one after the other in Wide<T>. // out: K views [N]
template <class T, std::size_t K, class Terms>
void add_column_sums_of(Index rows, const std::array<View<T, 1>, K>& out, Context& ctx, Terms&& terms) {
  constexpr Index kColumns = detail::kSumColumns;
  ctx.parallel_for((out[0].extent(0) + kColumns - 1) / kColumns, [&](Index begin, Index end, Index) {
    for (Index part = begin; part < end; ++part)
      add_sums_of_some_columns<T, K>(rows, out, part * kColumns, ctx.isa, terms);
  });
}

namespace detail {
template <class T>
auto row_itself(Rows<const T> dy) {
  return [=](Index i) { return [row = dy.data() + i * dy.stride(0)](auto&& load) { return std::array{load(row)}; }; };
}
}  // namespace detail

/// db += the sum of the rows of dy. // dy [R, N], db [N]
template <Real T>
void add_column_sums(Rows<const T> dy, View<T, 1> db, Context& ctx) {
  add_column_sums_of<T, 1>(dy.extent(0), {db}, ctx, detail::row_itself(dy));
}

/// The same for many experts at once: db_e += the sum of the rows dy_e. `rows_of(e)` is dy_e // [rows of e, N_e],
/// `bias_of(e)` is db_e // [N_e], maybe empty.
template <Real T, class RowsOf, class BiasOf>
void add_expert_column_sums(Index num_experts, RowsOf&& rows_of, BiasOf&& bias_of, Context& ctx) {
  constexpr Index kColumns = detail::kSumColumns;
  Index widest = 0;
  for (Index e = 0; e < num_experts; ++e) widest = std::max(widest, View<T, 1>(bias_of(e)).extent(0));
  const Index parts = (widest + kColumns - 1) / kColumns;
  ctx.parallel_for(num_experts * parts, [&](Index begin, Index end, Index) {
    for (Index task = begin; task < end; ++task) {
      const Index e = task / parts, j0 = task % parts * kColumns;
      const View<T, 1> db = bias_of(e);
      const Rows<const T> dy = rows_of(e);
      if (j0 < db.extent(0) && dy.extent(0) > 0)
        add_sums_of_some_columns<T, 1>(dy.extent(0), {db}, j0, ctx.isa, detail::row_itself(dy));
    }
  });
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void add_column_sums<float>(Rows<const float>, View<float, 1>, Context&);

}  // namespace gatefold::kernels
#endif
