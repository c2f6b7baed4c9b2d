#pragma once
#include <list>

#include "gatefold/models/clip.hpp"
#include "gatefold/models/foreign_tensors.hpp"
#include "gatefold/models/name_map.hpp"

namespace gatefold {

namespace detail {

/// The other direction of read_foreign: parameters under other names and in other arrangements, collected for a file.
class ForeignWriter {
  static auto& at(auto values, Index i) { return values[static_cast<std::size_t>(i)]; }

 public:
  ForeignWriter(const NameMap& names, const ForeignSizes& sizes) : names_(names), sizes_(sizes) {}

  /// `two_tables` where Long-CLIP's way to store positions is wanted. Borrows the numbers, unless they have to change
  /// places. Throws OptionError for a parameter that has no name there.
  void add(std::string_view path, std::span<const Index> shape, std::span<const float> values, bool two_tables) {
    const auto source = way(path, two_tables);
    const auto theirs = path == "logit_scale" ? std::vector<Index>() : source_shape(shape, source, sizes_);
    if (source.arrangement == Arrangement::transposed)
      values = rearranged(values, [&, rows = shape[0], columns = shape[1]](std::span<float> to) {
        for (Index r = 0; r < rows; ++r)
          for (Index c = 0; c < columns; ++c) at(to, c * rows + r) = at(values, r * columns + c);
      });
    if (source.arrangement == Arrangement::convolution)
      values = rearranged(values, [&, area = sizes_.patch * sizes_.patch](std::span<float> to) {
        const Index channels = theirs[1];
        for (Index r = 0; r < shape[0]; ++r)
          for (Index pixel = 0; pixel < area; ++pixel)
            for (Index c = 0; c < channels; ++c)
              at(to, (r * channels + c) * area + pixel) = at(values, (r * area + pixel) * channels + c);
      });
    const bool stacked = source.arrangement == Arrangement::stacked;
    const std::size_t each = stacked ? values.size() / source.names.size() : values.size();
    for (std::size_t i = 0; i < source.names.size(); ++i)
      file_.add_bytes(source.names[i], Dtype::f32, theirs, std::as_bytes(values.subspan(stacked ? i * each : 0, each)));
  }

  void write(const std::filesystem::path& path) {
    file_.add_metadata("format", "pt");  // transformers asks for it
    file_.write(path);
  }

 private:
  NamedSource way(std::string_view path, bool two_tables) const {
    for (const auto& way : names_.find(path)) {
      if (way.arrangement == Arrangement::two_tables_at_20 ? two_tables : way.arrangement != Arrangement::scaled_rows)
        return way;
    }
    throw OptionError("save_clip: " + quote_text(path) + " has no name among those of this kind of file");
  }

  template <class Fill>
  std::span<const float> rearranged(std::span<const float> values, const Fill& fill) {
    auto& to = memory_.emplace_back(values.size());
    fill(std::span<float>(to));
    return to;
  }

  const NameMap& names_;
  ForeignSizes sizes_;
  SafeTensorsWriter file_;
  std::list<std::vector<float>> memory_;
};

}  // namespace detail

/// The weights of a CLIP under the names of others, as load_clip reads them: Hugging Face's for a dense model,
/// OpenAI's, which are CLIP-MoE's where feed-forward nets are mixtures. A CLIP-MoE of 248 positions gets its two
/// tables. F32. Throws OptionError for mixtures under Hugging Face's names, which has none, std::system_error; an old
/// file survives every error.
inline void save_clip(const Clip<float>& model, ClipNames names, const std::filesystem::path& path) {
  const auto& o = model.options;
  const bool mixtures = !o.vision.mixture.placement.layers.empty() || !o.text.mixture.placement.layers.empty();
  detail::ForeignWriter file(names == ClipNames::hugging_face ? kHuggingFaceClipNames : kOpenAiClipNames,
                             {.patch = o.patch});
  for_each_param([&](std::string_view at,
                     const auto& tensor) { file.add(at, tensor.shape(), tensor.flat(), mixtures && o.context == 248); },
                 model);
  file.write(path);
}

/// config.json of a CLIP as transformers' CLIPModel has it; clip_options_of_config reads it. Beside weights under other
/// names it tells the heads, the activation and the epsilon, which those do not. `beginning` is the id that texts begin
/// with. Throws OptionError for what CLIPModel cannot be.
inline nlohmann::ordered_json config_of_clip(const ClipOptions& o, Index beginning, Index end) {
  expect_option(o.image_pre_norm && o.image_pool == ClipPool::token && o.text_pool == ClipTextPool::end &&
                    o.causal_text && o.vision.activation == o.text.activation,
                "config_of_clip: transformers' CLIPModel has a norm in front of the blocks, reads images off at the "
                "class token and texts at their end, which a token sees nothing behind; this one does not");
  const auto tower = [](const ClipTowerOptions& t) {
    return nlohmann::ordered_json{{"hidden_size", t.width},
                                  {"intermediate_size", t.hidden},
                                  {"num_hidden_layers", t.num_layers},
                                  {"num_attention_heads", t.num_heads},
                                  {"hidden_act", t.activation == ClipActivation::quick_gelu ? "quick_gelu" : "gelu"},
                                  {"layer_norm_eps", t.epsilon}};
  };
  auto text = tower(o.text), vision = tower(o.vision);
  text.update({{"vocab_size", o.vocabulary},
               {"max_position_embeddings", o.context},
               {"bos_token_id", beginning},
               {"eos_token_id", end},
               {"pad_token_id", end},
               {"projection_dim", o.embedding}});
  vision.update({{"image_size", o.image_size},
                 {"patch_size", o.patch},
                 {"num_channels", o.channels},
                 {"projection_dim", o.embedding}});
  return {{"architectures", {"CLIPModel"}},
          {"model_type", "clip"},
          {"projection_dim", o.embedding},
          {"logit_scale_init_value", std::log(o.initial_temperature)},
          {"text_config", text},
          {"vision_config", vision},
          {"torch_dtype", "float32"}};
}

}  // namespace gatefold
