#pragma once
#include <cmath>

#include "gatefold/models/clip_config.hpp"

namespace gatefold {

namespace detail {

/// What open_clip's configurations say and what changes nothing here: what is only for training, what belongs to parts
/// that are switched off, what the weights show by themselves, and (of the text) the names of tokenizers, which
/// open_clip_words reads.
inline constexpr std::string_view kOpenClipVisionHarmless[] = {
    "patch_dropout",         "attn_pooler_queries", "attn_pooler_heads", "pos_embed_type", "output_tokens",
    "timm_model_pretrained", "timm_pool",           "timm_proj",         "timm_proj_bias", "timm_drop",
    "timm_drop_path"};
inline constexpr std::string_view kOpenClipTextHarmless[] = {
    "hf_tokenizer_name",   "tokenizer_kwargs",    "tokenizer_mode", "pad_id",        "output_tokens",
    "final_ln_after_pool", "hf_model_pretrained", "hf_proj_type",   "hf_pooler_type"};
/// The parts of open_clip's custom block, none of which is built here.
inline constexpr const char* kOpenClipCustomBlock[] = {"qk_norm",          "scaled_cosine_attn", "scale_heads",
                                                       "scale_attn_inner", "scale_attn",         "scale_fc"};

/// What both towers of a model_cfg have.
inline void read_open_clip_tower(const ConfigSection& section, ClipTowerOptions& tower, bool layer_scale) {
  section.same_size("width", tower.width);
  section.same_size("layers", tower.num_layers);
  if (const auto* ratio = section.find("mlp_ratio")) {
    if (!ratio->is_number() ||
        std::trunc(static_cast<double>(tower.width) * ratio->get<double>()) != static_cast<double>(tower.hidden))
      section.refuse("mlp_ratio", *ratio,
                     "the ratio of " + std::to_string(tower.hidden) + " hidden to " + std::to_string(tower.width) +
                         " channels, as the weights have it; do they belong together?");
  }
  if (const auto* norm = section.find("norm_kwargs")) {
    const ConfigSection options(*norm, section.source() + ": norm_kwargs");
    options.positive("eps", tower.epsilon);
    options.refuse_unknown();
  }
  if (const auto* activation = section.find("act_kwargs"); activation && !ConfigSection::is_off(*activation)) {
    const ConfigSection options(*activation, section.source() + ": act_kwargs");
    if (const auto* how = options.find("approximate"); how && *how != "none")
      options.refuse("approximate", *how, "\"none\": of the GELUs only the one by the error function is built here");
    options.refuse_unknown();
  }
  // It stands in the weights (NameMap folds it into them); the two must say the same.
  if (const auto* scale = section.find("ls_init_value"); (scale != nullptr) != layer_scale)
    section.refuse("ls_init_value", scale ? *scale : nlohmann::json(),
                   layer_scale ? "a number, since the weights have layer scales (ls_1.gamma)"
                               : "null, since the weights have no layer scales (ls_1.gamma)");
  if (const auto* block = section.find("block_type"); block && *block != "default" && *block != "custom")
    section.refuse("block_type", *block, "\"default\"");
  for (const auto* part : kOpenClipCustomBlock)
    if (section.flag(part))
      section.refuse(part, true, "false: that part of open_clip's custom blocks is not built here");
}

inline void refuse_unless_off(const ConfigSection& section, const char* name, const std::string& wanted) {
  if (const auto* value = section.find(name); value && !ConfigSection::is_off(*value))
    section.refuse(name, *value, wanted);
}

}  // namespace detail

/// Completes the options that weights have told by what an open_clip_config.json says of the computation, with
/// open_clip's defaults. `layer_scale` // of vision and text: whether the weights have it. Throws FormatError that
/// names the field: one that contradicts the weights, that asks for what is not built here, or that is not known.
inline void read_open_clip_config(const nlohmann::json& json, const std::string& source,
                                  std::array<bool, 2> layer_scale, ClipOptions& options) {
  const auto at = json.find("model_cfg");
  if (at == json.end()) throw FormatError(source + ": has no «model_cfg»; is it an open_clip_config.json?");
  const detail::ConfigSection model(*at, source + ": model_cfg");
  const auto section = [&](const char* name) {
    static const auto empty = nlohmann::json::object();
    const auto* value = model.find(name);
    return detail::ConfigSection(value ? *value : empty, model.source() + ": " + name);
  };
  detail::refuse_unless_off(model, "multimodal_cfg", "null: a CoCa is not built here");
  detail::refuse_unless_off(model, "init_logit_bias",
                            "null: with a bias (SigLIP) answers are no softmax over the labels");
  model.same_size("embed_dim", options.embedding);
  for (const auto* harmless : {"custom_text", "init_logit_scale", "nonscalar_logit_scale", "output_dict"})
    (void)model.find(harmless);
  options.vision.activation = options.text.activation =
      model.flag("quick_gelu") ? ClipActivation::quick_gelu : ClipActivation::gelu;

  const auto vision = section("vision_cfg");
  detail::refuse_unless_off(vision, "timm_model_name", "a vision transformer of open_clip's own");
  if (const auto* layers = vision.find("layers"); layers && layers->is_array())
    vision.refuse("layers", *layers, "the number of blocks of a vision transformer; ResNets are not built here");
  detail::refuse_unless_off(vision, "attentional_pool", "false: attention pooling (CoCa) is not built here");
  vision.same_size("image_size", options.image_size);
  vision.same_size("patch_size", options.patch);
  Index head_width = 64;
  vision.size("head_width", head_width);
  options.vision.num_heads = std::max<Index>(1, options.vision.width / head_width);
  options.image_pre_norm = !vision.flag("no_ln_pre");
  const auto* pool = vision.find("pool_type");
  const bool mean = pool && *pool == "avg", last = vision.flag("final_ln_after_pool");
  if (pool && !mean && *pool != "tok")
    vision.refuse("pool_type", *pool, "\"tok\" or \"avg\": otherwise an image has as many embeddings as patches");
  // Of one token the norm is the same before and after it is taken.
  options.image_pool = !mean ? ClipPool::token : last ? ClipPool::mean_then_norm : ClipPool::mean;
  detail::read_open_clip_tower(vision, options.vision, layer_scale[0]);
  vision.allow(detail::kOpenClipVisionHarmless);
  vision.refuse_unknown();

  const auto text = section("text_cfg");
  detail::refuse_unless_off(text, "hf_model_name", "null: only open_clip's own text transformer is built here");
  detail::refuse_unless_off(text, "embed_cls", "false: a class token of texts (CoCa) is not built here");
  detail::refuse_unless_off(text, "proj_bias", "false: a projection with a bias is not built here");
  if (const auto* kind = text.find("proj_type"); kind && *kind != "linear")
    text.refuse("proj_type", *kind, "\"linear\": both towers must end in the same space");
  text.same_size("context_length", options.context);
  text.same_size("vocab_size", options.vocabulary);
  options.text.num_heads = 8;
  text.size("heads", options.text.num_heads);
  options.causal_text = !text.flag("no_causal_mask");
  Index end = 2;
  if (const auto* id = text.find("eos_id"); id && *id != 0) text.size("eos_id", end);
  options.text_pool = ClipTextPool::end;
  options.end_of_text.reset();
  if (const auto* read_off = text.find("pool_type")) {
    if (*read_off == "eos")
      options.end_of_text = end;
    else if (*read_off == "first" || *read_off == "last")
      options.text_pool = *read_off == "first" ? ClipTextPool::first : ClipTextPool::last;
    else if (*read_off != "argmax")
      text.refuse("pool_type", *read_off, "\"argmax\", \"eos\", \"first\" or \"last\"");
  }
  detail::read_open_clip_tower(text, options.text, layer_scale[1]);
  text.allow(detail::kOpenClipTextHarmless);
  text.refuse_unknown();
  model.refuse_unknown();
}

}  // namespace gatefold
