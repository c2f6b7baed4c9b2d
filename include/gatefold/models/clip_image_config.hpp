#pragma once
#include <set>

#include "gatefold/image/clip_preprocess.hpp"
#include "gatefold/io/json_file.hpp"
#include "gatefold/models/name_map.hpp"

namespace gatefold {

namespace detail {

/// What a preprocessor_config.json may say without changing a pixel.
inline constexpr std::string_view kClipImageHarmless[] = {
    "processor_class", "do_convert_rgb",   "data_format",      "input_data_format", "return_tensors", "device",
    "crop_pct",        "disable_grouping", "image_seq_length", "patch_size",        "name_or_path"};
/// The processors of transformers that do what is done here.
inline constexpr const char* kClipImageProcessors[] = {"CLIPImageProcessor", "CLIPImageProcessorFast",
                                                       "CLIPImageProcessorPil", "CLIPFeatureExtractor"};

/// Reads the fields of a preprocessor_config.json; what is missing keeps CLIP's default, null counts as missing.
class ClipImageConfigReader {
 public:
  ClipImageConfigReader(const nlohmann::json& json, std::string source) : json_(json), source_(std::move(source)) {}

  ClipImageOptions read() const {
    ClipImageOptions options;
    if (const auto* size = find("size")) read_size(*size, options);
    if (const auto* crop = find("crop_size")) options.crop = sides("crop_size", *crop);
    const bool square = find("default_to_square") && flag("default_to_square");
    if (const auto* size = find("size"); square && size && size->is_number())
      options.exact_size = {{*options.shortest_edge, *options.shortest_edge}}, options.shortest_edge.reset();
    if (!flag("do_resize")) options.shortest_edge.reset(), options.exact_size.reset();
    if (!flag("do_center_crop")) options.crop.reset();
    if (const auto* filter = find("resample"); filter && flag("do_resize")) options.filter = filter_of(*filter);
    if (const auto* factor = find("rescale_factor")) options.rescale_factor = number("rescale_factor", *factor);
    if (!flag("do_rescale")) options.rescale_factor = 1.0;
    if (const auto* mean = find("image_mean")) options.normalization.mean = channels("image_mean", *mean);
    if (const auto* deviation = find("image_std")) options.normalization.deviation = channels("image_std", *deviation);
    if (!flag("do_normalize")) options.normalization = {.mean = {0, 0, 0}, .deviation = {1, 1, 1}};
    refuse_others();
    return options;
  }

  /// preprocess_cfg of an open_clip_config.json, for a model of this image size, which stands above its own `size`.
  ClipImageOptions read_open_clip(Index image_size) const {
    ClipImageOptions options{.shortest_edge = image_size,
                             .crop = {{image_size, image_size}},
                             .rounding = CropRounding::half_even,
                             .alpha = Alpha::ignored};
    if (const auto* mode = find("mode"); mode && *mode != "RGB") refuse("mode", *mode, "\"RGB\"");
    if (const auto* mean = find("mean")) options.normalization.mean = channels("mean", *mean);
    if (const auto* deviation = find("std")) options.normalization.deviation = channels("std", *deviation);
    if (const auto* filter = find("interpolation")) {
      if (*filter == "bilinear")
        options.filter = ResizeFilter::bilinear;
      else if (*filter != "bicubic" && *filter != "random")  // which is bicubic but in training
        refuse("interpolation", *filter, "\"bicubic\" or \"bilinear\"");
    }
    if (const auto* mode = find("resize_mode")) {
      if (*mode == "squash")
        options.shortest_edge.reset(), options.exact_size = std::exchange(options.crop, std::nullopt);
      else if (*mode == "longest")
        options.shortest_edge.reset(), options.longest_edge = image_size;
      else if (*mode != "shortest")
        refuse("resize_mode", *mode, "\"shortest\", \"longest\" or \"squash\"");
    }
    if (const auto* fill = find("fill_color")) {
      if (!fill->is_number_integer() || *fill < 0 || *fill > 255)
        refuse("fill_color", *fill, "a whole number of 0..255");
      options.fill = fill->get<std::uint8_t>();
    }
    known_.insert("size");
    refuse_others();
    return options;
  }

 private:
  [[noreturn]] void refuse(const std::string& name, const nlohmann::json& value, const std::string& wanted) const {
    refuse_field(source_, name, value, wanted);
  }

  const nlohmann::json* find(const char* name) const {
    known_.insert(name);
    return find_field(json_, name);
  }

  void refuse_others() const {
    for (const auto* name : {"image_processor_type", "feature_extractor_type"})
      if (const auto* kind = find(name);
          kind && std::ranges::find(kClipImageProcessors, *kind) == std::end(kClipImageProcessors))
        refuse(name, *kind, "\"CLIPImageProcessor\"");
    known_.insert(std::begin(kClipImageHarmless), std::end(kClipImageHarmless));
    for (const auto& [name, value] : json_.items())
      if (!known_.contains(name) && !name.starts_with('_') && !value.is_null() && value != false)
        refuse(name, value, "not to find it: it is not known here and may change what the model is shown");
  }

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
    if (edge && value.size() != 1) refuse("size", value, "shortest_edge alone");
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
  mutable std::set<std::string, std::less<>> known_;
};

template <class Read>
ClipImageOptions sound_image_options(const nlohmann::json& json, const std::string& source, const Read& read) {
  if (!json.is_object()) throw FormatError(source + ": is not a JSON object (cut short?)");
  const auto options = read(ClipImageConfigReader(json, source));
  try {
    (void)ClipPreprocess(options);
  } catch (const OptionError& error) {
    throw FormatError(source + ": " + error.what());
  }
  return options;
}

}  // namespace detail

/// The options of a preprocessor_config.json's text. Throws FormatError that names the field, also one that is not
/// known.
inline ClipImageOptions clip_image_options_of_json(const nlohmann::json& json, const std::string& source) {
  return detail::sound_image_options(json, source, [](const auto& reader) { return reader.read(); });
}

/// The options of an open_clip_config.json's preprocess_cfg. Throws FormatError, likewise.
inline ClipImageOptions clip_image_options_of_open_clip(const nlohmann::json& json, const std::string& source,
                                                        Index image_size) {
  return detail::sound_image_options(json, source,
                                     [&](const auto& reader) { return reader.read_open_clip(image_size); });
}

/// How a model's folder wants its images. Beside weights under Hugging Face's names: preprocessor_config.json
/// (transformers 4) or the image_processor of processor_config.json (transformers 5). Beside weights under open_clip's:
/// preprocess_cfg of open_clip_config.json. Each takes the other's where its own is missing. CLIP's own way at
/// `image_size` where there is none of them. Throws FormatError.
inline ClipImageOptions load_clip_image_options(const std::filesystem::path& folder,
                                                ClipNames names = ClipNames::hugging_face, Index image_size = 224) {
  const auto path = [&](const char* name) { return (folder / name).string(); };
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name); };
  const bool open_clip = names == ClipNames::open_clip;
  const auto of_open_clip = [&] {
    const auto json = read_json_object(path("open_clip_config.json"));
    const auto* at = find_field(json, "preprocess_cfg");
    return clip_image_options_of_open_clip(at ? *at : nlohmann::json::object(),
                                           path("open_clip_config.json") + ": preprocess_cfg", image_size);
  };
  if (open_clip && has("open_clip_config.json")) return of_open_clip();
  const auto read = [&]() -> ClipImageOptions {
    if (const auto* name = "preprocessor_config.json"; has(name))
      return clip_image_options_of_json(read_json_object(path(name)), path(name));
    if (const auto* name = "processor_config.json"; has(name)) {
      const auto json = read_json_object(path(name));
      if (const auto at = json.find("image_processor"); at != json.end())
        return clip_image_options_of_json(*at, path(name) + ": image_processor");
    }
    if (has("open_clip_config.json")) return of_open_clip();
    return clip_image_options_of_json({{"size", image_size}, {"crop_size", image_size}}, folder.string());
  };
  auto options = read();
  if (open_clip) options.rounding = CropRounding::half_even;
  options.alpha = open_clip ? Alpha::ignored : Alpha::over_white;
  return options;
}

}  // namespace gatefold
