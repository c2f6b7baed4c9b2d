#pragma once
#include "gatefold/io/safetensors.hpp"
#include "gatefold/models/clip_options.hpp"
#include "gatefold/models/config_section.hpp"

namespace gatefold {

namespace detail {

inline constexpr Index kMaxClipSize = kMaxConfigSize, kMaxClipLayers = 1000;

inline void read_clip_activation(const ConfigSection& section, ClipActivation& out) {
  const auto* value = section.find("hidden_act");
  if (!value) return;
  if (*value == "quick_gelu")
    out = ClipActivation::quick_gelu;
  else if (*value == "gelu")
    out = ClipActivation::gelu;
  else
    section.refuse("hidden_act", *value, "\"quick_gelu\" or \"gelu\"");
}

inline void read_clip_tower(const ConfigSection& section, ClipTowerOptions& tower) {
  section.size("hidden_size", tower.width);
  section.size("intermediate_size", tower.hidden);
  section.size("num_hidden_layers", tower.num_layers, kMaxClipLayers);
  section.size("num_attention_heads", tower.num_heads);
  read_clip_activation(section, tower.activation);
  section.positive("layer_norm_eps", tower.epsilon);
}

}  // namespace detail

/// The options of a config.json of transformers. What it does not state has the defaults of CLIPConfig, and an
/// eos_token_id of 2 means the largest id (as early files have it, whatever the id). Throws FormatError that names the
/// field, also for one that is not known and not off.
inline ClipOptions clip_options_of_config(const nlohmann::json& json, const std::string& source) {
  const detail::ConfigSection top(json, source);
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
    const auto* value = top.find(name);
    if (const auto* old = top.find(old_name)) value = old;
    detail::ConfigSection found(value ? *value : empty, source + ": " + name);
    found.allow(detail::kHuggingFaceHarmless);
    return found;
  };
  const auto vision = section("vision_config_dict", "vision_config");
  detail::read_clip_tower(vision, options.vision);
  vision.size("image_size", options.image_size);
  vision.size("patch_size", options.patch);
  vision.size("num_channels", options.channels);
  vision.refuse_unknown();
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
  text.refuse_unknown();
  top.allow(detail::kHuggingFaceHarmless);
  top.refuse_unknown();
  return options;
}

}  // namespace gatefold
