#pragma once
#include "gatefold/module/decode.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/nn/layer_norm.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// y = norm(x + inner(x)): a post-norm residual branch (Vaswani et al. 2017), as in BERT, XLM-R and nomic. Keeps
/// x + inner(x); where the inner layer cannot be trained, nothing.
template <class L, class Norm = LayerNorm<typename L::Scalar>>
struct PostNorm {
  static_assert(ForwardLayer<L>, "PostNorm is around a layer");
  static_assert(ForwardLayer<Norm>, "PostNorm: the norm is a layer");
  using Scalar = typename L::Scalar;
  struct Kept {
    typename L::Saved inner;
    typename Norm::Saved norm;
  };
  static constexpr bool kTrainable = Layer<L>, kMixesRows = MixesRows<L>;
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  L inner;
  Norm norm;

  PostNorm(typename Norm::Options o, L layer) : inner(std::move(layer)), norm(o) {}
  PostNorm(Norm n, L layer) : inner(std::move(layer)), norm(std::move(n)) {}
  static void visit(auto& v, auto&... self) {
    v("inner", self.inner...);
    v("norm", self.norm...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) { v("inner", self.inner, saved.inner...); }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] {
      auto sum = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
      const auto saved_inner = inner.forward(x, sum, ctx);
      kernels::add_rows<Scalar>(x, sum, ctx);
      return Kept{saved_inner, norm.forward(sum, y, ctx)};
    });
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, PostNorm& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    auto dsum = ctx.workspace.template take<Scalar>(dy.extent(0), dy.extent(1));
    norm.backward(saved.norm, dy, dsum, grad.norm, ctx);
    inner.backward(saved.inner, dsum, dx, grad.inner, ctx);
    kernels::add_rows<Scalar>(dsum, dx, ctx);
  }

  template <class F>
  auto cache(const CacheOptions& o) const requires Remembers<L> {
    return make_cache<F>(inner, o);
  }
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache, Context& ctx) const requires Remembers<L> {
    auto sum = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    decode_part(inner, x, sum, cache, ctx);
    kernels::add_rows<Scalar>(x, sum, ctx);
    (void)norm.forward(sum, y, ctx);
  }

  template <class To>
  auto over(const To& to) const requires requires(const L& layer) {
    with_weights(layer, to);
  }
  { return PostNorm<decltype(with_weights(inner, to)), Norm>(norm, with_weights(inner, to)); }
};

}  // namespace gatefold
