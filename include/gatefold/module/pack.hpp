#pragma once
#include <type_traits>
#include <utility>

#include "gatefold/core/language.hpp"

namespace gatefold {

/// The same model over other weights: in place of each weight w of a product stands to(w), in any storage
/// (nn/weight_storage.hpp). Routers, norms, biases and embeddings stay as they are. A layer that holds weights, or
/// layers that do, says how by a member over(to). pack<F> is one use, adapters (adapt/lora.hpp) are another; what they
/// do to a weight may depend on where it lies, and so on its path (module/param_paths.hpp).
template <class L, class To>
requires requires(const L& layer, const To& to) { layer.over(to); }
auto with_weights(const L& layer, const To& to) { return layer.over(to); }

/// The same of a part of a model that may hold no such weights: a norm, say, stays as it is.
template <class L, class To>
auto with_weights_if_any(const L& layer, const To& to) {
  if constexpr (requires { with_weights(layer, to); })
    return with_weights(layer, to);
  else
    return layer;
}

/// The storage that `to` makes of a storage W.
template <class To, class W>
using WeightBy = std::remove_cvref_t<std::invoke_result_t<const To&, const W&>>;

template <class F>
struct PackTo;  // nn/weight_storage.hpp

/// The same model over weights packed as F (float, bf16, int8, int4, mxfp4, fp8, or pruned ones without their zeros as
/// Nm<bf16, 2, 4>; products/packed.hpp), for inference: pack<bf16>(model). F may also be a storage of your own
/// (WeightStorage).
template <class F, class L>
requires requires(const L& layer, const PackTo<F>& to) { with_weights(layer, to); }
auto pack(const L& layer) { return with_weights(layer, PackTo<F>{}); }

}  // namespace gatefold
