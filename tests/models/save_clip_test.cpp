#include "gatefold/models/save_clip.hpp"

#include <gmock/gmock.h>

#include "gatefold/models/clip_file.hpp"
#include "gatefold/models/clip_init.hpp"
#include "gatefold/models/upcycle.hpp"
#include "tests/io/temporary_folder.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

using test::TemporaryFolder;
using test::write_text;

ClipOptions options(Index context) {
  ClipOptions o;
  o.image_size = 8, o.patch = 4, o.vocabulary = 20, o.context = context, o.embedding = 6, o.end_of_text = 19;
  o.vision = {.width = 8, .hidden = 16, .num_layers = 2, .num_heads = 2};
  o.text = {.width = 8, .hidden = 12, .num_layers = 1, .num_heads = 2};
  return o;
}

Clip<float> model(Index context) {
  Clip<float> clip(options(context));
  Rng rng(1);
  Context ctx;
  initialise(clip, rng, ctx);
  return clip;
}

void expect_round_trip(const Clip<float>& clip, ClipNames names) {
  const TemporaryFolder folder;
  save_clip(clip, names, folder / "model.safetensors");
  write_text(folder / "config.json", config_of_clip(options(clip.options.context), 18, 19).dump());
  const auto back = load_clip(folder / "");
  EXPECT_EQ(back.options.vision.num_heads, 2);
  for_each_param([](std::string_view at, const auto& a, const auto& b) { EXPECT_EQ(a, b) << at; }, back, clip);
}

TEST(SaveClip, IsReadBackUnderEitherNames) {
  expect_round_trip(model(10), ClipNames::hugging_face);
  expect_round_trip(model(10), ClipNames::open_clip);
}

// What tests/data/clip/read_export.py had transformers read: this very file, and what came of it.
TEST(SaveClip, TransformersReadsWhatItWrites) {
  const auto folder = test::test_data("clip") / "export";
  const auto clip = load_clip(folder);
  const TemporaryFolder written;
  save_clip(clip, ClipNames::hugging_face, written / "model.safetensors");
  const auto text_of = [](const std::filesystem::path& path) { return read_text_file(path, std::size_t{1} << 20); };
  EXPECT_EQ(text_of(written / "model.safetensors"), text_of(folder / "model.safetensors"));
  EXPECT_EQ(config_of_clip(clip.options, 512, 513).dump(1), text_of(folder / "config.json"));

  const CheckpointReader expected(folder / "expected.safetensors");
  Context ctx;
  const auto expect_near = [](const Tensor<float, 2>& got, const Tensor<float, 2>& wanted) {
    for (Index i = 0; i < wanted.size(); ++i) EXPECT_NEAR(got.data()[i], wanted.data()[i], 1e-5) << i;
  };
  auto image = expected.read_tensor<float, 2>("image"), text = expected.read_tensor<float, 2>("text");
  const auto wanted_image = image, wanted_text = text;
  clip.encode_images(expected.read_tensor<float, 4>("images"), image, ctx);
  clip.encode_texts(expected.read_tensor<Index, 2>("ids"), text, ctx);
  expect_near(image, wanted_image);
  expect_near(text, wanted_text);
}

TEST(SaveClip, WritesClipMoeAsItIsPublished) {
  for (const Index context : {10, 248}) {
    Rng rng(2);
    const auto moe = upcycle(model(context), {.num_experts = 3}, rng);
    expect_round_trip(moe, ClipNames::open_clip);
    const TemporaryFolder folder;
    save_clip(moe, ClipNames::open_clip, folder / "model.safetensors");
    const SafeTensors file{MappedFile(folder / "model.safetensors")};
    EXPECT_NE(file.find("transformer.resblocks.0.experts.2.c_proj.weight"), nullptr);
    EXPECT_NE(file.find("visual.transformer.resblocks.1.gate.weight"), nullptr);
    EXPECT_EQ(file.find("positional_embedding_res") != nullptr, context == 248);
    EXPECT_THROW(save_clip(moe, ClipNames::hugging_face, folder / "hf.safetensors"), OptionError);
  }
}

TEST(InitialiseClip, DrawsWithTheVarianceOfWhatComesIn) {
  auto o = options(10);
  o.vision = {.width = 64, .hidden = 256, .num_layers = 2, .num_heads = 2};
  Clip<float> clip(o);
  Rng rng(3);
  Context ctx;
  initialise(clip, rng, ctx);
  const auto deviation = [](const auto& tensor) {
    double squares = 0;
    for (const float x : tensor.flat()) squares += double{x} * double{x};
    return std::sqrt(squares / static_cast<double>(tensor.size()));
  };
  const auto& block = clip.vision.tower.encoder.blocks[0];
  EXPECT_NEAR(deviation(block.attention.inner.qkv.weight), 1 / 8.0, 0.01);
  EXPECT_NEAR(deviation(block.attention.inner.out.weight), 1 / 16.0, 0.005);
  EXPECT_NEAR(deviation(clip.vision.tower.projection.weight), 1 / 8.0, 0.02);
  EXPECT_EQ(clip.vision.position.table.view()(0, 5), 0);
  EXPECT_NE(clip.vision.position.table.view()(1, 20), clip.vision.position.table.view()(2, 5));
}

}  // namespace
}  // namespace gatefold
