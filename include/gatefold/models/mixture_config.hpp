#pragma once
#include <nlohmann/json.hpp>

#include "gatefold/models/config_section.hpp"
#include "gatefold/models/foreign_tensors.hpp"
#include "gatefold/models/mixture_family.hpp"

namespace gatefold {

/// What a config.json says of the mixtures of a model.
struct MixtureConfig {
  const MixtureFamily* family = nullptr;
  MixtureOptions options{};
  detail::ForeignSizes sizes{};  ///< Of what is stored.
};

namespace detail {

/// What says nothing of a mixture: the rest of the model, which layers have one, and how its balance was trained.
inline constexpr std::string_view kBesideMixtures[] = {"attention_bias",
                                                       "attention_chunk_size",
                                                       "attention_multiplier",
                                                       "attn_scale",
                                                       "attn_temperature_tuning",
                                                       "auto_map",
                                                       "aux_loss_alpha",
                                                       "block_auto_adjust_ff_dim",
                                                       "block_dim",
                                                       "block_ff_dim",
                                                       "block_ffn_dim_multiplier",
                                                       "block_mlp_init_scale",
                                                       "block_multiple_of",
                                                       "block_norm_eps",
                                                       "block_out_init_scale",
                                                       "block_use_swiglu",
                                                       "block_use_xavier_init",
                                                       "cache_implementation",
                                                       "clip_qkv",
                                                       "conv_L_cache",
                                                       "conv_bias",
                                                       "conv_dim",
                                                       "conv_dim_out",
                                                       "conv_use_xavier_init",
                                                       "decoder_sparse_step",
                                                       "embedding_multiplier",
                                                       "eos_token_id",
                                                       "ep_size",
                                                       "first_k_dense_replace",
                                                       "floor_scale",
                                                       "for_llm_compressor",
                                                       "full_attn_idxs",
                                                       "head_dim",
                                                       "initial_context_length",
                                                       "interleave_moe_layer_step",
                                                       "intermediate_size",
                                                       "intermediate_size_mlp",
                                                       "kv_lora_rank",
                                                       "layer_types",
                                                       "lm_head_bias",
                                                       "logits_scaling",
                                                       "max_position_embeddings",
                                                       "max_window_layers",
                                                       "mlp_only_layers",
                                                       "moe_layer_freq",
                                                       "moe_layers",
                                                       "no_rope_layer_interval",
                                                       "no_rope_layers",
                                                       "norm_eps",
                                                       "num_attention_heads",
                                                       "num_dense_layers",
                                                       "num_heads",
                                                       "num_hidden_layers",
                                                       "num_key_value_heads",
                                                       "num_mtp_layers",
                                                       "num_nextn_predict_layers",
                                                       "original_max_position_embeddings",
                                                       "output_router_logits",
                                                       "partial_rotary_factor",
                                                       "pretraining_tp",
                                                       "q_lora_rank",
                                                       "qk_head_dim",
                                                       "qk_nope_head_dim",
                                                       "qk_rope_head_dim",
                                                       "qkv_bias",
                                                       "residual_multiplier",
                                                       "rms_norm_eps",
                                                       "rope_interleave",
                                                       "rope_parameters",
                                                       "rope_scaling",
                                                       "rope_theta",
                                                       "router_aux_loss_coef",
                                                       "seq_aux",
                                                       "sliding_window",
                                                       "theta",
                                                       "tie_embedding",
                                                       "use_pos_enc",
                                                       "use_qk_norm",
                                                       "use_sliding_window",
                                                       "v_head_dim",
                                                       "vocab_size"};

/// One and the same number under the names that families have for it.
inline constexpr const char* kExpertKeys[] = {"num_experts", "num_local_experts", "n_routed_experts",
                                              "moe_num_experts"};
inline constexpr const char* kPickKeys[] = {"num_experts_per_tok", "experts_per_token", "moe_topk", "moe_top_k",
                                            "moe_k"};

/// Reads one configuration and collects what is wrong with it.
class MixtureConfigReader {
 public:
  MixtureConfigReader(const nlohmann::json& json, const std::string& source, const MixtureFamily& family)
      : section_(json, source), family_(family) {
    section_.allow(kHuggingFaceHarmless);
    section_.allow(kBesideMixtures);
  }

  MixtureConfig read() {
    MixtureConfig config{.family = &family_};
    MixtureOptions& o = config.options;
    Index width = 0, experts = 0, picks = 0;
    size("hidden_size", width);
    any_of(kExpertKeys, experts);
    any_of(kPickKeys, picks);
    size(family_.hidden_key, o.hidden);
    config.sizes.num_experts = experts;
    o.activation = family_.activation;
    o.bias = family_.bias;
    o.weighed = family_.weighed;
    fixed({"hidden_act", R"("silu")"});
    for (const auto& one : family_.fixed) fixed(one);
    number(family_.noise_key, o.input_noise, "a share from 0 to 1", [](double v) { return v >= 0 && v < 1; });
    if (family_.tolerance_key.empty()) {
      TopKRouterOptions router{.width = width, .num_experts = experts, .num_selected = picks};
      rule(router);
      o.router = router;
    } else {
      SparseMixerRouterOptions router{.width = width, .num_experts = experts, .num_selected = picks};
      number(family_.tolerance_key, router.tolerance, "a number of 0 or more", [](double v) { return v >= 0; });
      o.router = router;
    }
    shared(o);
    quantisation(config.sizes);
    for (const auto& name : section_.unknown()) attempt([&] { section_.refuse_unknown(name); });
    if (!faults_.empty()) throw FormatError(faults_);
    return config;
  }

 private:
  /// A refusal ends what refuses, not the reading.
  template <class F>
  void attempt(F&& read) {
    try {
      read();
    } catch (const FormatError& error) {
      faults_ += (faults_.empty() ? "" : "\n") + std::string(error.what());
    }
  }
  const nlohmann::json* find(std::string_view key) const { return section_.find(std::string(key).c_str()); }
  void refuse(std::string_view key, const nlohmann::json& value, const std::string& wanted) {
    attempt([&] { section_.refuse(std::string(key), value, wanted); });
  }
  void missing(std::string_view key) {
    attempt([&] { throw FormatError(section_.source() + ": «" + std::string(key) + "» is missing"); });
  }

  bool size(std::string_view key, Index& out, bool needed = true) {
    const auto* value = find(key);
    if (!value && needed) missing(key);
    if (value && (!value->is_number_integer() || *value < 1 || *value > kMaxConfigSize))
      refuse(key, *value, "a whole number of 1.." + std::to_string(kMaxConfigSize));
    else if (value)
      out = value->get<Index>();
    return value != nullptr;
  }
  void any_of(std::span<const char* const> keys, Index& out) {
    std::string_view first;
    for (const char* key : keys) {
      Index value = out;
      if (!size(key, value, false)) continue;
      if (!first.empty() && value != out)
        refuse(key, value, std::to_string(out) + " as «" + std::string(first) + "» has it");
      if (first.empty()) first = key, out = value;
    }
    if (first.empty()) missing(keys[0]);
  }
  template <class Right>
  void number(std::string_view key, double& out, const char* wanted, Right&& right) {
    const auto* value = key.empty() ? nullptr : find(key);
    if (!value) return;
    if (!value->is_number() || !std::isfinite(value->get<double>()) || !right(value->get<double>()))
      refuse(key, *value, wanted);
    else
      out = value->get<double>();
  }
  bool flag(const MixtureFamily::Flag& flag) {
    const auto* value = flag.key.empty() ? nullptr : find(flag.key);
    if (value && !value->is_boolean()) refuse(flag.key, *value, "true or false");
    return value && value->is_boolean() ? value->get<bool>() : flag.otherwise;
  }
  void fixed(const MixtureFamily::Fixed& one) {
    const auto* value = find(one.key);
    if (value && *value != nlohmann::json::parse(one.value))
      refuse(one.key, *value, std::string(one.value) + ", all that is known of a " + std::string(family_.model_type));
  }

  void rule(TopKRouterOptions& router) {
    router.score = family_.score;
    router.bias = family_.bias;
    router.selection_bias = flag(family_.selection_bias);
    if (flag(family_.renormalise)) {
      router.renormalise = Renormalise::before_dropping;
      router.epsilon = family_.epsilon;
    }
    number(family_.scale_key, router.scale, "a number above 0", [](double v) { return v > 0; });
    using Groups = MixtureFamily::Groups;
    bool grouped = family_.groups == Groups::two_best;
    if (family_.groups == Groups::best_by_method) {
      const auto* method = find("topk_method");
      grouped = method && *method == "group_limited_greedy";
      if (method && !grouped && *method != "greedy")
        refuse("topk_method", *method, R"("greedy" or "group_limited_greedy")");
    }
    if (!grouped) {  // what they say is not asked
      if (family_.groups == Groups::best_by_method) (void)find("n_group"), (void)find("topk_group");
      return;
    }
    size("n_group", router.groups.count);
    size("topk_group", router.groups.kept);
    router.groups.score = family_.groups == Groups::two_best ? GroupScore::two_best : GroupScore::best;
  }

  void shared(MixtureOptions& o) {
    if (family_.shared == SharedExpert::none) return;
    const auto key = family_.shared_count_key.empty() ? family_.shared_hidden_key : family_.shared_count_key;
    const auto* value = find(key);
    if (!value || *value == 0) {
      if (family_.shared == SharedExpert::gated && !value) missing(key);
      return;
    }
    Index size = 0;
    this->size(key, size);
    o.shared = family_.shared;
    o.shared_hidden = family_.shared_count_key.empty() ? size : size * o.hidden;
    o.shared_bias = flag(family_.shared_bias);
  }

  void quantisation(ForeignSizes& sizes) {
    const auto* how = find("quantization_config");
    if (!how) return;
    const auto* method = how->is_object() ? find_field(*how, "quant_method") : nullptr;
    const bool fp8 = method && *method == "fp8";
    if (!fp8 && !(method && *method == "mxfp4"))
      return refuse("quantization_config", *how, R"(a «quant_method» of "fp8" or "mxfp4")");
    if (!fp8) return;
    if (const auto* format = find_field(*how, "fmt"); format && *format != "e4m3")
      return refuse("quantization_config", *how, R"(a «fmt» of "e4m3")");
    const auto* block = find_field(*how, "weight_block_size");
    const auto side = [&](std::size_t i) {
      const bool sound = block && block->is_array() && block->size() == 2 && (*block)[i].is_number_integer() &&
                         (*block)[i] >= 1 && (*block)[i] <= kMaxConfigSize;
      return sound ? (*block)[i].get<Index>() : 0;
    };
    if (side(0) == 0 || side(1) == 0)
      return refuse("quantization_config", *how, "a «weight_block_size» of two whole numbers");
    sizes.fp8_rows = side(0);
    sizes.fp8_columns = side(1);
  }

  ConfigSection section_;
  const MixtureFamily& family_;
  std::string faults_;
};

}  // namespace detail

/// The mixtures of a config.json of transformers; of a model for pictures and text, those of its text_config. What it
/// does not state has the defaults of the family in transformers, but sizes have to be there. Throws FormatError that
/// names every field which is missing or has a value that is not known here, also one that nobody here knows and that
/// is not off: what may change a computation is done or refused.
inline MixtureConfig mixture_config(const nlohmann::json& json, const std::string& source) {
  if (const auto* text = find_field(json, "text_config"); text && text->is_object())
    return mixture_config(*text, source + ": text_config");
  const auto* type = find_field(json, "model_type");
  const auto name = type && type->is_string() ? type->get<std::string>() : "";
  std::string known;
  for (const auto& family : kMixtureFamilies) {
    if (family.model_type == name) {
      auto config = detail::MixtureConfigReader(json, source, family).read();
      try {
        std::visit([](const auto& o) { (void)o.checked(); }, config.options.router);
      } catch (const OptionError& error) {  // options that contradict each other are, in a file, a fault of the file
        throw FormatError(source + ": " + error.what());
      }
      return config;
    }
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  refuse_field(source, "model_type", type ? *type : nlohmann::json(), "one of " + known);
}

}  // namespace gatefold
