// A CLIP ViT-B/32 encoding images and texts, clip_images/<format>/images:<n>/threads:<t> and
// clip_texts/<format>/texts:<n>/threads:<t>: texts fill their context. Random weights, or those of the folder that
// GATEFOLD_CLIP_DIR names; then inputs come from inputs.safetensors beside them, if there is one, and where
// GATEFOLD_CLIP_EMBEDDINGS names a folder, every case leaves its embeddings there: so bench/peers/clip_peers.py
// compares with libraries that come as Python packages.
#include "bench/clip_inputs.hpp"
#include "zero_shot/clip_format.hpp"

namespace gatefold::bench {
namespace {

struct ClipCase {
  enum class Input { images, texts } input;
  Format format;
  Index count, threads;

  std::string name() const {
    const char* const what = input == Input::images ? "images" : "texts";
    return row_name("clip_" + std::string(what) + "/" + bench::name(format), {{what, count}, {"threads", threads}});
  }
};

/// The model of the case at hand: the cases of a format come one after the other, and so share it.
std::shared_ptr<const zero_shot::PackedClip> model(const ClipOptions& o, Format format) {
  static std::shared_ptr<const zero_shot::PackedClip> last;
  static Format last_format;
  if (!last || last_format != format) {
    last.reset();
    const auto how = with_format(format, []<class F>() -> zero_shot::ClipFormat {
      if constexpr (std::same_as<F, mxfp4> || std::same_as<F, fp8>)
        throw std::logic_error("zero_shot has no such format");
      else
        return zero_shot::clip_format<F>();
    });
    last = std::make_shared<const zero_shot::PackedClip>(
        checkpoint().empty() ? how.pack(filled(Clip<float>(o)))
                             : how.load(open_clip_file(checkpoint()), default_parallel_for()));
    last_format = format;
  }
  return last;
}

/// Of the checkpoint, or ViT-B/32's, or small enough for a quick look.
ClipOptions options(const Session& session) {
  if (!checkpoint().empty()) return model({}, Format::fp32)->options;
  if (!session.quick()) return {};
  return {.image_size = 32,
          .patch = 16,
          .vocabulary = 64,
          .context = 8,
          .embedding = 32,
          .vision = {.width = 64, .hidden = 128, .num_layers = 2, .num_heads = 2},
          .text = {.width = 64, .hidden = 128, .num_layers = 2, .num_heads = 2}};
}

Contender ours(const ClipOptions& o, const ClipCase& c) {
  struct Data {
    std::shared_ptr<const zero_shot::PackedClip> model;
    Tensor<float, 4> pixels;
    Tensor<Index, 2> ids;
    Tensor<float, 2> z;
    Context ctx;
  };
  const bool images = c.input == ClipCase::Input::images;
  auto d =
      std::make_shared<Data>(Data{model(o, c.format), pixels(o, images ? c.count : 0), ids(o, images ? 0 : c.count),
                                  Tensor<float, 2>({c.count, o.embedding}), with_threads(c.threads)});
  const auto run = [d, images] {
    if (images)
      d->model->towers->encode_images(d->pixels, d->z, d->ctx);
    else
      d->model->towers->encode_texts(d->ids, d->z, d->ctx);
  };
  leave_result(c.name(), [&] {
    run();
    return d->z;
  });
  return {run};
}

/// Products of encode: the last block has keys and values of all tokens, but the rest for one of each sequence.
double flops(const ClipOptions& o, const ClipCase& c) {
  const bool images = c.input == ClipCase::Input::images;
  const ClipTowerOptions& tower = images ? o.vision : o.text;
  const double grid = static_cast<double>(o.image_size / o.patch), d = static_cast<double>(tower.width);
  const double tokens = images ? grid * grid + 1 : static_cast<double>(o.context);
  const double patches = images ? grid * grid * 2 * d * static_cast<double>(o.patch * o.patch * o.channels) : 0;
  const double keys_and_values = tokens * 4 * d * d;
  const double rest = 4 * d * d + 4 * d * tokens + 4 * d * static_cast<double>(tower.hidden);  // of a token
  const double layers = static_cast<double>(tower.num_layers);
  return static_cast<double>(c.count) * (patches + layers * keys_and_values + ((layers - 1) * tokens + 1) * rest +
                                         2 * d * static_cast<double>(o.embedding));
}

}  // namespace

void add_cases(Session& session) {
  const ClipOptions o = options(session);
  const auto add = [&](const ClipCase& c) {
    Case row;
    row.name = c.name();
    row.threads = c.threads;
    row.work = {.flops = flops(o, c),
                .format = c.format,
                .unit = c.input == ClipCase::Input::images ? "image" : "text",
                .units = static_cast<double>(c.count)};
    row.entrants.push_back({"gatefold", [o, c] { return ours(o, c); }});
    session.add(std::move(row));
  };
  for (const Format format : kModelFormats)
    for (const Index threads : {1, 2}) {
      for (const Index images : {1, 8, 64})
        add({.input = ClipCase::Input::images, .format = format, .count = images, .threads = threads});
      for (const Index texts : {1, 64})
        add({.input = ClipCase::Input::texts, .format = format, .count = texts, .threads = threads});
    }
}

}  // namespace gatefold::bench
