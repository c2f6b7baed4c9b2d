#pragma once
#include "gatefold/models/model_file.hpp"
#include "gatefold/models/vmoe.hpp"

namespace gatefold {

/// Every option of a V-MoE under its name, once, for writing and reading.
template <class Visitor, class Options>
requires std::same_as<std::remove_const_t<Options>, VmoeOptions>
void visit_options(Visitor&& v, Options& o) {
  visit_picture_options(v, o);
  visit_transformer_options(v, o);
  visit_routing_options(v, o);
  v("num_classes", o.num_classes);
  v("classifier", o.classifier);
  v("images_per_group", o.images_per_group);
  v("importance", o.importance);
  v("load", o.load);
}

constexpr int num_values(VmoeOptions::Classifier) { return 2; }

namespace detail {
/// What a model of these options holds.
inline double count_numbers(const VmoeOptions& o) {
  const auto [trunk, patch_embed, patches] = count_trunk_numbers(o);
  const double classes = static_cast<double>(o.num_classes), d = static_cast<double>(o.width);
  return trunk + patch_embed + d * (patches + 2) + classes * (d + 1);
}
inline constexpr const char* kVmoeKey = "gatefold.vmoe";
}  // namespace detail

/// The options as JSON; an unlimited capacity factor is null.
inline std::string to_json(const VmoeOptions& options) { return options_to_json(options); }

/// Throws FormatError that names the first option that is missing, unknown or of another kind.
inline VmoeOptions vmoe_options_from_json(const std::string& text, const std::string& source) {
  const auto o = options_from_json<VmoeOptions>(text, source);
  detail::expect_file_sizes(source, {o.image_size, o.patch, o.channels, o.num_classes, o.width, o.hidden, o.num_layers,
                                     o.num_heads, o.num_experts, o.num_selected});
  return o;
}

/// A model and what is to be said of it.
struct VmoeFile {
  Vmoe<float> model;
  std::map<std::string, std::string> card = {};  ///< licence, data, seed, classes...
};

/// Writes weights, configuration and card. Throws as CheckpointWriter does; an old file survives every error.
inline void save_vmoe(const VmoeFile& file, const std::filesystem::path& path,
                      std::optional<Dtype> dtype = std::nullopt) {
  CheckpointWriter writer;
  writer.add("model", file.model, dtype);
  writer.add_metadata(detail::kVmoeKey, to_json(file.model.options));
  detail::add_card(file.card, writer);
  writer.write(path);
}

/// Throws FormatError (with everything that is wrong) if the file is no sound V-MoE or has weights that are no finite
/// numbers, std::system_error if it cannot be read.
inline VmoeFile load_vmoe(const std::filesystem::path& path) {
  const CheckpointReader reader(path);
  const auto options = vmoe_options_from_json(reader.metadata(detail::kVmoeKey), path.string());
  detail::expect_stored(detail::count_numbers(options), reader);
  VmoeFile file{detail::make_from_file<Vmoe<float>>(options, path.string()), detail::read_card(reader)};
  detail::read_finite(reader, file.model);
  return file;
}

}  // namespace gatefold
