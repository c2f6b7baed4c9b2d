#pragma once
#include "gatefold/nn/layer_norm.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/padding.hpp"
#include "gatefold/simd/long_sum.hpp"
#include "gatefold/simd/math.hpp"

namespace gatefold {

/// Multi-head attention pooling (MAP): a learned probe attends to the tokens of each sequence, then y + mlp(norm(y))
/// (Set Transformer, arXiv 1810.00825; as in V-MoE). 4 R D² flops forward for the keys and values.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct AttentionPool {
  using Scalar = T;
  struct Options {
    Index width, num_heads, hidden;
  };
  struct Kept {
    typename Linear<T, W>::Saved query, key_value, out;
    typename LayerNorm<T>::Saved norm;
    typename Mlp<T, Gelu, W>::Saved mlp;
    Rows<const T> q, kv;          // [1, D], [R, 2 D]
    Rows<const T> weight;         // [R, heads] attention of the probe
    View<const Index, 1> offset;  // [B+1]
  };
  static constexpr bool kTrainable = TrainableStorage<W, T>;
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  Tensor<T, 2> probe;  // [1, D]
  Linear<T, W> query, key_value, out;
  LayerNorm<T> norm;
  Mlp<T, Gelu, W> mlp;
  Index num_heads;

  /// Throws OptionError for a size below 1 and a width that is no multiple of num_heads.
  explicit AttentionPool(Options o)
      : probe({1, checked(o).width}),
        query({.in = o.width, .out = o.width}),
        key_value({.in = o.width, .out = 2 * o.width}),
        out({.in = o.width, .out = o.width}),
        norm({.width = o.width}),
        mlp({.width = o.width, .hidden = o.hidden}),
        num_heads(o.num_heads) {}
  static void visit(auto& v, auto&... self) {
    v("probe", self.probe...);
    v("query", self.query...);
    v("key_value", self.key_value...);
    v("out", self.out...);
    v("norm", self.norm...);
    v("mlp", self.mlp...);
  }

  /// Sequences are those of ctx.layout, else all rows are one. // x [R, D], y [B, D]
  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] { return pool(x, y, ctx); });
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, AttentionPool& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    const Index width = probe.extent(1), sequences = dy.extent(0), rows = saved.kv.extent(0);
    auto dnormed = ctx.workspace.take<T>(sequences, width);
    auto dmixed = ctx.workspace.take<T>(sequences, width);
    auto dattended = ctx.workspace.take<T>(sequences, width);
    auto dkv = ctx.workspace.take<T>(rows, 2 * width);
    auto dq_each = ctx.workspace.take_zeroed<T>(sequences, width);
    auto dq = ctx.workspace.take_zeroed<T>(1, width);
    auto dprobe = ctx.workspace.take<T>(1, width);
    expect_shape(grad.probe.view(), probe.shape(), "AttentionPool::backward: grad.probe");
    mlp.backward(saved.mlp, dy, dnormed, grad.mlp, ctx);
    norm.backward(saved.norm, dnormed, dmixed, grad.norm, ctx);
    kernels::add_rows<T>(dy, dmixed, ctx);
    out.backward(saved.out, dmixed, dattended, grad.out, ctx);
    ctx.parallel_for(sequences, [&](Index begin, Index end, Index) {
      for (Index b = begin; b < end; ++b) attend_grad(saved, b, dattended, dkv, dq_each, ctx.isa);
    });
    kernels::add_column_sums<T>(dq_each, View<T, 1>(dq.data(), {width}), ctx);
    key_value.backward(saved.key_value, dkv, dx, grad.key_value, ctx);
    query.backward(saved.query, dq, dprobe, grad.query, ctx);
    kernels::add_rows<T>(dprobe, grad.probe, ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    AttentionPool<T, WeightBy<To, W>> other({.width = probe.extent(1), .num_heads = num_heads, .hidden = mlp.up.out()});
    other.probe = probe;
    other.query = query.over(to);
    other.key_value = key_value.over(to);
    other.out = out.over(to);
    other.norm = norm;
    other.mlp = mlp.over(to);
    return other;
  }

 private:
  static const Options& checked(const Options& o) {
    expect_size("AttentionPool", "width", o.width);
    expect_size("AttentionPool", "num_heads", o.num_heads);
    expect_size("AttentionPool", "hidden", o.hidden);
    if (o.width % o.num_heads)
      throw OptionError("AttentionPool: width " + std::to_string(o.width) + " is not a multiple of num_heads " +
                        std::to_string(o.num_heads));
    return o;
  }

  Kept pool(Rows<const T> x, Rows<T> y, Context& ctx) const {
    const Index width = probe.extent(1), rows = x.extent(0);
    const TokenLayout layout = ctx.layout ? *ctx.layout : one_sequence(rows, ctx.workspace);
    const Index sequences = layout.num_sequences();
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
    Kept saved{};
    saved.query = query.forward(probe, q, ctx);
    saved.key_value = key_value.forward(without_padding<T>(x, ctx), kv, ctx);
    ctx.parallel_for(sequences, [&](Index begin, Index end, Index) {
      for (Index b = begin; b < end; ++b) attend(q, kv, layout, b, weight, attended, ctx.isa);
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

  Index head_width() const { return probe.extent(1) / num_heads; }
  T scale() const { return T(1.0 / std::sqrt(static_cast<double>(head_width()))); }

  static T dot(Isa isa, Index n, const T* a, const T* b) {
    return kernels::simd::sum<T>(
        isa, n, [](auto u, auto v) { return u * v; }, a, b);
  }
  void attend(Rows<const T> q, Rows<const T> kv, const TokenLayout& layout, Index b, Rows<T> weight, Rows<T> attended,
              Isa isa) const {
    const Index width = probe.extent(1), d = head_width(), begin = layout.offset[b], end = layout.offset[b + 1];
    for (Index h = 0; h < num_heads; ++h) {
      T most = T(-std::numeric_limits<double>::infinity());
      kernels::LongSum<T> total;
      for (Index i = begin; i < end; ++i) {
        weight(i, h) = dot(isa, d, &q(0, h * d), &kv(i, h * d)) * scale();
        if (layout.modality[i] != kPadding && most < weight(i, h)) most = weight(i, h);
      }
      for (Index i = begin; i < end; ++i) {
        weight(i, h) = layout.modality[i] == kPadding ? T(0) : kernels::exp(T(weight(i, h) - most));
        total.add(weight(i, h));
      }
      for (Index i = begin; i < end; ++i)
        if (layout.modality[i] != kPadding) weight(i, h) = weight(i, h) / total.value();
      kernels::detail::sum_rows<T>(isa, begin, end, d, &attended(b, h * d), [&](Index i) {
        return [v = &kv(i, width + h * d), w = weight(i, h), padding = layout.modality[i] == kPadding](auto&& load) {
          using V = decltype(load(v));
          return std::array{padding ? V(T(0)) : V(load(v) * w)};
        };
      });
    }
  }

  void attend_grad(const Kept& saved, Index b, Rows<const T> dattended, Rows<T> dkv, Rows<T> dq, Isa isa) const {
    const Index width = probe.extent(1), d = head_width(), begin = saved.offset[b], end = saved.offset[b + 1];
    for (Index h = 0; h < num_heads; ++h) {
      const T* const dout = &dattended(b, h * d);
      // d weight, then d score, until the last loop overwrites it
      const auto dweight = [&](Index i) -> T& { return dkv(i, h * d); };
      kernels::LongSum<T> mean;  // <weight, dweight>
      for (Index i = begin; i < end; ++i) {
        dweight(i) = dot(isa, d, dout, &saved.kv(i, width + h * d));
        mean.add(saved.weight(i, h) * dweight(i));
      }
      for (Index i = begin; i < end; ++i) dweight(i) = scale() * saved.weight(i, h) * (dweight(i) - mean.value());
      kernels::detail::sum_rows<T>(isa, begin, end, d, &dq(b, h * d), [&](Index i) {
        return [k = &saved.kv(i, h * d), dscore = dweight(i)](auto&& load) {
          return std::array{decltype(load(k))(load(k) * dscore)};
        };
      });
      for (Index i = begin; i < end; ++i) {
        const T w = saved.weight(i, h), dscore = dweight(i);
        kernels::simd::transform<T>(
            isa, d, [=](auto v) { return dscore * v; }, &dkv(i, h * d), &saved.q(0, h * d));
        kernels::simd::transform<T>(
            isa, d, [=](auto v) { return w * v; }, &dkv(i, width + h * d), dout);
      }
    }
  }
};

}  // namespace gatefold
