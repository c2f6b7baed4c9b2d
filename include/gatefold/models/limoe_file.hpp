#pragma once
#include <nlohmann/json.hpp>

#include "gatefold/io/checkpoint.hpp"
#include "gatefold/io/finite.hpp"
#include "gatefold/io/json_file.hpp"
#include "gatefold/models/limoe.hpp"
#include "gatefold/models/options_json.hpp"
#include "gatefold/text/vocabulary.hpp"

namespace gatefold {

/// Every option of a LIMoE under its name, once, for writing and reading.
template <class Visitor, class Options>
requires std::same_as<std::remove_const_t<Options>, LimoeOptions>
void visit_options(Visitor&& v, Options& o) {
  v("image_size", o.image_size);
  v("patch", o.patch);
  v("channels", o.channels);
  v("vocabulary", o.vocabulary);
  v("max_text_tokens", o.max_text_tokens);
  v("width", o.width);
  v("hidden", o.hidden);
  v("num_layers", o.num_layers);
  v("num_heads", o.num_heads);
  v("embedding", o.embedding);
  v("two_towers", o.towers);
  v("sparse_layers", o.sparse.layers);
  v("num_experts", o.num_experts);
  v("num_selected", o.num_selected);
  v("capacity_factor", o.capacity.factor);
  v("capacity_counts", o.capacity.counts);
  v("capacity_rounding", o.capacity.rounding);
  v("capacity_multiple_of", o.capacity.multiple_of);
  v("capacity_minimum", o.capacity.minimum);
  v("priority", o.priority);
  v("router_noise", o.router_noise);
  v("aux_coefficient", o.aux.coefficient);
  v("aux_min_image_experts", o.aux.min_image_experts);
  v("aux_min_text_experts", o.aux.min_text_experts);
  v("aux_entropy_scope", o.aux.entropy_scope);
  v("aux_importance", o.aux.importance);
  v("aux_load", o.aux.load);
  v("aux_z", o.aux.z);
  v("aux_local_image", o.aux.local_image);
  v("aux_local_text", o.aux.local_text);
  v("aux_global_image", o.aux.global_image);
  v("aux_global_text", o.aux.global_text);
  v("initial_temperature", o.initial_temperature);
  v("max_temperature", o.max_temperature);
}

constexpr int num_values(LimoeOptions::Towers) { return 2; }
constexpr int num_values(Priority) { return 3; }
constexpr int num_values(LossScope) { return 3; }

namespace detail {
/// What a model of these options holds; in double, since a file may ask for more than an Index counts.
inline double count_numbers(const LimoeOptions& o) {
  const auto number = [](Index n) { return static_cast<double>(n); };
  const double d = number(o.width), h = number(o.hidden), e = number(o.num_experts);
  const double mlp = 2 * d * h + h + d, attention = 4 * d * d + 8 * d;
  double trunk = 2 * d;
  for (Index layer = 0; layer < o.num_layers; ++layer)
    trunk += attention + (o.sparse.is_sparse(layer) ? e * (mlp + d) : mlp);
  const double patch = number(o.patch) * number(o.patch) * number(o.channels), across = number(o.image_size / o.patch);
  return (o.towers == LimoeOptions::Towers::one ? 1 : 2) * trunk +
         d * (patch + 1 + across * across + number(o.vocabulary) + number(o.max_text_tokens) + 2 * number(o.embedding));
}
}  // namespace detail

/// The options as JSON; an unlimited capacity factor is null.
inline std::string to_json(const LimoeOptions& options) { return options_to_json(options); }

/// Throws FormatError that names the first option that is missing, unknown or of another kind.
inline LimoeOptions limoe_options_from_json(const std::string& text, const std::string& source) {
  const auto options = options_from_json<LimoeOptions>(text, source);
  const auto refuse = [&](const std::string& why) { throw FormatError(source + ": model configuration: " + why); };
  // A file is not trusted with the size of what is allocated for it.
  constexpr Index kMost = Index{1} << 16;
  for (const Index n : {options.image_size, options.patch, options.channels, options.vocabulary,
                        options.max_text_tokens, options.width, options.hidden, options.num_layers, options.num_heads,
                        options.embedding, options.num_experts, options.num_selected})
    if (n < 1 || n > kMost) refuse("a size is " + std::to_string(n) + ", expected 1.." + std::to_string(kMost));
  return options;
}

/// A model together with what is needed to use it: its words, and what is to be said of it.
struct LimoeFile {
  Limoe<float> model;
  Vocabulary vocabulary;
  std::map<std::string, std::string> card = {};  ///< licence, data, seed, command...
};

namespace detail {
inline constexpr const char* kConfigKey = "gatefold.limoe";
inline constexpr const char* kVocabularyKey = "gatefold.vocabulary";
inline constexpr const char* kCardPrefix = "card.";

/// Options that contradict each other are, in a file, a fault of the file.
inline Limoe<float> make_limoe(const LimoeOptions& options, const std::string& source) {
  try {
    return Limoe<float>(options);
  } catch (const OptionError& error) {
    throw FormatError(source + ": model configuration: " + error.what());
  }
}

/// Embeddings of one image and one text, with seats for everybody: which of two tokens with almost equal gates got the
/// last seat would differ between machines. // [2, P]
inline Tensor<float, 2> probe_embeddings(Limoe<float> model, View<const float, 4> image, View<const Index, 1> ids,
                                         const Context& ctx) {
  Context quiet;  // the caller's noise and report are no part of the answer
  quiet.parallel_for = ctx.parallel_for;
  quiet.isa = ctx.isa;
  auto offset = quiet.workspace.take<Index>(2);
  offset[0] = 0;
  offset[1] = ids.extent(0);
  Tensor<float, 2> z({2, model.options.embedding});
  model.set_capacity({});
  (void)model.forward({.images = image, .ids = ids, .text_offset = offset}, z.view().rows(0, 1), z.view().rows(1, 2),
                      quiet);
  return z;
}
}  // namespace detail

/// Writes model, configuration, vocabulary and card, with one image and one text and their embeddings as a self-check.
inline void save_limoe(const LimoeFile& file, View<const float, 4> probe_image, View<const Index, 1> probe_ids,
                       const std::filesystem::path& path, Dtype dtype, const Context& ctx) {
  // The probe's answer is that of the weights as stored, not as trained.
  LimoeFile stored = file;
  for_each_param(
      [&](std::string_view, auto& t) {
        if (dtype == Dtype::bf16)
          for (auto& x : t.flat()) x = static_cast<float>(bf16(x));
      },
      stored.model);
  const auto answer = detail::probe_embeddings(stored.model, probe_image, probe_ids, ctx);
  Tensor<std::int64_t, 1> ids({probe_ids.extent(0)});
  std::copy_n(probe_ids.data(), probe_ids.extent(0), ids.data());
  CheckpointWriter writer;
  writer.add("model", stored.model, dtype);
  writer.add_tensor("probe.input.image", probe_image);
  writer.add_tensor("probe.input.ids", ids);
  writer.add_tensor("probe.output", answer);
  writer.add_metadata(detail::kConfigKey, to_json(stored.model.options));
  writer.add_metadata(detail::kVocabularyKey, stored.vocabulary.serialize());
  for (const auto& [key, value] : stored.card) writer.add_metadata(detail::kCardPrefix + key, value);
  writer.write(path);
}

/// A file is not trusted with the memory of all its sizes together either: small models may lack tensors and are told
/// which, but none gets much more memory than its file has numbers. Throws FormatError.
inline void expect_stored(const LimoeOptions& options, const CheckpointReader& reader) {
  double stored = 0;
  for (const auto& entry : reader.file().entries()) {
    double numbers = 1;
    for (const auto extent : entry.shape) numbers *= static_cast<double>(extent);
    stored += numbers;
  }
  if (detail::count_numbers(options) > std::max(0x1p24, 2 * stored))
    throw FormatError(reader.file().source() + ": model configuration: it asks for more than the file holds");
}

/// Throws FormatError (with everything that is wrong) if the file is no sound LIMoE or has weights that are no finite
/// numbers, std::system_error if it cannot be
/// read.
inline LimoeFile load_limoe(const std::filesystem::path& path) {
  const CheckpointReader reader(path);
  const auto options = limoe_options_from_json(reader.metadata(detail::kConfigKey), path.string());
  auto vocabulary = Vocabulary::parse(reader.metadata(detail::kVocabularyKey));
  if (vocabulary.size() != options.vocabulary)
    throw FormatError(path.string() + ": the vocabulary holds " + std::to_string(vocabulary.size()) +
                      " tokens, but the model was made for " + std::to_string(options.vocabulary));
  expect_stored(options, reader);
  LimoeFile file{detail::make_limoe(options, path.string()), std::move(vocabulary)};
  reader.read("model", file.model);
  for_each_param(
      [&](std::string_view name, const auto& t) {
        expect_finite(t.flat(), path.string(), "model." + std::string(name));
      },
      file.model);
  for (const auto& [key, value] : reader.file().metadata())
    if (key.starts_with(detail::kCardPrefix)) file.card.emplace(key.substr(5), value);
  return file;
}

/// Replays the probe of a file and returns the largest deviation relative to the largest value: about 1e-6 on the
/// machine that wrote it or any other; infinity if an embedding is not finite. A broken kernel shows at once, and so
/// does damage to any weight that the probe passes through.
inline double verify(const LimoeFile& file, const std::filesystem::path& path, const Context& ctx) {
  const CheckpointReader reader(path);
  const auto image = reader.read_tensor<float, 4>("probe.input.image");
  const auto ids64 = reader.read_tensor<std::int64_t, 1>("probe.input.ids");
  const auto wanted = reader.read_tensor<float, 2>("probe.output");
  std::vector<Index> ids(ids64.flat().begin(), ids64.flat().end());
  const auto got =
      detail::probe_embeddings(file.model, image, View<const Index, 1>(ids.data(), {std::ssize(ids)}), ctx);
  expect_shape(got.view(), wanted.shape(), "verify: probe.output");
  double worst = 0, scale = 0;
  for (Index i = 0; i < got.size(); ++i) {
    const double deviation = std::abs(double{got.data()[i]} - double{wanted.data()[i]});
    if (!std::isfinite(deviation)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, deviation);
    scale = std::max(scale, std::abs(double{wanted.data()[i]}));
  }
  return worst == 0 ? 0 : worst / scale;
}

}  // namespace gatefold
