#pragma once
#include "gatefold/kernels/attention_portable.hpp"

/// Softmax attention without its matrix of maps: a block of queries at a time meets all keys of its sequence, in
/// scratch that stays in L1 or L2. The way back computes the maps anew from the queries' stored statistics, which costs
/// one product in six and saves [H, T, T] per sequence.
namespace gatefold::kernels {
namespace detail {

#if GATEFOLD_HAS_SIMD
/// e^(sink - most), by the vectors that the scores are taken in.
template <class T, class Arch>
T sink_weight(T sink, T most) {
  using V = simd::Batch<T, Arch>;
  alignas(64) T lane[V::size];
  kernels::exp(V(sink) - V(most)).store_aligned(lane);
  return lane[0];
}

/// The blocked form. A strip is [keys, kLanes]: the scores of a block of queries, one query per lane, so that the
/// softmax runs down the strip without crossing lanes, and the strip is an operand of the next product as it stands.
template <class T, class Arch>
struct BlockedAttention {
  using V = simd::Batch<T, Arch>;
  static constexpr Index kWidth = simd::kLanes<T, Arch>;
  static constexpr Index kQueries = 2 * kWidth;
  // Rows of a register tile: 8 x 2 or 4 x 2 vectors of accumulators. Higher ones were no faster: a tile is bound by
  // multiplications already, and fewer rows waste less at the end of a sequence. Never more than a block of queries.
  static constexpr int kRows = simd::kRegisters<Arch> >= 32 && kQueries >= 8 ? 8 : 4;
  static_assert(kRows <= kQueries);

  static constexpr Index padded(Index n, Index step) { return (n + step - 1) / step * step; }

  AttentionTask t;
  Rows<const T> qkv;
  Index dp = padded(t.d, kWidth), np = padded(t.n, kRows);

  static Index scratch_size(Index longest, Index d) {
    const Index dp = padded(d, kWidth), np = padded(longest, kRows);
    return 4 * np * dp + 5 * kQueries * dp + 2 * np * kQueries;
  }

  struct Take {
    T* next;
    T* operator()(Index n) { return std::exchange(next, next + n); }
  };

  /// c[kRows, kVectors] (+)= a b, where a(i, k) is a[i * row_stride + k * step], b(k, j) is b[k * b_stride + j].
  struct Left {
    const T* data;
    Index row_stride, step;
  };
  struct Right {
    const T* data;
    Index stride;
  };
  template <int kVectors>
  static void tile(Index depth, Left a, Right b, T* c, Index c_stride, Store store) {
    V acc[kRows][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) acc[i][j] = V(T(0));
    for (Index k = 0; k < depth; ++k, a.data += a.step, b.data += b.stride) {
      V right[kVectors];
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) right[j] = simd::load<T, Arch>(b.data + j * kWidth);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const V left(a.data[i * a.row_stride]);
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j) acc[i][j] = simd::fma(left, right[j], acc[i][j]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        T* const to = c + i * c_stride + j * kWidth;
        (store == Store::add ? acc[i][j] + simd::load<T, Arch>(to) : acc[i][j]).store_unaligned(to);
      }
  }
  /// c[rows, columns] (+)= a b; columns are a multiple of kWidth, rows are rounded up to kRows.
  static void multiply(Shape<2> shape, Index depth, Left a, Right b, T* c, Index c_stride, Store store) {
    for (Index i = 0; i < shape[0]; i += kRows) {
      const Left left{a.data + i * a.row_stride, a.row_stride, a.step};
      Index j = 0;
      for (; j + 2 * kWidth <= shape[1]; j += 2 * kWidth)
        tile<2>(depth, left, {b.data + j, b.stride}, c + i * c_stride + j, c_stride, store);
      if (j < shape[1]) tile<1>(depth, left, {b.data + j, b.stride}, c + i * c_stride + j, c_stride, store);
    }
  }

  /// c[rows, columns] = a b where the depth are keys: chain by chain, so that thousands of them keep their digits, with
  /// a part of b that stays in L1.
  static void mix(Shape<2> shape, Index depth, Left a, Right b, T* c, Index c_stride) {
    multiply(shape, std::min(depth, kChain), a, b, c, c_stride, Store::overwrite);
    for (Index k = kChain; k < depth; k += kChain)
      multiply(shape, std::min(depth - k, kChain), {a.data + k * a.step, a.row_stride, a.step},
               {b.data + k * b.stride, b.stride}, c, c_stride, Store::add);
  }

  /// The same columns of the next head, one cache line after the other: rows are far apart, so that the hardware does
  /// not see them coming, and products enough lie between now and then.
  template <int kForWriting>
  void prefetch_next_head(const T* p) const {
    for (Index c = 0; c < t.d; c += static_cast<Index>(64 / sizeof(T))) __builtin_prefetch(p + t.d + c, kForWriting, 2);
  }

  /// Rows [begin, begin + count) of a part, times factor, into to // [padded, dp], zero where nothing is.
  template <class At>
  void gather(Index count, Index padded_count, T factor, At&& at, T* to) const {
    for (Index i = 0; i < count; ++i) {
      const T* const from = at(i);
      prefetch_next_head<0>(from);
      for (Index c = 0; c + kWidth <= t.d; c += kWidth)
        (simd::load<T, Arch>(from + c) * V(factor)).store_unaligned(to + i * dp + c);
      for (Index c = t.d / kWidth * kWidth; c < dp; ++c) to[i * dp + c] = c < t.d ? from[c] * factor : T(0);
    }
    std::fill_n(to + count * dp, (padded_count - count) * dp, T(0));
  }
  /// to[c][i] = from[i][c]. // from [kQueries, dp], to [dp, kQueries]
  void transpose(const T* from, T* to) const {
    if constexpr (std::is_same_v<T, float>) {
      for (Index i = 0; i < kQueries; i += kWidth)
        for (Index c = 0; c < dp; c += kWidth)
          simd::transpose_square<Arch>(from + i * dp + c, dp, to + c * kQueries + i, kQueries);
    } else {
      for (Index i = 0; i < kQueries; ++i)
        for (Index c = 0; c < dp; ++c) to[c * kQueries + i] = from[i * dp + c];
    }
  }
  void scatter(const T* from, T factor, T* to) const {
    prefetch_next_head<1>(to);
    Index c = 0;
    for (; c + kWidth <= t.d; c += kWidth) (simd::load<T, Arch>(from + c) * V(factor)).store_unaligned(to + c);
    for (; c < t.d; ++c) to[c] = from[c] * factor;
  }

  /// A block of queries and the keys that one of them sees, from a whole tile on.
  struct Block {
    Index begin, count, first_key, keys;
    Index lanes() const { return padded(count, kWidth); }
  };
  Block block(Index begin) const {
    const Index count = std::min(kQueries, t.last - begin), first_key = t.least_seen(begin) / kRows * kRows;
    return {begin, count, first_key, t.seen(begin + count - 1) - first_key};
  }

  /// What a query of the block must not see: keys too far after it or before it. Sets those of the strip to `value`.
  void mask_strip(const Block& b, T value, T* strip) const {
    const Index end = b.first_key + b.keys;
    for (Index j = std::max(b.first_key, b.begin + t.ahead + 1); j < end; ++j)
      std::fill_n(strip + (j - b.first_key) * kQueries, std::min(b.count, j - t.ahead - b.begin), value);
    for (Index j = b.first_key; j < std::min(end, b.begin + b.count - 1 - t.behind); ++j) {
      const Index seeing = std::max<Index>(0, j + t.behind + 1 - b.begin);
      std::fill_n(strip + (j - b.first_key) * kQueries + seeing, b.count - seeing, value);
    }
  }

  void forward(View<const T, 1> sink, Rows<T> y, Rows<T> stats, T* scratch) const {
    Take take{scratch};
    T* const k = take(np * dp);
    T* const v = take(np * dp);
    T* const q = take(kQueries * dp);
    T* const q_columns = take(kQueries * dp);
    T* const out = take(kQueries * dp);
    T* const strip = take(np * kQueries);
    gather(
        t.n, np, T(1), [&](Index i) { return t.at(qkv, t.k, i); }, k);
    gather(
        t.n, np, T(1), [&](Index i) { return t.at(qkv, t.v, i); }, v);
    // 0 times what a query must not see need not be 0.
    const bool confine = t.confined() && !all_finite(v);
    for (Index begin = t.first; begin < t.last; begin += kQueries) {
      const Block b = block(begin);
      gather(
          b.count, kQueries, T(t.scale), [&](Index i) { return t.at(qkv, t.q, begin + i); }, q);
      transpose(q, q_columns);
      const Index from = b.first_key * dp;
      multiply({b.keys, b.lanes()}, t.d, {k + from, dp, 1}, {q_columns, kQueries}, strip, kQueries, Store::overwrite);
      mask_strip(b, -std::numeric_limits<T>::infinity(), strip);
      alignas(64) T most[kQueries], inverse[kQueries];
      for (Index lane = 0; lane < b.lanes(); lane += kWidth) {
        V top(sink.size() ? sink[t.head] : -std::numeric_limits<T>::infinity()), total(T(0));
        for (Index j = 0; j < b.keys; ++j) {
          const V s = simd::load<T, Arch>(strip + j * kQueries + lane);
          top = select(top < s, s, top);
        }
        for (Index j0 = 0; j0 < b.keys; j0 += kChain) {
          V chain(T(0));
          for (Index j = j0; j < std::min(b.keys, j0 + kChain); ++j) {
            T* const at = strip + j * kQueries + lane;
            const V e = kernels::exp(simd::load<T, Arch>(at) - top);
            e.store_unaligned(at);
            chain = chain + e;
          }
          total = total + chain;
        }
        if (sink.size()) total = total + kernels::exp(V(sink[t.head]) - top);
        top.store_unaligned(most + lane);
        (V(T(1)) / total).store_unaligned(inverse + lane);
      }
      if (confine)
        mix_one_by_one(b, strip, v + from, out);
      else
        mix({b.count, dp}, b.keys, {strip, 1, kQueries}, {v + from, dp}, out, dp);
      for (Index i = 0; i < b.count; ++i) {
        scatter(out + i * dp, inverse[i], t.at(y, begin + i));
        stats(t.row[begin + i], 2 * t.head) = most[i];
        stats(t.row[begin + i], 2 * t.head + 1) = inverse[i];
      }
    }
  }

  bool all_finite(const T* v) const {
    V difference(T(0));
    for (Index i = 0; i < np * dp; i += kWidth) {
      const V x = simd::load<T, Arch>(v + i);
      difference = difference + (x - x);
    }
    return simd::reduce_add(difference) == T(0);
  }

  /// Adds what mix adds, in its order. strip and v begin with key b.first_key.
  void mix_one_by_one(const Block& b, const T* strip, const T* v, T* out) const {
    for (Index i = 0; i < b.count; ++i)
      for (Index c = 0; c < dp; c += kWidth) {
        const Index least = t.least_seen(b.begin + i) - b.first_key, end = t.seen(b.begin + i) - b.first_key;
        V total(T(0));
        for (Index j0 = 0; j0 < end; j0 += kChain) {
          V chain(T(0));
          for (Index j = std::max(j0, least); j < std::min(end, j0 + kChain); ++j)
            chain = simd::fma(V(strip[j * kQueries + i]), simd::load<T, Arch>(v + j * dp + c), chain);
          total = total + chain;
        }
        total.store_unaligned(out + i * dp + c);
      }
  }

  /// Of all heads that share the keys and values of head t.head, the first of them.
  void backward(const SinkGradient<T>& sink, Rows<const T> stats, Rows<const T> dy, Rows<T> dqkv, T* scratch) {
    Take take{scratch};
    T* const k = take(np * dp);
    T* const v = take(np * dp);
    T* const dk = take(np * dp);
    T* const dv = take(np * dp);
    T* const q = take(kQueries * dp);
    T* const q_columns = take(kQueries * dp);
    T* const dout = take(kQueries * dp);
    T* const dout_columns = take(kQueries * dp);
    T* const dq = take(kQueries * dp);
    T* const map = take(np * kQueries);
    T* const dmap = take(np * kQueries);
    gather(
        t.n, np, T(1), [&](Index i) { return t.at(qkv, t.k, i); }, k);
    gather(
        t.n, np, T(1), [&](Index i) { return t.at(qkv, t.v, i); }, v);
    std::fill_n(dk, np * dp, T(0));
    std::fill_n(dv, np * dp, T(0));
    for (const Index last = t.head + t.group; t.head < last; ++t.head)
      for (Index begin = 0; begin < t.n; begin += kQueries) {
        const Block b = block(begin);
        const Index from = b.first_key * dp;
        gather(
            b.count, kQueries, T(t.scale), [&](Index i) { return t.at(qkv, t.q, begin + i); }, q);
        gather(
            b.count, kQueries, T(1), [&](Index i) { return t.at(dy, begin + i); }, dout);
        transpose(q, q_columns);
        transpose(dout, dout_columns);
        multiply({b.keys, b.lanes()}, t.d, {k + from, dp, 1}, {q_columns, kQueries}, map, kQueries, Store::overwrite);
        multiply({b.keys, b.lanes()}, t.d, {v + from, dp, 1}, {dout_columns, kQueries}, dmap, kQueries,
                 Store::overwrite);
        mask_strip(b, -std::numeric_limits<T>::infinity(), map);
        softmax_grad(b, sink, stats, map, dmap);
        // Tiles are whole: what follows the keys must add nothing.
        const Index past = padded(b.keys, kRows) - b.keys;
        std::fill_n(map + b.keys * kQueries, past * kQueries, T(0));
        std::fill_n(dmap + b.keys * kQueries, past * kQueries, T(0));
        multiply({b.keys, dp}, b.count, {map, kQueries, 1}, {dout, dp}, dv + from, dp, Store::add);
        multiply({b.keys, dp}, b.count, {dmap, kQueries, 1}, {q, dp}, dk + from, dp, Store::add);
        mix({b.count, dp}, b.keys, {dmap, 1, kQueries}, {k + from, dp}, dq, dp);
        for (Index i = 0; i < b.count; ++i) scatter(dq + i * dp, T(t.scale), t.at(dqkv, t.q, begin + i));
      }
    t.head -= t.group;
    for (Index i = 0; i < t.n; ++i) {
      scatter(dk + i * dp, T(1), t.at(dqkv, t.k, i));
      scatter(dv + i * dp, T(1), t.at(dqkv, t.v, i));
    }
  }

  /// map: scores -> p; dmap: dp -> dscore = p (dp - <p, dp>).
  void softmax_grad(const Block& b, const SinkGradient<T>& sink, Rows<const T> stats, T* map, T* dmap) const {
    alignas(64) T most[kQueries] = {}, inverse[kQueries] = {};
    for (Index i = 0; i < b.count; ++i) {
      most[i] = stats(t.row[b.begin + i], 2 * t.head);
      inverse[i] = stats(t.row[b.begin + i], 2 * t.head + 1);
    }
    for (Index lane = 0; lane < b.lanes(); lane += kWidth) {
      const V top = simd::load<T, Arch>(most + lane), share = simd::load<T, Arch>(inverse + lane);
      V mean(T(0));
      for (Index j0 = 0; j0 < b.keys; j0 += kChain) {
        V chain(T(0));
        for (Index j = j0; j < std::min(b.keys, j0 + kChain); ++j) {
          T* const at = map + j * kQueries + lane;
          const V p = kernels::exp(simd::load<T, Arch>(at) - top) * share;
          p.store_unaligned(at);
          chain = simd::fma(p, simd::load<T, Arch>(dmap + j * kQueries + lane), chain);
        }
        mean = mean + chain;
      }
      if (sink.value.size()) {
        alignas(64) T each[kWidth];
        (V(T(0)) - kernels::exp(V(sink.value[t.head]) - top) * share * mean).store_aligned(each);
        for (Index i = lane; i < std::min(b.count, lane + kWidth); ++i)
          sink.each(t.row[b.begin + i], t.head) = each[i - lane];
      }
      for (Index j = 0; j < b.keys; ++j) {
        T* const at = dmap + j * kQueries + lane;
        (simd::load<T, Arch>(map + j * kQueries + lane) * (simd::load<T, Arch>(at) - mean)).store_unaligned(at);
      }
    }
  }
};
#endif

template <class T>
inline constexpr bool kBlockedAttention = GATEFOLD_HAS_SIMD&& std::is_floating_point_v<T>;

/// body(task, scratch) for each head of each sequence, or for the first of each `group` heads; a worker's scratch is
/// `size` elements.
template <class T, class Body>
void for_each_head(const AttentionPlan& plan, Index group, Index width, Index size, Context& ctx, Body&& body) {
  const auto scope = ctx.workspace.scope();
  constexpr Index kLine = 64;  // elements between the slices of two workers, so that they share no cache line
  auto scratch = ctx.workspace.take<T>(ctx.parallel_for.workers(), (size / kLine + 1) * kLine);
  const Index sequences = plan.num_sequences(), workers = ctx.parallel_for.workers();
  if (sequences == 0) return;
  // Heads of a sequence lie side by side: who has several in a row finds what it prefetched.
  const Index groups = plan.heads / group, parts = std::min(groups, (2 * workers + sequences - 1) / sequences);
  const BalancedSplit heads(groups, (groups + parts - 1) / parts);
  ctx.parallel_for(sequences * heads.count, [&](Index begin, Index end, Index worker) {
    for (Index i = begin; i < end; ++i) {
      const Index part = i % heads.count;
      for (Index g = heads.begin(part); g < heads.begin(part + 1); ++g)
        body(AttentionTask(plan, i / heads.count, g * group, width), &scratch(worker, 0));
    }
  });
}

}  // namespace detail

/// y = softmax(scale q kᵀ) v for each head, where scale is 1 / √d if not plan.scale, d = D / heads; heads may share
/// keys and values (plan.key_heads). The sum of exponentials has one of sink[head] more, unless sink is empty. Keeps of
/// each query and head the largest of what is summed and the inverse of the sum. 4 T² D flops per sequence, half of it
/// where causal. Of y and stats only the rows of tokens that attend are written.
/// // qkv [R, D + 2 D / group] = q | k | v, y [R, D], stats [R, 2 heads]
template <Real T>
void attend(Rows<const T> qkv, const AttentionPlan& plan, View<const T, 1> sink, Rows<T> y, Rows<T> stats,
            Context& ctx) {
  const Index width = y.extent(1), longest = plan.longest();
#if GATEFOLD_HAS_SIMD
  if constexpr (detail::kBlockedAttention<T>)
    if (ctx.isa != Isa::portable) {
      using Blocked = detail::BlockedAttention<T, simd::DefaultArch>;
      return detail::for_each_head<T>(plan, 1, width, Blocked::scratch_size(longest, width / plan.heads), ctx,
                                      [&](const detail::AttentionTask& t, T* scratch) {
                                        Blocked{t, qkv}.forward(sink, y, stats, scratch);
                                      });
    }
#endif
  const Index size = detail::portable_scratch(longest, width / plan.heads);
  detail::for_each_head<T>(plan, 1, width, size, ctx, [&](const detail::AttentionTask& t, T* scratch) {
    detail::attend_portable<T>(t, qkv, sink, y, stats, scratch);
  });
}

/// The gradient of attend where all tokens attend. 10 T² D flops per sequence.
/// // qkv, dqkv [R, D + 2 D / group], stats [R, 2 heads] of attend, dy [R, D]
template <Real T>
void attend_grad(Rows<const T> qkv, const AttentionPlan& plan, const SinkGradient<T>& sink, Rows<const T> stats,
                 Rows<const T> dy, Rows<T> dqkv, Context& ctx) {
  const Index width = dy.extent(1), longest = plan.longest();
#if GATEFOLD_HAS_SIMD
  if constexpr (detail::kBlockedAttention<T>)
    if (ctx.isa != Isa::portable) {
      using Blocked = detail::BlockedAttention<T, simd::DefaultArch>;
      return detail::for_each_head<T>(plan, plan.group(), width, Blocked::scratch_size(longest, width / plan.heads),
                                      ctx, [&](const detail::AttentionTask& t, T* scratch) {
                                        Blocked{t, qkv}.backward(sink, stats, dy, dqkv, scratch);
                                      });
    }
#endif
  const Index size = detail::portable_grad_scratch(longest, width / plan.heads);
  detail::for_each_head<T>(plan, plan.group(), width, size, ctx, [&](const detail::AttentionTask& t, T* scratch) {
    detail::attend_grad_portable<T>(t, qkv, sink, dy, dqkv, scratch);
  });
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void attend<float>(Rows<const float>, const AttentionPlan&, View<const float, 1>, Rows<float>,
                                     Rows<float>, Context&);
GATEFOLD_COMPILED void attend_grad<float>(Rows<const float>, const AttentionPlan&, const SinkGradient<float>&,
                                          Rows<const float>, Rows<const float>, Rows<float>, Context&);

}  // namespace gatefold::kernels
#endif
