#include <deque>

#include "compress/compress.hpp"
#include "compress/repair.hpp"
#include "gatefold/image/decode.hpp"
#include "gatefold/models/clip_file.hpp"
#include "gatefold/models/clip_image_config.hpp"
#include "gatefold/models/clip_tokenizer_file.hpp"
#include "gatefold/train/shuffle.hpp"
#include "program.hpp"
#include "search/captions.hpp"
#include "zero_shot/clip_embed.hpp"
#include "zero_shot/clip_photos.hpp"

namespace compress {
namespace {

namespace fs = std::filesystem;
using gatefold::Clip;
using gatefold::Rows;
using gatefold::Tensor;
using gatefold::View;

/// The small files that a CLIP consists of beside its weights.
constexpr const char* kFiles[] = {"vocab.json",
                                  "merges.txt",
                                  "tokenizer.json",
                                  "bpe_simple_vocab_16e6.txt",
                                  "config.json",
                                  "open_clip_config.json",
                                  "preprocessor_config.json",
                                  "processor_config.json",
                                  "tokenizer_config.json"};
constexpr Index kBatch = 32;  ///< Of passes without a way back.

/// A photograph and a caption; a photograph may stand in many.
struct Pair {
  fs::path photo;
  std::string text;
};

/// Pixels and ids of photographs and captions as the model takes them.
class Reader {
 public:
  explicit Reader(const gatefold::ClipFile& file)
      : tokenizer_(gatefold::load_clip_tokenizer(
            file.folder, gatefold::clip_tokenizer_options(file.folder, file.names, file.options.context))),
        preprocess_(gatefold::load_clip_image_options(file.folder, file.names, file.options.image_size)),
        budget_(zero_shot::decoding_budget()) {}

  /// Throws FormatError for one that cannot be read. // images [B, size, size, 3]
  void photos(std::span<const fs::path> which, View<float, 4> images, const Context& ctx) {
    ctx.parallel_for(std::ssize(which), [&](Index begin, Index end, Index) {
      for (Index i = begin; i < end; ++i) {
        gatefold::MemoryBudget::Lease lease;
        auto options = gatefold::clip_decode_options(preprocess_.options());
        options.reserve = [&](std::size_t bytes) { lease = budget_.take(bytes); };
        const auto image = gatefold::decode_image_file(which[static_cast<std::size_t>(i)], options);
        preprocess_.interleaved<float>(image, images[i]);
      }
    });
  }
  void texts(std::span<const std::string> which, View<Index, 2> ids) const { tokenizer_.encode(which, ids); }

 private:
  gatefold::ClipTokenizer tokenizer_;
  gatefold::ClipPreprocess preprocess_;
  gatefold::MemoryBudget budget_;
};

std::vector<Pair> pairs_of(const fs::path& file) {
  const auto captions = search::read_captions(file);
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < captions.texts.size(); ++i)
    pairs.push_back({captions.photos[static_cast<std::size_t>(captions.photo_of[i])], captions.texts[i]});
  return pairs;
}

/// Photographs and texts held as the model takes them: those of calibration and of the comparison.
struct Samples {
  Tensor<float, 4> images = Tensor<float, 4>({0, 0, 0, 0});
  Tensor<Index, 2> ids = Tensor<Index, 2>({0, 0});

  Samples(Reader& reader, std::span<const fs::path> photos, std::span<const std::string> texts,
          const gatefold::ClipOptions& o, const Context& ctx)
      : images({std::ssize(photos), o.image_size, o.image_size, 3}), ids({std::ssize(texts), o.context}) {
    reader.photos(photos, images.view(), ctx);
    reader.texts(texts, ids.view());
  }

  /// fn(first, images, ids) a batch at a time; either may be empty.
  template <class Fn>
  void for_each_images(Fn&& fn) const {
    for (Index i = 0; i < images.extent(0); i += kBatch)
      fn(i, images.view().rows(i, std::min(images.extent(0), i + kBatch)));
  }
  template <class Fn>
  void for_each_texts(Fn&& fn) const {
    for (Index i = 0; i < ids.extent(0); i += kBatch) fn(i, ids.view().rows(i, std::min(ids.extent(0), i + kBatch)));
  }
};

struct Embedded {
  Tensor<float, 2> images, texts;  // of length 1
};
Embedded embed(const Clip<float>& model, const Samples& samples, Context& ctx) {
  Embedded z{Tensor<float, 2>({samples.images.extent(0), model.options.embedding}),
             Tensor<float, 2>({samples.ids.extent(0), model.options.embedding})};
  samples.for_each_images([&](Index i, View<const float, 4> images) {
    const auto scope = ctx.workspace.scope();
    model.encode_images(images, z.images.view().rows(i, i + images.extent(0)), ctx);
  });
  samples.for_each_texts([&](Index i, View<const Index, 2> ids) {
    const auto scope = ctx.workspace.scope();
    model.encode_texts(ids, z.texts.view().rows(i, i + ids.extent(0)), ctx);
  });
  zero_shot::to_unit_length(z.images.view());
  zero_shot::to_unit_length(z.texts.view());
  return z;
}

double mean_cosine(const Tensor<float, 2>& a, const Tensor<float, 2>& b) {
  double sum = 0;
  for (Index i = 0; i < a.extent(0); ++i) sum += zero_shot::cosine(a.view()[i], b.view()[i]);
  return a.extent(0) ? sum / static_cast<double>(a.extent(0)) : 1;
}

/// % of the rows of a whose nearest row of b is their own; a tie is never luck.
double recall(const Tensor<float, 2>& a, const Tensor<float, 2>& b) {
  Index right = 0;
  for (Index i = 0; i < a.extent(0); ++i) {
    const double own = zero_shot::cosine(a.view()[i], b.view()[i]);
    bool first = own == own;
    for (Index j = 0; first && j < b.extent(0); ++j)
      first = j == i || zero_shot::cosine(a.view()[i], b.view()[j]) < own;
    right += first;
  }
  return a.extent(0) ? 100 * static_cast<double>(right) / static_cast<double>(a.extent(0)) : 0;
}

/// Writes the model under the names of the file it came from: what was pruned anew, all else byte for byte.
void save(const gatefold::ClipFile& file, const Clip<float>& model, const gatefold::Pruned& pruned,
          const Arguments& args) {
  const auto& names =
      file.names == gatefold::ClipNames::hugging_face ? gatefold::kHuggingFaceClipNames : gatefold::kOpenAiClipNames;
  gatefold::SafeTensorsWriter writer;
  std::deque<Tensor<float, 2>> made;  // borrowed until the file is written
  std::set<std::string, std::less<>> written;
  const auto rules = args.rules();
  const auto add = [&](std::string_view path, const Tensor<float, 2>& weight) {
    const auto ways = names.find(path);
    const auto way = std::ranges::find_if(ways, [&](const auto& w) {
      return std::ranges::all_of(w.names, [&](const auto& name) { return file.tensors.find(name) != nullptr; });
    });
    if (way == ways.end()) throw gatefold::FormatError(std::string(path) + ": is of no tensor of the file");
    const bool scaled = way->arrangement == gatefold::Arrangement::scaled_rows;
    const std::size_t parts = scaled ? 1 : way->names.size();
    const Index rows = weight.extent(0) / static_cast<Index>(parts);
    std::vector<float> scale(static_cast<std::size_t>(rows), 1.0f);
    if (scaled) {
      const auto& gamma = *file.tensors.find(way->names[1])->entry;
      decode(gamma.dtype, gamma.bytes, std::span(scale));
    }
    for (std::size_t part = 0; part < parts; ++part) {
      auto& copy = made.emplace_back(gatefold::Shape<2>{rows, weight.extent(1)});
      for (Index n = 0; n < rows; ++n)
        for (Index k = 0; k < weight.extent(1); ++k) {
          const float w = weight.view()(static_cast<Index>(part) * rows + n, k),
                      by = scale[static_cast<std::size_t>(n)];
          copy.view()(n, k) = by == 0 ? 0 : w / by;
        }
      const auto dtype = file.tensors.find(way->names[part])->entry->dtype;
      writer.add(way->names[part], std::as_const(copy).view(),
                 dtype == gatefold::Dtype::f16 ? gatefold::Dtype::f32 : dtype);
      written.insert(way->names[part]);
      for (const auto& rule : rules)
        if (gatefold::PathPattern(rule.weights).matches(path)) {
          writer.add_metadata(gatefold::sparsity_key(way->names[part]), gatefold::to_text(rule.sparsity));
          break;
        }
    }
  };
  gatefold::for_each_param(
      [&](std::string_view path, const auto& tensor) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(tensor)>, Tensor<float, 2>>)
          if (pruned.masks.find(path)) add(path, tensor);
      },
      model);
  for (const auto& [name, tensor] : file.tensors.tensors())
    if (!written.contains(name))
      writer.add_bytes(std::string(name), tensor.entry->dtype, tensor.entry->shape, tensor.entry->bytes);
  writer.add_metadata("format", "pt");  // what transformers looks for
  fs::create_directories(args.out);
  for (const char* name : kFiles)
    if (fs::exists(file.folder / name))
      fs::copy_file(file.folder / name, args.out / name, fs::copy_options::overwrite_existing);
  writer.write(args.out / "model.safetensors");
}

}  // namespace

void compress_clip(const Arguments& args) {
  if (fs::exists(args.out) && !args.overwrite && (!fs::is_directory(args.out) || !fs::is_empty(args.out)))
    throw gatefold::UsageError(args.out.string() + " is there already; --overwrite replaces what is in it");
  if (args.prune != "magnitude" && args.calibrate.empty() && args.repair.empty())
    throw gatefold::UsageError("--prune " + args.prune + " looks at activations: --calibrate photos/, or captions.tsv");
  Context ctx{.parallel_for = gatefold::default_parallel_for(args.threads)};
  const auto file = gatefold::open_clip_file(args.model);
  auto model = gatefold::load_clip(file, ctx.parallel_for);
  const auto& o = model.options;
  Reader reader(file);

  // The captions: some for comparison, with photographs that no other pair has; the rest for repair.
  std::vector<Pair> pairs = args.repair.empty() ? std::vector<Pair>() : pairs_of(args.repair);
  std::vector<fs::path> held_photos;
  std::vector<std::string> held_texts;
  const Index most = std::min<Index>(500, std::ssize(pairs) / 10);
  while (std::ssize(held_photos) < most) {
    const Pair last = pairs.back();
    held_photos.push_back(last.photo), held_texts.push_back(last.text);
    std::erase_if(pairs, [&](const Pair& pair) { return pair.photo == last.photo; });
    if (pairs.empty()) throw gatefold::UsageError("--repair: too few photographs to compare with, expected twenty");
  }

  // Calibration: photographs and texts drawn from what there is.
  std::vector<fs::path> photos;
  std::vector<std::string> texts;
  if (args.calibrate.empty()) {
    for (const auto& pair : pairs) photos.push_back(pair.photo), texts.push_back(pair.text);
  } else if (fs::is_directory(args.calibrate)) {
    photos = zero_shot::find_photos(std::span(&args.calibrate, 1));
    for (const auto& pair : pairs) texts.push_back(pair.text);
  } else {
    for (const auto& pair : pairs_of(args.calibrate)) photos.push_back(pair.photo), texts.push_back(pair.text);
  }
  const auto draw = [&]<class T>(std::vector<T>& from) {
    if (from.empty()) return;
    const gatefold::Shuffle order{.size = std::ssize(from), .seed = static_cast<std::uint64_t>(args.seed)};
    std::vector<T> some;
    for (Index i = 0; i < std::min(args.samples, std::ssize(from)); ++i)
      some.push_back(from[static_cast<std::size_t>(order(i))]);
    from = std::move(some);
  };
  draw(photos), draw(texts);
  const Samples calibration(reader, photos, texts, o, ctx);
  const Samples held(reader, held_photos, held_texts, o, ctx);
  const Samples& compared = held_photos.empty() ? calibration : held;

  const bool captioned = !held_photos.empty();
  std::vector<std::string> rows{"cosine of pictures to the dense model's, %",
                                "cosine of texts to the dense model's, %"};
  if (captioned) rows.insert(rows.end(), {"R@1 image to text, %", "R@1 text to image, %"});
  std::vector<Score> scores;
  const Embedded before = embed(model, compared, ctx);
  const auto evaluate = [&](const std::string& name, const Clip<float>& with) {
    const auto z = embed(with, compared, ctx);
    scores.push_back({name, {100 * mean_cosine(z.images, before.images), 100 * mean_cosine(z.texts, before.texts)}});
    if (captioned)
      scores.back().values.insert(scores.back().values.end(), {recall(z.images, z.texts), recall(z.texts, z.images)});
  };
  evaluate("dense", model);

  std::optional<Teacher<Clip<float>>> teacher;
  if (!pairs.empty()) teacher = gatefold::pack<gatefold::SharedWeight<float>>(model);
  const auto pruned = prune_model(
      model, args,
      [&](const Clip<float>& with, Context& here) {
        // A block is of one tower; the other need not run.
        const bool text = here.calibration->weights().front().path.starts_with("text.");
        if (!text)
          calibration.for_each_images([&](Index, View<const float, 4> images) {
            const auto scope = here.workspace.scope();
            (void)with.vision.forward(images, here.workspace.take<float>(images.extent(0), o.embedding), here);
          });
        else
          calibration.for_each_texts([&](Index, View<const Index, 2> ids) {
            const auto scope = here.workspace.scope();
            (void)with.text.forward(ids, here.workspace.take<float>(ids.extent(0), o.embedding), here);
          });
      },
      ctx);
  print_sparsity(pruned);
  evaluate(args.prune + " " + args.pattern.front(), model);

  if (teacher) {
    const Index batch = std::min<Index>(args.batch ? args.batch : 64, std::ssize(pairs));
    Tensor<float, 4> images({batch, o.image_size, o.image_size, 3});
    Tensor<Index, 2> ids({batch, o.context});
    Tensor<std::uint8_t, 2> left_out({batch, batch});
    std::vector<fs::path> step_photos;
    std::vector<std::string> step_texts;
    const gatefold::Shuffle order{.size = std::ssize(pairs), .seed = static_cast<std::uint64_t>(args.seed)};
    const auto next = [&](Index step) -> Pairs<Clip<float>> {
      step_photos.clear(), step_texts.clear();
      for (Index i = 0; i < batch; ++i) {
        const Pair& pair = pairs[static_cast<std::size_t>(order(step * batch + i))];
        step_photos.push_back(pair.photo), step_texts.push_back(pair.text);
      }
      for (std::size_t i = 0; i < step_photos.size(); ++i)
        for (std::size_t j = 0; j < step_photos.size(); ++j)
          left_out.view()(static_cast<Index>(i), static_cast<Index>(j)) =
              step_photos[i] == step_photos[j] || step_texts[i] == step_texts[j];
      reader.photos(step_photos, images.view(), ctx);
      reader.texts(step_texts, ids.view());
      return {.batch = {.images = images.view(), .ids = ids.view()},
              .images = batch,
              .texts = batch,
              .left_out = left_out.view()};
    };
    const double scale = std::exp(double{model.logit_scale.flat()[0]});
    model = repaired<Clip<float>>(*teacher, model, pruned.masks, args, scale, next, ctx);
    evaluate("repaired", model);
  }
  print_scores(rows, scores);
  save(file, model, pruned, args);
  (void)gatefold::open_clip_file(args.out);
  std::printf("%s written\n", args.out.c_str());
  print_memory();
}

}  // namespace compress
