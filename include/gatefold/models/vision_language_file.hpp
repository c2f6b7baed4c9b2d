#pragma once
#include "gatefold/models/model_file.hpp"
#include "gatefold/models/vision_language_depths.hpp"
#include "gatefold/models/words_file.hpp"

namespace gatefold {

/// Every option of a VisionLanguage under its name, once, for writing and reading.
template <class Visitor, class Options>
requires std::same_as<std::remove_const_t<Options>, VisionLanguageOptions>
void visit_options(Visitor&& v, Options& o) {
  const auto vision = [&](const std::string& name, auto& value) { v("vision_" + name, value); };
  visit_picture_options(vision, o.vision);
  visit_transformer_options(vision, o.vision);
  v("projector", o.projector);
  v("vocabulary", o.vocabulary);
  v("context", o.context);
  visit_transformer_options(v, o);
  v("num_key_heads", o.num_key_heads);
  v("head_width", o.head_width);
  v("rotary_base", o.rotary_base);
  v("epsilon", o.epsilon);
  v("attention_bias", o.attention_bias);
  v("query_key_norm", o.query_key_norm);
  v("head", o.head);
}

/// The same of a block that skips, but for its width, which is the model's.
template <class Visitor, class Options>
requires std::same_as<std::remove_const_t<Options>, MixtureOfDepthsOptions>
void visit_options(Visitor&& v, Options& o) {
  v("skipped", o.skipped);
  v("always", o.always);
  v("first_always", o.first_always);
  v("choice", o.choice);
  v("threshold", o.threshold);
  v("gate", o.gate);
  v("places", o.places);
  v("aux_weight", o.aux_weight);
}

constexpr int num_values(MixtureOfDepthsOptions::Choice) { return 2; }
constexpr int num_values(MixtureOfDepthsOptions::Gate) { return 2; }
constexpr int num_values(MixtureOfDepthsOptions::Places) { return 2; }
constexpr int num_values(VisionLanguageOptions::Projector) { return 2; }
constexpr int num_values(VisionLanguageOptions::Head) { return 2; }
constexpr int num_values(QueryKeyNorm) { return 3; }

namespace detail {
/// What a model of these options holds.
inline double count_numbers(const VisionLanguageOptions& o) {
  const auto number = [](Index n) { return static_cast<double>(n); };
  const auto& vision = o.vision;
  const double s = number(vision.width), across = number(vision.image_size / vision.patch);
  const double seen = s * (number(vision.patch) * number(vision.patch) * number(vision.channels) + across * across) +
                      number(vision.num_layers) * (4 * s * s + 2 * s * number(vision.hidden));
  const double d = number(o.width), width = number(o.head_width ? o.head_width : o.width / o.num_heads);
  const double heads = number(o.num_heads) + number(o.num_key_heads ? o.num_key_heads : o.num_heads);
  const double block = d * (2 * heads * width + 3 * number(o.hidden));
  const bool mlp = o.projector == VisionLanguageOptions::Projector::mlp;
  const bool tied = o.head == VisionLanguageOptions::Head::tied;
  return seen + d * (s + (mlp ? d : 0)) + (tied ? 1 : 2) * d * number(o.vocabulary) + number(o.num_layers) * block;
}
inline constexpr const char* kVisionLanguageKey = "gatefold.vision_language";
inline constexpr std::string_view kDepthsPrefix = "gatefold.depths.";
inline std::string depths_key(Index layer) { return std::string(kDepthsPrefix) + std::to_string(layer); }

/// The blocks that skip. Throws FormatError for one that the model has not.
inline std::map<Index, MixtureOfDepthsOptions> read_depths(const CheckpointReader& reader,
                                                           const VisionLanguageOptions& model) {
  std::map<Index, MixtureOfDepthsOptions> depths;
  for (const auto& [key, text] : reader.file().metadata()) {
    if (!key.starts_with(kDepthsPrefix)) continue;
    Index layer = 0;
    while (layer < model.num_layers && key != depths_key(layer)) ++layer;
    if (layer == model.num_layers)
      refuse_configuration(reader.file().source(),
                           "«" + key + "» is of no block, expected 0.." + std::to_string(model.num_layers - 1));
    auto options = options_from_json<MixtureOfDepthsOptions>(text, reader.file().source());
    options.width = model.width;
    depths.emplace(layer, options);
  }
  return depths;
}
}  // namespace detail

/// The options as JSON.
inline std::string to_json(const VisionLanguageOptions& options) { return options_to_json(options); }

/// Throws FormatError that names the first option that is missing, unknown or of another kind.
inline VisionLanguageOptions vision_language_options_from_json(const std::string& text, const std::string& source) {
  const auto o = options_from_json<VisionLanguageOptions>(text, source);
  const auto maybe = [](Index size) { return size == 0 ? 1 : size; };
  detail::expect_file_sizes(
      source, {o.vision.image_size, o.vision.patch, o.vision.channels, o.vision.width, o.vision.hidden,
               maybe(o.vision.num_layers), o.vision.num_heads, o.vocabulary, o.context, o.width, o.hidden, o.num_layers,
               o.num_heads, maybe(o.num_key_heads), maybe(o.head_width)});
  return o;
}

/// A model, some of whose blocks may skip, together with what is needed to use it: its words, and what is to be said of
/// it.
struct VisionLanguageFile {
  DepthsVisionLanguage<float> model;
  Vocabulary vocabulary;
  std::map<std::string, std::string> card = {};  ///< licence, data, seed, command...
};

/// Writes weights, configuration, which blocks skip and how, vocabulary and card. Throws as CheckpointWriter does; an
/// old file survives every error.
inline void save_vision_language(const VisionLanguageFile& file, const std::filesystem::path& path,
                                 std::optional<Dtype> dtype = std::nullopt) {
  CheckpointWriter writer;
  writer.add("model", file.model, dtype);
  writer.add_metadata(detail::kVisionLanguageKey, to_json(file.model.options));
  const auto& blocks = file.model.decoder.blocks;
  for (std::size_t layer = 0; layer < blocks.size(); ++layer)
    if (const auto* const skipping = std::get_if<1>(&blocks[layer].layer))
      writer.add_metadata(detail::depths_key(static_cast<Index>(layer)), options_to_json(skipping->options));
  detail::add_words(file.vocabulary, writer);
  detail::add_card(file.card, writer);
  writer.write(path);
}

/// Throws FormatError (with everything that is wrong) if the file is no sound VisionLanguage or has weights that are no
/// finite numbers, std::system_error if it cannot be read.
inline VisionLanguageFile load_vision_language(const std::filesystem::path& path) {
  using Model = DepthsVisionLanguage<float>;
  using Layer = Model::Decoder::Block;
  const CheckpointReader reader(path);
  const auto source = path.string();
  const auto options = vision_language_options_from_json(reader.metadata(detail::kVisionLanguageKey), source);
  auto vocabulary = detail::read_words(reader, options.vocabulary);
  detail::expect_stored(detail::count_numbers(options), reader);
  const auto depths = detail::read_depths(reader, options);
  const auto make = [&](Index layer) {
    auto block = make_decoder_block<float>(options);
    const auto at = depths.find(layer);
    return at == depths.end() ? Layer(std::move(block)) : Layer(MixtureOfDepths(at->second, std::move(block)));
  };
  VisionLanguageFile file{
      detail::make_from_file(source, [&] { return Model(options, PatchEncoder<float>(options.vision), make); }),
      std::move(vocabulary), detail::read_card(reader)};
  detail::read_finite(reader, file.model);
  return file;
}

}  // namespace gatefold
