#pragma once
#include "gatefold/image/clip_preprocess.hpp"
#include "gatefold/io/json_file.hpp"

namespace gatefold {

namespace detail {

/// Reads the fields of a preprocessor_config.json; what is missing keeps CLIP's default, null counts as missing.
class ClipImageConfigReader {
 public:
  ClipImageConfigReader(const nlohmann::json& json, std::string source) : json_(json), source_(std::move(source)) {}

  ClipImageOptions read() const {
    ClipImageOptions options;
    if (const auto* size = find("size")) read_size(*size, options);
    if (const auto* crop = find("crop_size")) options.crop = sides("crop_size", *crop);
    if (!flag("do_resize")) options.shortest_edge.reset(), options.exact_size.reset();
    if (!flag("do_center_crop")) options.crop.reset();
    if (const auto* filter = find("resample"); filter && flag("do_resize")) options.filter = filter_of(*filter);
    if (const auto* factor = find("rescale_factor")) options.rescale_factor = number("rescale_factor", *factor);
    if (!flag("do_rescale")) options.rescale_factor = 1.0;
    if (const auto* mean = find("image_mean")) options.normalization.mean = channels("image_mean", *mean);
    if (const auto* deviation = find("image_std")) options.normalization.deviation = channels("image_std", *deviation);
    if (!flag("do_normalize")) options.normalization = {.mean = {0, 0, 0}, .deviation = {1, 1, 1}};
    return options;
  }

 private:
  [[noreturn]] void refuse(const std::string& name, const nlohmann::json& value, const std::string& wanted) const {
    refuse_field(source_, name, value, wanted);
  }

  const nlohmann::json* find(const char* name) const { return find_field(json_, name); }

  bool flag(const char* name) const {
    const auto* value = find(name);
    if (value && !value->is_boolean()) refuse(name, *value, "true or false");
    return !value || value->get<bool>();
  }

  double number(const char* name, const nlohmann::json& value) const {
    if (!value.is_number()) refuse(name, value, "a number");
    return value.get<double>();
  }

  std::array<double, 3> channels(const char* name, const nlohmann::json& value) const {
    if (value.is_number()) return {value.get<double>(), value.get<double>(), value.get<double>()};
    if (!value.is_array() || value.size() != 3) refuse(name, value, "three numbers");
    return {number(name, value[0]), number(name, value[1]), number(name, value[2])};
  }

  Index side(const char* name, const nlohmann::json& value) const {
    if (!value.is_number_integer() || value < 1 || value > ClipPreprocess::kMaxSide)
      refuse(name, value, "a whole number of 1.." + std::to_string(ClipPreprocess::kMaxSide));
    return value.get<Index>();
  }

  /// 224, [height, width], {"height": 224, "width": 224}; a shortest_edge stands for a square.
  ImageSize sides(const char* name, const nlohmann::json& value) const {
    if (value.is_array() && value.size() == 2) return {side(name, value[1]), side(name, value[0])};
    if (value.is_object() && value.contains("height") && value.contains("width"))
      return {side(name, value["width"]), side(name, value["height"])};
    const Index both =
        side(name, value.is_object() && value.contains("shortest_edge") ? value["shortest_edge"] : value);
    return {both, both};
  }

  void read_size(const nlohmann::json& value, ClipImageOptions& options) const {
    const bool edge = value.is_object() && value.contains("shortest_edge");
    if (edge || value.is_number()) {
      options.shortest_edge = side("size", edge ? value["shortest_edge"] : value);
      return;
    }
    options.shortest_edge.reset();
    options.exact_size = sides("size", value);
  }

  ResizeFilter filter_of(const nlohmann::json& value) const {
    if (value == 3) return ResizeFilter::bicubic;
    if (value == 2) return ResizeFilter::bilinear;
    refuse("resample", value, "3 (bicubic) or 2 (bilinear)");
  }

  const nlohmann::json& json_;
  std::string source_;
};

}  // namespace detail

/// The options of a preprocessor_config.json's text. Throws FormatError that names the field.
inline ClipImageOptions clip_image_options_of_json(const nlohmann::json& json, const std::string& source) {
  if (!json.is_object()) throw FormatError(source + ": is not a JSON object (cut short?)");
  const auto options = detail::ClipImageConfigReader(json, source).read();
  try {
    (void)ClipPreprocess(options);
  } catch (const OptionError& error) {
    throw FormatError(source + ": " + error.what());
  }
  return options;
}

/// How a model's folder wants its images: preprocessor_config.json (transformers 4), the image_processor of
/// processor_config.json (transformers 5), or mean and deviation of open_clip_config.json with torchvision's crop at
/// `image_size`; CLIP's own way at `image_size` when there is none of them. Throws FormatError.
inline ClipImageOptions load_clip_image_options(const std::filesystem::path& folder, Index image_size = 224) {
  const auto path = [&](const char* name) { return (folder / name).string(); };
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name); };
  const auto at_size = [&](nlohmann::json json) {
    json["size"] = json["crop_size"] = image_size;
    return json;
  };
  if (const auto* name = "preprocessor_config.json"; has(name))
    return clip_image_options_of_json(read_json_object(path(name)), path(name));
  if (const auto* name = "processor_config.json"; has(name)) {
    const auto json = read_json_object(path(name));
    if (const auto at = json.find("image_processor"); at != json.end())
      return clip_image_options_of_json(*at, path(name) + ": image_processor");
  }
  if (const auto* name = "open_clip_config.json"; has(name)) {
    const auto json = read_json_object(path(name));
    const auto at = json.find("preprocess_cfg");
    nlohmann::json wanted = nlohmann::json::object();
    if (at != json.end() && at->is_object())
      wanted = {{"image_mean", at->value("mean", nlohmann::json())}, {"image_std", at->value("std", nlohmann::json())}};
    auto options = clip_image_options_of_json(at_size(std::move(wanted)), path(name) + ": preprocess_cfg");
    options.rounding = CropRounding::half_even;
    return options;
  }
  return clip_image_options_of_json(at_size(nlohmann::json::object()), folder.string());
}

}  // namespace gatefold
