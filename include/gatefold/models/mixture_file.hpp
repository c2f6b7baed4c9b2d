#pragma once
#include "gatefold/models/clip_weights.hpp"
#include "gatefold/models/mixture_config.hpp"

/// Mixtures of published language models, block by block: the router, the experts and what they share, of Mixtral,
/// Qwen2-MoE, Qwen3-MoE, OLMoE, DeepSeek-V2 and V3, Granite, GPT-OSS, LFM2-MoE, Llama-4 and Phi-3.5-MoE
/// (kMixtureFamilies), to compare, to prune, to fine-tune or to read their choices; attention and vocabulary stay
/// where they are. F32, F16, BF16 and F64; E4M3 in blocks with a _scale_inv; GPT-OSS's MXFP4.
namespace gatefold {

/// A model of others, looked at but not loaded. Cheap to copy: the file stays mapped for as long as there is one.
struct MixtureFile {
  ShardedSafeTensors tensors;
  MixtureConfig config;
  std::vector<Index> layers;  ///< Those that have a router in this file, ascending.
};

namespace detail {

/// The words with which the names of a family's mixtures begin: «mlp», or «block_sparse_moe» and «shared_mlp».
inline std::set<std::string_view> first_words(std::span<const NameRule> rules) {
  std::set<std::string_view> words;
  for (const auto& rule : rules) words.insert(rule.theirs.substr(0, rule.theirs.find('.')));
  return words;
}

/// What stands before the names of a layer's mixture, as «model.layers.3.»: where its router is or, without one, where
/// something else of it may be. Empty where there is nothing of that layer.
inline std::string layer_prefix(const ShardedSafeTensors& file, const MixtureFamily& family, Index layer) {
  const std::string part = "layers." + std::to_string(layer) + ".";
  const auto words = first_words(family.names);
  std::string second_best;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto at = name.find(part);
    if (at == name.npos || (at > 0 && name[at - 1] != '.')) continue;
    const auto prefix = name.substr(0, at + part.size()), rest = name.substr(prefix.size());
    if (rest == family.names[0].theirs) return std::string(prefix);
    if (second_best.empty() && words.contains(rest.substr(0, rest.find('.')))) second_best = prefix;
  }
  return second_best;
}

/// The layers of whose tensors one is called «….layers.N.» and this.
inline std::vector<Index> layers_with(const ShardedSafeTensors& file, std::string_view end) {
  std::set<Index> found;
  for (const auto& [name, tensor] : file.tensors()) {
    if (!name.ends_with(end) || name.size() <= end.size() || name[name.size() - end.size() - 1] != '.') continue;
    const auto before = name.substr(0, name.size() - end.size() - 1);
    const auto digits = before.substr(before.find_last_not_of("0123456789") + 1);
    const auto word = before.substr(0, before.size() - digits.size());
    if (digits.empty() || digits.size() > 6 || !(word == "layers." || word.ends_with(".layers."))) continue;
    found.insert(std::stoll(std::string(digits)));
  }
  return {found.begin(), found.end()};
}

inline double count_numbers(const MixtureOptions& o) {
  const double nets =
      static_cast<double>(o.num_experts()) * static_cast<double>(o.hidden) + static_cast<double>(o.shared_hidden);
  return static_cast<double>(o.width()) * (3 * nets + static_cast<double>(o.num_experts()));
}

}  // namespace detail

/// Looks at a folder with a config.json and model.safetensors, or shards with an index; or at one .safetensors with a
/// config.json beside it, which need not hold more of the model than one layer's mixture. Throws FormatError that says
/// which file is wrong and what is wrong with it.
inline MixtureFile open_mixture_file(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  const bool is_folder = fs::is_directory(path);
  const auto folder = is_folder ? path : path.has_parent_path() ? path.parent_path() : fs::path(".");
  const auto index = folder / "model.safetensors.index.json";
  const auto config = folder / "config.json";
  MixtureFile file{.tensors = detail::open_weights(!is_folder          ? path
                                                   : fs::exists(index) ? index
                                                                       : folder / "model.safetensors"),
                   .config = mixture_config(read_json_object(config), config.string()),
                   .layers = {}};
  file.layers = detail::layers_with(file.tensors, file.config.family->names[0].theirs);
  return file;
}

/// The mixture of one layer. W = Packed<F> packs while loading. Throws FormatError for a layer of which the file has
/// nothing; CheckpointError that lists all tensors of the block that are missing, unexpected, misshapen or of a type
/// that is not read.
template <BuiltInStorage<float> W = Tensor<float, 2>>
Mixture<float, W> load_mixture(const MixtureFile& file, Index layer,
                               const ParallelFor& parallel_for = default_parallel_for()) {
  const auto& config = file.config;
  const auto& source = file.tensors.source();
  const std::string prefix = detail::layer_prefix(file.tensors, *config.family, layer);
  if (prefix.empty()) {
    std::string some;
    for (const Index each : file.layers) some += (some.empty() ? "" : ", ") + std::to_string(each);
    throw FormatError(source + ": has no tensor of layer " + std::to_string(layer) + ", expected one of " +
                      (some.empty() ? "a model with mixtures of experts" : some));
  }
  const auto words = detail::first_words(config.family->names);
  double stored = 0;
  const auto block = file.tensors.renamed([&](std::string_view name) {
    if (!name.starts_with(prefix)) return std::string_view();
    const auto word = name.substr(prefix.size());
    return words.contains(word.substr(0, word.find('.'))) ? name : std::string_view();
  });
  for (const auto& [name, tensor] : block.tensors()) stored += static_cast<double>(tensor.entry->bytes.size());
  // Two numbers of 4 bits to a byte. A small block may lack tensors and is told which, but none gets much more memory
  // than its file has numbers.
  if (detail::count_numbers(config.options) > std::max(0x1p24, 4 * stored))
    throw FormatError(source + ": holds " + std::to_string(std::llround(stored)) + " bytes of layer " +
                      std::to_string(layer) + ", but the configuration is of a mixture of " +
                      std::to_string(std::llround(detail::count_numbers(config.options))) +
                      " numbers; do they belong together?");
  auto mixture = make_mixture<float, W>(config.options);
  const NameMap::Prefix prefixes[] = {{"", prefix}, {"a.", prefix}};
  const NameMap names{.rules = {}, .block_prefixes = prefixes, .block_rules = config.family->names, .ignored = {}};
  detail::read_foreign(block, names, config.sizes, mixture, parallel_for);
  return mixture;
}

template <BuiltInStorage<float> W = Tensor<float, 2>>
Mixture<float, W> load_mixture(const std::filesystem::path& path, Index layer) {
  return load_mixture<W>(open_mixture_file(path), layer);
}

}  // namespace gatefold
