#pragma once
#include <span>

#include "gatefold/module/module.hpp"

namespace gatefold {

/// The rows that the experts of a layer work on: expert e owns the slots offset[e]..offset[e+1]; slot n reads row
/// token[n] of x, or row n itself if `token` is empty.
struct SlotRows {
  View<const Index, 1> offset;  // [E+1]
  View<const Index, 1> token;   // [N] or empty

  /// All rows for a single expert.
  static SlotRows all(Index rows, Workspace& workspace) {
    auto offset = workspace.take<Index>(2);
    offset[0] = 0;
    offset[1] = rows;
    return {offset, {}};
  }
  Index num_experts() const { return offset.extent(0) - 1; }
  Index num_slots() const { return offset[num_experts()]; }
  Index count(Index e) const { return offset[e + 1] - offset[e]; }
};

/// An expert that can run all experts of a layer in one go, faster than one call per expert. ys // [N, D] gets the
/// output of each slot. Results equal those of `forward` on the gathered rows. Experts may differ from each other as
/// far as the type allows; where they may not, forward_grouped throws ShapeError by name, and a static
/// `expect_fit(experts)`, if there is one, does so as soon as a layer is made of them.
template <class E>
concept GroupedExpert = ForwardLayer<E> && std::is_trivially_destructible_v<typename E::GroupedSaved> &&
    requires(std::span<const E> experts, Rows<const typename E::Scalar> x, SlotRows slots, Rows<typename E::Scalar> ys,
             Context& ctx) {
  { E::forward_grouped(experts, x, slots, ys, ctx) } -> std::same_as<typename E::GroupedSaved>;
};

/// The same for training: the way back gets dys // [N, D], overwrites dxs // [N, D] and adds to the experts' gradients.
template <class E>
concept GroupedLayer = GroupedExpert<E> && Layer<E> &&
    requires(std::span<const E> experts, std::span<E> grads, const typename E::GroupedSaved& saved,
             Rows<const typename E::Scalar> dys, Rows<typename E::Scalar> dxs, Context& ctx) {
  { E::backward_grouped(experts, saved, dys, dxs, grads, ctx) } -> std::same_as<void>;
};

}  // namespace gatefold
