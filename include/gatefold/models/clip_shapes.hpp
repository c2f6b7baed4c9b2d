#pragma once
#include <cmath>

#include "gatefold/io/sharded_safetensors.hpp"
#include "gatefold/models/clip_config.hpp"

namespace gatefold {

/// What a file of weights does not say of itself, where no configuration says it either.
struct ClipWeightsOptions {
  Index num_selected = 2;                ///< Of the experts of CLIP-MoE, for each token.
  std::optional<Index> head_width = {};  ///< Nothing: 64, and in wide vision towers as open_clip has it.
  std::optional<ClipActivation> activation = {};
};

namespace detail {

/// Whose weights have QuickGELU whatever else: OpenAI's archives, which keep their sizes as tensors, and what was made
/// of OpenAI's, Long-CLIP and CLIP-MoE.
inline bool is_of_open_ai(const ShardedSafeTensors& file, const ClipOptions& options) {
  return (file.find("input_resolution") && file.find("context_length") && file.find("vocab_size")) ||
         file.find("positional_embedding_res") || !options.vision.mixture.placement.layers.empty() ||
         !options.text.mixture.placement.layers.empty();
}

/// The heads of the vision towers in open_clip's model_configs that are not 64 wide: H, g, bigG, e.
inline Index vision_head_width(Index width) {
  for (const auto& [of, head] : {std::pair<Index, Index>(1280, 80), {1408, 88}, {1664, 104}, {1792, 112}})
    if (of == width) return head;
  return 64;
}

}  // namespace detail

/// The options of weights under OpenAI's names, from their shapes as OpenAI's build_model has it, and from the names
/// which blocks are CLIP-MoE's mixtures. The activation is QuickGELU for weights that are known to be OpenAI's, else
/// `known`'s, if that is given. Throws FormatError if a tensor that tells a size is missing or misshapen.
inline ClipOptions clip_options_of_weights(const ShardedSafeTensors& file, const ClipWeightsOptions& known) {
  const auto extent = [&](const std::string& name, std::size_t rank, std::size_t axis) {
    const auto* tensor = file.find(name);
    if (!tensor || tensor->entry->shape.size() != rank)
      throw FormatError(file.source() + ": tensor " + detail::quote_text(name) +
                        (tensor ? " has shape " + detail::shape_text(tensor->entry->shape) : " is missing") +
                        "; it tells the size of a CLIP with a vision transformer, expected " + std::to_string(rank) +
                        " axes");
    const Index size = tensor->entry->shape[axis];
    if (size < 1 || size > detail::kMaxClipSize)
      throw FormatError(file.source() + ": tensor " + detail::quote_text(name) + " has shape " +
                        detail::shape_text(tensor->entry->shape));
    return size;
  };
  if (known.head_width)
    expect_option(*known.head_width >= 1, "clip_options_of_weights: head_width is " +
                                              std::to_string(*known.head_width) + ", expected 1 or more");
  ClipOptions options;
  options.patch = extent("visual.conv1.weight", 4, 3);
  options.channels = extent("visual.conv1.weight", 4, 1);
  const auto grid = static_cast<Index>(std::lround(std::sqrt(extent("visual.positional_embedding", 2, 0) - 1)));
  options.image_size = std::max<Index>(1, grid) * options.patch;
  options.vocabulary = extent("token_embedding.weight", 2, 0);
  options.context = extent("positional_embedding", 2, 0);
  options.embedding = extent("text_projection", 2, 1);
  options.image_pre_norm = file.find("visual.ln_pre.weight") || file.find("visual.ln_pre.bias");
  const auto tower = [&](const std::string& blocks, Index width, Index head_width, ClipTowerOptions& o) {
    const auto has = [&](Index layer, const std::string& name) {
      return file.find(blocks + std::to_string(layer) + "." + name) != nullptr;
    };
    o.width = width;
    o.num_heads = std::max<Index>(1, width / known.head_width.value_or(head_width));
    o.mixture.num_selected = known.num_selected;
    for (o.num_layers = 0; has(o.num_layers, "attn.in_proj_weight"); ++o.num_layers)
      if (has(o.num_layers, "gate.weight") || has(o.num_layers, "experts.0.c_fc.weight"))
        o.mixture.placement.layers.push_back(o.num_layers);
    o.hidden = 4 * width;
    if (has(0, "mlp.c_fc.weight")) o.hidden = extent(blocks + "0.mlp.c_fc.weight", 2, 0);
    if (o.mixture.placement.layers.empty()) return;
    const Index first = o.mixture.placement.layers.front();
    const auto expert = [&](Index e) { return "experts." + std::to_string(e) + ".c_fc.weight"; };
    if (has(first, expert(0))) o.hidden = extent(blocks + std::to_string(first) + "." + expert(0), 2, 0);
    for (o.mixture.num_experts = 0; has(first, expert(o.mixture.num_experts));) ++o.mixture.num_experts;
    o.mixture.num_experts = std::max(o.mixture.num_experts, known.num_selected);
  };
  const Index width = extent("visual.conv1.weight", 4, 0);
  tower("visual.transformer.resblocks.", width, detail::vision_head_width(width), options.vision);
  tower("transformer.resblocks.", extent("ln_final.weight", 1, 0), 64, options.text);
  for (const auto& [o, name] : {std::pair(&options.vision, "visual.transformer"), {&options.text, "transformer"}})
    if (o->num_layers == 0)
      throw FormatError(file.source() + ": has no '" + name +
                        ".resblocks.0.attn.in_proj_weight', expected the blocks of a transformer");
  options.vision.activation = options.text.activation = detail::is_of_open_ai(file, options)
                                                            ? ClipActivation::quick_gelu
                                                            : known.activation.value_or(ClipActivation::quick_gelu);
  return options;
}

}  // namespace gatefold
