#pragma once
#include "gatefold/nn/attention.hpp"
#include "gatefold/nn/post_norm.hpp"
#include "gatefold/nn/residual.hpp"

namespace gatefold {

/// A transformer block: a branch of attention, then one of a feed-forward net. Each part is open: the net is any layer
/// (an Mlp, a SparseMlp, one of two by depth: OneOf), so is attention, and so is the norm; the order is Residual, norm
/// before each branch, or PostNorm, norm after each sum:
///   EncoderBlock block(PostNorm(norm, attention), PostNorm(norm, mlp));
template <class Ffn, class SelfAttention = Attention<typename Ffn::Scalar>,
          class Norm = LayerNorm<typename Ffn::Scalar>, template <class, class> class Branch = Residual>
struct EncoderBlock {
  static_assert(ForwardLayer<Ffn>, "EncoderBlock: the feed-forward net is a layer");
  static_assert(ForwardLayer<SelfAttention>, "EncoderBlock: attention is a layer");
  using Scalar = typename Ffn::Scalar;
  static constexpr bool kMixesRows = MixesRows<Ffn> || MixesRows<SelfAttention>;
  struct Saved {
    typename Branch<SelfAttention, Norm>::Saved attention;
    typename Branch<Ffn, Norm>::Saved ffn;
  };

  Branch<SelfAttention, Norm> attention;
  Branch<Ffn, Norm> ffn;

  template <class A = SelfAttention>
  EncoderBlock(typename A::Options o, Ffn net)
      : attention({.width = o.width}, SelfAttention(o)), ffn({.width = o.width}, std::move(net)) {}
  /// Not what templates are deduced from: a SparseMlp<R, E> would pass for a branch. That is said below.
  EncoderBlock(std::type_identity_t<Branch<SelfAttention, Norm>> a, std::type_identity_t<Branch<Ffn, Norm>> f)
      : attention(std::move(a)), ffn(std::move(f)) {}
  static void visit(auto& v, auto&... self) {
    v("attention", self.attention...);
    v("ffn", self.ffn...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) {
    v("attention", self.attention, saved.attention...);
    v("ffn", self.ffn, saved.ffn...);
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

  /// Of attention and of the net.
  template <class F>
  auto cache(const CacheOptions& o) const requires Remembers<SelfAttention> || Remembers<Ffn> {
    return std::tuple(make_cache<F>(attention, o), make_cache<F>(ffn, o));
  }
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache,
              Context& ctx) const requires Remembers<SelfAttention> || Remembers<Ffn> {
    auto mid = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    decode_part(attention, x, mid, std::get<0>(cache), ctx);
    decode_part(ffn, mid, y, std::get<1>(cache), ctx);
  }

  template <class To>
  auto over(const To& to) const {
    return EncoderBlock<decltype(with_weights(ffn.inner, to)), decltype(with_weights(attention.inner, to)), Norm,
                        Branch>(with_weights(attention, to), with_weights(ffn, to));
  }
};

template <class A, class F, class N>
EncoderBlock(Residual<A, N>, Residual<F, N>) -> EncoderBlock<F, A, N, Residual>;
template <class A, class F, class N>
EncoderBlock(PostNorm<A, N>, PostNorm<F, N>) -> EncoderBlock<F, A, N, PostNorm>;

}  // namespace gatefold
