#pragma once
#include "gatefold/core/language.hpp"

namespace gatefold {

/// The same model over weights packed as F (float, bf16, int8, int4, mxfp4 or fp8; products/packed.hpp), for inference:
/// pack<bf16>(model). F may also be a storage of your own (WeightStorage). A layer that holds weights says how by a
/// member `packed<F>()`. Routers, norms and embeddings stay as they are.
template <class F, class L>
requires requires(const L& layer) { layer.template packed<F>(); }
auto pack(const L& layer) { return layer.template packed<F>(); }

/// The same of a part of a model that may hold no weights to pack: a norm, say, stays as it is.
template <class F, class L>
auto pack_if_any(const L& layer) {
  if constexpr (requires { pack<F>(layer); })
    return pack<F>(layer);
  else
    return layer;
}

}  // namespace gatefold
