#pragma once
#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gatefold/core/shape.hpp"

namespace gatefold {

/// How a parameter is made of the tensors of somebody else's file.
enum class Arrangement {
  stacked,           ///< One as it is, or several one below the other (query, key, value).
  transposed,        ///< x @ w, [in, out].
  convolution,       ///< [D, C, P, P], whose patches are channel, row, column where ours are row, column, channel.
  two_tables_at_20,  ///< Rows 0..19 of the first tensor, the others of the second (Long-CLIP's positions).
  scaled_rows,       ///< Each row of the first tensor times a number of the second (a layer scale, folded in).
  // One slice of a tensor that holds all experts, of whom the last number of the path says which:
  experts,             ///< [E, out, in], or [E, out] of biases.
  experts_transposed,  ///< [E, in, out].
  experts_mxfp4,       ///< Blocks [E, out, in / 32, 16] and their scales [E, out, in / 32], bytes both.
};

/// Which of the outputs in a tensor are a parameter's, where gate and up stand in one.
enum class Part { whole, first_half, second_half, even, odd };

/// Whose names the tensors of a CLIP have, and so whose habits the rest of its files follow.
enum class ClipNames {
  hugging_face,  ///< transformers' CLIPModel.
  open_clip      ///< OpenAI's, open_clip's and CLIP-MoE's.
};

/// «{}» stands for a number; the numbers of a name on the left are those of the names on the right, in their order.
struct NameRule {
  std::string_view ours;
  std::string_view theirs;  ///< Several names are separated by spaces.
  Arrangement arrangement = Arrangement::stacked;
  Part part = Part::whole;
};

/// A parameter's tensors.
struct NamedSource {
  std::vector<std::string> names;
  Arrangement arrangement;
  Part part = Part::whole;
  Index number = 0;  ///< The last one of the path.
};

/// Which tensors of a foreign file a parameter is made of: tables, in one place.
struct NameMap {
  struct Prefix {
    std::string_view ours, theirs;
  };
  std::span<const NameRule> rules;
  std::span<const Prefix> block_prefixes;  ///< What the rules of a block stand behind.
  std::span<const NameRule> block_rules;
  std::span<const std::string_view> ignored;  ///< Ends of names that are no parameters.

  /// The ways to make a parameter, to be tried in this order. Empty for a name that no rule has.
  std::vector<NamedSource> find(std::string_view path) const {
    std::vector<std::string> numbers;
    const std::string pattern = without_numbers(path, numbers);
    std::vector<NamedSource> found;
    for (const auto& rule : rules)
      if (rule.ours == pattern) found.push_back(fill(rule, "", numbers));
    for (const auto& prefix : block_prefixes)
      if (pattern.starts_with(prefix.ours))
        for (const auto& rule : block_rules)
          if (rule.ours == std::string_view(pattern).substr(prefix.ours.size()))
            found.push_back(fill(rule, prefix.theirs, numbers));
    return found;
  }

  bool ignores(std::string_view name) const {
    for (const auto end : ignored)
      if (name.ends_with(end)) return true;
    return false;
  }

 private:
  /// "blocks.12.weight" -> "blocks.{}.weight" and "12".
  static std::string without_numbers(std::string_view path, std::vector<std::string>& numbers) {
    std::string pattern;
    while (true) {
      const auto part = path.substr(0, path.find('.'));
      const bool number = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
      if (number) numbers.emplace_back(part);
      pattern += number ? "{}" : part;
      if (part.size() == path.size()) return pattern;
      pattern += '.';
      path.remove_prefix(part.size() + 1);
    }
  }

  static NamedSource fill(const NameRule& rule, std::string_view prefix, const std::vector<std::string>& numbers) {
    NamedSource source{{}, rule.arrangement, rule.part, numbers.empty() ? 0 : std::stoll(numbers.back())};
    for (auto theirs = rule.theirs; !theirs.empty();) {
      const auto one = theirs.substr(0, theirs.find(' '));
      theirs.remove_prefix(std::min(theirs.size(), one.size() + 1));
      std::string name = std::string(prefix) + std::string(one);
      auto number = numbers.begin();
      for (std::size_t at = 0; (at = name.find("{}", at)) != name.npos && number != numbers.end();)
        name.replace(at, 2, *number++);
      source.names.push_back(std::move(name));
    }
    return source;
  }
};

namespace detail {

inline constexpr NameRule kHuggingFaceClip[] = {
    {"vision.patch_embed.projection.weight", "vision_model.embeddings.patch_embedding.weight",
     Arrangement::convolution},
    {"vision.class_token.token", "vision_model.embeddings.class_embedding"},
    {"vision.position.table", "vision_model.embeddings.position_embedding.weight"},
    {"vision.pre_norm.gain", "vision_model.pre_layrnorm.weight"},  // sic
    {"vision.pre_norm.bias", "vision_model.pre_layrnorm.bias"},
    {"vision.encoder.norm.gain", "vision_model.post_layernorm.weight"},
    {"vision.encoder.norm.bias", "vision_model.post_layernorm.bias"},
    {"vision.projection.weight", "visual_projection.weight"},
    {"text.word_embed.table", "text_model.embeddings.token_embedding.weight"},
    {"text.position.table", "text_model.embeddings.position_embedding.weight"},
    {"text.encoder.norm.gain", "text_model.final_layer_norm.weight"},
    {"text.encoder.norm.bias", "text_model.final_layer_norm.bias"},
    {"text.projection.weight", "text_projection.weight"},
    {"logit_scale", "logit_scale"},
};
inline constexpr NameMap::Prefix kHuggingFaceClipBlocks[] = {
    {"vision.encoder.blocks.{}.", "vision_model.encoder.layers.{}."},
    {"text.encoder.blocks.{}.", "text_model.encoder.layers.{}."},
};
inline constexpr NameRule kHuggingFaceClipBlock[] = {
    {"attention.norm.gain", "layer_norm1.weight"},
    {"attention.norm.bias", "layer_norm1.bias"},
    {"attention.inner.qkv.weight", "self_attn.q_proj.weight self_attn.k_proj.weight self_attn.v_proj.weight"},
    {"attention.inner.qkv.bias", "self_attn.q_proj.bias self_attn.k_proj.bias self_attn.v_proj.bias"},
    {"attention.inner.out.weight", "self_attn.out_proj.weight"},
    {"attention.inner.out.bias", "self_attn.out_proj.bias"},
    {"ffn.norm.gain", "layer_norm2.weight"},
    {"ffn.norm.bias", "layer_norm2.bias"},
    {"ffn.inner.up.weight", "mlp.fc1.weight"},
    {"ffn.inner.up.bias", "mlp.fc1.bias"},
    {"ffn.inner.down.weight", "mlp.fc2.weight"},
    {"ffn.inner.down.bias", "mlp.fc2.bias"},
};
inline constexpr std::string_view kHuggingFaceClipIgnored[] = {"embeddings.position_ids"};

inline constexpr NameRule kOpenAiClip[] = {
    {"vision.patch_embed.projection.weight", "visual.conv1.weight", Arrangement::convolution},
    {"vision.class_token.token", "visual.class_embedding"},
    {"vision.position.table", "visual.positional_embedding"},
    {"vision.pre_norm.gain", "visual.ln_pre.weight"},
    {"vision.pre_norm.bias", "visual.ln_pre.bias"},
    {"vision.encoder.norm.gain", "visual.ln_post.weight"},
    {"vision.encoder.norm.bias", "visual.ln_post.bias"},
    {"vision.projection.weight", "visual.proj", Arrangement::transposed},
    {"text.word_embed.table", "token_embedding.weight"},
    {"text.position.table", "positional_embedding positional_embedding_res", Arrangement::two_tables_at_20},
    {"text.position.table", "positional_embedding"},
    {"text.encoder.norm.gain", "ln_final.weight"},
    {"text.encoder.norm.bias", "ln_final.bias"},
    {"text.projection.weight", "text_projection", Arrangement::transposed},
    {"logit_scale", "logit_scale"},
};
inline constexpr NameMap::Prefix kOpenAiClipBlocks[] = {
    {"vision.encoder.blocks.{}.", "visual.transformer.resblocks.{}."},
    {"text.encoder.blocks.{}.", "transformer.resblocks.{}."},
};
inline constexpr NameRule kOpenAiClipBlock[] = {
    {"attention.norm.gain", "ln_1.weight"},
    {"attention.norm.bias", "ln_1.bias"},
    {"attention.inner.qkv.weight", "attn.in_proj_weight"},
    {"attention.inner.qkv.bias", "attn.in_proj_bias"},
    {"attention.inner.out.weight", "attn.out_proj.weight ls_1.gamma", Arrangement::scaled_rows},
    {"attention.inner.out.weight", "attn.out_proj.weight"},
    {"attention.inner.out.bias", "attn.out_proj.bias ls_1.gamma", Arrangement::scaled_rows},
    {"attention.inner.out.bias", "attn.out_proj.bias"},
    {"ffn.norm.gain", "ln_2.weight"},
    {"ffn.norm.bias", "ln_2.bias"},
    {"ffn.inner.up.weight", "mlp.c_fc.weight"},
    {"ffn.inner.up.bias", "mlp.c_fc.bias"},
    {"ffn.inner.down.weight", "mlp.c_proj.weight ls_2.gamma", Arrangement::scaled_rows},
    {"ffn.inner.down.weight", "mlp.c_proj.weight"},
    {"ffn.inner.down.bias", "mlp.c_proj.bias ls_2.gamma", Arrangement::scaled_rows},
    {"ffn.inner.down.bias", "mlp.c_proj.bias"},
    // CLIP-MoE
    {"ffn.inner.router.weight", "gate.weight"},
    {"ffn.inner.experts.{}.up.weight", "experts.{}.c_fc.weight"},
    {"ffn.inner.experts.{}.up.bias", "experts.{}.c_fc.bias"},
    {"ffn.inner.experts.{}.down.weight", "experts.{}.c_proj.weight"},
    {"ffn.inner.experts.{}.down.bias", "experts.{}.c_proj.bias"},
};
/// What OpenAI's archive and old state dicts keep beside the weights.
inline constexpr std::string_view kOpenAiClipIgnored[] = {"input_resolution", "context_length", "vocab_size",
                                                          "attn_mask"};
}  // namespace detail

/// CLIPModel of transformers.
inline constexpr NameMap kHuggingFaceClipNames{detail::kHuggingFaceClip, detail::kHuggingFaceClipBlocks,
                                               detail::kHuggingFaceClipBlock, detail::kHuggingFaceClipIgnored};
/// The state dict of OpenAI's CLIP and of open_clip, and CLIP-MoE's, which adds to it.
inline constexpr NameMap kOpenAiClipNames{detail::kOpenAiClip, detail::kOpenAiClipBlocks, detail::kOpenAiClipBlock,
                                          detail::kOpenAiClipIgnored};

}  // namespace gatefold
