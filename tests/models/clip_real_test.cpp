#include <gtest/gtest.h>

#include <cstdlib>

#include "gatefold/image/clip_preprocess.hpp"
#include "gatefold/image/decode.hpp"
#include "gatefold/losses/similarity.hpp"
#include "gatefold/models/clip_file.hpp"
#include "gatefold/models/clip_image_config.hpp"
#include "gatefold/models/clip_tokenizer_file.hpp"

/// Against what is published of openai/clip-vit-base-patch32. Runs where GATEFOLD_CLIP_DIR is a folder with it:
///   hf download openai/clip-vit-base-patch32 --revision refs/pr/15 --local-dir clip
///   curl -L -o clip/CLIP.png https://raw.githubusercontent.com/openai/CLIP/main/CLIP.png
///   GATEFOLD_CLIP_DIR=clip ./models_test --gtest_filter='RealClip.*'
namespace gatefold {
namespace {

class RealClip : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* const folder = std::getenv("GATEFOLD_CLIP_DIR");
    if (!folder || !*folder) GTEST_SKIP() << "GATEFOLD_CLIP_DIR is not set";
    folder_ = folder;
  }
  std::filesystem::path folder_;
};

TEST_F(RealClip, TokensAreThePublishedOnes) {
  const auto tokenizer = load_clip_tokenizer(folder_);
  const std::vector<std::pair<std::string, std::vector<TokenId>>> goldens{
      {"a photo of a cat", {49406, 320, 1125, 539, 320, 2368, 49407}},
      {"a diagram", {49406, 320, 22697, 49407}},
      {"Hello World! 123", {49406, 3306, 1002, 256, 272, 273, 274, 49407}},
      {"it's a T-shirt/top.", {49406, 585, 568, 320, 339, 268, 2523, 270, 1253, 269, 49407}},
      {"a photo of an ankle boot.", {49406, 320, 1125, 539, 550, 14777, 8087, 269, 49407}}};
  for (const auto& [text, ids] : goldens) EXPECT_EQ(tokenizer.encode(text), ids) << text;
}

// README of github.com/openai/CLIP: [[0.9927937 0.00421068 0.00299572]] for ViT-B/32 (in half precision on a GPU, and
// with torchvision's crop, which here is the same).
TEST_F(RealClip, ProbabilitiesOfTheDiagramAreThePublishedOnes) {
  if (!std::filesystem::exists(folder_ / "CLIP.png"))
    GTEST_SKIP() << "CLIP.png of github.com/openai/CLIP is not in the folder";
  const auto model = load_clip(folder_);
  const auto tokenizer = load_clip_tokenizer(folder_, {.context = model.options.context});
  const ClipPreprocess preprocess(load_clip_image_options(folder_, ClipNames::hugging_face, model.options.image_size));
  const std::vector<std::string> texts{"a diagram", "a dog", "a cat"};
  Tensor<Index, 2> ids({3, model.options.context});
  tokenizer.encode(std::span<const std::string>(texts), ids.view());
  Context ctx;
  const auto size = model.options.image_size;
  Tensor<float, 4> image({1, size, size, 3});
  preprocess.interleaved<float>(decode_image_file(folder_ / "CLIP.png", clip_decode_options(preprocess.options())),
                                image.view()[0]);
  Tensor<float, 2> z_image({1, model.options.embedding}), z_text({3, model.options.embedding});
  model.encode_images(image, z_image, ctx);
  model.encode_texts(ids, z_text, ctx);
  const auto similarity = CosineSimilarity::forward<float>(z_image, z_text, ctx).similarity;
  const double scale = std::exp(double{model.logit_scale.flat()[0]});
  std::vector<double> p(3);
  double sum = 0;
  for (std::size_t i = 0; i < 3; ++i) sum += p[i] = std::exp(scale * double{similarity(0, static_cast<Index>(i))});
  EXPECT_NEAR(p[0] / sum, 0.9927937, 1e-3);
  EXPECT_NEAR(p[1] / sum, 0.00421068, 5e-4);
  EXPECT_NEAR(p[2] / sum, 0.00299572, 5e-4);
}

}  // namespace
}  // namespace gatefold
