#pragma once
#include <cmath>
#include <string>

#include "gatefold/blocks/encoder.hpp"
#include "gatefold/blocks/placement.hpp"
#include "gatefold/blocks/sparse_layers.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/init.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold {

// What LIMoE and V-MoE have in common: pictures cut into patches, and a transformer some of whose feed-forward nets are
// mixtures. `O` is the options of either, whose fields have the same names.

/// The transformer; `Aux` penalises the routing of its sparse blocks.
template <Real T, WeightStorage<T> W, class Aux>
struct SparseTrunk {
  using Dense = Mlp<T, Gelu, W>;
  using Sparse = SparseMlp<TopKRouter<T>, Dense, Aux>;
  using Ffn = OneOf<Dense, Sparse>;
  using Trunk = Encoder<EncoderBlock<Ffn, Attention<T, W>>>;

  /// A group is what shares the seats of the experts: so many rows, or 0 for all of a pass. aux_scale is the part of
  /// each sparse block in the penalty. Throws OptionError.
  template <class O>
  static Trunk make(const O& o, Index group_size, const Aux& aux, double aux_scale) {
    return Trunk({.width = o.width}, o.num_layers, [&](Index layer) {
      const Dense mlp({.width = o.width, .hidden = o.hidden});
      const auto make_sparse = [&] {
        Sparse sparse(TopKRouter<T>({.width = o.width,
                                     .num_experts = o.num_experts,
                                     .num_selected = o.num_selected,
                                     .capacity = o.capacity,
                                     .priority = o.priority,
                                     .noise = o.router_noise,
                                     .group_size = group_size}),
                      mlp, aux);
        sparse.aux_scale = aux_scale;
        return sparse;
      };
      return typename Trunk::Block({.width = o.width, .num_heads = o.num_heads},
                                   o.sparse.is_sparse(layer) ? Ffn(make_sparse()) : Ffn(mlp));
    });
  }
};

/// Throws OptionError for sizes below 1 and a picture that patches do not fill.
template <class O>
void expect_patch_options(std::string_view who, const O& o) {
  expect_size(who, "image_size", o.image_size);
  expect_size(who, "patch", o.patch);
  expect_size(who, "channels", o.channels);
  expect_option(o.image_size % o.patch == 0, std::string(who) + ": image_size " + std::to_string(o.image_size) +
                                                 " is not a multiple of patch " + std::to_string(o.patch));
}

/// The same, and for sparse blocks that do not exist.
template <class O>
void expect_trunk_options(std::string_view who, const O& o) {
  expect_patch_options(who, o);
  expect_size(who, "width", o.width);
  expect_size(who, "hidden", o.hidden);
  expect_size(who, "num_layers", o.num_layers);
  expect_size(who, "num_heads", o.num_heads);
  const auto name = std::string(who);
  for (const Index layer : o.sparse.layers)
    expect_option(0 <= layer && layer < o.num_layers, name + ": sparse layer " + std::to_string(layer) +
                                                          " does not exist, expected 0.." +
                                                          std::to_string(o.num_layers - 1));
}

/// First weights of a model around such trunks: Xavier for matrices (query, key and value each by itself), those that
/// end a residual branch divided by sqrt(2 L), so that the sum of all branches starts with the variance of one; biases
/// zero. Every expert draws its own.
template <Module M>
void initialise_matrices(M& model, Index num_layers, Rng& rng, Context& ctx) {
  init::xavier_uniform(model, rng, ctx);
  // Xavier saw [3 D, D] where there are three [D, D]: the limits differ by sqrt(4 D / 2 D).
  init::scale(model, "*.attention.inner.qkv.weight", std::sqrt(2.0));
  const double branch = 1 / std::sqrt(2 * static_cast<double>(num_layers));
  init::scale(model, "*.attention.inner.out.weight", branch);
  init::scale(model, "*.down.weight", branch);
}
/// Routers begin nearly without an opinion: normal with 0.02.
template <Module M>
void initialise_routers(M& model, Rng& rng, Context& ctx) {
  for_each_routed(model,
                  [&](std::string_view, auto& routed) { init::truncated_normal(routed.router, rng, 0.02, ctx); });
}

}  // namespace gatefold
