#pragma once
#include <string_view>

#include "gatefold/models/mixture.hpp"
#include "gatefold/models/name_map.hpp"

namespace gatefold {

/// One published family of mixtures: what its configuration means and what its tensors are called, as data. A family
/// that differs in nothing else is one more row of kMixtureFamilies.
struct MixtureFamily {
  /// Read under `key`; where that is missing, or there is no key, `otherwise`.
  struct Flag {
    std::string_view key{};
    bool otherwise = false;
  };
  /// A key that may be there with this value only, as JSON: with any other the model computes something else.
  struct Fixed {
    std::string_view key, value;
  };

  std::string_view model_type;
  std::span<const NameRule> names;  ///< Behind «….layers.N.».
  std::span<const Fixed> fixed{};
  std::string_view hidden_key = "moe_intermediate_size";
  RouterScore score = RouterScore::softmax;
  bool bias = false;  ///< Of the router and of the experts.
  Flag selection_bias{}, renormalise{};
  double epsilon = 0;
  /// n_group and topk_group are read; in DeepSeek-V2 only where topk_method says group_limited_greedy.
  enum class Groups { none, best_by_method, two_best } groups = Groups::none;
  std::string_view scale_key{};
  std::string_view tolerance_key{};  ///< Of a SparseMixerRouter, which there is instead where this is given.
  std::string_view noise_key{};      ///< Training multiplies the whole block's x by U(1 - noise, 1 + noise).
  Weighed weighed = Weighed::outputs;
  ExpertActivation activation = ExpertActivation::silu;
  SharedExpert shared = SharedExpert::none;
  std::string_view shared_hidden_key{}, shared_count_key{};  ///< Its width, or how many experts wide it is.
  Flag shared_bias{};
};

namespace detail {

inline constexpr NameRule kQwenMixture[] = {
    {"router.weight", "mlp.gate.weight"},
    {"experts.{}.gate.weight", "mlp.experts.{}.gate_proj.weight"},
    {"experts.{}.up.weight", "mlp.experts.{}.up_proj.weight"},
    {"experts.{}.down.weight", "mlp.experts.{}.down_proj.weight"},
    // Qwen2-MoE
    {"b.gate.weight", "mlp.shared_expert_gate.weight"},
    {"b.inner.gate.weight", "mlp.shared_expert.gate_proj.weight"},
    {"b.inner.up.weight", "mlp.shared_expert.up_proj.weight"},
    {"b.inner.down.weight", "mlp.shared_expert.down_proj.weight"},
};
inline constexpr NameRule kDeepSeekMixture[] = {
    {"router.weight", "mlp.gate.weight"},
    {"router.selection_bias", "mlp.gate.e_score_correction_bias"},
    {"experts.{}.gate.weight", "mlp.experts.{}.gate_proj.weight"},
    {"experts.{}.up.weight", "mlp.experts.{}.up_proj.weight"},
    {"experts.{}.down.weight", "mlp.experts.{}.down_proj.weight"},
    {"b.gate.weight", "mlp.shared_experts.gate_proj.weight"},
    {"b.gate.bias", "mlp.shared_experts.gate_proj.bias"},
    {"b.up.weight", "mlp.shared_experts.up_proj.weight"},
    {"b.up.bias", "mlp.shared_experts.up_proj.bias"},
    {"b.down.weight", "mlp.shared_experts.down_proj.weight"},
    {"b.down.bias", "mlp.shared_experts.down_proj.bias"},
};
inline constexpr NameRule kMixtralMixture[] = {
    {"router.weight", "block_sparse_moe.gate.weight"},
    {"experts.{}.gate.weight", "block_sparse_moe.experts.{}.w1.weight"},
    {"experts.{}.up.weight", "block_sparse_moe.experts.{}.w3.weight"},
    {"experts.{}.down.weight", "block_sparse_moe.experts.{}.w2.weight"},
};
inline constexpr NameRule kGraniteMixture[] = {
    {"router.weight", "block_sparse_moe.router.layer.weight"},
    {"experts.{}.gate.weight", "block_sparse_moe.input_linear.weight", Arrangement::experts, Part::first_half},
    {"experts.{}.up.weight", "block_sparse_moe.input_linear.weight", Arrangement::experts, Part::second_half},
    {"experts.{}.down.weight", "block_sparse_moe.output_linear.weight", Arrangement::experts},
    {"b.gate.weight", "shared_mlp.input_linear.weight", Arrangement::stacked, Part::first_half},
    {"b.up.weight", "shared_mlp.input_linear.weight", Arrangement::stacked, Part::second_half},
    {"b.down.weight", "shared_mlp.output_linear.weight"},
};
inline constexpr NameRule kLfm2Mixture[] = {
    {"router.weight", "feed_forward.gate.weight"},
    {"router.selection_bias", "feed_forward.expert_bias"},
    {"experts.{}.gate.weight", "feed_forward.experts.{}.w1.weight"},
    {"experts.{}.up.weight", "feed_forward.experts.{}.w3.weight"},
    {"experts.{}.down.weight", "feed_forward.experts.{}.w2.weight"},
};
inline constexpr NameRule kLlama4Mixture[] = {
    {"router.weight", "feed_forward.router.weight"},
    {"experts.{}.gate.weight", "feed_forward.experts.gate_up_proj", Arrangement::experts_transposed, Part::first_half},
    {"experts.{}.up.weight", "feed_forward.experts.gate_up_proj", Arrangement::experts_transposed, Part::second_half},
    {"experts.{}.down.weight", "feed_forward.experts.down_proj", Arrangement::experts_transposed},
    {"b.gate.weight", "feed_forward.shared_expert.gate_proj.weight"},
    {"b.up.weight", "feed_forward.shared_expert.up_proj.weight"},
    {"b.down.weight", "feed_forward.shared_expert.down_proj.weight"},
};
inline constexpr NameRule kGptOssMixture[] = {
    {"router.weight", "mlp.router.weight"},
    {"router.bias", "mlp.router.bias"},
    {"experts.{}.gate.weight", "mlp.experts.gate_up_proj_blocks mlp.experts.gate_up_proj_scales",
     Arrangement::experts_mxfp4, Part::even},
    {"experts.{}.gate.weight", "mlp.experts.gate_up_proj", Arrangement::experts_transposed, Part::even},
    {"experts.{}.gate.bias", "mlp.experts.gate_up_proj_bias", Arrangement::experts, Part::even},
    {"experts.{}.up.weight", "mlp.experts.gate_up_proj_blocks mlp.experts.gate_up_proj_scales",
     Arrangement::experts_mxfp4, Part::odd},
    {"experts.{}.up.weight", "mlp.experts.gate_up_proj", Arrangement::experts_transposed, Part::odd},
    {"experts.{}.up.bias", "mlp.experts.gate_up_proj_bias", Arrangement::experts, Part::odd},
    {"experts.{}.down.weight", "mlp.experts.down_proj_blocks mlp.experts.down_proj_scales", Arrangement::experts_mxfp4},
    {"experts.{}.down.weight", "mlp.experts.down_proj", Arrangement::experts_transposed},
    {"experts.{}.down.bias", "mlp.experts.down_proj_bias", Arrangement::experts},
};

inline constexpr MixtureFamily::Fixed kDeepSeekV2Fixed[] = {{"scoring_func", R"("softmax")"},
                                                            {"norm_topk_prob", "false"}};
inline constexpr MixtureFamily::Fixed kDeepSeekV3Fixed[] = {{"scoring_func", R"("sigmoid")"},
                                                            {"topk_method", R"("noaux_tc")"}};
inline constexpr MixtureFamily::Fixed kGptOssFixed[] = {{"swiglu_limit", "7.0"}, {"swiglu_alpha", "1.702"}};
inline constexpr MixtureFamily::Fixed kLlama4Fixed[] = {{"router_jitter_noise", "0.0"}};

}  // namespace detail

/// What is published, by the model_type of its config.json.
inline constexpr MixtureFamily kMixtureFamilies[] = {
    {.model_type = "mixtral",
     .names = detail::kMixtralMixture,
     .hidden_key = "intermediate_size",
     .renormalise = {.otherwise = true},
     .noise_key = "router_jitter_noise"},
    {.model_type = "qwen2_moe",
     .names = detail::kQwenMixture,
     .renormalise = {.key = "norm_topk_prob"},
     .shared = SharedExpert::gated,
     .shared_hidden_key = "shared_expert_intermediate_size"},
    {.model_type = "qwen3_moe", .names = detail::kQwenMixture, .renormalise = {.key = "norm_topk_prob"}},
    {.model_type = "olmoe",
     .names = detail::kQwenMixture,
     .hidden_key = "intermediate_size",
     .renormalise = {.key = "norm_topk_prob"}},
    {.model_type = "deepseek_v2",
     .names = detail::kDeepSeekMixture,
     .fixed = detail::kDeepSeekV2Fixed,
     .groups = MixtureFamily::Groups::best_by_method,
     .scale_key = "routed_scaling_factor",
     .shared = SharedExpert::plain,
     .shared_count_key = "n_shared_experts",
     .shared_bias = {.key = "mlp_bias"}},
    {.model_type = "deepseek_v3",
     .names = detail::kDeepSeekMixture,
     .fixed = detail::kDeepSeekV3Fixed,
     .score = RouterScore::sigmoid,
     .selection_bias = {.otherwise = true},
     .renormalise = {.key = "norm_topk_prob", .otherwise = true},
     .epsilon = 1e-20,
     .groups = MixtureFamily::Groups::two_best,
     .scale_key = "routed_scaling_factor",
     .shared = SharedExpert::plain,
     .shared_count_key = "n_shared_experts"},
    {.model_type = "granitemoe",
     .names = detail::kGraniteMixture,
     .hidden_key = "intermediate_size",
     .renormalise = {.otherwise = true}},
    {.model_type = "granitemoeshared",
     .names = detail::kGraniteMixture,
     .hidden_key = "intermediate_size",
     .renormalise = {.otherwise = true},
     .shared = SharedExpert::plain,
     .shared_hidden_key = "shared_intermediate_size"},
    {.model_type = "gpt_oss",
     .names = detail::kGptOssMixture,
     .fixed = detail::kGptOssFixed,
     .hidden_key = "intermediate_size",
     .bias = true,
     .renormalise = {.otherwise = true},
     .activation = ExpertActivation::gpt_oss},
    {.model_type = "lfm2_moe",
     .names = detail::kLfm2Mixture,
     .score = RouterScore::sigmoid,
     .selection_bias = {.key = "use_expert_bias", .otherwise = true},
     .renormalise = {.key = "norm_topk_prob", .otherwise = true},
     .epsilon = 1e-6,
     .scale_key = "routed_scaling_factor"},
    {.model_type = "llama4_text",
     .names = detail::kLlama4Mixture,
     .fixed = detail::kLlama4Fixed,
     .hidden_key = "intermediate_size",
     .score = RouterScore::sigmoid,
     .weighed = Weighed::inputs,
     .shared = SharedExpert::plain,
     .shared_hidden_key = "intermediate_size"},
    {.model_type = "phimoe",
     .names = detail::kMixtralMixture,
     .hidden_key = "intermediate_size",
     .tolerance_key = "router_jitter_noise",
     .noise_key = "input_jitter_noise"},
};

}  // namespace gatefold
