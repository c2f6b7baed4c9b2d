#pragma once
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "gatefold/io/json_file.hpp"

namespace gatefold::detail {

/// A file is not trusted with the size of what is allocated for it.
inline constexpr Index kMaxConfigSize = Index{1} << 20;

/// Reads the fields of one section of a configuration; what is missing or null keeps its default. What nobody asked for
/// is unknown, and `refuse_unknown` says so by name: it might change what the model computes.
class ConfigSection {
 public:
  ConfigSection(const nlohmann::json& json, std::string source) : json_(json), source_(std::move(source)) {
    if (!json.is_object()) throw FormatError(source_ + ": is not a JSON object (cut short?)");
  }

  const std::string& source() const { return source_; }
  const nlohmann::json* find(const char* name) const {
    known_.insert(name);
    return find_field(json_, name);
  }
  void size(const char* name, Index& out, Index most = kMaxConfigSize) const {
    const auto* value = find(name);
    if (!value) return;
    const auto* one = value->is_array() && value->size() == 2 && (*value)[0] == (*value)[1] ? &(*value)[0] : value;
    if (!one->is_number_integer() || *one < 1 || *one > most)
      refuse(name, *value, "a whole number of 1.." + std::to_string(most));
    out = one->get<Index>();
  }
  /// A size that the weights have told already. Throws FormatError if they do not agree.
  void same_size(const char* name, Index of_weights) const {
    Index size = of_weights;
    this->size(name, size);
    if (size != of_weights)
      refuse(name, *find(name), std::to_string(of_weights) + " as the weights have it; do they belong together?");
  }
  void positive(const char* name, double& out) const {
    const auto* value = find(name);
    if (!value) return;
    if (!value->is_number() || !(value->get<double>() > 0 && value->get<double>() < 1))
      refuse(name, *value, "a number between 0 and 1");
    out = value->get<double>();
  }
  bool flag(const char* name) const {
    const auto* value = find(name);
    if (value && !value->is_boolean()) refuse(name, *value, "true or false");
    return value && value->get<bool>();
  }

  /// What may stand there because it changes nothing that is computed here.
  void allow(std::span<const std::string_view> names) const { known_.insert(names.begin(), names.end()); }
  /// Throws FormatError for the first field that nobody asked for and that is not off (null, false or empty).
  void refuse_unknown() const {
    for (const auto& name : unknown()) refuse_unknown(name);
  }
  std::vector<std::string> unknown() const {
    std::vector<std::string> names;
    for (const auto& [name, value] : json_.items())
      if (!known_.contains(name) && !name.starts_with('_') && !is_off(value)) names.push_back(name);
    return names;
  }
  [[noreturn]] void refuse_unknown(const std::string& name) const {
    refuse(name, json_[name], "not to find it: it is not known here and may change what the model computes");
  }
  [[noreturn]] void refuse(const std::string& name, const nlohmann::json& value, const std::string& wanted) const {
    refuse_field(source_, name, value, wanted);
  }

  static bool is_off(const nlohmann::json& value) {
    return value.is_null() || value == false || ((value.is_structured() || value.is_string()) && value.empty()) ||
           value == "";
  }

 private:
  const nlohmann::json& json_;
  std::string source_;
  mutable std::set<std::string, std::less<>> known_;
};

/// What transformers writes into any configuration and what means nothing to the parts that are read here: how the
/// model was trained and made, and how text would be generated.
inline constexpr std::string_view kHuggingFaceHarmless[] = {"architectures",
                                                            "attention_dropout",
                                                            "attn_implementation",
                                                            "bad_words_ids",
                                                            "begin_suppress_tokens",
                                                            "bos_token_id",
                                                            "chunk_size_feed_forward",
                                                            "cross_attention_hidden_size",
                                                            "decoder_start_token_id",
                                                            "diversity_penalty",
                                                            "do_sample",
                                                            "dropout",
                                                            "dtype",
                                                            "early_stopping",
                                                            "encoder_no_repeat_ngram_size",
                                                            "exponential_decay_length_penalty",
                                                            "finetuning_task",
                                                            "forced_bos_token_id",
                                                            "forced_eos_token_id",
                                                            "gradient_checkpointing",
                                                            "id2label",
                                                            "initializer_factor",
                                                            "initializer_range",
                                                            "is_composition",
                                                            "is_encoder_decoder",
                                                            "label2id",
                                                            "length_penalty",
                                                            "logit_scale_init_value",
                                                            "max_length",
                                                            "min_length",
                                                            "model_type",
                                                            "no_repeat_ngram_size",
                                                            "num_beam_groups",
                                                            "num_beams",
                                                            "num_return_sequences",
                                                            "output_attentions",
                                                            "output_hidden_states",
                                                            "output_scores",
                                                            "pad_token_id",
                                                            "prefix",
                                                            "problem_type",
                                                            "projection_dim",
                                                            "remove_invalid_values",
                                                            "repetition_penalty",
                                                            "return_dict",
                                                            "return_dict_in_generate",
                                                            "sep_token_id",
                                                            "suppress_tokens",
                                                            "task_specific_params",
                                                            "temperature",
                                                            "tf_legacy_loss",
                                                            "tie_encoder_decoder",
                                                            "tie_word_embeddings",
                                                            "tokenizer_class",
                                                            "top_k",
                                                            "top_p",
                                                            "torch_dtype",
                                                            "torchscript",
                                                            "transformers_version",
                                                            "typical_p",
                                                            "use_bfloat16",
                                                            "use_cache",
                                                            "vision_config_dict",
                                                            "text_config_dict"};

}  // namespace gatefold::detail
