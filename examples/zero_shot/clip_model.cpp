#include "zero_shot/clip_model.hpp"

#include <array>
#include <map>

#include "gatefold/models/clip_file.hpp"
#include "gatefold/models/clip_image_config.hpp"
#include "gatefold/models/clip_tokenizer_file.hpp"
#include "gatefold/models/packed_clip_file.hpp"
#include "gatefold/models/upcycle.hpp"
#include "zero_shot/clip_format.hpp"

namespace zero_shot {
namespace {

namespace fs = std::filesystem;
using gatefold::FormatError;

const std::map<std::string, ClipFormat>& formats() {
  static const std::map<std::string, ClipFormat> all{{"fp32", clip_format<float>()},
                                                     {"bf16", clip_format<gatefold::bf16>()},
                                                     {"int8", clip_format<gatefold::int8>()},
                                                     {"int4", clip_format<gatefold::int4>()}};
  return all;
}

const ClipFormat& format_of(const std::string& name) {
  const auto format = formats().find(name);
  if (format == formats().end()) throw gatefold::OptionError("open_clip: there is no format " + name);
  return format->second;
}

PackedClip load(const gatefold::ClipFile& file, const std::string& name, const OpenClipOptions& how) {
  const auto& format = format_of(name);
  if (how.upcycle == 0) return format.load(file, how.parallel_for);
  gatefold::Rng rng(1);
  return format.pack(gatefold::upcycle(gatefold::load_clip(file, how.parallel_for),
                                       {.num_experts = how.upcycle, .num_selected = 2}, rng));
}

/// FNV-1a: it need not withstand anybody, only tell files apart.
class Fingerprint {
 public:
  void add(std::string_view text) {
    for (const char c : text) hash_ = (hash_ ^ static_cast<std::uint8_t>(c)) * 0x100000001b3u;
    hash_ = (hash_ ^ text.size()) * 0x100000001b3u;
  }
  std::string text() const {
    std::array<char, 17> hex{};
    std::snprintf(hex.data(), hex.size(), "%016llx", static_cast<unsigned long long>(hash_));
    return hex.data();
  }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

constexpr const char* kWeightsNote = "weights";
constexpr const char* kTokenizerFiles[] = {"vocab.json", "merges.txt", "tokenizer.json", "bpe_simple_vocab_16e6.txt"};
constexpr const char* kConfigFiles[] = {"config.json", "open_clip_config.json", "preprocessor_config.json",
                                        "processor_config.json", "tokenizer_config.json"};

/// Of the weights that embeddings depend on, whatever their files' names and places: sums, which are taken once, and
/// what was done to them.
std::string identity_of_weights(const gatefold::ClipFile& file, const OpenClipOptions& how) {
  std::string text;
  for (const auto& weights : file.tensors.files()) text += gatefold::to_hex(how.sums->of(weights->source())) + " ";
  text += "upcycle " + std::to_string(how.upcycle);
  if (how.activation) text += *how.activation == gatefold::ClipActivation::gelu ? " gelu" : " quick_gelu";
  return text;
}

/// Of the weights, and of all bytes of the small files beside them.
std::string identity_of(const std::string& weights, const fs::path& folder) {
  constexpr std::size_t kMostBytes = std::size_t{64} << 20;
  Fingerprint print;
  print.add(weights);
  const auto add_file = [&](const char* name) {
    print.add(fs::exists(folder / name) ? gatefold::read_text_file(folder / name, kMostBytes) : "");
  };
  for (const char* name : kTokenizerFiles) add_file(name);
  for (const char* name : kConfigFiles) add_file(name);
  return print.text();
}

/// What save_packed has written, if that is what the path names.
std::optional<gatefold::PackedClipFile> find_packed(const fs::path& path) {
  const auto file = fs::is_directory(path) ? path / "model.safetensors" : path;
  try {
    if (!gatefold::is_packed_clip(gatefold::SafeTensors(gatefold::MappedFile(file)))) return std::nullopt;
  } catch (const std::exception&) {  // another kind of file, of which others say what is wrong
    return std::nullopt;
  }
  return gatefold::open_packed_clip(file);
}

/// Says which tensors were left, in one line.
std::string left_out(const gatefold::ClipFile& file) {
  constexpr std::size_t kShown = 5;
  std::string names;
  for (std::size_t i = 0; i < std::min(kShown, file.left_out.size()); ++i) names += (i ? ", " : "") + file.left_out[i];
  if (file.left_out.size() > kShown) names += ", … (" + std::to_string(file.left_out.size()) + " in all)";
  return file.tensors.source() + ": holds tensors that are of neither tower and were left: " + names;
}

gatefold::ClipTokenizer load_tokenizer(const fs::path& folder, const gatefold::ClipTokenizer::Options& options) {
  try {
    return gatefold::load_clip_tokenizer(folder, options);
  } catch (const FormatError& error) {
    throw FormatError(error.what() +
                      std::string("\nThe tokenizer of OpenAI's CLIPs, which LAION's, TinyCLIP and "
                                  "CLIP-MoE use too: hf download openai/clip-vit-base-patch32 "
                                  "vocab.json merges.txt --local-dir ") +
                      folder.string());
  }
}

/// What each part says of itself, against what the others need.
void expect_to_fit(const ClipModel& clip, const fs::path& folder) {
  const auto& o = clip.options;
  const auto refuse = [&](const std::string& why) {
    throw FormatError(folder.string() + ": " + why + "; are these files of one model?");
  };
  if (o.channels != 3) refuse("the model takes images of " + std::to_string(o.channels) + " channels, expected 3");
  if (clip.tokenizer.size() > o.vocabulary)
    refuse("the tokenizer has " + std::to_string(clip.tokenizer.size()) + " tokens, the model embeds " +
           std::to_string(o.vocabulary));
  // With its ids in a file a tokenizer may use fewer than there are; by the merges alone, all ids would be others.
  if (clip.tokenizer.size() < o.vocabulary && !fs::exists(folder / "vocab.json") &&
      !fs::exists(folder / "tokenizer.json"))
    refuse("the merges make " + std::to_string(clip.tokenizer.size()) + " tokens, the model embeds " +
           std::to_string(o.vocabulary) + " (cut short?)");
  if (o.end_of_text && *o.end_of_text != clip.tokenizer.end())
    refuse("the tokenizer ends texts with id " + std::to_string(clip.tokenizer.end()) +
           ", the model reads them off at id " + std::to_string(*o.end_of_text));
  const auto& image = clip.preprocess.options();
  const auto size = image.crop ? image.crop : image.exact_size;
  if (!size || size->width != o.image_size || size->height != o.image_size)
    refuse("the preprocessing makes images of " + (size ? gatefold::to_string(*size) : "any size") +
           ", the model takes " + std::to_string(o.image_size) + " x " + std::to_string(o.image_size));
}

}  // namespace

std::vector<std::string> clip_formats() {
  std::vector<std::string> names;
  for (const auto& [name, format] : formats()) names.push_back(name);
  return names;
}

namespace {

/// With all that lies beside the weights. `load` gives these: last, for they take longest.
template <class Load>
ClipModel assemble(const fs::path& folder, gatefold::ClipNames names, const gatefold::ClipOptions& o,
                   const std::string& format, const Load& load) {
  auto tokenizer = load_tokenizer(folder, gatefold::clip_tokenizer_options(folder, names, o.context));
  const gatefold::ClipPreprocess preprocess(gatefold::load_clip_image_options(folder, names, o.image_size));
  PackedClip packed = load();
  ClipModel clip{.options = std::move(packed.options),
                 .towers = std::move(packed.towers),
                 .tokenizer = std::move(tokenizer),
                 .preprocess = preprocess,
                 .temperature = packed.temperature,
                 .format = format,
                 .identity = "",
                 .folder = folder,
                 .names = names};
  expect_to_fit(clip, folder);
  return clip;
}

ClipModel open_packed(const gatefold::PackedClipFile& file, const OpenClipOptions& how) {
  const fs::path path = file.reader.file().source();
  const auto refuse = [&](const std::string& why) {
    throw FormatError(path.string() + ": is packed as " + file.format + " and " + why +
                      "; there is no way back, so take the model that it was made of");
  };
  if (!how.format.empty() && how.format != file.format) refuse("cannot be had as " + how.format);
  if (how.upcycle > 0) refuse("cannot be upcycled");
  if (how.activation) refuse("knows its activation");
  auto clip = assemble(path.has_parent_path() ? path.parent_path() : fs::path("."), file.names, file.options,
                       file.format, [&] { return format_of(file.format).map(file); });
  if (!how.sums) return clip;
  if (const auto weights = file.notes.find(kWeightsNote); weights != file.notes.end())
    clip.weights = weights->second;
  else
    clip.weights = gatefold::to_hex(how.sums->of(path));
  clip.identity = identity_of(clip.weights, clip.folder);
  clip.sums = how.sums->text();
  return clip;
}

}  // namespace

ClipModel open_clip(const fs::path& path, const OpenClipOptions& how) {
  if (const auto packed = find_packed(path)) return open_packed(*packed, how);
  const auto file = gatefold::open_clip_file(path, {.activation = how.activation});
  if (!file.left_out.empty() && how.warn) how.warn(left_out(file));
  const auto format = how.format.empty() ? "fp32" : how.format;
  auto clip = assemble(file.folder, file.names, file.options, format, [&] { return load(file, format, how); });
  if (!how.sums) return clip;
  clip.weights = identity_of_weights(file, how);
  clip.identity = identity_of(clip.weights, clip.folder);
  clip.sums = how.sums->text();
  return clip;
}

void save_packed(const ClipModel& clip, const fs::path& folder) {
  gatefold::expect_option(!clip.identity.empty(), "save_packed: the model was opened without sums of its files");
  const auto refuse = [&](const std::string& why) { throw FormatError("the packed model: " + why); };
  std::error_code error;
  if (fs::exists(folder) && (!fs::is_directory(folder) || !fs::is_empty(folder)))
    refuse(folder.string() + " is there already, expected the name of a new folder");
  fs::create_directories(folder, error);
  if (error) refuse("create " + folder.string() + ": " + error.message());
  try {
    for (const auto& files :
         {std::span<const char* const>(kTokenizerFiles), std::span<const char* const>(kConfigFiles)})
      for (const char* name : files)
        if (fs::exists(clip.folder / name)) fs::copy_file(clip.folder / name, folder / name);
    // The weights last: without them the folder is no model that could be taken for a whole one.
    clip.towers->save(clip.names, folder / "model.safetensors", {{kWeightsNote, clip.weights}});
  } catch (const std::system_error& failure) {
    refuse(failure.what());
  }
}

bool is_clip(const fs::path& path) {
  if (!fs::exists(path)) return false;
  if (fs::is_directory(path)) return !fs::exists(path / "model.safetensors") || is_clip(path / "model.safetensors");
  const auto end = path.extension();
  if (end == ".pt" || end == ".pth" || end == ".bin") return true;  // which is where the advice how to convert it is
  if (path.filename().string().ends_with(".index.json")) return true;
  try {
    const gatefold::SafeTensors file{gatefold::MappedFile(path)};
    for (const auto& [key, value] : file.metadata())
      // What is said of its zeros makes no other model of it (models/sparsity_file.hpp).
      if (key.starts_with("gatefold.") && !key.starts_with("gatefold.sparsity.") && !gatefold::is_packed_clip(file))
        return false;
    return true;
  } catch (const std::exception&) {
    const auto has = [&](const char* name) { return fs::exists(path.parent_path() / name); };
    return std::any_of(std::begin(kTokenizerFiles), std::end(kTokenizerFiles), has) ||
           std::any_of(std::begin(kConfigFiles), std::end(kConfigFiles), has);
  }
}

}  // namespace zero_shot
