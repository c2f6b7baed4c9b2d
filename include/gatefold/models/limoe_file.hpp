#pragma once
#include "gatefold/models/limoe.hpp"
#include "gatefold/models/model_file.hpp"
#include "gatefold/models/sparsity_file.hpp"
#include "gatefold/models/words_file.hpp"

namespace gatefold {

/// Every option of a LIMoE under its name, once, for writing and reading.
template <class Visitor, class Options>
requires std::same_as<std::remove_const_t<Options>, LimoeOptions>
void visit_options(Visitor&& v, Options& o) {
  visit_picture_options(v, o);
  v("vocabulary", o.vocabulary);
  v("max_text_tokens", o.max_text_tokens);
  visit_transformer_options(v, o);
  v("embedding", o.embedding);
  v("two_towers", o.towers);
  visit_routing_options(v, o);
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
constexpr int num_values(LossScope) { return 3; }

namespace detail {
/// What a model of these options holds.
inline double count_numbers(const LimoeOptions& o) {
  const auto number = [](Index n) { return static_cast<double>(n); };
  const auto [trunk, patch_embed, patches] = count_trunk_numbers(o);
  return (o.towers == LimoeOptions::Towers::one ? 1 : 2) * trunk + patch_embed +
         number(o.width) * (patches + number(o.vocabulary) + number(o.max_text_tokens) + 2 * number(o.embedding));
}
}  // namespace detail

/// The options as JSON; an unlimited capacity factor is null.
inline std::string to_json(const LimoeOptions& options) { return options_to_json(options); }

/// Throws FormatError that names the first option that is missing, unknown or of another kind.
inline LimoeOptions limoe_options_from_json(const std::string& text, const std::string& source) {
  const auto o = options_from_json<LimoeOptions>(text, source);
  detail::expect_file_sizes(source, {o.image_size, o.patch, o.channels, o.vocabulary, o.max_text_tokens, o.width,
                                     o.hidden, o.num_layers, o.num_heads, o.embedding, o.num_experts, o.num_selected});
  return o;
}

/// A model together with what is needed to use it: its words, and what is to be said of it.
struct LimoeFile {
  Limoe<float> model;
  Vocabulary vocabulary;
  std::map<std::string, std::string> card = {};      ///< licence, data, seed, command...
  std::map<std::string, std::string> sparsity = {};  ///< How sparse a weight is, by path: «2:4». Checked on loading.
};

namespace detail {
inline constexpr const char* kConfigKey = "gatefold.limoe";

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
  detail::add_words(stored.vocabulary, writer);
  detail::add_card(stored.card, writer);
  for (const auto& [weight, text] : stored.sparsity) writer.add_metadata(sparsity_key("model." + weight), text);
  writer.write(path);
}

/// Throws FormatError where the options ask for much more memory than the file has numbers.
inline void expect_stored(const LimoeOptions& options, const CheckpointReader& reader) {
  detail::expect_stored(detail::count_numbers(options), reader);
}

/// Throws FormatError (with everything that is wrong) if the file is no sound LIMoE, has weights that are no finite
/// numbers or are not as sparse as it says (models/sparsity_file.hpp), std::system_error if it cannot be read.
inline LimoeFile load_limoe(const std::filesystem::path& path) {
  const CheckpointReader reader(path);
  const auto options = limoe_options_from_json(reader.metadata(detail::kConfigKey), path.string());
  auto vocabulary = detail::read_words(reader, options.vocabulary);
  expect_stored(options, reader);
  expect_sparsity(reader.file());
  LimoeFile file{detail::make_from_file<Limoe<float>>(options, path.string()), std::move(vocabulary),
                 detail::read_card(reader)};
  const std::string sparse = sparsity_key("model.");
  for (const auto& [key, text] : reader.file().metadata())
    if (key.starts_with(sparse)) file.sparsity.emplace(key.substr(sparse.size()), text);
  detail::read_finite(reader, file.model);
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
