#pragma once
#include <algorithm>
#include <initializer_list>

#include "gatefold/core/context.hpp"
#include "gatefold/core/error.hpp"
#include "gatefold/core/scalar.hpp"
#include "gatefold/module/visit.hpp"

namespace gatefold {

namespace detail {
struct AnyVisitor {
  void operator()(std::string_view, auto&...) const {}
};
}  // namespace detail

/// A value whose fields are its parameters (maybe none).
template <class M>
concept Module = std::copyable<M> && requires(M& module, detail::AnyVisitor visitor) {
  M::visit(visitor, module);
};

/// y = f(x), rows to rows of the same or another width. `forward` never changes the layer and returns what `backward`
/// needs, Saved: views into the workspace, valid while the scope around the call lives, and the caller's x itself, not
/// a copy. So until backward
///   - x stays as it is (of an Embedding, its ids): a buffer refilled in between gives wrong gradients without a word;
///   - the layer keeps its parameters, and the workspace the scope;
///   - ctx.layout may go: what backward needs of it is kept (`keep_layout`).
/// y must not overlap x, nor dx overlap dy.
template <class L>
concept ForwardLayer = Module<L> &&
    requires(const L& layer, Rows<const typename L::Scalar> x, Rows<typename L::Scalar> y, Context& ctx) {
  typename L::Saved;
  { layer.forward(x, y, ctx) } -> std::same_as<typename L::Saved>;
};

/// A layer that can be trained: `backward` overwrites dx and adds to the parameters of `grad`, a second value of the
/// layer's own type.
template <class L>
concept Layer = ForwardLayer<L> && std::is_trivially_destructible_v<typename L::Saved> &&
    requires(const L& layer, L& grad, const typename L::Saved& saved, Rows<const typename L::Scalar> dy,
             Rows<typename L::Scalar> dx, Context& ctx) {
  { layer.backward(saved, dy, dx, grad, ctx) } -> std::same_as<void>;
};

/// A layer whose rows come out wider or narrower than they go in says how wide by `out()`; others need not.
template <class L>
concept SaysWidth = requires(const L& layer) {
  { layer.out() } -> std::convertible_to<Index>;
};

/// Columns of what a layer makes of rows of `in` columns.
template <class L>
Index out_width(const L& layer, Index in) {
  if constexpr (SaysWidth<L>)
    return layer.out();
  else
    return in;
}

/// Any layer can be an expert; nothing in it knows of routing.
template <class E>
concept Expert = Layer<E>;

namespace detail {
/// Whether a tensor that may be empty is there, in all of the modules visited together.
[[gnu::noinline]] inline bool all_have_sizes(std::string_view what, std::initializer_list<Index> sizes) {
  const auto empty = std::ranges::count(sizes, Index{0});
  if (empty != 0 && empty != std::ssize(sizes))
    throw std::invalid_argument("only some of the modules visited together have a " + std::string(what));
  return empty == 0;
}
bool all_have(std::string_view what, auto... sizes) { return all_have_sizes(what, {sizes...}); }
}  // namespace detail

/// What a layer that cannot be trained keeps of a pass.
struct Nothing {};

/// The Saved of a pass: what it returns or, where a layer keeps Nothing, nothing: its scratch goes back at once.
template <class Saved, class Pass>
Saved keep(Context& ctx, Pass&& pass) {
  if constexpr (std::is_same_v<Saved, Nothing>) {
    const auto scope = ctx.workspace.scope();
    (void)pass();
    return {};
  } else {
    return pass();
  }
}

/// ctx.layout as a Saved may refer to it: a copy that lives as long as the scope around the pass. Null stays null.
inline const TokenLayout* keep_layout(Context& ctx) {
  if (!ctx.layout) return nullptr;
  const auto copy = [&]<class T>(View<const T, 1> from) {
    auto to = ctx.workspace.take<T>(from.extent(0));
    std::copy_n(from.data(), from.extent(0), to.data());
    return to;
  };
  auto kept = ctx.workspace.take<TokenLayout>(1);
  kept[0] = {.offset = copy(ctx.layout->offset),
             .modality = copy(ctx.layout->modality),
             .num_modalities = ctx.layout->num_modalities,
             .place = copy(ctx.layout->place)};
  return kept.data();
}

/// forward without backward: scratch and Saved go back at once.
template <ForwardLayer L>
void infer(const L& layer, Rows<const typename L::Scalar> x, Rows<typename L::Scalar> y, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  (void)layer.forward(x, y, ctx);
}

}  // namespace gatefold
