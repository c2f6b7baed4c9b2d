#pragma once
#include "gatefold/kernels/attention.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/nn/padding.hpp"
#include "gatefold/nn/pool.hpp"

namespace gatefold {

/// Multi-head self-attention within each sequence of ctx.layout (Vaswani et al. 2017). A padding row is attended to by
/// nobody and gets 0 before the output projection; with Mask::causal a token sees itself and what is before it.
/// 8 R D² + 4 R T D flops forward. Keeps q, k, v, two numbers per token and head, and what the heads give: no [T, T];
/// over weights that cannot be trained it keeps nothing.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct Attention {
  using Scalar = T;
  using Mask = kernels::AttentionMask;
  struct Options {
    Index width, num_heads;
    Mask mask = Mask::none;
  };
  struct Kept {
    typename Linear<T, W>::Saved qkv, out;
    Rows<const T> projected;      // [R, 3 D]: q | k | v
    Rows<const T> stats;          // [R, 2 heads]
    kernels::AttentionPlan plan;  // its rows are the tokens
  };
  static constexpr bool kTrainable = TrainableStorage<W, T>;
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  Linear<T, W> qkv, out;
  Index num_heads;
  Mask mask;

  /// Throws OptionError for a size below 1 and a width that is no multiple of num_heads.
  explicit Attention(Options o)
      : qkv({.in = checked(o).width, .out = 3 * o.width}),
        out({.in = o.width, .out = o.width}),
        num_heads(o.num_heads),
        mask(o.mask) {}
  static void visit(auto& v, auto&... self) {
    v("qkv", self.qkv...);
    v("out", self.out...);
  }

  Index width() const { return out.in(); }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] {
      auto attended = ctx.workspace.take<T>(x.extent(0), width());
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
    auto attended = ctx.workspace.take<T>(x.extent(0), width());
    auto chosen = ctx.workspace.take<T>(row.extent(0), width());
    (void)attend(x, row, attended, ctx);
    pool_at<T>(attended, row, chosen, ctx);
    (void)out.forward(chosen, y, ctx);
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Attention& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    auto dattended = ctx.workspace.take<T>(dy.extent(0), width());
    auto dprojected = ctx.workspace.take<T>(dy.extent(0), 3 * width());
    out.backward(saved.out, dy, dattended, grad.out, ctx);
    clear_padding(saved.plan, dprojected);
    kernels::attend_grad<T>(saved.projected, saved.plan, saved.stats, dattended, dprojected, ctx);
    qkv.backward(saved.qkv, dprojected, dx, grad.qkv, ctx);
  }

  template <PackedAs<T> F>
  Attention<T, StorageOf<F>> packed() const requires kTrainable {
    Attention<T, StorageOf<F>> other({.width = width(), .num_heads = num_heads, .mask = mask});
    other.qkv = pack<F>(qkv);
    other.out = pack<F>(out);
    return other;
  }

 private:
  static const Options& checked(const Options& o) {
    expect_size("Attention", "width", o.width);
    expect_size("Attention", "num_heads", o.num_heads);
    if (o.width % o.num_heads)
      throw OptionError("Attention: width " + std::to_string(o.width) + " is not a multiple of num_heads " +
                        std::to_string(o.num_heads));
    return o;
  }

  /// What the heads give, for the tokens `row` or, where that is empty, for all.
  Kept attend(Rows<const T> x, View<const Index, 1> row, Rows<T> attended, Context& ctx) const {
    const Index rows = x.extent(0);
    expect_shape(x, {rows, width()}, "Attention::forward: x");
    if (ctx.layout) {
      expect_sequences(ctx.layout->offset, rows, "Attention::forward: ctx.layout->offset");
      expect_shape(ctx.layout->modality, {rows}, "Attention::forward: ctx.layout->modality");
    }
    auto projected = ctx.workspace.take<T>(rows, 3 * width());
    auto stats = ctx.workspace.take<T>(rows, 2 * num_heads);
    Kept kept{.qkv = qkv.forward(without_padding<T>(x, ctx), projected, ctx),
              .out = {},
              .projected = projected,
              .stats = stats,
              .plan = tokens(rows, ctx)};
    if (row.size()) kept.plan.query = places(kept.plan, row, ctx);
    kernels::attend<T>(projected, kept.plan, attended, stats, ctx);
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
    return {.offset = offset, .row = row.rows(0, n), .heads = num_heads, .mask = mask};
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
