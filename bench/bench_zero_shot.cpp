// Pictures a second of the shipped model through the path of the example zero_shot: its pictures, each among its
// labels, in one reading; and its image encoder alone. zero_shot/<format>/threads:<t>, encode/<format>/images:<n>/…
#include "bench/session.hpp"
#include "gatefold/image/decode.hpp"
#include "zero_shot/fit.hpp"
#include "zero_shot/limoe_reader.hpp"
#include "zero_shot/samples.hpp"

namespace gatefold::bench {
namespace {

const std::filesystem::path kExamples = GATEFOLD_EXAMPLES_DIR;

/// The samples of the example, with their labels.
zero_shot::Reading samples(const zero_shot::Reader& reader) {
  zero_shot::Reading reading;
  const auto folder = kExamples / "samples";
  const auto manifest = zero_shot::read_manifest(folder / "manifest.json");
  for (const auto& sample : manifest.pictures) {
    zero_shot::Picture picture;
    picture.name = sample.file;
    picture.image = zero_shot::fit(decode_image_file(folder / sample.file), reader.file.model.options.image_size,
                                   zero_shot::Fit::whole);
    for (const auto& text : manifest.label_sets.at(sample.label_set)) {
      const auto at = std::ranges::find(reading.labels, text, &zero_shot::Label::text);
      picture.choices.push_back(at - reading.labels.begin());
      if (at == reading.labels.end()) reading.labels.push_back(zero_shot::make_label(text, reader));
    }
    reading.pictures.push_back(std::move(picture));
  }
  return reading;
}

struct ZeroShotCase {
  Format format;
  Index threads, images = 0;  // images of a batch for the encoder
};

zero_shot::Reader open(const ZeroShotCase& c, Context& ctx) {
  return zero_shot::open_model(kExamples / "models" / "wardrobe.safetensors", ctx, name(c.format));
}

/// What the example does with its pictures once it has read them from files.
Contender whole_example(const ZeroShotCase& c) {
  struct Data {
    Context ctx;
    zero_shot::Reader reader;
    zero_shot::Reading reading;
  };
  auto ctx = with_threads(c.threads);
  auto reader = open(c, ctx);
  auto reading = samples(reader);
  auto d = std::make_shared<Data>(Data{std::move(ctx), std::move(reader), std::move(reading)});
  return {[d] { zero_shot::read(d->reading, d->reader, d->ctx); }};
}

/// Only the image encoder, on a batch made of the samples.
Contender encode(const ZeroShotCase& c) {
  struct Data {
    Context ctx;
    zero_shot::Reader reader;
    Tensor<float, 4> pixels;
    Tensor<float, 2> z_image, z_text;
  };
  auto ctx = with_threads(c.threads);
  auto reader = open(c, ctx);
  const auto reading = samples(reader);
  const auto& o = reader.file.model.options;
  Tensor<float, 4> pixels({c.images, o.image_size, o.image_size, 3});
  float* out = pixels.data();
  for (Index i = 0; i < c.images; ++i)
    for (const std::uint8_t value : reading.pictures[static_cast<std::size_t>(i) % reading.pictures.size()].image.rgb)
      *out++ = static_cast<float>(value) / 127.5f - 1;
  Tensor<float, 2> z_image({c.images, o.embedding}), z_text({0, o.embedding});
  auto d = std::make_shared<Data>(
      Data{std::move(ctx), std::move(reader), std::move(pixels), std::move(z_image), std::move(z_text)});
  return {[d] {
    const auto scope = d->ctx.workspace.scope();
    d->reader.model->forward({.images = d->pixels, .ids = {}, .text_offset = {}}, d->z_image, d->z_text, d->ctx);
  }};
}

void add(Session& session, const std::string& what, Contender (*make)(const ZeroShotCase&), const ZeroShotCase& c) {
  constexpr Index kSamples = 12;
  Case row;
  row.name = c.images ? row_name(what + "/" + name(c.format), {{"images", c.images}, {"threads", c.threads}})
                      : row_name(what + "/" + name(c.format), {{"threads", c.threads}});
  row.threads = c.threads;
  row.work = {.unit = "picture", .units = static_cast<double>(c.images ? c.images : kSamples)};
  row.entrants.push_back({"gatefold", [make, c] { return make(c); }});
  ZeroShotCase fp32 = c;
  fp32.format = Format::fp32;
  if (c.format != Format::fp32)
    row.entrants.push_back({"fp32", [make, fp32] { return make(fp32); }, Entrant::Role::self});
  session.add(std::move(row));
}

}  // namespace

void add_cases(Session& session) {
  for (const Format format : kModelFormats)
    for (const Index threads : {1, 2}) {
      add(session, "zero_shot", whole_example, {.format = format, .threads = threads});
      for (const Index images : {1, 64})
        add(session, "encode", encode, {.format = format, .threads = threads, .images = images});
    }
}

}  // namespace gatefold::bench
