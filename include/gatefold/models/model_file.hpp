#pragma once
#include <map>

#include "gatefold/io/checkpoint.hpp"
#include "gatefold/io/finite.hpp"
#include "gatefold/models/options_json.hpp"
#include "gatefold/models/sparse_trunk.hpp"

// What the files of LIMoE and V-MoE have in common: options as JSON, a card, and no trust in the sizes that a file asks
// for.
namespace gatefold {

constexpr int num_values(Priority) { return 3; }

// The options of pictures, transformer and routing under their names, once, for writing and reading.
template <class Visitor, class Options>
void visit_picture_options(Visitor&& v, Options& o) {
  v("image_size", o.image_size);
  v("patch", o.patch);
  v("channels", o.channels);
}
template <class Visitor, class Options>
void visit_transformer_options(Visitor&& v, Options& o) {
  v("width", o.width);
  v("hidden", o.hidden);
  v("num_layers", o.num_layers);
  v("num_heads", o.num_heads);
}
template <class Visitor, class Options>
void visit_routing_options(Visitor&& v, Options& o) {
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
}

namespace detail {
/// In double, since a file may ask for more than an Index counts.
struct TrunkNumbers {
  double trunk, patch_embed, patches;  // patches: how many of them
};
template <class Options>
TrunkNumbers count_trunk_numbers(const Options& o) {
  const auto number = [](Index n) { return static_cast<double>(n); };
  const double d = number(o.width), h = number(o.hidden), e = number(o.num_experts);
  const double mlp = 2 * d * h + h + d, attention = 4 * d * d + 8 * d;
  double trunk = 2 * d;
  for (Index layer = 0; layer < o.num_layers; ++layer)
    trunk += attention + (o.sparse.is_sparse(layer) ? e * (mlp + d) : mlp);
  const double patch = number(o.patch) * number(o.patch) * number(o.channels), across = number(o.image_size / o.patch);
  return {trunk, d * (patch + 1), across * across};
}

[[noreturn]] inline void refuse_configuration(const std::string& source, const std::string& why) {
  throw FormatError(source + ": model configuration: " + why);
}

/// A file is not trusted with the size of what is allocated for it.
inline void expect_file_sizes(const std::string& source, std::initializer_list<Index> sizes) {
  constexpr Index kMost = Index{1} << 16;
  for (const Index n : sizes)
    if (n < 1 || n > kMost)
      refuse_configuration(source, "a size is " + std::to_string(n) + ", expected 1.." + std::to_string(kMost));
}

/// Nor with the memory of all its sizes together: small models may lack tensors and are told which, but none gets much
/// more memory than its file has numbers. Throws FormatError.
inline void expect_stored(double numbers, const CheckpointReader& reader) {
  double stored = 0;
  for (const auto& entry : reader.file().entries()) {
    double product = 1;
    for (const auto extent : entry.shape) product *= static_cast<double>(extent);
    stored += product;
  }
  if (numbers > std::max(0x1p24, 2 * stored))
    refuse_configuration(reader.file().source(), "it asks for more than the file holds");
}

/// make(); options that contradict each other are, in a file, a fault of the file.
template <class Make>
auto make_from_file(const std::string& source, Make&& make) {
  try {
    return make();
  } catch (const OptionError& error) {
    refuse_configuration(source, error.what());
  }
}
template <class Model, class Options>
Model make_from_file(const Options& options, const std::string& source) {
  return make_from_file(source, [&] { return Model(options); });
}

/// The weights under "model.". Throws FormatError for those that are no finite numbers.
template <Module M>
void read_finite(const CheckpointReader& reader, M& model) {
  reader.read("model", model);
  for_each_param([&](std::string_view name,
                     const auto& t) { expect_finite(t.flat(), reader.file().source(), "model." + std::string(name)); },
                 model);
}

inline constexpr std::string_view kCardPrefix = "card.";

inline void add_card(const std::map<std::string, std::string>& card, CheckpointWriter& writer) {
  for (const auto& [key, value] : card) writer.add_metadata(std::string(kCardPrefix) + key, value);
}
inline std::map<std::string, std::string> read_card(const CheckpointReader& reader) {
  std::map<std::string, std::string> card;
  for (const auto& [key, value] : reader.file().metadata())
    if (key.starts_with(kCardPrefix)) card.emplace(key.substr(kCardPrefix.size()), value);
  return card;
}
}  // namespace detail

}  // namespace gatefold
