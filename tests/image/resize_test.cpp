#include "gatefold/image/resize.hpp"
#include "tests/support/test_data.hpp"

#include <gtest/gtest.h>

#include <fstream>

namespace gatefold::resize_test {
namespace {

/// The same pixels as tests/data/make_resize_goldens.py makes.
Image congruent(ImageSize size, std::uint32_t seed) {
  auto image = Image::of_size(size);
  for (auto& byte : image.rgb) {
    seed = seed * 1664525u + 1013904223u;
    const auto choice = seed >> 16 & 3u;
    byte = static_cast<std::uint8_t>(choice == 0 ? 0u : choice == 1 ? 255u : seed >> 24);
  }
  return image;
}

std::string hexadecimal(const std::vector<std::uint8_t>& bytes) {
  std::string text;
  for (const auto byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

TEST(Resize, EqualsPillowBitForBit) {
  std::ifstream file(gatefold::test::test_data("resize_goldens.txt"));
  ASSERT_TRUE(file);
  std::string kernel, expected;
  std::uint32_t seed = 0;
  ImageSize from, to;
  int cases = 0;
  while (file >> kernel >> seed >> from.width >> from.height >> to.width >> to.height >> expected) {
    const auto image = congruent(from, seed);
    const auto result = kernel == "bicubic" ? resize<Bicubic>(image, to) : resize<Bilinear>(image, to);
    EXPECT_EQ(result.size(), to);
    EXPECT_EQ(hexadecimal(result.rgb), expected) << kernel << ' ' << to_string(from) << " to " << to_string(to);
    ++cases;
  }
  EXPECT_EQ(cases, 11);
}

TEST(Resize, KeepsAFlatColour) {
  auto image = Image::of_size({.width = 31, .height = 7});
  for (std::size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<std::uint8_t>(50 + 70 * (i % 3));
  for (const ImageSize to : {ImageSize{3, 40}, ImageSize{100, 2}, ImageSize{1, 1}}) {
    const auto result = resize(image, to);
    for (std::size_t i = 0; i < result.rgb.size(); ++i) ASSERT_EQ(result.rgb[i], 50 + 70 * (i % 3));
  }
}

TEST(Resize, CommutesWithMirroring) {
  const auto mirror = [](const Image& image) {
    auto mirrored = image;
    for (Index y = 0; y < image.height; ++y)
      for (Index x = 0; x < image.width; ++x)
        for (Index c = 0; c < 3; ++c) mirrored.pixels()(y, image.width - 1 - x, c) = image.pixels()(y, x, c);
    return mirrored;
  };
  const auto image = congruent({.width = 12, .height = 5}, 11);  // a scale of exactly 3: the taps mirror exactly
  const ImageSize to{.width = 4, .height = 9};
  EXPECT_EQ(resize(mirror(image), to), mirror(resize(image, to)));
}

TEST(Resize, CropsTheMiddleAndLeavesTheOddPixelBelowRight) {
  const auto image = congruent({.width = 7, .height = 6}, 3);
  const auto crop = center_crop(image, {.width = 4, .height = 3});
  for (Index y = 0; y < 3; ++y)
    for (Index x = 0; x < 4; ++x)
      for (Index c = 0; c < 3; ++c) EXPECT_EQ(crop.pixels()(y, x, c), image.pixels()(y + 1, x + 1, c));
  EXPECT_THROW(center_crop(image, {.width = 8, .height = 3}), OptionError);
}

TEST(Resize, FitsTheShortSideTruncatesTheLongOneAndCrops) {
  const auto image = congruent({.width = 10, .height = 7}, 5);
  const auto wide = resize(image, {.width = 5, .height = 4});  // int(4 * 10 / 7) = 5
  EXPECT_EQ(fit_square(image, 4), center_crop(wide, {.width = 4, .height = 4}));
  EXPECT_EQ(fit_square(image, 7), center_crop(image, {.width = 7, .height = 7}));
}

TEST(Resize, RefusesSizesBeforeAllocating) {
  const auto image = congruent({.width = 6000, .height = 1}, 5);
  EXPECT_THROW(resize(image, {.width = 0, .height = 1}), OptionError);
  EXPECT_THROW(resize(image, {.width = kMaxPixels, .height = 2}), OptionError);
  EXPECT_THROW(fit_square(image, 224), OptionError);  // would be 1344000 x 224 on the way
  EXPECT_THROW(resize(Image{}, {.width = 1, .height = 1}), OptionError);
}

}  // namespace
}  // namespace gatefold::resize_test
