#pragma once
#include "gatefold/kernels/softmax.hpp"
#include "gatefold/nn/layer_norm.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/padding.hpp"

namespace gatefold {

/// Multi-head attention pooling (MAP): a learned probe attends to the tokens of each sequence, then y + mlp(norm(y))
/// (Set Transformer, arXiv 1810.00825; as in V-MoE). 4 R D² flops forward for the keys and values.
template <Real T>
struct AttentionPool {
  using Scalar = T;
  struct Options {
    Index width, num_heads, hidden;
  };
  struct Saved {
    typename Linear<T>::Saved query, key_value, out;
    typename LayerNorm<T>::Saved norm;
    typename Mlp<T>::Saved mlp;
    Rows<const T> q, kv;          // [1, D], [R, 2 D]
    Rows<const T> weight;         // [R, heads] attention of the probe
    View<const Index, 1> offset;  // [B+1]
  };

  Tensor<T, 2> probe;  // [1, D]
  Linear<T> query, key_value, out;
  LayerNorm<T> norm;
  Mlp<T> mlp;
  Index num_heads;

  explicit AttentionPool(Options o)
      : probe({1, o.width}),
        query({.in = o.width, .out = o.width}),
        key_value({.in = o.width, .out = 2 * o.width}),
        out({.in = o.width, .out = o.width}),
        norm({.width = o.width}),
        mlp({.width = o.width, .hidden = o.hidden}),
        num_heads(o.num_heads) {
    expect_option(o.num_heads > 0 && o.width % o.num_heads == 0, "AttentionPool: width " + std::to_string(o.width) +
                                                                     " is not a multiple of num_heads " +
                                                                     std::to_string(o.num_heads));
  }
  static void visit(auto& v, auto&... self) {
    v("probe", self.probe...);
    v("query", self.query...);
    v("key_value", self.key_value...);
    v("out", self.out...);
    v("norm", self.norm...);
    v("mlp", self.mlp...);
  }

  /// x [R, D], y [B, D]; needs ctx.layout.
  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    if (!ctx.layout) throw ShapeError("AttentionPool::forward: ctx.layout is null, expected the sequences of x");
    const TokenLayout& layout = *ctx.layout;
    const Index width = probe.extent(1), sequences = layout.num_sequences(), rows = x.extent(0);
    expect_sequences(layout.offset, rows, "AttentionPool::forward: ctx.layout->offset");
    expect_shape(layout.modality, {rows}, "AttentionPool::forward: ctx.layout->modality");
    expect_shape(y, {sequences, width}, "AttentionPool::forward: y");
    auto q = ctx.workspace.take<T>(1, width);
    auto kv = ctx.workspace.take<T>(rows, 2 * width);
    auto weight = ctx.workspace.take<T>(rows, num_heads);
    auto offset = ctx.workspace.take<Index>(sequences + 1);
    auto attended = ctx.workspace.take<T>(sequences, width);
    auto mixed = ctx.workspace.take<T>(sequences, width);
    auto normed = ctx.workspace.take<T>(sequences, width);
    std::copy_n(layout.offset.data(), sequences + 1, offset.data());
    Saved saved{};
    saved.query = query.forward(probe, q, ctx);
    saved.key_value = key_value.forward(without_padding<T>(x, ctx), kv, ctx);
    ctx.parallel_for(sequences, [&](Index begin, Index end, Index) {
      for (Index b = begin; b < end; ++b) attend(q, kv, layout, b, weight, attended);
    });
    saved.out = out.forward(attended, mixed, ctx);
    saved.norm = norm.forward(mixed, normed, ctx);
    saved.mlp = mlp.forward(normed, y, ctx);
    kernels::add_rows<T>(mixed, y, ctx);
    saved.q = q;
    saved.kv = kv;
    saved.weight = weight;
    saved.offset = offset;
    return saved;
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, AttentionPool& grad, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const Index width = probe.extent(1), sequences = dy.extent(0), rows = saved.kv.extent(0);
    auto dnormed = ctx.workspace.take<T>(sequences, width);
    auto dmixed = ctx.workspace.take<T>(sequences, width);
    auto dattended = ctx.workspace.take<T>(sequences, width);
    auto dkv = ctx.workspace.take<T>(rows, 2 * width);
    auto dq_each = ctx.workspace.take_zeroed<T>(sequences, width);
    auto dq = ctx.workspace.take_zeroed<T>(1, width);
    auto dprobe = ctx.workspace.take<T>(1, width);
    mlp.backward(saved.mlp, dy, dnormed, grad.mlp, ctx);
    norm.backward(saved.norm, dnormed, dmixed, grad.norm, ctx);
    kernels::add_rows<T>(dy, dmixed, ctx);
    out.backward(saved.out, dmixed, dattended, grad.out, ctx);
    ctx.parallel_for(sequences, [&](Index begin, Index end, Index) {
      for (Index b = begin; b < end; ++b) attend_grad(saved, b, dattended, dkv, dq_each);
    });
    kernels::add_column_sums<T>(dq_each, View<T, 1>(dq.data(), {width}), ctx);
    key_value.backward(saved.key_value, dkv, dx, grad.key_value, ctx);
    query.backward(saved.query, dq, dprobe, grad.query, ctx);
    kernels::add_rows<T>(dprobe, grad.probe, ctx);
  }

 private:
  void attend(Rows<const T> q, Rows<const T> kv, const TokenLayout& layout, Index b, Rows<T> weight,
              Rows<T> attended) const {
    using std::exp;
    const Index width = probe.extent(1), d = width / num_heads;
    const T scale = T(1.0 / std::sqrt(static_cast<double>(d)));
    for (Index h = 0; h < num_heads; ++h) {
      T most = T(-std::numeric_limits<double>::infinity()), total(0);
      for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i) {
        T score(0);
        for (Index j = h * d; j < (h + 1) * d; ++j) score = score + q(0, j) * kv(i, j);
        weight(i, h) = score * scale;
        if (layout.modality[i] != kPadding && most < weight(i, h)) most = weight(i, h);
      }
      for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i) {
        weight(i, h) = layout.modality[i] == kPadding ? T(0) : exp(weight(i, h) - most);
        total = total + weight(i, h);
      }
      for (Index j = h * d; j < (h + 1) * d; ++j) attended(b, j) = T(0);
      for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i) {
        if (layout.modality[i] == kPadding) continue;
        weight(i, h) = weight(i, h) / total;
        for (Index j = h * d; j < (h + 1) * d; ++j) attended(b, j) = attended(b, j) + weight(i, h) * kv(i, width + j);
      }
    }
  }

  void attend_grad(const Saved& saved, Index b, Rows<const T> dattended, Rows<T> dkv, Rows<T> dq) const {
    const Index width = probe.extent(1), d = width / num_heads;
    const T scale = T(1.0 / std::sqrt(static_cast<double>(d)));
    for (Index h = 0; h < num_heads; ++h) {
      T mean(0);  // <weight, dweight>
      for (Index i = saved.offset[b]; i < saved.offset[b + 1]; ++i)
        mean = mean + saved.weight(i, h) * score_grad(saved, dattended, b, i, h);
      for (Index i = saved.offset[b]; i < saved.offset[b + 1]; ++i) {
        const T w = saved.weight(i, h);
        const T dscore = scale * w * (score_grad(saved, dattended, b, i, h) - mean);
        for (Index j = h * d; j < (h + 1) * d; ++j) {
          dkv(i, j) = dscore * saved.q(0, j);
          dkv(i, width + j) = w * dattended(b, j);
          dq(b, j) = dq(b, j) + dscore * saved.kv(i, j);
        }
      }
    }
  }
  T score_grad(const Saved& saved, Rows<const T> dattended, Index b, Index i, Index h) const {
    const Index width = probe.extent(1), d = width / num_heads;
    T dot(0);
    for (Index j = h * d; j < (h + 1) * d; ++j) dot = dot + dattended(b, j) * saved.kv(i, width + j);
    return dot;
  }
};
static_assert(Module<AttentionPool<float>>);

}  // namespace gatefold
