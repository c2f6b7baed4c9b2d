#pragma once
#include <tuple>

#include "gatefold/module/decode.hpp"
#include "gatefold/module/pack.hpp"

namespace gatefold {

/// One layer after the other: y = c(b(a(x))), of any number and of any widths (out_width). Parameters are named by
/// number: "0.weight". Keeps what passes from layer to layer; where one of them cannot be trained, nothing.
template <class... L>
struct Sequence {
  static_assert(sizeof...(L) > 0 && (ForwardLayer<L> && ...), "Sequence is of layers");
  using Scalar = typename std::tuple_element_t<0, std::tuple<L...>>::Scalar;
  static_assert((std::same_as<typename L::Scalar, Scalar> && ...), "Sequence: layers of one scalar");
  static constexpr bool kTrainable = (Layer<L> && ...), kMixesRows = (MixesRows<L> || ...);
  using Kept = std::tuple<typename L::Saved...>;
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  std::tuple<L...> layers;

  explicit Sequence(L... each) : layers(std::move(each)...) {}
  static void visit(auto& v, auto&... self) {
    const auto field = [&]<std::size_t i>(std::integral_constant<std::size_t, i>) {
      v(std::to_string(i), std::get<i>(self.layers)...);
    };
    [&]<std::size_t... i>(std::index_sequence<i...>) { (field(std::integral_constant<std::size_t, i>{}), ...); }
    (std::index_sequence_for<L...>{});
  }

  static void visit_layers(auto& v, auto& self, auto&... saved) {
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      const auto layer = [&]<std::size_t at>(std::integral_constant<std::size_t, at>) {
        v(std::to_string(at), std::get<at>(self.layers), std::get<at>(saved)...);
      };
      (layer(std::integral_constant<std::size_t, i>{}), ...);
    }
    (std::index_sequence_for<L...>{});
  }

  /// Of the last layer that says so, since those behind it keep its width.
  Index out() const requires(SaysWidth<L> || ...) {
    Index width = 0;
    std::apply([&](const auto&... layer) { ((width = out_width(layer, width)), ...); }, layers);
    return width;
  }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] {
      Kept kept;
      forward_from<0>(kept, x, y, ctx);
      return kept;
    });
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, Sequence& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    backward_from<0>(saved, dy, dx, grad, ctx);
  }

  /// One cache for each layer, Nothing for those that need none.
  template <class F>
  auto cache(const CacheOptions& o) const requires(Remembers<L> || ...) {
    return std::apply([&](const auto&... layer) { return std::tuple(make_cache<F>(layer, o)...); }, layers);
  }
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache, Context& ctx) const requires(Remembers<L> || ...) {
    decode_from<0>(cache, x, y, ctx);
  }

  /// Layers without weights, norms say, stay as they are.
  template <class To>
  auto over(const To& to) const {
    return std::apply(
        [&](const auto&... layer) {
          return Sequence<decltype(with_weights_if_any(layer, to))...>(with_weights_if_any(layer, to)...);
        },
        layers);
  }

 private:
  template <std::size_t i>
  void forward_from(Kept& kept, Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    const auto& layer = std::get<i>(layers);
    if constexpr (i + 1 == sizeof...(L)) {
      std::get<i>(kept) = layer.forward(x, y, ctx);
    } else {
      auto next = ctx.workspace.template take<Scalar>(x.extent(0), out_width(layer, x.extent(1)));
      std::get<i>(kept) = layer.forward(x, next, ctx);
      forward_from<i + 1>(kept, next, y, ctx);
    }
  }

  template <std::size_t i>
  void decode_from(auto& cache, Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    const auto& layer = std::get<i>(layers);
    if constexpr (i + 1 == sizeof...(L)) {
      decode_part(layer, x, y, std::get<i>(cache), ctx);
    } else {
      auto next = ctx.workspace.template take<Scalar>(x.extent(0), out_width(layer, x.extent(1)));
      decode_part(layer, x, next, std::get<i>(cache), ctx);
      decode_from<i + 1>(cache, next, y, ctx);
    }
  }

  template <std::size_t i>
  void backward_from(const Kept& kept, Rows<const Scalar> dy, Rows<Scalar> dx, Sequence& grad, Context& ctx) const {
    const auto& layer = std::get<i>(layers);
    if constexpr (i + 1 == sizeof...(L)) {
      layer.backward(std::get<i>(kept), dy, dx, std::get<i>(grad.layers), ctx);
    } else {
      auto dnext = ctx.workspace.template take<Scalar>(dy.extent(0), out_width(layer, dx.extent(1)));
      backward_from<i + 1>(kept, dy, dnext, grad, ctx);
      layer.backward(std::get<i>(kept), dnext, dx, std::get<i>(grad.layers), ctx);
    }
  }
};

}  // namespace gatefold
