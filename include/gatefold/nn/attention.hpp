#pragma once
#include "gatefold/kernels/softmax.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/nn/padding.hpp"

namespace gatefold {

/// Multi-head self-attention within each sequence of ctx.layout (Vaswani et al. 2017). A padding row is attended to by
/// nobody and gets 0 before the output projection; with Mask::causal a token sees itself and what is before it.
/// 8 R D² + 4 R T D flops forward. Keeps q, k, v, the attention maps [H, T, T] of each sequence and their output.
template <Real T>
struct Attention {
  using Scalar = T;
  enum class Mask { none, causal };
  struct Options {
    Index width, num_heads;
    Mask mask = Mask::none;
  };
  struct Saved {
    typename Linear<T>::Saved qkv, out;
    Rows<const T> projected;               // [R, 3 D]: q | k | v
    View<T, 1> maps;                       // all attention maps, sequence by sequence, head by head
    View<const Index, 1> offset;           // [B+1] rows of each sequence
    View<const Index, 1> map_at;           // [B] where its maps begin
    View<const std::uint8_t, 1> modality;  // [R] or empty
    Index longest;
  };

  Linear<T> qkv, out;
  Index num_heads;
  Mask mask;

  explicit Attention(Options o)
      : qkv({.in = o.width, .out = 3 * o.width}),
        out({.in = o.width, .out = o.width}),
        num_heads(o.num_heads),
        mask(o.mask) {
    expect_option(o.num_heads > 0 && o.width % o.num_heads == 0, "Attention: width " + std::to_string(o.width) +
                                                                     " is not a multiple of num_heads " +
                                                                     std::to_string(o.num_heads));
  }
  static void visit(auto& v, auto&... self) {
    v("qkv", self.qkv...);
    v("out", self.out...);
  }

  Index width() const { return out.in(); }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(x, {x.extent(0), width()}, "Attention::forward: x");
    if (ctx.layout) {
      expect_sequences(ctx.layout->offset, x.extent(0), "Attention::forward: ctx.layout->offset");
      expect_shape(ctx.layout->modality, {x.extent(0)}, "Attention::forward: ctx.layout->modality");
    }
    auto projected = ctx.workspace.take<T>(x.extent(0), 3 * width());
    auto attended = ctx.workspace.take<T>(x.extent(0), width());
    Saved saved{.qkv = qkv.forward(without_padding<T>(x, ctx), projected, ctx),
                .out = {},
                .projected = projected,
                .maps = {},
                .offset = {},
                .map_at = {},
                .modality = {},
                .longest = 0};
    lay_out(x.extent(0), saved, ctx);
    attend(saved, attended, ctx);
    clear_padding(saved, attended);
    saved.out = out.forward(attended, y, ctx);
    return saved;
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Attention& grad, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    auto dattended = ctx.workspace.take<T>(dy.extent(0), width());
    auto dprojected = ctx.workspace.take<T>(dy.extent(0), 3 * width());
    out.backward(saved.out, dy, dattended, grad.out, ctx);
    clear_padding(saved, dattended);
    attend_grad(saved, dattended, dprojected, ctx);
    qkv.backward(saved.qkv, dprojected, dx, grad.qkv, ctx);
  }

 private:
  Index head_width() const { return width() / num_heads; }
  T scale() const { return T(1.0 / std::sqrt(static_cast<double>(head_width()))); }

  /// Copies what it needs of the layout, so that Saved does not depend on ctx.layout living on (its modalities must).
  void lay_out(Index rows, Saved& saved, Context& ctx) const {
    const Index sequences = ctx.layout ? ctx.layout->num_sequences() : 1;
    auto offset = ctx.workspace.take<Index>(sequences + 1);
    auto map_at = ctx.workspace.take<Index>(sequences);
    offset[0] = 0;
    Index at = 0;
    for (Index b = 0; b < sequences; ++b) {
      offset[b + 1] = ctx.layout ? ctx.layout->offset[b + 1] : rows;
      const Index length = offset[b + 1] - offset[b];
      map_at[b] = at;
      at += num_heads * length * length;
      saved.longest = std::max(saved.longest, length);
    }
    saved.offset = offset;
    saved.map_at = map_at;
    saved.maps = ctx.workspace.take<T>(at);
    if (ctx.layout) saved.modality = ctx.layout->modality;
  }

  struct Task {
    Index begin, length;  // rows of the sequence
    Index column;         // first column of the head
    Rows<T> map;          // [T, T]
  };
  Task task(const Saved& saved, Index i) const {
    const Index b = i / num_heads, h = i % num_heads, begin = saved.offset[b], t = saved.offset[b + 1] - begin;
    T* const map = saved.maps.data() + saved.map_at[b] + h * t * t;
    return {begin, t, h * head_width(), Rows<T>(map, {t, t})};
  }
  bool is_padding(const Saved& saved, Index row) const {
    return saved.modality.extent(0) > 0 && saved.modality[row] == kPadding;
  }
  /// q (0), k (1) or v (2) of one head of one sequence. // [T, D / heads]
  template <class U>
  Rows<U> part(Rows<U> projected, const Task& t, Index which) const {
    const Index column = which * width() + t.column;
    return projected.rows(t.begin, t.begin + t.length).columns(column, column + head_width());
  }

  void attend(const Saved& saved, Rows<T> attended, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const Index t_max = saved.longest, d = head_width();
    const Index scratch_size =
        std::max(kernels::serial_scratch<T>(t_max, d), kernels::serial_scratch<T>(d, t_max)) + 16;
    auto scratch = ctx.workspace.take<T>(ctx.parallel_for.workers(), scratch_size);
    ctx.parallel_for((saved.offset.extent(0) - 1) * num_heads, [&](Index begin, Index end, Index worker) {
      for (Index i = begin; i < end; ++i) {
        const Task t = task(saved, i);
        const auto q = part(saved.projected, t, 0), k = part(saved.projected, t, 1), v = part(saved.projected, t, 2);
        T* const own = &scratch(worker, 0);
        kernels::multiply_serial<T>(q, transpose(kernels::Operand<T>(k)), t.map, kernels::Store::overwrite, ctx.isa,
                                    own);
        for (Index row = 0; row < t.length; ++row) softmax_masked(saved, t, row, ctx.isa);
        const auto to = attended.rows(t.begin, t.begin + t.length).columns(t.column, t.column + d);
        if (mask == Mask::none || all_finite(v)) {
          kernels::multiply_serial<T>(Rows<const T>(t.map), v, to, kernels::Store::overwrite, ctx.isa, own);
        } else {  // 0 times what a row must not see need not be 0
          for (Index row = 0; row < t.length; ++row)
            kernels::multiply_serial<T>(Rows<const T>(t.map).rows(row, row + 1).columns(0, row + 1), v.rows(0, row + 1),
                                        to.rows(row, row + 1), kernels::Store::overwrite, ctx.isa, own);
        }
      }
    });
  }

  static bool all_finite(Rows<const T> rows) {
    bool finite = true;
    for (Index i = 0; i < rows.extent(0); ++i)
      for (Index j = 0; j < rows.extent(1); ++j) finite &= rows(i, j) - rows(i, j) == T(0);
    return finite;
  }

  void softmax_masked(const Saved& saved, const Task& t, Index row, Isa isa) const {
    T* const map = &t.map(row, 0);
    const Index seen = mask == Mask::causal ? row + 1 : t.length;
    for (Index j = 0; j < t.length; ++j)
      if (j >= seen || is_padding(saved, t.begin + j)) map[j] = T(-std::numeric_limits<double>::infinity());
    kernels::softmax_row<T>(isa, t.length, scale(), map, map);
  }

  /// Zeros in the rows of padding: 0 times whatever stood there need not be 0.
  void clear_padding(const Saved& saved, Rows<T> rows) const {
    for (Index i = 0; i < saved.modality.extent(0); ++i)
      if (is_padding(saved, i)) std::fill_n(rows.data() + i * rows.stride(0), rows.extent(1), T(0));
  }

  void attend_grad(const Saved& saved, Rows<const T> dattended, Rows<T> dprojected, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const Index t_max = saved.longest, d = head_width(), workers = ctx.parallel_for.workers();
    const Index scratch_size =
        std::max(kernels::serial_scratch<T>(t_max, d), kernels::serial_scratch<T>(d, t_max)) + 16;
    auto scratch = ctx.workspace.take<T>(workers, scratch_size);
    auto dmaps = ctx.workspace.take<T>(workers, t_max * t_max);
    ctx.parallel_for((saved.offset.extent(0) - 1) * num_heads, [&](Index begin, Index end, Index worker) {
      for (Index i = begin; i < end; ++i) {
        const Task t = task(saved, i);
        const auto q = part(saved.projected, t, 0), k = part(saved.projected, t, 1), v = part(saved.projected, t, 2);
        const auto dq = part(dprojected, t, 0), dk = part(dprojected, t, 1), dv = part(dprojected, t, 2);
        const auto dout = dattended.rows(t.begin, t.begin + t.length).columns(t.column, t.column + d);
        const Rows<const T> map = t.map;
        const Rows<T> dmap(dmaps.data() + worker * dmaps.stride(0), {t.length, t.length});
        T* const own = &scratch(worker, 0);
        using kernels::multiply_serial, kernels::Operand, kernels::Store;
        multiply_serial<T>(dout, transpose(Operand<T>(v)), dmap, Store::overwrite, ctx.isa, own);
        multiply_serial<T>(transpose(Operand<T>(map)), dout, dv, Store::overwrite, ctx.isa, own);
        for (Index row = 0; row < t.length; ++row)
          kernels::softmax_row_grad<T>(ctx.isa, t.length, scale(), &map(row, 0), &dmap(row, 0), &dmap(row, 0));
        multiply_serial<T>(Rows<const T>(dmap), k, dq, Store::overwrite, ctx.isa, own);
        multiply_serial<T>(transpose(Operand<T>(dmap)), q, dk, Store::overwrite, ctx.isa, own);
      }
    });
  }
};
static_assert(Layer<Attention<float>>);

}  // namespace gatefold
