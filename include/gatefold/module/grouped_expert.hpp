#pragma once
#include <span>

#include "gatefold/module/module.hpp"

namespace gatefold {

/// The rows that the experts of a layer work on: slot n reads row token[n] of x; expert e owns the slots
/// offset[e]..offset[e+1].
struct SlotRows {
  View<const Index, 1> offset;  // [E+1]
  View<const Index, 1> token;   // [N]
};

/// An expert that can run all experts of a layer in one go, faster than one call per expert. ys // [N, D] gets the
/// output of each slot. The way back gets dys // [N, D], overwrites dxs // [N, D] and adds to the experts' gradients.
/// Results equal those of `forward` and `backward` on the gathered rows.
template <class E>
concept GroupedExpert = Expert<E> && std::is_trivially_destructible_v<typename E::GroupedSaved> &&
    requires(std::span<const E> experts, std::span<E> grads, const typename E::GroupedSaved& saved,
             Rows<const typename E::Scalar> x, SlotRows slots, Rows<typename E::Scalar> ys,
             Rows<const typename E::Scalar> dys, Rows<typename E::Scalar> dxs, Context& ctx) {
  { E::forward_grouped(experts, x, slots, ys, ctx) } -> std::same_as<typename E::GroupedSaved>;
  { E::backward_grouped(experts, saved, dys, dxs, grads, ctx) } -> std::same_as<void>;
};

}  // namespace gatefold
