#include "train_clip/model.hpp"

#include "gatefold/io/atomic_file.hpp"
#include "gatefold/models/clip_file.hpp"
#include "gatefold/models/clip_image_config.hpp"
#include "gatefold/models/clip_tokenizer_file.hpp"
#include "gatefold/models/long_context.hpp"
#include "gatefold/models/save_clip.hpp"
#include "train_clip/word_pieces.hpp"
#include "training/run_folder.hpp"
#include "wardrobe/feed.hpp"

namespace train_clip {
namespace {

constexpr const char* kCompanions[] = {"config.json",
                                       "open_clip_config.json",
                                       "preprocessor_config.json",
                                       "processor_config.json",
                                       "tokenizer_config.json",
                                       "vocab.json",
                                       "merges.txt",
                                       "tokenizer.json",
                                       "bpe_simple_vocab_16e6.txt"};

gatefold::ClipTokenizer tokenizer_of(const fs::path& folder, gatefold::ClipNames names, Index context) {
  return gatefold::load_clip_tokenizer(folder, gatefold::clip_tokenizer_options(folder, names, context));
}

constexpr Index kEmbedBatch = 128;

}  // namespace

Model load_model(const fs::path& folder, const Context& ctx) {
  const auto file = gatefold::open_clip_file(folder);
  auto tokenizer = tokenizer_of(file.folder, file.names, file.options.context);
  if (tokenizer.size() > file.options.vocabulary)
    throw gatefold::FormatError(folder.string() + ": the tokenizer has " + to_text(tokenizer.size()) +
                                " tokens, the model embeds " + to_text(file.options.vocabulary) +
                                "; are these files of one model?");
  const gatefold::ClipPreprocess preprocess(
      gatefold::load_clip_image_options(file.folder, file.names, file.options.image_size));
  return {gatefold::load_clip(file, ctx.parallel_for), std::move(tokenizer), preprocess, file.names};
}

void copy_companions(const fs::path& model, const fs::path& run) {
  const auto folder = fs::is_directory(model) ? gatefold::clip_folder(model) : model.parent_path();
  for (const char* name : kCompanions)
    if (fs::exists(folder / name))
      gatefold::write_file(run / name, gatefold::read_text_file(folder / name, std::size_t{64} << 20));
}

Model stretched(Model model, Index kept, const fs::path& run) {
  model.clip = gatefold::stretch_context(std::move(model.clip), {.kept = kept});
  const Index context = model.clip.options.context;
  const auto tell = [&](const char* file, std::initializer_list<const char*> fields) {
    if (!fs::exists(run / file)) return;
    auto json = gatefold::read_json_object(run / file);
    for (const char* field : fields)
      if (const nlohmann::json::json_pointer at(field); json.contains(at)) json[at] = context;
    gatefold::write_file(run / file, json.dump(1));
  };
  tell("config.json", {"/text_config/max_position_embeddings", "/text_config_dict/max_position_embeddings"});
  tell("open_clip_config.json", {"/model_cfg/text_cfg/context_length"});
  tell("tokenizer_config.json", {"/model_max_length"});
  model.tokenizer = tokenizer_of(run, model.names, context);
  return model;
}

void write_companions(const Settings& s, const std::vector<std::string>& texts, const fs::path& run) {
  write_tokenizer(learn_merges(count_pieces(texts), s.merges), run);
  const auto size = nlohmann::json{{"height", s.image_size}, {"width", s.image_size}};
  gatefold::write_file(run / "preprocessor_config.json", nlohmann::json{{"image_processor_type", "CLIPImageProcessor"},
                                                                        {"size", {{"shortest_edge", s.image_size}}},
                                                                        {"crop_size", size},
                                                                        {"do_resize", true},
                                                                        {"do_center_crop", true},
                                                                        {"do_rescale", true},
                                                                        {"do_normalize", true},
                                                                        {"do_convert_rgb", true},
                                                                        {"resample", 3},
                                                                        {"image_mean", {0.5, 0.5, 0.5}},
                                                                        {"image_std", {0.5, 0.5, 0.5}}}
                                                             .dump(1));
  gatefold::write_file(run / "tokenizer_config.json", nlohmann::json{{"tokenizer_class", "CLIPTokenizer"},
                                                                     {"model_max_length", s.context},
                                                                     {"bos_token", "<|startoftext|>"},
                                                                     {"eos_token", "<|endoftext|>"},
                                                                     {"unk_token", "<|endoftext|>"},
                                                                     {"pad_token", "<|endoftext|>"}}
                                                          .dump(1));
  const auto tokenizer = tokenizer_of(run, gatefold::ClipNames::hugging_face, s.context);
  gatefold::write_file(run / "config.json",
                       gatefold::config_of_clip(tiny_options(s, run), tokenizer.start(), tokenizer.end()).dump(1));
}

gatefold::ClipOptions tiny_options(const Settings& s, const fs::path& run) {
  const auto tokenizer = tokenizer_of(run, gatefold::ClipNames::hugging_face, s.context);
  gatefold::ClipOptions o;
  o.image_size = s.image_size, o.patch = s.patch, o.context = s.context, o.embedding = s.embedding;
  o.vocabulary = tokenizer.size();
  o.end_of_text = tokenizer.end();
  o.vision = {.width = s.width, .hidden = 4 * s.width, .num_layers = s.vision_layers, .num_heads = s.heads};
  o.text = {.width = s.width, .hidden = 4 * s.width, .num_layers = s.text_layers, .num_heads = s.heads};
  return o;
}

Model model_beside(const fs::path& run, gatefold::ClipNames names, const gatefold::ClipOptions& options) {
  return {Clip(options), tokenizer_of(run, names, options.context),
          gatefold::ClipPreprocess(gatefold::load_clip_image_options(run, names, options.image_size)), names};
}

void publish(const Model& model, const fs::path& run, const Context& ctx) {
  const bool moe = has_mixtures(model.clip.options);
  const auto path = run / training::RunFolder::kModel;
  auto unverified = path;
  unverified += ".unverified.safetensors";
  gatefold::save_clip(model.clip, moe ? gatefold::ClipNames::open_clip : model.names, unverified);
  try {
    const auto back = gatefold::load_clip(unverified, {.parallel_for = ctx.parallel_for});
    gatefold::for_each_param(
        [&](std::string_view at, const auto& a, const auto& b) {
          if (!(a == b))
            throw gatefold::FormatError(unverified.string() + ": " + std::string(at) + " came back otherwise");
        },
        back, model.clip);
  } catch (...) {
    fs::remove(unverified);
    throw;
  }
  gatefold::replace_file(unverified, path);
}

Tensor<float, 2> embed_pictures(const Clip& clip, Index count,
                                const std::function<void(Index, gatefold::View<float, 3>)>& draw, Context& ctx) {
  const auto& o = clip.options;
  Tensor<float, 2> z({count, o.embedding});
  for (Index begin = 0; begin < count; begin += kEmbedBatch) {
    const auto scope = ctx.workspace.scope();
    const Index end = std::min(begin + kEmbedBatch, count);
    auto images = ctx.workspace.take<float>(end - begin, o.image_size, o.image_size, Index{3});
    ctx.parallel_for(end - begin, [&](Index first, Index last, Index) {
      for (Index i = first; i < last; ++i) draw(begin + i, images[i]);
    });
    clip.encode_images(images, z.view().rows(begin, end), ctx);
  }
  wardrobe::normalise_rows(z);
  return z;
}

Tensor<float, 2> embed_texts(const Model& model, const std::vector<std::string>& texts, Context& ctx) {
  const Index count = std::ssize(texts);
  Tensor<float, 2> z({count, model.clip.options.embedding});
  for (Index begin = 0; begin < count; begin += kEmbedBatch) {
    const auto scope = ctx.workspace.scope();
    const Index end = std::min(begin + kEmbedBatch, count);
    auto ids = ctx.workspace.take<Index>(end - begin, model.clip.options.context);
    model.tokenizer.encode(
        std::span(texts).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)), ids);
    model.clip.encode_texts(ids, z.view().rows(begin, end), ctx);
  }
  wardrobe::normalise_rows(z);
  return z;
}

}  // namespace train_clip
