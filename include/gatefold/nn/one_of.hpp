#pragma once
#include <variant>

#include "gatefold/module/decode.hpp"
#include "gatefold/module/pack.hpp"

namespace gatefold {

/// One of two layers, chosen when the model is built: dense or sparse, block by block.
template <class A, class B>
struct OneOf {
  static_assert(ForwardLayer<A> && ForwardLayer<B>, "OneOf is one of two layers");
  static_assert(std::same_as<typename A::Scalar, typename B::Scalar>, "OneOf: two layers of one scalar");
  using Scalar = typename A::Scalar;
  static constexpr bool kMixesRows = MixesRows<A> || MixesRows<B>;
  /// Both kinds of Saved are plain views, so a pair is as good as a variant and trivially destructible.
  struct Saved {
    typename A::Saved a;
    typename B::Saved b;
  };

  std::variant<A, B> layer;

  explicit OneOf(A a) : layer(std::move(a)) {}
  explicit OneOf(B b) : layer(std::move(b)) {}
  static void visit(auto& v, auto& first, auto&... rest) {
    if (((rest.layer.index() != first.layer.index()) || ...))
      throw std::invalid_argument("OneOf: the modules visited together differ in their choice");
    if (first.layer.index() == 0)
      A::visit(v, std::get<0>(first.layer), std::get<0>(rest.layer)...);
    else
      B::visit(v, std::get<1>(first.layer), std::get<1>(rest.layer)...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) {
    if (self.layer.index() == 0)
      v("", std::get<0>(self.layer), saved.a...);
    else
      v("", std::get<1>(self.layer), saved.b...);
  }

  Index out() const requires SaysWidth<A> && SaysWidth<B> {
    return std::visit([](const auto& chosen) { return chosen.out(); }, layer);
  }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    Saved saved{};
    if (const A* a = std::get_if<A>(&layer))
      saved.a = a->forward(x, y, ctx);
    else
      saved.b = std::get<B>(layer).forward(x, y, ctx);
    return saved;
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, OneOf& grad,
                Context& ctx) const requires Layer<A> && Layer<B> {
    if (const A* a = std::get_if<A>(&layer))
      a->backward(saved.a, dy, dx, std::get<A>(grad.layer), ctx);
    else
      std::get<B>(layer).backward(saved.b, dy, dx, std::get<B>(grad.layer), ctx);
  }

  /// The cache of the one that is chosen.
  template <class F>
  auto cache(const CacheOptions& o) const requires(Remembers<A> || Remembers<B>) {
    using Cache = std::variant<CacheOf<F, A>, CacheOf<F, B>>;
    if (const A* a = std::get_if<A>(&layer)) return Cache(std::in_place_index<0>, make_cache<F>(*a, o));
    return Cache(std::in_place_index<1>, make_cache<F>(std::get<B>(layer), o));
  }
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache, Context& ctx) const
      requires(Remembers<A> || Remembers<B>) {
    if (const A* a = std::get_if<A>(&layer))
      decode_part(*a, x, y, std::get<0>(cache), ctx);
    else
      decode_part(std::get<B>(layer), x, y, std::get<1>(cache), ctx);
  }

  template <class To>
  auto over(const To& to) const {
    using Other = OneOf<decltype(with_weights(std::get<0>(layer), to)), decltype(with_weights(std::get<1>(layer), to))>;
    return std::visit([&](const auto& chosen) { return Other(with_weights(chosen, to)); }, layer);
  }
};

}  // namespace gatefold
