#pragma once
#include <string>

#include "gatefold/module/module.hpp"

/// The sparse layers of a model, wherever they are. A layer around other layers lists them once, as `visit` lists
/// parameters: static void visit_layers(auto& v, auto& self, auto&... saved) { v("inner", self.inner, saved.inner...);
/// }
namespace gatefold {

/// A layer that routes and says what its routing is penalised by: a SparseMlp, a MixtureOfDepths.
template <class L>
concept RoutedLayer = requires(const L& layer, const typename L::Saved& saved, Context& ctx) {
  layer.router;
  layer.aux_loss(saved, ctx);
};
/// One that routes to experts: a SparseMlp.
template <class L>
concept SparseLayer = RoutedLayer<L> && requires(const L& layer) { layer.experts; };

namespace detail {
/// fn for layers with experts or, kRouted, for all that route; those around other layers come before these.
template <class Fn, bool kRouted = false>
struct SparseVisitor {
  Fn& fn;
  std::string path;

  template <class L, class... Saved>
  void operator()(std::string_view name, L& layer, Saved&... saved) {
    using Plain = std::remove_const_t<L>;
    const std::size_t mark = path.size();
    if (mark && !name.empty()) path += '.';
    path += name;
    if constexpr (kRouted ? RoutedLayer<Plain> : SparseLayer<Plain>) fn(std::string_view(path), layer, saved...);
    if constexpr (requires { Plain::visit_layers(*this, layer, saved...); })
      Plain::visit_layers(*this, layer, saved...);
    path.resize(mark);
  }
};
}  // namespace detail

/// fn(path, layer) for every sparse layer of a model, which may change it, or fn(path, layer, saved) with what a pass
/// of the model keeps, in the order of its fields. Paths are those of the parameters: "blocks.1.ffn.inner".
template <class Model, class Fn>
void for_each_sparse(Model& model, Fn&& fn) {
  detail::SparseVisitor<std::remove_reference_t<Fn>>{fn, {}}("", model);
}
template <class Model, class Saved, class Fn>
void for_each_sparse(Model& model, Saved& saved, Fn&& fn) {
  detail::SparseVisitor<std::remove_reference_t<Fn>>{fn, {}}("", model, saved);
}

/// The same for every layer that routes, a MixtureOfDepths too; layers around other layers come before these.
template <class Model, class Fn>
void for_each_routed(Model& model, Fn&& fn) {
  detail::SparseVisitor<std::remove_reference_t<Fn>, true>{fn, {}}("", model);
}
template <class Model, class Saved, class Fn>
void for_each_routed(Model& model, Saved& saved, Fn&& fn) {
  detail::SparseVisitor<std::remove_reference_t<Fn>, true>{fn, {}}("", model, saved);
}

/// The penalties on the routing of a pass, summed over all layers that route: what the model's backward differentiates
/// beside the task.
template <class Model>
typename Model::Scalar aux_loss(const Model& model, const typename Model::Saved& saved, Context& ctx) {
  typename Model::Scalar sum(0);
  for_each_routed(model, saved, [&](std::string_view, const auto& routed, const auto& kept) {
    sum = sum + routed.aux_loss(kept, ctx);
  });
  return sum;
}

}  // namespace gatefold
