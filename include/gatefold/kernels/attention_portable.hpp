#pragma once
#include "gatefold/products/matmul_portable.hpp"
#include "gatefold/simd/long_sum.hpp"
#include "gatefold/simd/math.hpp"

/// Attention by plain loops, and what it shares with the blocked form of attention.hpp.
namespace gatefold::kernels {

enum class AttentionMask { none, causal };

/// Who attends to whom: the tokens row[offset[b]..offset[b+1]) of sequence b to each other, each head by itself; with
/// AttentionMask::causal a token to itself and those before it; with a window only to those less than that many tokens
/// away. Rows that are not listed (padding) are neither read nor written.
struct AttentionPlan {
  View<const Index, 1> offset;  // [B+1]
  View<const Index, 1> row;     // [tokens]
  Index heads;
  AttentionMask mask = AttentionMask::none;
  View<const Index, 1> query = {};  // [B] the only token of each sequence that attends, counted from its first; or all
  Index key_heads = 0;              // of keys and values, each for as many heads in a row; 0: each head has its own
  Index window = 0;                 // 0: none
  double scale = 0;                 // of scores; 0: 1 / √d

  Index num_sequences() const { return offset.extent(0) - 1; }
  Index longest() const {
    Index n = 0;
    for (Index b = 0; b + 1 < offset.extent(0); ++b) n = std::max(n, offset[b + 1] - offset[b]);
    return n;
  }
  /// Heads that read the same keys and values.
  Index group() const { return key_heads ? heads / key_heads : 1; }
  double scale_of(Index d) const { return scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(d)); }
};

/// Numbers that join the softmax of each head without a value of their own (attention sinks, arXiv 2309.17453; learnt:
/// GPT-OSS), and where the gradient of each goes, query by query. Empty: none.
template <class T>
struct SinkGradient {
  View<const T, 1> value = {};  // [heads]
  Rows<T> each = {};            // [R, heads]
};

namespace detail {

/// One head of one sequence. qkv // [R, D + 2 D / group] holds q | k | v, each head d columns of each.
struct AttentionTask {
  const Index* row;  // [n]
  Index n, head, d, width, group;
  Index behind, ahead;  // how many keys before itself and after itself a query sees at most
  Index first, last;    // the tokens that attend
  double scale;         // of scores

  AttentionTask(const AttentionPlan& plan, Index sequence, Index which_head, Index total_width)
      : row(plan.row.data() + plan.offset[sequence]),
        n(plan.offset[sequence + 1] - plan.offset[sequence]),
        head(which_head),
        d(total_width / plan.heads),
        width(total_width),
        group(plan.group()),
        behind(plan.window ? plan.window - 1 : n),
        ahead(plan.mask == AttentionMask::causal ? 0 : behind),
        first(plan.query.size() ? plan.query[sequence] : 0),
        last(plan.query.size() ? first + 1 : n),
        scale(plan.scale_of(d)) {}

  enum Part { q, k, v };
  template <class U>
  U* at(Rows<U> qkv, Part part, Index i) const {
    const Index column = part == q ? head * d : width + (part - k) * (width / group) + head / group * d;
    return qkv.data() + row[i] * qkv.stride(0) + column;
  }
  template <class U>
  U* at(Rows<U> y, Index i) const {
    return y.data() + row[i] * y.stride(0) + head * d;
  }
  /// Keys that query i sees: [least_seen(i), seen(i)).
  Index least_seen(Index i) const { return std::max<Index>(0, i - behind); }
  Index seen(Index i) const { return std::min(n, i + ahead + 1); }
  /// Whether some query does not see all keys.
  bool confined() const { return behind < n || ahead < n; }
};

template <class T>
T dot(Index n, const T* a, const T* b) {
  T sum(0.0);
  for (Index i = 0; i < n; ++i) sum = sum + a[i] * b[i];
  return sum;
}
template <class T>
void add_scaled(Index n, const T& factor, const T* x, T* y) {
  for (Index i = 0; i < n; ++i) y[i] = y[i] + factor * x[i];
}

/// e^score for scores whose largest is `most`; returns 1 / their sum, in which a sink joins if there is one.
template <class T>
T weigh(T* p, Index begin, Index end, const T* sink, const T& most) {
  LongSum<T> total;
  for (Index j = begin; j < end; ++j) {
    p[j] = kernels::exp(T(p[j] - most));
    total.add(p[j]);
  }
  return T(1.0) / (sink ? T(total.value() + kernels::exp(T(*sink - most))) : total.value());
}

/// p[least_seen..seen) = the attention of query i, not yet divided by their sum; returns 1 / sum. `most` is the largest
/// score.
template <class T>
T attention_row(const AttentionTask& t, Rows<const T> qkv, View<const T, 1> sink, Index i, T* p, T& most) {
  const Index seen = t.seen(i), least = t.least_seen(i);
  most = sink.size() ? sink[t.head] : T(-std::numeric_limits<double>::infinity());
  for (Index j = least; j < seen; ++j) {
    p[j] = dot(t.d, t.at(qkv, t.q, i), t.at(qkv, t.k, j)) * T(t.scale);
    if (most < p[j]) most = p[j];
  }
  return weigh<T>(p, least, seen, sink.size() ? &sink[t.head] : nullptr, most);
}

/// y += the sum over begin <= j < end of factor(j) * x(j), chain by chain. // x(j), y [d], part [d]: scratch
template <class T, class Factor, class At>
void add_long_mix(Index begin, Index end, Index d, Factor&& factor, At&& x, T* part, T* y) {
  for (Index j0 = begin; j0 < end; j0 += kChain) {
    std::fill_n(part, d, T(0.0));
    for (Index j = j0; j < std::min(end, j0 + kChain); ++j) add_scaled(d, factor(j), x(j), part);
    add_scaled(d, T(1.0), part, y);
  }
}

inline Index portable_scratch(Index longest, Index d) { return longest + d; }
inline Index portable_grad_scratch(Index longest, Index d) { return 2 * longest + d + 2 * longest * d; }

/// Plain loops: for any number, and the oracle of the blocked form. scratch // [n + d]
template <class T>
void attend_portable(const AttentionTask& t, Rows<const T> qkv, View<const T, 1> sink, Rows<T> y, Rows<T> stats, T* p) {
  for (Index i = t.first; i < t.last; ++i) {
    T most(0.0);
    const T inverse = attention_row<T>(t, qkv, sink, i, p, most);
    stats(t.row[i], 2 * t.head) = most;
    stats(t.row[i], 2 * t.head + 1) = inverse;
    T* const out = t.at(y, i);
    std::fill_n(out, t.d, T(0.0));
    add_long_mix(
        t.least_seen(i), t.seen(i), t.d, [&](Index j) { return T(p[j] * inverse); },
        [&](Index j) { return t.at(qkv, t.v, j); }, p + t.n, out);
  }
}

/// Of all heads that share the keys and values of head t.head, the first of them. scratch // [2 n + d + 2 n d]
template <class T>
void attend_grad_portable(AttentionTask t, Rows<const T> qkv, const SinkGradient<T>& sink, Rows<const T> dy,
                          Rows<T> dqkv, T* p) {
  T *const dp = p + t.n, *const part = dp + t.n, *const dk = part + t.d, *const dv = dk + t.n * t.d;
  for (Index i = 0; i < t.n; ++i)
    for (const auto one : {t.k, t.v}) std::fill_n(t.at(dqkv, one, i), t.d, T(0.0));
  for (const Index last = t.head + t.group; t.head < last; ++t.head) {
    for (Index i = 0; i < t.n; ++i) std::fill_n(t.at(dqkv, t.q, i), t.d, T(0.0));
    for (Index begin = 0; begin < t.n; begin += kChain) {  // what a chain of queries gives to the keys
      std::fill_n(dk, 2 * t.n * t.d, T(0.0));
      for (Index i = begin; i < std::min(t.n, begin + kChain); ++i) {
        T most(0.0);
        LongSum<T> sum;
        const T inverse = attention_row<T>(t, qkv, sink.value, i, p, most);
        const Index least = t.least_seen(i), seen = t.seen(i);
        for (Index j = least; j < seen; ++j) {
          p[j] = p[j] * inverse;
          dp[j] = dot(t.d, t.at(dy, i), t.at(qkv, t.v, j));
          sum.add(p[j] * dp[j]);
        }
        const T mean = sum.value();
        if (sink.value.size())
          sink.each(t.row[i], t.head) = T(0.0) - kernels::exp(T(sink.value[t.head] - most)) * inverse * mean;
        for (Index j = least; j < seen; ++j) {
          dp[j] = p[j] * (dp[j] - mean) * T(t.scale);
          add_scaled(t.d, p[j], t.at(dy, i), dv + j * t.d);
          add_scaled(t.d, dp[j], t.at(qkv, t.q, i), dk + j * t.d);
        }
        add_long_mix(
            least, seen, t.d, [&](Index j) { return dp[j]; }, [&](Index j) { return t.at(qkv, t.k, j); }, part,
            t.at(dqkv, t.q, i));
      }
      for (Index j = 0; j < t.n; ++j) {
        add_scaled(t.d, T(1.0), dk + j * t.d, t.at(dqkv, t.k, j));
        add_scaled(t.d, T(1.0), dv + j * t.d, t.at(dqkv, t.v, j));
      }
    }
  }
}

}  // namespace detail
}  // namespace gatefold::kernels
