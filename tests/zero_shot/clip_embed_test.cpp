#include "zero_shot/clip_embed.hpp"

#include <gmock/gmock.h>

#include "tests/zero_shot/tiny_clip.hpp"

namespace zero_shot {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class ClipEmbed : public ::testing::Test {
 protected:
  ClipEmbed() {
    tiny::write_clip(folder_ / "clip");
    tiny::write_photos(folder_ / "photos");
  }
  ClipModel open() const { return open_clip(folder_ / "clip"); }

  const gatefold::test::TemporaryFolder folder_;
  gatefold::Context ctx_;
};

TEST_F(ClipEmbed, APhotoThatCannotBeReadIsAFaultOfItsOwn) {
  gatefold::test::write_text(folder_ / "broken.png", "no picture");
  const std::vector<fs::path> photos{folder_ / "broken.png", folder_ / "photos" / "red.png", folder_ / "gone.png",
                                     folder_ / "photos" / "green.png"};
  const std::vector<fs::path> good{photos[1], photos[3]};
  const auto clip = open();
  const auto alone = embed_photos(clip, good, {}, ctx_);
  for (const Index batch : {1, 2, 3, 32}) {
    const auto all = embed_photos(clip, photos, {.batch = batch}, ctx_);
    EXPECT_THAT(all.faults[0], HasSubstr("broken.png: is no picture that is known"));
    EXPECT_THAT(all.faults[2], HasSubstr("gone.png: cannot be read: No such file"));
    EXPECT_EQ(all.faults[1] + all.faults[3], "");
    for (Index i = 0; i < 6; ++i) {
      EXPECT_TRUE(std::isnan(all.z.view()(0, i)) && std::isnan(all.z.view()(2, i)));
      EXPECT_NEAR(all.z.view()(1, i), alone.z.view()(0, i), 1e-6);
      EXPECT_NEAR(all.z.view()(3, i), alone.z.view()(1, i), 1e-6);
    }
  }
  EXPECT_EQ(embed_photos(clip, {}, {}, ctx_).z.size(), 0);
}

TEST_F(ClipEmbed, AFixedSumOfMemoryIsEnoughForAnyNumberOfThreads) {
  std::vector<fs::path> photos;
  for (int i = 0; i < 40; ++i) photos.push_back(folder_ / "photos" / (i % 2 ? "red.png" : "green.png"));
  const auto clip = open();
  const auto alone = embed_photos(clip, photos, {}, ctx_);
  gatefold::Context threads{.parallel_for = gatefold::default_parallel_for(4)};
  // Less than a photograph needs, and room for two of them (20 x 14 pixels of 12 bytes).
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{8000}}) {
    const auto all = embed_photos(clip, photos, {.decode_bytes = bytes}, threads);
    EXPECT_TRUE(std::equal(all.z.flat().begin(), all.z.flat().end(), alone.z.flat().begin()));
  }
  EXPECT_THAT(embed_photos(clip, std::span(photos).first(1), {.max_pixels = 279}, ctx_).faults[0],
              HasSubstr("at most 279 pixels; scale it down first, or raise --max-megapixels"));
}

TEST_F(ClipEmbed, LabelsDoNotDependOnWhereABatchEnds) {
  const auto clip = open();
  const std::vector<std::string> labels{"cat", "dog", "x", "c"}, templates{"{}", "a {}", "{} t"};
  const auto all = embed_labels(clip, labels, templates, {.batch = 100}, ctx_);
  for (const Index batch : {1, 2, 3, 5}) {
    const auto z = embed_labels(clip, labels, templates, {.batch = batch}, ctx_);
    for (Index i = 0; i < z.size(); ++i)
      EXPECT_NEAR(z.flat()[static_cast<std::size_t>(i)], all.flat()[static_cast<std::size_t>(i)], 1e-6);
  }
}

TEST_F(ClipEmbed, LabelsAreTheMeanOfTheirTemplatesEachOfLengthOne) {
  const auto clip = open();
  const std::vector<std::string> labels{"cat", "dog", "x"}, templates{"{}", "a {}"};
  const std::vector<std::string> texts{"cat", "a cat", "dog", "a dog", "x", "a x"};
  const auto z = embed_labels(clip, labels, templates, {.batch = 1}, ctx_);
  const auto each = embed_texts(clip, texts, {}, ctx_);
  for (Index l = 0; l < 3; ++l) {
    double length = 0;
    std::vector<double> sum(6);
    for (Index i = 0; i < 6; ++i) {
      EXPECT_NE(each.view()(2 * l, i), each.view()(2 * l + 1, i));
      sum[static_cast<std::size_t>(i)] = double{each.view()(2 * l, i)} + double{each.view()(2 * l + 1, i)};
      length += sum[static_cast<std::size_t>(i)] * sum[static_cast<std::size_t>(i)];
    }
    for (Index i = 0; i < 6; ++i)
      EXPECT_NEAR(z.view()(l, i), sum[static_cast<std::size_t>(i)] / std::sqrt(length), 1e-6);
    EXPECT_NEAR(cosine(each.view()[2 * l], each.view()[2 * l]), 1, 1e-6);
  }
}

}  // namespace
}  // namespace zero_shot
