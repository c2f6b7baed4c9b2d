#pragma once
#include <optional>

#include "gatefold/blocks/placement.hpp"
#include "gatefold/routing/capacity.hpp"

namespace gatefold {

/// The feed-forward nets' activation: OpenAI's weights were trained with the first, LAION's with the second (which is
/// the one by the error function). The wrong one gives embeddings that look right and are worse.
enum class ClipActivation { quick_gelu, gelu };

/// Over what the balance of the experts is taken: CLIP-MoE's paper and its code differ.
enum class BalanceOver {
  block,  ///< Each mixture by itself, first choices, their mean: the paper's equations 6 to 9. Balanced: 1.
  tower,  ///< All mixtures of a tower as one, each of the K choices, as the code has it: experts that one block leaves
          ///< out may make up for it in another. Balanced: K. A RoutingReport tells that of each block by itself.
};

/// Which feed-forward nets are mixtures, and of what (CLIP-MoE, arXiv 2409.19291: 4 experts, 2 of them for each token,
/// their gates renormalised, nobody turned away).
struct ClipMixture {
  Placement placement{};  ///< Of the blocks of a tower.
  Index num_experts = 4, num_selected = 2;
  Capacity capacity{};
  double balance = 0.01;  ///< What the balance of the experts counts for in training, the mean over the mixtures.
  BalanceOver balance_over = BalanceOver::block;

  bool operator==(const ClipMixture&) const = default;
};

/// What of a sequence's tokens is projected into the space of the embeddings (open_clip's pool_type and
/// final_ln_after_pool).
enum class ClipPool {
  token,          ///< One of them: the class token, the end of a text.
  mean,           ///< The mean of all but the first, which is the class token, after the last norm.
  mean_then_norm  ///< The same, before the last norm (CLIPA).
};

/// One half of a CLIP.
struct ClipTowerOptions {
  Index width = 0, hidden = 0, num_layers = 12, num_heads = 0;  // D, H, -, -
  ClipActivation activation = ClipActivation::quick_gelu;
  double epsilon = 1e-5;  ///< Of the layer norms.
  ClipMixture mixture{};

  bool operator==(const ClipTowerOptions&) const = default;
};

/// Where a text is read off (open_clip's pool_type).
enum class ClipTextPool {
  end,    ///< At the end of the text, see ClipOptions::end_of_text.
  first,  ///< At the first token.
  last    ///< At the last of the context, padding or not: then texts must come with the padding of training.
};

/// How a CLIP is made; the defaults are ViT-B/32. Sizes with the axis letters of core/shape.hpp.
struct ClipOptions {
  Index image_size = 224, patch = 32, channels = 3;
  Index vocabulary = 49408, context = 77;           // V, T
  Index embedding = 512;                            // P
  std::optional<Index> end_of_text = std::nullopt;  ///< Texts are read off where this id first is; nothing: where
                                                    ///< the largest id first is.
  ClipTextPool text_pool = ClipTextPool::end;
  bool causal_text = true;  ///< Otherwise a token sees all others, padding too, which must be that of training.
  ClipPool image_pool = ClipPool::token;
  bool image_pre_norm = true;  ///< A norm in front of the blocks.
  ClipTowerOptions vision{.width = 768, .hidden = 3072, .num_layers = 12, .num_heads = 12};
  ClipTowerOptions text{.width = 512, .hidden = 2048, .num_layers = 12, .num_heads = 8};
  double initial_temperature = 1 / 0.07, max_temperature = 100;  ///< What the cosine is multiplied by.

  bool operator==(const ClipOptions&) const = default;
};

}  // namespace gatefold
