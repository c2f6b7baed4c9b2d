#pragma once
#include "gatefold/image/clip_preprocess.hpp"
#include "gatefold/models/clip.hpp"
#include "gatefold/models/name_map.hpp"
#include "gatefold/text/clip_tokenizer.hpp"
#include "train_clip/settings.hpp"

namespace train_clip {

namespace fs = std::filesystem;
using gatefold::Context;
using gatefold::Tensor;
using Clip = gatefold::Clip<float>;

/// A CLIP to train, with what lies beside its weights.
struct Model {
  Clip clip;
  gatefold::ClipTokenizer tokenizer;
  gatefold::ClipPreprocess preprocess;
  gatefold::ClipNames names;  ///< Of what it was made of.
};

inline bool has_mixtures(const gatefold::ClipOptions& o) {
  return !o.vision.mixture.placement.layers.empty() || !o.text.mixture.placement.layers.empty();
}

/// Loads a CLIP or a CLIP-MoE of a folder, as zero_shot does. Throws FormatError.
Model load_model(const fs::path& folder, const Context& ctx);

/// Puts the small files of a model of that folder beside a run, so that what is trained there can be loaded from there,
/// and gone on with.
void copy_companions(const fs::path& model, const fs::path& run);

/// The model with Long-CLIP's longer texts (models/long_context.hpp), of whose length the companions in the folder are
/// told. The first `kept` positions stay. Throws OptionError.
Model stretched(Model model, Index kept, const fs::path& run);

/// The same for a model that is made here, of a tokenizer that is learned from these texts.
void write_companions(const Settings& s, const std::vector<std::string>& texts, const fs::path& run);

/// The model of a run that has companions, without its weights.
Model model_beside(const fs::path& run, gatefold::ClipNames names, const gatefold::ClipOptions& options);

/// The options of a model that is made here, whose tokenizer lies in the folder.
gatefold::ClipOptions tiny_options(const Settings& s, const fs::path& run);

/// Writes the weights, a dense model's under the names of what it was made of, a mixture's under CLIP-MoE's, and puts
/// them in their place when they have been read back.
void publish(const Model& model, const fs::path& run, const Context& ctx);

/// draw(i, out) makes picture i. // [N, P], rows of length 1
Tensor<float, 2> embed_pictures(const Clip& clip, Index count,
                                const std::function<void(Index, gatefold::View<float, 3>)>& draw, Context& ctx);
Tensor<float, 2> embed_texts(const Model& model, const std::vector<std::string>& texts, Context& ctx);

}  // namespace train_clip
