#pragma once
#include "gatefold/kernels/attention.hpp"
#include "gatefold/kernels/key_value.hpp"

/// Attention of new tokens to all that came before them, whose keys and values are kept (key_value.hpp). Every sum is
/// taken in the order of attend, so that a token gets the same bits whether it comes alone or among its sequence.
namespace gatefold::kernels {
namespace detail {

/// Queries that meet the same keys: [begin, end) of the pairs (new token, head of the group), token by token.
struct CachedTask {
  Index sequence, key_head, begin, end;
};

/// What the queries of a task may see, by positions in the cache.
struct CachedSpan {
  const AttentionPlan& plan;
  const CachedTask& task;
  Index before;  // positions that the sequence had

  Index token(Index query) const { return query / plan.group(); }
  Index row(Index query) const { return plan.row[plan.offset[task.sequence] + token(query)]; }
  Index head(Index query) const { return task.key_head * plan.group() + query % plan.group(); }
  Index seen(Index query) const { return before + token(query) + 1; }
  Index least(Index query) const { return plan.window ? std::max<Index>(0, seen(query) - plan.window) : 0; }
};

#if GATEFOLD_HAS_SIMD
/// A task in vectors. Scores of a query are a row of `strip`; its chains of kChain keys can be taken one by one, by
/// whichever worker, since the sums of the chains are kept apart until `finish`.
template <class T, class F, class Arch>
struct CachedAttention {
  using V = simd::Batch<T, Arch>;
  using Blocked = BlockedAttention<T, Arch>;
  static constexpr int kWidth = static_cast<int>(simd::kLanes<T, Arch>);
  static constexpr int kVectors = static_cast<int>(kKeyPanel) / kWidth;  // of a panel
  static constexpr int kSums = simd::kRegisters<Arch> / 2;               // vectors of a register tile
  static constexpr int kPanels = kSums / kVectors >= 16 ? 2 : 1;
  static constexpr int kTile = std::min(8, std::max(1, kSums / kVectors / kPanels));  // queries
  static constexpr Index kWord = kPerWord<F>;
  static constexpr Index kTaskQueries = 32;  // more of them would not stay in L2 beside a chain of keys

  CachedSpan span;
  const KeyValues<F>& cache;
  Index count, end, start, base, stride, chunks;
  T *query, *strip, *most, *sum, *part;

  static Index padded(Index n, Index step) { return (n + step - 1) / step * step; }
  static Index scratch_size(const typename KeyValues<F>::Size& size, Index longest) {
    const Index positions = padded(longest, kKeyPanel) + 2 * kKeyPanel, chunks = longest / kChain + 2;
    return kTaskQueries * (size.key_columns() + positions + 2 * chunks + chunks * size.value_columns());
  }

  CachedAttention(const CachedSpan& s, const KeyValues<F>& c, T* scratch)
      : span(s), cache(c), count(s.task.end - s.task.begin), end(s.seen(s.task.end - 1)) {
    // Where attend begins its chains: at the first key that one of its block of queries sees.
    const Index block = (s.seen(s.task.begin) - 1) / Blocked::kQueries * Blocked::kQueries;
    start = s.plan.window ? std::max<Index>(0, block + 1 - s.plan.window) / Blocked::kRows * Blocked::kRows : 0;
    base = start / kKeyPanel * kKeyPanel;
    stride = padded(end - base, kKeyPanel) + kKeyPanel;
    chunks = (end - base + kChain - 1) / kChain;
    const Index rows = padded(count, kTile);
    query = scratch;
    strip = query + rows * cache.size.key_columns();
    most = strip + rows * stride;
    sum = most + rows * chunks;
    part = sum + rows * chunks;
  }

  /// c[query][panel, lane] = (c +) the sum over k < depth of a[query][k] times b[panel][k][lane].
  struct Left {
    const T* data;
    Index stride;
  };
  struct Right {
    const F* data;
    Index stride;
    const F* next;  // what comes after: fetched meanwhile, since products that wait fill the queue of the core early
  };
  template <int kQueries, int kCount>
  static void tile(Index depth, Left a, Right b, T* c, Index c_stride, Store store) {
    constexpr int kAll = kCount * kVectors;
    V acc[kQueries][kAll];
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < kAll; ++j)
        acc[i][j] = store == Store::add ? simd::load<T, Arch>(c + i * c_stride + j * kWidth) : V(T(0));
    const auto step = [&](Index k, const V(&right)[kAll]) {
#pragma GCC unroll 8
      for (int i = 0; i < kQueries; ++i) {
        const V left(a.data[i * a.stride + k]);
#pragma GCC unroll 8
        for (int j = 0; j < kAll; ++j) acc[i][j] = simd::fma(left, right[j], acc[i][j]);
      }
    };
    for (Index k = 0; k < depth; k += kWord) {
      V right[kAll], next[kAll];
#pragma GCC unroll 8
      for (int j = 0; j < kAll; ++j)
        load_word(b.data + j / kVectors * b.stride + k * kKeyPanel + j % kVectors * kWidth * kWord, right[j], next[j]);
#pragma GCC unroll 2
      for (int j = 0; j < kCount; ++j) __builtin_prefetch(b.next + j * b.stride + k * kKeyPanel);
      step(k, right);
      if constexpr (kWord == 2) step(k + 1, next);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < kAll; ++j) acc[i][j].store_unaligned(c + i * c_stride + j * kWidth);
  }
  static void load_word(const F* p, V& first, V& second) {
    if constexpr (kWord == 1) {
      first = second = simd::load<T, Arch>(p);
    } else {
      const auto word = simd::load_words<Arch>(p);
      first = simd::bits_as<T>(word << 16);
      second = simd::bits_as<T>(word & simd::Batch<std::int32_t, Arch>(static_cast<std::int32_t>(0xffff0000)));
    }
  }

  /// All queries by all panels.
  void multiply(Index panels, Index depth, Left a, Right b, T* c, Index c_stride, Store store) const {
    const auto rows = [&]<int kQueries>(Index i) {
      const Left left{a.data + i * a.stride, a.stride};
      const auto panels_at = [&]<int kCount>(Index j) {
        const F* const next = j + kCount < panels ? b.data + (j + kCount) * b.stride : b.next;
        tile<kQueries, kCount>(depth, left, {b.data + j * b.stride, b.stride, next}, c + i * c_stride + j * kKeyPanel,
                               c_stride, store);
      };
      Index j = 0;
      for (; j + kPanels <= panels; j += kPanels) panels_at.template operator()<kPanels>(j);
      if constexpr (kPanels > 1)
        if (j < panels) panels_at.template operator()<1>(j);
    };
    Index i = 0;
    for (; i + kTile <= count; i += kTile) rows.template operator()<kTile>(i);
    const Index rest = count - i;
    if (rest == 0) return;
    if constexpr (kTile >= 8)
      if (rest > 4) return rows.template operator()<8>(i);
    if constexpr (kTile >= 4)
      if (rest > 2) return rows.template operator()<4>(i);
    if constexpr (kTile >= 2)
      if (rest > 1) return rows.template operator()<2>(i);
    rows.template operator()<1>(i);
  }

  /// The queries times their scale; what pads them is 0.
  void prepare(Rows<const T> all, T scale) const {
    const Index width = cache.size.key_width, columns = cache.size.key_columns();
    std::fill_n(query, padded(count, kTile) * columns, T(0));
    for (Index i = 0; i < count; ++i) {
      const Index q = span.task.begin + i;
      const T* const from = all.data() + span.row(q) * all.stride(0) + span.head(q) * width;
      for (Index c = 0; c < width; ++c) query[i * columns + c] = from[c] * scale;
    }
  }

  /// Scores of a chunk of positions, and the largest of each query.
  void score(Index chunk) const {
    const Index begin = base + chunk * kChain, last = std::min(begin + kChain, padded(end, kKeyPanel));
    const Index columns = cache.size.key_columns();
    const F* const keys = cache.keys(span.task.sequence, span.task.key_head);
    T* const to = strip + (begin - base);
    const F* const first = last < end ? keys + last * columns : cache.values(span.task.sequence, span.task.key_head);
    multiply((last - begin) / kKeyPanel, columns, {query, columns},
             {keys + begin * columns, kKeyPanel * columns, first}, to, stride, Store::overwrite);
    constexpr T kLeast = -std::numeric_limits<T>::infinity();
    for (Index i = 0; i < count; ++i) {
      const Index q = span.task.begin + i;
      T* const row = to + i * stride;
      const Index from = std::clamp(span.least(q), begin, last), until = std::clamp(span.seen(q), begin, last);
      std::fill_n(row, from - begin, kLeast);
      std::fill_n(row + (until - begin), last - until, kLeast);
      V top(kLeast);
      for (Index j = 0; j < last - begin; j += kWidth) {
        const V s = simd::load<T, Arch>(row + j);
        top = select(top < s, s, top);
      }
      most[i * chunks + chunk] = simd::reduce_max(top);
    }
  }

  T largest(Index i, View<const T, 1> sink) const {
    T top = sink.size() ? sink[span.head(span.task.begin + i)] : -std::numeric_limits<T>::infinity();
    for (Index chunk = 0; chunk < chunks; ++chunk)
      if (top < most[i * chunks + chunk]) top = most[i * chunks + chunk];
    return top;
  }

  /// Weights of a chain of positions, not yet divided by their sum, and what they make of the values.
  void mix(Index chain, View<const T, 1> sink) const {
    const Index begin = start + chain * kChain, last = std::min(begin + kChain, end);
    if (begin >= last) return;
    T* const weight = strip + (begin - base);
    for (Index i = 0; i < count; ++i) {
      const V top(largest(i, sink));
      for (Index j = 0; j < last - begin; j += kWidth) {
        T* const at = weight + i * stride + j;
        kernels::exp(simd::load<T, Arch>(at) - top).store_unaligned(at);
      }
    }
    add_up(weight, last - begin, chain);

    const Index columns = cache.size.value_columns();
    T* const out = part + chain * padded(count, kTile) * columns;
    std::fill_n(out, padded(count, kTile) * columns, T(0));
    const F* const values = cache.values(span.task.sequence, span.task.key_head);
    // What all queries see, in whole words; what only some of them see must not meet the others' weights of 0.
    const Index first = padded(std::clamp(span.least(span.task.end - 1), begin, last), kWord);
    const Index common = std::max(first, std::clamp(span.seen(span.task.begin), begin, last) / kWord * kWord);
    each_by_itself(begin, std::min(first, last), values, weight - begin, out);
    if (first < common)
      multiply(columns / kKeyPanel, common - first, {weight + (first - begin), stride},
               {values + first * kKeyPanel, cache.size.positions() * kKeyPanel, values + last * kKeyPanel}, out,
               columns, Store::add);
    each_by_itself(common, last, values, weight - begin, out);
  }

  /// Sums of the weights of a chain, several queries abreast, since each is one addition after the other.
  void add_up(const T* weight, Index length, Index chain) const {
    constexpr int kAbreast = 4;
    Index i = 0;
    for (; i + kAbreast <= count; i += kAbreast) {
      T total[kAbreast] = {};
      for (Index j = 0; j < length; ++j)
#pragma GCC unroll 4
        for (int n = 0; n < kAbreast; ++n) total[n] += weight[(i + n) * stride + j];
      for (int n = 0; n < kAbreast; ++n) sum[(i + n) * chunks + chain] = total[n];
    }
    for (; i < count; ++i) {
      T total(0);
      for (Index j = 0; j < length; ++j) total += weight[i * stride + j];
      sum[i * chunks + chain] = total;
    }
  }

  /// Positions [begin, last), each for those queries that see it. weight counts from position 0.
  void each_by_itself(Index begin, Index last, const F* values, const T* weight, T* out) const {
    const Index columns = cache.size.value_columns();
    for (Index i = 0; i < count; ++i) {
      const Index q = span.task.begin + i, until = std::min(last, span.seen(q));
      for (Index j = std::max(begin, span.least(q)); j < until; ++j)
        for (Index c = 0; c < columns; c += kKeyPanel)
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) {
            T* const to = out + i * columns + c + v * kWidth;
            V first, second;
            load_word(values + (c * cache.size.positions() + j / kWord * kWord * kKeyPanel) + v * kWidth * kWord, first,
                      second);
            const V value = j % kWord ? second : first;
            simd::fma(V(weight[i * stride + j]), value, simd::load<T, Arch>(to)).store_unaligned(to);
          }
    }
  }

  void finish(View<const T, 1> sink, Rows<T> y) const {
    const Index width = cache.size.value_width, columns = cache.size.value_columns();
    const Index chains = (end - start + kChain - 1) / kChain;
    for (Index i = 0; i < count; ++i) {
      const Index q = span.task.begin + i;
      T total = sum[i * chunks];
      for (Index chain = 1; chain < chains; ++chain) total = total + sum[i * chunks + chain];
      if (sink.size()) total = total + sink_weight<T, Arch>(sink[span.head(q)], largest(i, sink));
      const T inverse = T(1) / total;
      T* const to = y.data() + span.row(q) * y.stride(0) + span.head(q) * width;
      const T* const from = part + i * columns;
      for (Index c = 0; c < width; ++c) {
        T mixed = from[c];
        for (Index chain = 1; chain < chains; ++chain) mixed = from[chain * padded(count, kTile) * columns + c] + mixed;
        to[c] = mixed * inverse;
      }
    }
  }
};
#endif

/// The only query of a task by plain loops. scratch // [positions + 2 d]
template <class T, class F>
void attend_cached_portable(const CachedSpan& s, const KeyValues<F>& cache, Rows<const T> query, double scale,
                            View<const T, 1> sink, Rows<T> y, T* p) {
  const Index q = s.task.begin, least = s.least(q), seen = s.seen(q);
  const Index dk = cache.size.key_width, dv = cache.size.value_width;
  const F *const keys = cache.keys(s.task.sequence, s.task.key_head), *const values = cache.values(s.task.sequence,
                                                                                                   s.task.key_head);
  T *const row = p + seen, *const part = row + std::max(dk, dv);
  const T* const from = query.data() + s.row(q) * query.stride(0) + s.head(q) * dk;
  T most = sink.size() ? sink[s.head(q)] : T(-std::numeric_limits<double>::infinity());
  for (Index j = least; j < seen; ++j) {
    for (Index c = 0; c < dk; ++c) row[c] = T(keys[cache.key_at(j, c)]);
    p[j] = dot(dk, from, row) * T(scale);
    if (most < p[j]) most = p[j];
  }
  const T inverse = weigh<T>(p, least, seen, sink.size() ? &sink[s.head(q)] : nullptr, most);
  T* const out = y.data() + s.row(q) * y.stride(0) + s.head(q) * dv;
  std::fill_n(out, dv, T(0.0));
  add_long_mix(
      least, seen, dv, [&](Index j) { return T(p[j] * inverse); },
      [&](Index j) {
        for (Index c = 0; c < dv; ++c) row[c] = T(values[cache.value_at(j, c)]);
        return row;
      },
      part, out);
}

/// Cuts the queries into tasks of at most `limit`, none of which reaches over a multiple of `block` positions; returns
/// how many there are. tasks may be null.
template <class F>
Index cut_cached(const AttentionPlan& plan, const KeyValues<F>& cache, Index limit, Index block, CachedTask* tasks) {
  Index n = 0;
  const Index group = plan.group();
  for (Index b = 0; b < plan.num_sequences(); ++b) {
    const Index tokens = plan.offset[b + 1] - plan.offset[b], before = cache.length[b];
    for (Index head = 0; head < cache.size.heads; ++head)
      for (Index i = 0; i < tokens;) {
        const Index until = std::min(tokens, ((before + i) / block + 1) * block - before);
        for (Index q = i * group; q < until * group; q += limit, ++n)
          if (tasks) tasks[n] = {b, head, q, std::min(q + limit, until * group)};
        i = until;
      }
  }
  return n;
}

}  // namespace detail

/// y = softmax(scale q kᵀ) v for each head of each new token i of a sequence, which sees the positions up to its own,
/// cache.length + i: their keys and values are there already (append_key_values). Scale and window are those of `plan`;
/// `sink` joins the sums of exponentials, a number for each head, or is empty. Reads keys and values once for up to 32
/// queries of a group. // query [R, H key_width], y [R, H value_width]
template <Real T, class F>
void attend_cached(Rows<const T> query, const AttentionPlan& plan, const KeyValues<F>& cache, View<const T, 1> sink,
                   Rows<T> y, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  const auto& size = cache.size;
  const Index workers = ctx.parallel_for.workers();
  const double scale = plan.scale_of(size.key_width);
  Index longest = 0;
  for (Index b = 0; b < plan.num_sequences(); ++b)
    longest = std::max(longest, cache.length[b] + plan.offset[b + 1] - plan.offset[b]);
  const auto cut = [&](Index limit, Index block) {
    auto tasks = ctx.workspace.take<detail::CachedTask>(detail::cut_cached(plan, cache, limit, block, nullptr));
    detail::cut_cached(plan, cache, limit, block, tasks.data());
    return tasks;
  };
  const auto span_of = [&](const detail::CachedTask& task) {
    return detail::CachedSpan{plan, task, cache.length[task.sequence]};
  };
  constexpr Index kApart = 64;  // elements between what two workers write
#if GATEFOLD_HAS_SIMD
  if constexpr (detail::kBlockedAttention<T>)
    if (ctx.isa != Isa::portable) {
      using Cached = detail::CachedAttention<T, F, simd::DefaultArch>;
      const auto tasks = cut(Cached::kTaskQueries, Cached::Blocked::kQueries);
      const Index n = tasks.extent(0), scratch_size = Cached::scratch_size(size, longest) + kApart;
      if (n >= 2 * workers || workers == 1) {
        auto scratch = ctx.workspace.take<T>(workers, scratch_size);
        return ctx.parallel_for(n, [&](Index begin, Index end, Index worker) {
          for (Index i = begin; i < end; ++i) {
            const auto span = span_of(tasks[i]);
            const Cached one(span, cache, &scratch(worker, 0));
            one.prepare(query, T(scale));
            for (Index chunk = 0; chunk < one.chunks; ++chunk) one.score(chunk);
            for (Index chain = 0; chain < one.chunks; ++chain) one.mix(chain, sink);
            one.finish(sink, y);
          }
        });
      }
      // Few queries: the workers share their positions, chain by chain.
      auto scratch = ctx.workspace.take<T>(n, scratch_size);
      const Index chunks = longest / kChain + 1;
      const auto each = [&](Index parts, auto&& step) {
        ctx.parallel_for(n * parts, [&](Index begin, Index end, Index) {
          for (Index i = begin; i < end; ++i) {
            const auto span = span_of(tasks[i / parts]);
            const Cached one(span, cache, &scratch(i / parts, 0));
            if (i % parts < one.chunks) step(one, i % parts);
          }
        });
      };
      each(1, [&](const Cached& one, Index) { one.prepare(query, T(scale)); });
      each(chunks, [&](const Cached& one, Index chunk) { one.score(chunk); });
      each(chunks, [&](const Cached& one, Index chain) { one.mix(chain, sink); });
      return each(1, [&](const Cached& one, Index) { one.finish(sink, y); });
    }
#endif
  const auto tasks = cut(1, std::max<Index>(longest, 1));
  auto scratch = ctx.workspace.take<T>(workers, longest + 2 * std::max(size.key_width, size.value_width) + kApart);
  ctx.parallel_for(tasks.extent(0), [&](Index begin, Index end, Index worker) {
    for (Index i = begin; i < end; ++i)
      detail::attend_cached_portable<T, F>(span_of(tasks[i]), cache, query, scale, sink, y, &scratch(worker, 0));
  });
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void attend_cached<float, float>(Rows<const float>, const AttentionPlan&, const KeyValues<float>&,
                                                   View<const float, 1>, Rows<float>, Context&);
GATEFOLD_COMPILED void attend_cached<float, bf16>(Rows<const float>, const AttentionPlan&, const KeyValues<bf16>&,
                                                  View<const float, 1>, Rows<float>, Context&);

}  // namespace gatefold::kernels
#endif
