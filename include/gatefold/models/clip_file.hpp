#pragma once
#include "gatefold/models/clip.hpp"
#include "gatefold/models/clip_shapes.hpp"
#include "gatefold/models/clip_weights.hpp"
#include "gatefold/models/foreign_tensors.hpp"
#include "gatefold/models/open_clip_config.hpp"
#include "gatefold/models/sparsity_file.hpp"

namespace gatefold {

struct LoadClipOptions {
  ClipWeightsOptions weights{};  ///< What is not written in files under OpenAI's names.
  ParallelFor parallel_for = default_parallel_for();
};

/// A CLIP of others, looked at but not loaded. Cheap to copy: the file stays mapped for as long as there is one.
struct ClipFile {
  std::filesystem::path folder;  ///< Where its configuration lies, and the other files of the model.
  ShardedSafeTensors tensors;    ///< Under the names of the convention alone.
  ClipNames names;
  ClipOptions options;
  std::vector<std::string> left_out;  ///< Tensors beside the two towers, which they do not need. Worth a warning.
};

namespace detail {

/// Numbers in the layers of a tower; in double, since a file may ask for more than an Index counts.
inline double count_numbers(const ClipTowerOptions& o) {
  const double d = static_cast<double>(o.width), h = static_cast<double>(o.hidden);
  const double mixtures = static_cast<double>(o.mixture.placement.layers.size());
  const double nets = static_cast<double>(o.num_layers) + mixtures * (static_cast<double>(o.mixture.num_experts) - 1);
  return static_cast<double>(o.num_layers) * 4 * d * d + nets * 2 * d * h;
}
inline double count_numbers(const ClipOptions& o) {
  const double grid = static_cast<double>(o.image_size / o.patch), p = static_cast<double>(o.embedding);
  const double patch = static_cast<double>(o.patch) * static_cast<double>(o.patch) * static_cast<double>(o.channels);
  return count_numbers(o.vision) + count_numbers(o.text) +
         static_cast<double>(o.vision.width) * (grid * grid + patch + p) +
         static_cast<double>(o.text.width) * (static_cast<double>(o.vocabulary) + static_cast<double>(o.context) + p);
}

/// The name of a tensor without what a wrapper put in front of it; empty for a tensor that is not of the towers.
inline std::string_view clip_name(std::string_view name, const ClipRoot& root) {
  if (!name.starts_with(root.prefix)) return {};
  name.remove_prefix(root.prefix.size());
  const bool hugging_face = root.names == ClipNames::hugging_face;
  if (!hugging_face && name.starts_with("text.")) name.remove_prefix(5);  // open_clip with custom_text
  static constexpr std::string_view kHuggingFace[] = {"vision_model.",    "text_model.", "visual_projection.",
                                                      "text_projection.", "logit_scale", "logit_bias"};
  static constexpr std::string_view kOpenClip[] = {
      "visual.",     "transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection",
      "logit_scale", "logit_bias",   "cls_emb"};
  for (const auto begin : hugging_face ? std::span<const std::string_view>(kHuggingFace) : kOpenClip)
    if (name.starts_with(begin)) return name;
  return !hugging_face && kOpenAiClipNames.ignores(name) ? name : std::string_view{};
}

/// A config.json of a CLIP of transformers, if a folder has one; of timm's it says nothing.
inline std::optional<ClipOptions> hugging_face_options(const std::filesystem::path& folder) {
  const auto path = folder / "config.json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto json = read_json_object(path);
  const auto* type = find_field(json, "model_type");
  if (!type || *type != "clip") return std::nullopt;
  return clip_options_of_config(json, path.string());
}

inline const char* activation_name(ClipActivation activation) {
  return activation == ClipActivation::gelu ? "gelu" : "quick_gelu";
}

/// Throws FormatError if somebody asked for another activation than the source has.
inline void expect_activation(const ClipOptions& options, const ClipWeightsOptions& known, const std::string& source) {
  for (const auto* tower : {&options.vision, &options.text})
    if (known.activation && *known.activation != tower->activation)
      throw FormatError(source + ": says that the activation is " + activation_name(tower->activation) +
                        ", but asked for was " + activation_name(*known.activation) + "; leave it out");
}

/// The options of weights under open_clip's names: shapes, and what an open_clip_config.json or a config.json says.
inline ClipOptions open_clip_options(const ShardedSafeTensors& file, const std::filesystem::path& folder,
                                     const ClipWeightsOptions& known) {
  auto options = clip_options_of_weights(file, known);
  if (const auto config = folder / "open_clip_config.json"; std::filesystem::exists(config)) {
    const auto scaled = [&](const char* tower) {
      return file.find(std::string(tower) + "transformer.resblocks.0.ls_1.gamma") != nullptr;
    };
    read_open_clip_config(read_json_object(config), config.string(), {scaled("visual."), scaled("")}, options);
    expect_activation(options, known, config.string());
    return options;
  }
  if (const auto config = hugging_face_options(folder)) {
    const auto source = (folder / "config.json").string();
    for (const auto& [to, from, name] : {std::tuple(&options.vision, &config->vision, "vision_config"),
                                         {&options.text, &config->text, "text_config"}}) {
      if (to->width != from->width || to->num_layers != from->num_layers)
        throw FormatError(source + ": " + name + " is of " + std::to_string(from->num_layers) + " blocks of " +
                          std::to_string(from->width) + " channels, but the weights of " +
                          std::to_string(to->num_layers) + " of " + std::to_string(to->width) +
                          "; do they belong together?");
      to->num_heads = from->num_heads;
      to->activation = from->activation;
      to->epsilon = from->epsilon;
    }
    expect_activation(options, known, source);
    return options;
  }
  if (is_of_open_ai(file, options))
    expect_activation(options, known, file.source());
  else if (!known.activation)
    throw FormatError(file.source() +
                      ": does not say the model's activation, and there is no open_clip_config.json beside it; fetch "
                      "that from where the weights came, or state it (--activation): quick_gelu for weights of OpenAI "
                      "and what open_clip calls so, gelu for all others, such as LAION's");
  return options;
}

}  // namespace detail

/// Looks at a CLIP: a Hugging Face folder (config.json, model.safetensors or shards with an index), or weights under
/// the names of OpenAI, open_clip and CLIP-MoE, as a file or in a folder (beside an open_clip_config.json if there is
/// one). Which of several files in a folder is a CLIP, and what stands before all names (module., model.), is seen from
/// the tensors. Throws FormatError that says which file is wrong and what to do.
inline ClipFile open_clip_file(const std::filesystem::path& path, const ClipWeightsOptions& known = {}) {
  namespace fs = std::filesystem;
  const auto file = open_clip_weights(path);
  const auto beside = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const auto root = detail::clip_root(file);
  if (!root) {
    std::string some;
    for (const auto& [name, tensor] : file.tensors())
      if (std::ranges::count(some, ',') < 3) some += (some.empty() ? "" : ", ") + detail::quote_text(name);
    throw FormatError(file.source() + ": is no CLIP; it holds " + (some.empty() ? "nothing" : some) +
                      ", expected vision_model.* and text_model.* as transformers has them, or visual.* and "
                      "transformer.* as OpenAI and open_clip");
  }
  ClipFile clip{.folder = fs::is_directory(path) ? clip_folder(path) : beside,
                .tensors = file.renamed([&](std::string_view name) { return detail::clip_name(name, *root); }),
                .names = root->names,
                .options = {},
                .left_out = {}};
  for (const auto& [name, tensor] : file.tensors())
    if (detail::clip_name(name, *root).empty()) clip.left_out.emplace_back(name);
  if (clip.names == ClipNames::open_clip) {
    clip.options = detail::open_clip_options(clip.tensors, clip.folder, known);
    return clip;
  }
  const auto config = clip.folder / "config.json";
  if (!fs::exists(config))
    throw FormatError(config.string() +
                      ": is missing; the weights alone do not tell the model's heads and activation, so fetch it "
                      "from where they came (hf download MODEL config.json --local-dir " +
                      clip.folder.string() + ")");
  clip.options = clip_options_of_config(read_json_object(config), config.string());
  detail::expect_activation(clip.options, known, config.string());
  return clip;
}

/// A CLIP with the weights of others (open_clip_file). F32, F16, BF16 and F64. W = Packed<F> packs while loading: then
/// no other copy is ever made, and in no case is more in memory than the model and the few tensors at hand. Layer
/// scales are folded into the weights behind which they stand. Throws FormatError that says which file is wrong and
/// what to do, also for weights that are no finite numbers; CheckpointError that lists all missing, unexpected and
/// misshapen tensors.
template <BuiltInStorage<float> W = Tensor<float, 2>>
Clip<float, W> load_clip(const ClipFile& file, const ParallelFor& parallel_for = default_parallel_for()) {
  double stored = 0;
  for (const auto& [name, tensor] : file.tensors.tensors()) {
    double numbers = 1;
    for (const Index extent : tensor.entry->shape) numbers *= static_cast<double>(extent);
    stored += numbers;
  }
  // Small models may lack tensors and are told which, but none gets much more memory than its file has numbers.
  if (detail::count_numbers(file.options) > std::max(0x1p24, 2 * stored))
    throw FormatError(file.tensors.source() + ": holds " + std::to_string(std::llround(stored)) +
                      " numbers, but the configuration is of a model of " +
                      std::to_string(std::llround(detail::count_numbers(file.options))) + "; do they belong together?");
  const auto make = [&] {
    try {
      return Clip<float, W>(file.options);
    } catch (const OptionError& error) {  // options that contradict each other are, in a file, a fault of the file
      throw FormatError(file.tensors.source() + ": " + error.what());
    }
  };
  auto model = make();
  for (const auto& each : file.tensors.files()) expect_sparsity(*each);
  detail::read_foreign(file.tensors, file.names == ClipNames::hugging_face ? kHuggingFaceClipNames : kOpenAiClipNames,
                       {.patch = file.options.patch}, model, parallel_for);
  return model;
}

template <BuiltInStorage<float> W = Tensor<float, 2>>
Clip<float, W> load_clip(const std::filesystem::path& path, const LoadClipOptions& how = {}) {
  return load_clip<W>(open_clip_file(path, how.weights), how.parallel_for);
}

}  // namespace gatefold
