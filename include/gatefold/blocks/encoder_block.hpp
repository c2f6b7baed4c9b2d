#pragma once
#include "gatefold/nn/attention.hpp"
#include "gatefold/nn/residual.hpp"

namespace gatefold {

/// A pre-norm transformer block: x + attention(norm(x)), then x + ffn(norm(x)). The feed-forward net is any layer: an
/// Mlp, a SparseMlp, or one of the two chosen by depth (OneOf). W is what attention keeps its weights in.
template <class Ffn, class W = Tensor<typename Ffn::Scalar, 2>>
struct EncoderBlock {
  static_assert(ForwardLayer<Ffn>, "EncoderBlock: the feed-forward net is a layer");
  static_assert(WeightStorage<W, typename Ffn::Scalar>, "EncoderBlock: W is what attention keeps its weights in");
  using Scalar = typename Ffn::Scalar;
  using SelfAttention = Attention<Scalar, W>;
  struct Options {
    Index width, num_heads;
    typename SelfAttention::Mask mask = SelfAttention::Mask::none;
  };
  struct Saved {
    typename Residual<SelfAttention>::Saved attention;
    typename Residual<Ffn>::Saved ffn;
  };

  Residual<SelfAttention> attention;
  Residual<Ffn> ffn;

  EncoderBlock(Options o, Ffn net)
      : attention({.width = o.width}, SelfAttention({.width = o.width, .num_heads = o.num_heads, .mask = o.mask})),
        ffn({.width = o.width}, std::move(net)) {}
  static void visit(auto& v, auto&... self) {
    v("attention", self.attention...);
    v("ffn", self.ffn...);
  }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    auto mid = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    const auto saved_attention = attention.forward(x, mid, ctx);
    return {saved_attention, ffn.forward(mid, y, ctx)};
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, EncoderBlock& grad,
                Context& ctx) const requires Layer<Ffn> && Layer<SelfAttention> {
    const auto scope = ctx.workspace.scope();
    auto dmid = ctx.workspace.template take<Scalar>(dy.extent(0), dy.extent(1));
    ffn.backward(saved.ffn, dy, dmid, grad.ffn, ctx);
    attention.backward(saved.attention, dmid, dx, grad.attention, ctx);
  }

  template <class F>
  auto packed() const {
    EncoderBlock<decltype(pack<F>(ffn.inner)), StorageOf<F>> other(
        {.width = attention.inner.width(), .num_heads = attention.inner.num_heads, .mask = attention.inner.mask},
        pack<F>(ffn.inner));
    other.attention = pack<F>(attention);
    other.ffn.norm = ffn.norm;
    return other;
  }
};

}  // namespace gatefold
