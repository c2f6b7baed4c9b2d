#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "gatefold/core/context.hpp"
#include "gatefold/image/clip_preprocess.hpp"
#include "gatefold/models/clip_options.hpp"
#include "gatefold/models/name_map.hpp"
#include "gatefold/text/clip_tokenizer.hpp"
#include "zero_shot/file_sums.hpp"

namespace zero_shot {

using gatefold::Index;

/// The two towers, whatever their weights are packed as (clip_format.hpp).
class ClipTowers {
 public:
  ClipTowers() = default;
  ClipTowers(const ClipTowers&) = delete;
  ClipTowers& operator=(const ClipTowers&) = delete;
  virtual ~ClipTowers() = default;
  virtual void encode_images(gatefold::View<const float, 4> images,  // [B, image_size, image_size, 3]
                             gatefold::Rows<float> z,                // [B, P]
                             gatefold::Context& ctx) const = 0;
  virtual void encode_texts(gatefold::View<const Index, 2> ids,  // [B, T]
                            gatefold::Rows<float> z,             // [B, P]
                            gatefold::Context& ctx) const = 0;
  /// save_packed_clip (models/packed_clip_file.hpp).
  virtual void save(gatefold::ClipNames names, const std::filesystem::path& path,
                    const std::map<std::string, std::string>& notes) const = 0;
};

/// A CLIP with all that belongs to it.
struct ClipModel {
  gatefold::ClipOptions options;
  std::unique_ptr<const ClipTowers> towers;
  gatefold::ClipTokenizer tokenizer;
  gatefold::ClipPreprocess preprocess;
  double temperature = 1;  ///< What cosines are multiplied by.
  std::string format;      ///< The name of what the weights are packed as.
  std::string identity;    ///< Says whether embeddings that were kept are of these weights, words and pixels. Empty
                           ///< unless OpenClipOptions::sums asks for it.
  std::string sums{};      ///< FileSums::text of the weights, to be kept where the identity is.
  std::string weights{};   ///< What of the identity is theirs.
  std::filesystem::path folder{};  ///< Where the tokenizer's and the images' files are.
  gatefold::ClipNames names{};     ///< Whose habits these follow.

  bool has_mixtures() const {
    return !options.vision.mixture.placement.layers.empty() || !options.text.mixture.placement.layers.empty();
  }
};

struct OpenClipOptions {
  std::string format{};  ///< One of clip_formats(). Empty: as the model is packed, fp32 where it is not.
  Index upcycle = 0;     ///< Experts to make of each feed-forward net; 0 leaves the model as it is.
  std::optional<gatefold::ClipActivation> activation{};  ///< Of weights that do not say theirs.
  std::function<void(const std::string&)> warn{};        ///< Is told what is odd but does not matter.
  FileSums* sums = nullptr;  ///< For the identity: what is known of the weights' files, which grows by these.
  gatefold::ParallelFor parallel_for = gatefold::default_parallel_for();
};

std::vector<std::string> clip_formats();

/// The values of --activation: by name, as OpenClipOptions takes them.
inline const std::map<std::string, gatefold::ClipActivation>& clip_activations() {
  static const std::map<std::string, gatefold::ClipActivation> all{
      {"gelu", gatefold::ClipActivation::gelu}, {"quick_gelu", gatefold::ClipActivation::quick_gelu}};
  return all;
}

/// Loads a CLIP: a folder of Hugging Face's kind (also one of its cache, or of sentence-transformers), or OpenAI's,
/// open_clip's or CLIP-MoE's names in a .safetensors with the tokenizer's files beside it (models/clip_file.hpp). The
/// names of the weights decide how texts and images are prepared: as transformers does, or as open_clip. Throws
/// FormatError or CheckpointError that says which file is wrong and what to do, also when the model, its tokenizer and
/// its preprocessing do not fit each other. What save_packed has written is used where it lies.
ClipModel open_clip(const std::filesystem::path& path, const OpenClipOptions& how = {});

/// Makes a folder with the model as it is packed and copies of the small files that belong to it: a model that starts
/// at once, for no weight has to be read and packed. Its identity is that of the model it is made of, so that an index
/// and a cache are good for both. Throws FormatError when the folder has files already or cannot be written,
/// OptionError for a model that was opened without sums.
void save_packed(const ClipModel& clip, const std::filesystem::path& folder);

/// Whether --model names a CLIP: a folder, or a .safetensors without what train_limoe writes into its own. A file that
/// cannot be read counts as one if a CLIP's configuration or tokenizer lies beside it.
bool is_clip(const std::filesystem::path& path);

}  // namespace zero_shot
