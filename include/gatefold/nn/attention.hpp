#pragma once
#include <optional>

#include "gatefold/kernels/cached_attention.hpp"
#include "gatefold/kernels/rotary.hpp"
#include "gatefold/nn/key_value_cache.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/nn/padding.hpp"
#include "gatefold/nn/pool.hpp"
#include "gatefold/nn/rms_norm.hpp"

namespace gatefold {

/// An RmsNorm of queries and one of keys, before they turn: of each head by itself, by one gain (Qwen3, Gemma 3), or of
/// all heads together (OLMoE).
enum class QueryKeyNorm { none, head, whole };

/// Whether each head has a learnt number that joins its softmax without a value of its own, so that a token need not
/// attend to any (GPT-OSS).
enum class Sinks { none, learnt };

/// Multi-head self-attention within each sequence of ctx.layout (Vaswani et al. 2017). A padding row is attended to by
/// nobody and gets 0 before the output projection; with Mask::causal a token sees itself and what is before it. Options
/// make of it what language models have: fewer heads of keys than of queries (Ainslie et al. 2023), rotary positions, a
/// window, norms of queries and keys, sinks, and a cache to decode with (module/decode.hpp).
/// 8 R D² + 4 R T D flops forward. Keeps q, k, v, two numbers per token and head, and what the heads give: no [T, T];
/// over weights that cannot be trained it keeps nothing.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct Attention {
  using Scalar = T;
  using Mask = kernels::AttentionMask;
  struct Options {
    Index width, num_heads;  // D, of queries
    Mask mask = Mask::none;
    Index num_key_heads = 0;  ///< Of keys and values, each for as many heads of queries in a row; 0: num_heads.
    Index head_width = 0;     ///< 0: width / num_heads.
    Index window = 0;         ///< A token sees those less than this many tokens away, wherever they stand; 0: all.
    Bias bias = Bias::zero;
    Rotary rotary{};  ///< A token's place is ctx.layout's, else counted within its sequence, without padding.
    QueryKeyNorm norm = QueryKeyNorm::none;
    double norm_epsilon = 1e-6;
    double scale = 0;  ///< Of scores (Granite's attention multiplier); 0: 1 / √head_width.
    Sinks sinks = Sinks::none;
  };
  /// By what each token turns: a row of the table.
  struct Turning {
    View<const Index, 1> place;  // [tokens]
    Rows<const T> table;         // [places, rotary.width] cos | sin
  };
  struct Kept {
    typename Linear<T, W>::Saved qkv, out;
    typename RmsNorm<T>::Saved query_norm, key_norm;
    Rows<const T> projected;      // [R, (H + 2 G) d]: q | k | v of the heads, as they meet
    Rows<const T> stats;          // [R, 2 H]
    kernels::AttentionPlan plan;  // its rows are the tokens
    Turning turning;
  };
  static constexpr bool kTrainable = TrainableStorage<W, T>;
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  Options options;        // with what 0 stands for
  Linear<T, W> qkv, out;  // [(H + 2 G) d, D], [D, H d]
  std::optional<RmsNorm<T>> query_norm, key_norm;
  Tensor<T, 1> sink;  // [H], or [0] without sinks

  /// Throws OptionError for a size below 1, a width that is no multiple of num_heads where head_width is left to that,
  /// num_heads that are none of num_key_heads, and an odd number of columns that turn or more than a head has.
  explicit Attention(const Options& o)
      : options(checked(o)),
        qkv({.in = o.width, .out = projected_width(), .bias = o.bias}),
        out({.in = attended_width(), .out = o.width, .bias = o.bias}),
        sink({o.sinks == Sinks::none ? 0 : o.num_heads}) {
    if (o.norm == QueryKeyNorm::none) return;
    const auto norm_of = [&](Index heads) {
      const bool each = o.norm == QueryKeyNorm::head;
      return RmsNorm<T>(
          {.width = options.head_width * (each ? 1 : heads), .epsilon = o.norm_epsilon, .parts = each ? heads : 1});
    };
    query_norm = norm_of(options.num_heads);
    key_norm = norm_of(options.num_key_heads);
  }
  static void visit(auto& v, auto&... self) {
    v("qkv", self.qkv...);
    v("out", self.out...);
    v("query_norm", self.query_norm...);
    v("key_norm", self.key_norm...);
    if (detail::all_have("sink", self.sink.size()...)) v("sink", self.sink...);
  }

  Index width() const { return qkv.in(); }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] {
      auto attended = ctx.workspace.take<T>(x.extent(0), attended_width());
      Kept kept = attend(x, {}, attended, ctx);
      clear_padding(kept.plan, attended);
      kept.out = out.forward(attended, y, ctx);
      return kept;
    });
  }

  /// forward for one token of each sequence that keeps nothing: 2 R D² + 4 R T D flops less. Throws ShapeError for a
  /// row that is no token of its sequence. // x [R, D], row [B], y [B, D]
  void infer_at(Rows<const T> x, View<const Index, 1> row, Rows<T> y, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    auto attended = ctx.workspace.take<T>(x.extent(0), attended_width());
    auto chosen = ctx.workspace.take<T>(row.extent(0), attended_width());
    (void)attend(x, row, attended, ctx);
    pool_at<T>(attended, row, chosen, ctx);
    (void)out.forward(chosen, y, ctx);
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Attention& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    auto dattended = ctx.workspace.take<T>(dy.extent(0), attended_width());
    auto dprojected = ctx.workspace.take<T>(dy.extent(0), projected_width());
    out.backward(saved.out, dy, dattended, grad.out, ctx);
    clear_padding(saved.plan, dprojected);
    kernels::SinkGradient<T> dsink;
    if (sink.size()) {
      expect_shape(grad.sink.view(), sink.shape(), "Attention::backward: grad.sink");
      dsink = {.value = sink, .each = ctx.workspace.take_zeroed<T>(dy.extent(0), options.num_heads)};
    }
    kernels::attend_grad<T>(saved.projected, saved.plan, dsink, saved.stats, dattended, dprojected, ctx);
    if (sink.size()) kernels::add_column_sums<T>(dsink.each, grad.sink, ctx);
    turn(kernels::Turn::back, saved.plan, saved.turning, dprojected, ctx);
    if (query_norm) {  // in place
      const auto dquery = queries(dprojected), dkey = keys(dprojected);
      query_norm->backward(saved.query_norm, dquery, dquery, grad.query_norm.value(), ctx);
      key_norm->backward(saved.key_norm, dkey, dkey, grad.key_norm.value(), ctx);
    }
    qkv.backward(saved.qkv, dprojected, dx, grad.qkv, ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    const Options& o = options;
    Attention<T, WeightBy<To, W>> other({.width = o.width,
                                         .num_heads = o.num_heads,
                                         .mask = o.mask,
                                         .num_key_heads = o.num_key_heads,
                                         .head_width = o.head_width,
                                         .window = o.window,
                                         .rotary = o.rotary,
                                         .scale = o.scale,
                                         .sinks = o.sinks});
    other.qkv = qkv.over(to);
    other.out = out.over(to);
    other.query_norm = query_norm;
    other.key_norm = key_norm;
    other.sink = sink;
    return other;
  }

  /// What decode remembers: 2 G d numbers a token. Throws OptionError for a layer whose tokens see those after them.
  template <class F>
  KeyValueCache<T, F> cache(const CacheOptions& o) const {
    expect_option(options.mask == Mask::causal, "Attention: mask is none, expected causal of a layer with a cache");
    return KeyValueCache<T, F>({.sequences = o.sequences,
                                .heads = options.num_key_heads,
                                .capacity = o.capacity,
                                .key_width = options.head_width,
                                .value_width = options.head_width});
  }

  /// forward for tokens that come after those in the cache, to which they are added; it keeps nothing. What the heads
  /// give are the bits that forward would give; products of 16 rows or less are summed in another order where weights
  /// are not packed. Reads all keys and values of a sequence once for each 32 queries of a group. Throws CacheError
  /// where there is no room, and ShapeError, before anything is added. // x, y [R, D]
  template <class F>
  void decode(Rows<const T> x, Rows<T> y, KeyValueCache<T, F>& cache, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const Index rows = x.extent(0);
    expect_rows(x,
                {"Attention::decode: x", "Attention::decode: ctx.layout->offset",
                 "Attention::decode: ctx.layout->modality", "Attention::decode: ctx.layout->place"},
                ctx);
    expect_shape(y, {rows, width()}, "Attention::decode: y");
    const auto& size = cache.size;
    if (size.heads != options.num_key_heads || size.key_width != options.head_width ||
        size.value_width != options.head_width)
      throw ShapeError("Attention::decode: cache has " + std::to_string(size.heads) + " heads of width " +
                       std::to_string(size.key_width) + ", expected " + std::to_string(options.num_key_heads) + " of " +
                       std::to_string(options.head_width));
    const auto plan = tokens(rows, ctx);
    cache.expect_room(plan.offset);
    auto projected = ctx.workspace.take<T>(rows, projected_width());
    auto attended = ctx.workspace.take<T>(rows, attended_width());
    (void)qkv.forward(without_padding<T>(x, ctx), projected, ctx);
    if (query_norm) {
      (void)query_norm->forward(queries(projected), queries(projected), ctx);
      (void)key_norm->forward(keys(projected), keys(projected), ctx);
    }
    const auto held = cache.view();
    const auto turning = turning_of(plan, held.length, ctx);
    turn(kernels::Turn::there, plan, turning, projected, ctx);
    kernels::append_key_values<T>(keys(projected), values(projected), plan.offset, plan.row, held, ctx);
    kernels::attend_cached<T>(queries(projected), plan, held, sink, attended, ctx);
    cache.grow(plan.offset);
    clear_padding(plan, attended);
    (void)out.forward(attended, y, ctx);
  }

 private:
  static Options checked(Options o) {
    const std::string_view who = "Attention";
    expect_size(who, "width", o.width);
    expect_size(who, "num_heads", o.num_heads);
    const auto expect_multiple = [](const char* what, Index value, const char* of, Index unit) {
      expect_option(value % unit == 0, "Attention: " + std::string(what) + " " + std::to_string(value) +
                                           " is not a multiple of " + of + " " + std::to_string(unit));
    };
    if (o.head_width == 0) {
      expect_multiple("width", o.width, "num_heads", o.num_heads);
      o.head_width = o.width / o.num_heads;
    }
    if (o.num_key_heads == 0) o.num_key_heads = o.num_heads;
    expect_size(who, "head_width", o.head_width);
    expect_size(who, "num_key_heads", o.num_key_heads);
    expect_multiple("num_heads", o.num_heads, "num_key_heads", o.num_key_heads);
    expect_option(o.window >= 0, who, "window", o.window, "at least 0");
    expect_rate(who, "scale", o.scale);
    o.rotary.expect_fit(who, o.head_width);
    return o;
  }

  /// What errors call the arguments of a pass.
  struct Names {
    std::string_view x, offset, modality, place;
  };
  void expect_rows(Rows<const T> x, const Names& names, Context& ctx) const {
    const Index rows = x.extent(0);
    expect_shape(x, {rows, width()}, names.x);
    if (!ctx.layout) return;
    expect_sequences(ctx.layout->offset, rows, names.offset);
    expect_shape(ctx.layout->modality, {rows}, names.modality);
    if (ctx.layout->place.size()) expect_shape(ctx.layout->place, {rows}, names.place);
  }

  Index attended_width() const { return options.num_heads * options.head_width; }
  Index projected_width() const { return (options.num_heads + 2 * options.num_key_heads) * options.head_width; }
  Rows<T> queries(Rows<T> projected) const { return projected.columns(0, attended_width()); }
  Rows<T> keys(Rows<T> projected) const {
    return projected.columns(attended_width(), attended_width() + options.num_key_heads * options.head_width);
  }
  Rows<T> values(Rows<T> projected) const {
    return projected.columns(attended_width() + options.num_key_heads * options.head_width, projected_width());
  }

  void turn(kernels::Turn which, const kernels::AttentionPlan& plan, const Turning& turning, Rows<T> projected,
            Context& ctx) const {
    const Index turned = attended_width() + options.num_key_heads * options.head_width;
    if (options.rotary.width)
      kernels::rotate<T>(options.rotary, which, plan.row, turning.place, turning.table, options.head_width,
                         projected.columns(0, turned), ctx);
  }

  /// Tokens stand where ctx.layout->place says, else one after the other behind the `before` that their sequence has.
  /// // before [B], or empty for none
  Turning turning_of(const kernels::AttentionPlan& plan, View<const Index, 1> before, Context& ctx) const {
    if (options.rotary.width == 0) return {};
    const bool given = ctx.layout && ctx.layout->place.size(), listed = given || before.size();
    const Index count = plan.row.extent(0);
    auto place = ctx.workspace.take<Index>(count);
    for (Index b = 0; b < plan.num_sequences(); ++b)
      for (Index i = plan.offset[b]; i < plan.offset[b + 1]; ++i)
        place[i] = given ? ctx.layout->place[plan.row[i]] : i - plan.offset[b] + (before.size() ? before[b] : 0);
    auto table = ctx.workspace.take<T>(listed ? count : plan.longest(), options.rotary.width);
    kernels::rotary_table<T>(options.rotary, listed ? place : View<const Index, 1>(), table, ctx);
    for (Index i = 0; listed && i < count; ++i) place[i] = i;  // each has a row of its own
    return {place, table};
  }

  /// Norms queries and keys in place. Where there is a way back, what it needs of them is kept in a copy.
  void norm_queries_and_keys(Kept& kept, Rows<T> projected, Context& ctx) const {
    if (!query_norm) return;
    Rows<const T> query = queries(projected), key = keys(projected);
    if constexpr (kTrainable) {
      auto copy = ctx.workspace.take<T>(projected.extent(0), projected.extent(1));
      query = queries(copy), key = keys(copy);
      kernels::copy_rows<T>(queries(projected), queries(copy), ctx);
      kernels::copy_rows<T>(keys(projected), keys(copy), ctx);
    }
    kept.query_norm = query_norm->forward(query, queries(projected), ctx);
    kept.key_norm = key_norm->forward(key, keys(projected), ctx);
  }

  /// What the heads give, for the tokens `row` or, where that is empty, for all.
  Kept attend(Rows<const T> x, View<const Index, 1> row, Rows<T> attended, Context& ctx) const {
    const Index rows = x.extent(0);
    expect_rows(x,
                {"Attention::forward: x", "Attention::forward: ctx.layout->offset",
                 "Attention::forward: ctx.layout->modality", "Attention::forward: ctx.layout->place"},
                ctx);
    auto projected = ctx.workspace.take<T>(rows, projected_width());
    auto stats = ctx.workspace.take<T>(rows, 2 * options.num_heads);
    Kept kept{};
    kept.qkv = qkv.forward(without_padding<T>(x, ctx), projected, ctx);
    kept.projected = projected;
    kept.stats = stats;
    kept.plan = tokens(rows, ctx);
    norm_queries_and_keys(kept, projected, ctx);
    kept.turning = turning_of(kept.plan, {}, ctx);
    turn(kernels::Turn::there, kept.plan, kept.turning, projected, ctx);
    if (row.size()) kept.plan.query = places(kept.plan, row, ctx);
    kernels::attend<T>(projected, kept.plan, sink, attended, stats, ctx);
    return kept;
  }

  /// Which of its sequence's tokens each row is. // row [B]
  static View<const Index, 1> places(const kernels::AttentionPlan& plan, View<const Index, 1> row, Context& ctx) {
    expect_shape(row, {plan.num_sequences()}, "Attention::infer_at: row");
    auto place = ctx.workspace.take<Index>(row.extent(0));
    for (Index b = 0; b < row.extent(0); ++b) {
      const Index* const begin = plan.row.data() + plan.offset[b];
      const Index* const end = plan.row.data() + plan.offset[b + 1];
      place[b] = std::lower_bound(begin, end, row[b]) - begin;
      if (begin + place[b] == end || begin[place[b]] != row[b])
        throw ShapeError("Attention::infer_at: row " + std::to_string(row[b]) + " is no token of sequence " +
                         std::to_string(b));
    }
    return place;
  }

  /// The tokens of each sequence, padding left out: a copy, so that Saved does not depend on ctx.layout living on.
  kernels::AttentionPlan tokens(Index rows, Context& ctx) const {
    const Index sequences = ctx.layout ? ctx.layout->num_sequences() : 1;
    auto offset = ctx.workspace.take<Index>(sequences + 1);
    auto row = ctx.workspace.take<Index>(rows);
    Index n = 0, i = 0;
    offset[0] = 0;
    for (Index b = 0; b < sequences; ++b) {
      for (const Index end = ctx.layout ? ctx.layout->offset[b + 1] : rows; i < end; ++i)
        if (!ctx.layout || ctx.layout->modality[i] != kPadding) row[n++] = i;
      offset[b + 1] = n;
    }
    return {.offset = offset,
            .row = row.rows(0, n),
            .heads = options.num_heads,
            .mask = options.mask,
            .key_heads = options.num_key_heads,
            .window = options.window,
            .scale = options.scale};
  }

  /// Zeros in the rows that no token has.
  static void clear_padding(const kernels::AttentionPlan& plan, Rows<T> rows) {
    Index n = 0;
    for (Index i = 0; i < rows.extent(0); ++i)
      if (n < plan.row.extent(0) && plan.row[n] == i)
        ++n;
      else
        std::fill_n(rows.data() + i * rows.stride(0), rows.extent(1), T(0));
  }
};

}  // namespace gatefold
