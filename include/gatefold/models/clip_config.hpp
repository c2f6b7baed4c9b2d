#pragma once
#include <cmath>
#include <nlohmann/json.hpp>

#include "gatefold/io/sharded_safetensors.hpp"
#include "gatefold/models/clip.hpp"

namespace gatefold {

/// What a file of weights does not say of itself.
struct ClipWeightsOptions {
  Index num_selected = 2;  ///< Of the experts of CLIP-MoE, for each token.
  Index head_width = 64;   ///< Of the attention heads, as in every CLIP of OpenAI.
  ClipActivation activation = ClipActivation::quick_gelu;
};

namespace detail {

/// A file is not trusted with the size of what is allocated for it.
inline constexpr Index kMaxClipSize = Index{1} << 20, kMaxClipLayers = 1000;

/// Reads the fields of one section of a config.json; what is missing or null keeps its default.
class ClipConfigSection {
 public:
  ClipConfigSection(const nlohmann::json& json, std::string source) : json_(json), source_(std::move(source)) {
    if (!json.is_object()) throw FormatError(source_ + ": is not a JSON object (cut short?)");
  }

  const nlohmann::json* find(const char* name) const { return find_field(json_, name); }
  void size(const char* name, Index& out, Index most = kMaxClipSize) const {
    const auto* value = find(name);
    if (!value) return;
    const auto* one = value->is_array() && value->size() == 2 && (*value)[0] == (*value)[1] ? &(*value)[0] : value;
    if (!one->is_number_integer() || *one < 1 || *one > most)
      refuse(name, *value, "a whole number of 1.." + std::to_string(most));
    out = one->get<Index>();
  }
  void positive(const char* name, double& out) const {
    const auto* value = find(name);
    if (!value) return;
    if (!value->is_number() || !(value->get<double>() > 0 && value->get<double>() < 1))
      refuse(name, *value, "a number between 0 and 1");
    out = value->get<double>();
  }
  void activation(const char* name, ClipActivation& out) const {
    const auto* value = find(name);
    if (!value) return;
    if (*value == "quick_gelu")
      out = ClipActivation::quick_gelu;
    else if (*value == "gelu")
      out = ClipActivation::gelu;
    else
      refuse(name, *value, "\"quick_gelu\" or \"gelu\"");
  }
  [[noreturn]] void refuse(const char* name, const nlohmann::json& value, const std::string& wanted) const {
    refuse_field(source_, name, value, wanted);
  }

 private:
  const nlohmann::json& json_;
  std::string source_;
};

inline void read_clip_tower(const ClipConfigSection& section, ClipTowerOptions& tower) {
  section.size("hidden_size", tower.width);
  section.size("intermediate_size", tower.hidden);
  section.size("num_hidden_layers", tower.num_layers, kMaxClipLayers);
  section.size("num_attention_heads", tower.num_heads);
  section.activation("hidden_act", tower.activation);
  section.positive("layer_norm_eps", tower.epsilon);
}

}  // namespace detail

/// The options of a config.json of transformers. What it does not state has the defaults of CLIPConfig, and an
/// eos_token_id of 2 means the largest id (as early files have it, whatever the id). Throws FormatError that names the
/// field.
inline ClipOptions clip_options_of_config(const nlohmann::json& json, const std::string& source) {
  const detail::ClipConfigSection top(json, source);
  if (const auto* type = top.find("model_type"); !type || *type != "clip")
    throw FormatError(source +
                      (type && type->is_string()
                           ? ": is the configuration of a " + detail::quote_text(type->get<std::string>())
                           : ": has no «model_type»") +
                      ", expected a 'clip' with both towers, such as openai/clip-vit-base-patch32");
  ClipOptions options;
  top.size("projection_dim", options.embedding);
  const auto empty = nlohmann::json::object();
  const auto section = [&](const char* old_name, const char* name) {  // the old one wins, as in transformers
    const auto* value = top.find(old_name);
    if (!value) value = top.find(name);
    return detail::ClipConfigSection(value ? *value : empty, source + ": " + name);
  };
  const auto vision = section("vision_config_dict", "vision_config");
  detail::read_clip_tower(vision, options.vision);
  vision.size("image_size", options.image_size);
  vision.size("patch_size", options.patch);
  vision.size("num_channels", options.channels);
  const auto text = section("text_config_dict", "text_config");
  detail::read_clip_tower(text, options.text);
  text.size("vocab_size", options.vocabulary);
  text.size("max_position_embeddings", options.context);
  options.end_of_text = 49407;
  if (const auto* end = text.find("eos_token_id")) {
    if (!end->is_number_integer() || *end < 0 || *end > detail::kMaxClipSize)
      text.refuse("eos_token_id", *end, "the id of a token");
    options.end_of_text = end->get<Index>();
    if (*options.end_of_text == 2) options.end_of_text.reset();
  }
  return options;
}

/// The options of weights under OpenAI's names, from their shapes as OpenAI's build_model has it, and from the names
/// which blocks are CLIP-MoE's mixtures. Throws FormatError if a tensor that tells a size is missing or misshapen.
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
  expect_option(known.head_width >= 1,
                "clip_options_of_weights: head_width is " + std::to_string(known.head_width) + ", expected 1 or more");
  ClipOptions options;
  options.patch = extent("visual.conv1.weight", 4, 3);
  options.channels = extent("visual.conv1.weight", 4, 1);
  const auto grid = static_cast<Index>(std::lround(std::sqrt(extent("visual.positional_embedding", 2, 0) - 1)));
  options.image_size = std::max<Index>(1, grid) * options.patch;
  options.vocabulary = extent("token_embedding.weight", 2, 0);
  options.context = extent("positional_embedding", 2, 0);
  options.embedding = extent("text_projection", 2, 1);
  const auto tower = [&](const std::string& blocks, Index width, ClipTowerOptions& o) {
    const auto has = [&](Index layer, const std::string& name) {
      return file.find(blocks + std::to_string(layer) + "." + name) != nullptr;
    };
    o.width = width;
    o.num_heads = std::max<Index>(1, width / known.head_width);
    o.activation = known.activation;
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
  tower("visual.transformer.resblocks.", extent("visual.conv1.weight", 4, 0), options.vision);
  tower("transformer.resblocks.", extent("ln_final.weight", 1, 0), options.text);
  for (const auto& [o, name] : {std::pair(&options.vision, "visual.transformer"), {&options.text, "transformer"}})
    if (o->num_layers == 0)
      throw FormatError(file.source() + ": has no '" + name +
                        ".resblocks.0.attn.in_proj_weight', expected the blocks of a transformer");
  return options;
}

/// What an open_clip_config.json adds to the shapes of its weights. Throws FormatError for what CLIP is not.
inline ClipWeightsOptions clip_weights_options_of_open_clip(const nlohmann::json& json, const std::string& source,
                                                            ClipWeightsOptions options = {}) {
  const auto model = json.is_object() ? json.value("model_cfg", nlohmann::json()) : nlohmann::json();
  const detail::ClipConfigSection top(model, source + ": model_cfg");
  const auto vision_json = model.value("vision_cfg", nlohmann::json::object());
  const detail::ClipConfigSection vision(vision_json, source + ": vision_cfg");
  if (const auto* name = vision.find("timm_model_name"))
    vision.refuse("timm_model_name", *name, "a vision transformer of open_clip's own");
  vision.size("head_width", options.head_width);
  const auto* quick = top.find("quick_gelu");
  options.activation = quick && *quick == true ? ClipActivation::quick_gelu : ClipActivation::gelu;
  return options;
}

}  // namespace gatefold
