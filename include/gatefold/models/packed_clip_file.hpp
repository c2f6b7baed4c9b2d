#pragma once
#include "gatefold/models/clip_file.hpp"
#include "gatefold/models/options_json.hpp"

namespace gatefold {

constexpr int num_values(ClipActivation) { return 2; }
constexpr int num_values(BalanceOver) { return 2; }
constexpr int num_values(ClipPool) { return 3; }
constexpr int num_values(ClipTextPool) { return 3; }

// The bindings count the fields: a new one does not compile before it stands here.
template <class Visitor, class Options>
requires std::same_as<std::remove_const_t<Options>, ClipTowerOptions>
void visit_options(Visitor&& v, Options& o, const std::string& tower) {
  auto& [width, hidden, num_layers, num_heads, activation, epsilon, mixture] = o;
  auto& [placement, num_experts, num_selected, capacity, balance, balance_over] = mixture;
  auto& [layers] = placement;
  auto& [factor, counts, rounding, multiple_of, minimum] = capacity;
  v(tower + ".width", width);
  v(tower + ".hidden", hidden);
  v(tower + ".num_layers", num_layers);
  v(tower + ".num_heads", num_heads);
  v(tower + ".activation", activation);
  v(tower + ".epsilon", epsilon);
  v(tower + ".mixture.layers", layers);
  v(tower + ".mixture.num_experts", num_experts);
  v(tower + ".mixture.num_selected", num_selected);
  v(tower + ".mixture.capacity_factor", factor);
  v(tower + ".mixture.capacity_counts", counts);
  v(tower + ".mixture.capacity_rounding", rounding);
  v(tower + ".mixture.capacity_multiple_of", multiple_of);
  v(tower + ".mixture.capacity_minimum", minimum);
  v(tower + ".mixture.balance", balance);
  v(tower + ".mixture.balance_over", balance_over);
}
template <class Visitor, class Options>
requires std::same_as<std::remove_const_t<Options>, ClipOptions>
void visit_options(Visitor&& v, Options& o) {
  auto& [image_size, patch, channels, vocabulary, context, embedding, end_of_text, text_pool, causal_text, image_pool,
         image_pre_norm, vision, text, initial_temperature, max_temperature] = o;
  v("image_size", image_size);
  v("patch", patch);
  v("channels", channels);
  v("vocabulary", vocabulary);
  v("context", context);
  v("embedding", embedding);
  v("end_of_text", end_of_text);
  v("text_pool", text_pool);
  v("causal_text", causal_text);
  v("image_pool", image_pool);
  v("image_pre_norm", image_pre_norm);
  visit_options(v, vision, "vision");
  visit_options(v, text, "text");
  v("initial_temperature", initial_temperature);
  v("max_temperature", max_temperature);
}

/// A CLIP whose weights are packed already, as save_packed_clip has written it, looked at but not loaded.
struct PackedClipFile {
  CheckpointReader reader;
  ClipOptions options;
  ClipNames names;     ///< What the weights were called before, which the tokenizer's and the images' files follow.
  std::string format;  ///< The name of what they are packed as: fp32, bf16, int8, int4, mxfp4, fp8.
  std::map<std::string, std::string> notes;
};

namespace detail {
inline constexpr const char *kPackedClipKey = "gatefold.clip", *kPackedClipFormat = "gatefold.clip.format",
                            *kPackedClipNames = "gatefold.clip.names", *kPackedClipNote = "gatefold.clip.note.";

template <PackedFormat F>
constexpr const char* packed_format_name() {
  static_assert(!kernels::NmFormat<F>, "a packed CLIP in a file has no name for weights without their zeros yet");
  return std::same_as<F, float>   ? "fp32"
         : std::same_as<F, bf16>  ? "bf16"
         : std::same_as<F, int8>  ? "int8"
         : std::same_as<F, int4>  ? "int4"
         : std::same_as<F, mxfp4> ? "mxfp4"
                                  : "fp8";
}
}  // namespace detail

inline bool is_packed_clip(const SafeTensors& file) { return file.metadata().contains(detail::kPackedClipKey); }

/// One file with all that the towers are made of; what belongs to words and pixels lies beside it, as with any CLIP.
/// It can be used where it lies on every CPU. Throws std::system_error; an old file survives every error.
template <PackedFormat F>
void save_packed_clip(const Clip<float, Packed<F>>& clip, ClipNames names, const std::filesystem::path& path,
                      const std::map<std::string, std::string>& notes = {}) {
  CheckpointWriter file;
  file.add("clip", clip);
  file.add_metadata(detail::kPackedClipKey, options_to_json(clip.options));
  file.add_metadata(detail::kPackedClipFormat, std::string(detail::packed_format_name<F>()));
  file.add_metadata(detail::kPackedClipNames,
                    std::string(names == ClipNames::hugging_face ? "hugging_face" : "open_clip"));
  for (const auto& [key, value] : notes) file.add_metadata(detail::kPackedClipNote + key, value);
  file.write(path);
}

/// Throws FormatError for a file that is damaged or that save_packed_clip has not written, and std::system_error. All
/// of it is read once, for its checksum.
inline PackedClipFile open_packed_clip(const std::filesystem::path& path) {
  CheckpointReader reader(path);
  const auto refuse = [&](const std::string& why) { throw FormatError(path.string() + ": " + why); };
  if (!is_packed_clip(reader.file())) refuse("is no packed CLIP");
  PackedClipFile file{.reader = std::move(reader), .options = {}, .names = {}, .format = {}, .notes = {}};
  file.options = options_from_json<ClipOptions>(file.reader.metadata(detail::kPackedClipKey), path.string());
  file.format = file.reader.metadata(detail::kPackedClipFormat);
  const auto& names = file.reader.metadata(detail::kPackedClipNames);
  if (names != "hugging_face" && names != "open_clip") refuse("names came as " + detail::quote_text(names));
  file.names = names == "open_clip" ? ClipNames::open_clip : ClipNames::hugging_face;
  const std::string_view note = detail::kPackedClipNote;
  for (const auto& [key, value] : file.reader.file().metadata())
    if (key.starts_with(note)) file.notes.emplace(key.substr(note.size()), value);
  // A file is not trusted with the memory that its options ask for: an int4 takes half a byte.
  const auto& o = file.options;
  for (const Index n : {o.image_size, o.patch, o.channels, o.vocabulary, o.context, o.embedding, o.vision.width,
                        o.vision.hidden, o.vision.num_heads, o.text.width, o.text.hidden, o.text.num_heads})
    if (n < 1 || n > detail::kMaxClipSize)
      refuse("model configuration: a size is " + std::to_string(n) + ", expected 1.." +
             std::to_string(detail::kMaxClipSize));
  for (const auto* tower : {&o.vision, &o.text})
    for (const Index n : {tower->num_layers, tower->mixture.num_experts, tower->mixture.num_selected})
      if (n < 0 || n > detail::kMaxClipLayers) refuse("model configuration: a count is " + std::to_string(n));
  double bytes = 0;
  for (const auto& entry : file.reader.file().entries()) bytes += static_cast<double>(entry.bytes.size());
  if (detail::count_numbers(file.options) > std::max(0x1p24, 2 * bytes))
    refuse("model configuration: it asks for more than the file holds");
  return file;
}

/// The weights stay in the mapped file, which must not be written into meanwhile; norms, embeddings and biases are
/// copied. Throws FormatError when the file is of another format, CheckpointError for what does not fit its options.
template <PackedFormat F>
Clip<float, Packed<F>> load_packed_clip(const PackedClipFile& file) {
  const auto& source = file.reader.file().source();
  if (file.format != detail::packed_format_name<F>())
    throw FormatError(source + ": is packed as " + file.format + ", wanted " + detail::packed_format_name<F>() +
                      "; there is no way back, so take the model that it was made of");
  try {
    Clip<float, Packed<F>> clip(file.options);
    file.reader.read("clip", clip);
    return clip;
  } catch (const OptionError& error) {  // options that contradict each other are, in a file, a fault of the file
    throw FormatError(source + ": " + error.what());
  }
}

}  // namespace gatefold
