#include "gatefold/image/clip_preprocess.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>

#include "gatefold/core/tensor.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::clip_preprocess_test {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// The same pixels as tests/data/make_clip_preprocess_goldens.py makes.
Image congruent(ImageSize size, std::uint32_t seed) {
  auto image = Image::of_size(size);
  for (auto& byte : image.rgb) {
    seed = seed * 1664525u + 1013904223u;
    const auto choice = seed >> 16 & 3u;
    byte = static_cast<std::uint8_t>(choice == 0 ? 0u : choice == 1 ? 255u : seed >> 24);
  }
  return image;
}

std::uint32_t checksum(const void* data, std::size_t size_bytes) {
  return static_cast<std::uint32_t>(crc32(0, static_cast<const Bytef*>(data), static_cast<uInt>(size_bytes)));
}

std::optional<ImageSize> size_of(const std::string& text) {
  const auto x = text.find('x');
  if (x == text.npos) return std::nullopt;
  return ImageSize{std::stoi(text.substr(0, x)), std::stoi(text.substr(x + 1))};
}

TEST(ClipPreprocess, EqualsTheReferencesBitForBit) {
  std::ifstream file(gatefold::test::test_data("clip_preprocess_goldens.txt"));
  ASSERT_TRUE(file);
  std::string reference, resize, crop;
  int filter = 0, cases = 0;
  std::uint32_t seed = 0, bytes = 0, floats = 0;
  ImageSize from, to;
  while (file >> reference >> resize >> crop >> filter >> seed >> from.width >> from.height >> to.width >> to.height >>
         std::hex >> bytes >> floats >> std::dec) {
    ClipImageOptions options;
    options.exact_size = size_of(resize);
    options.shortest_edge.reset();
    if (!options.exact_size && resize != "-") options.shortest_edge = std::stoi(resize);
    options.crop = size_of(crop);
    if (filter == 2) options.filter = ResizeFilter::bilinear;
    if (reference == "torchvision") options.rounding = CropRounding::half_even;
    const ClipPreprocess preprocess(options);
    const auto image = congruent(from, seed);
    const auto where = reference + ' ' + resize + ' ' + crop + " of " + to_string(from);

    const auto cut = preprocess.crop(image);
    ASSERT_EQ(cut.size(), to) << where;
    EXPECT_EQ(preprocess.output_size(from), to) << where;
    EXPECT_EQ(checksum(cut.rgb.data(), cut.rgb.size()), bytes) << where;
    Tensor<float, 3> planes({3, to.height, to.width});
    preprocess.planes<float>(image, planes.view());
    EXPECT_EQ(checksum(planes.data(), planes.flat().size() * sizeof(float)), floats) << where;
    ++cases;
  }
  EXPECT_EQ(cases, 496);
}

std::vector<std::uint8_t> from_hexadecimal(const std::string& text) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

TEST(ClipPreprocess, SeesTheColoursThatPillowSees) {
  std::ifstream file(gatefold::test::test_data("clip_image_goldens.txt"));
  ASSERT_TRUE(file);
  std::string name, rgb, bytes;
  int kinds = 0;
  ImageSize size;
  for (; file >> name >> size.width >> size.height >> rgb >> bytes; ++kinds) {
    if (rgb == "-") {
      EXPECT_THROW(decode_image(from_hexadecimal(bytes), clip_decode_options({.alpha = Alpha::ignored})), FormatError)
          << name;
      continue;
    }
    const auto image = decode_image(from_hexadecimal(bytes), clip_decode_options({.alpha = Alpha::ignored}));
    const auto expected = from_hexadecimal(rgb);
    ASSERT_EQ(image.size(), size) << name;
    EXPECT_EQ(image.rgb, expected) << name;
  }
  EXPECT_EQ(kinds, 50);
}

// Of make_open_clip_preprocess_goldens.py.
TEST(ClipPreprocess, EqualsOpenClipInEachOfItsWaysToResize) {
  std::ifstream file(gatefold::test::test_data("open_clip_preprocess_goldens.txt"));
  std::string mode, filter;
  int fill = 0, cases = 0;
  Index edge = 0;
  std::uint32_t seed = 0, bytes = 0, floats = 0;
  ImageSize from;
  for (; file >> mode >> filter >> fill >> edge >> seed >> from.width >> from.height >> std::hex >> bytes >> floats >>
         std::dec;
       ++cases) {
    ClipImageOptions options{.shortest_edge = edge,
                             .crop = {{edge, edge}},
                             .fill = static_cast<std::uint8_t>(fill),
                             .filter = filter == "bicubic" ? ResizeFilter::bicubic : ResizeFilter::bilinear,
                             .rounding = CropRounding::half_even};
    if (mode == "squash") options.shortest_edge.reset(), options.exact_size = std::exchange(options.crop, std::nullopt);
    if (mode == "longest") options.longest_edge = std::exchange(options.shortest_edge, std::nullopt);
    const ClipPreprocess preprocess(options);
    const auto image = congruent(from, seed);
    const auto where = mode + ' ' + filter + ' ' + std::to_string(edge) + " of " + to_string(from);
    const auto cut = preprocess.crop(image);
    ASSERT_EQ(cut.size(), (ImageSize{edge, edge})) << where;
    EXPECT_EQ(checksum(cut.rgb.data(), cut.rgb.size()), bytes) << where;
    Tensor<float, 3> planes({3, edge, edge});
    preprocess.planes<float>(image, planes.view());
    EXPECT_EQ(checksum(planes.data(), planes.flat().size() * sizeof(float)), floats) << where;
  }
  EXPECT_EQ(cases, 138);
}

// Of make_clip_transparency_goldens.py.
TEST(ClipPreprocess, ShowsTransparentPicturesAsEitherReferenceDoes) {
  std::ifstream file(gatefold::test::test_data("clip_transparency_goldens.txt"));
  std::string name, white, beneath, bytes;
  int kinds = 0;
  ImageSize size;
  for (; file >> name >> size.width >> size.height >> white >> beneath >> bytes; ++kinds) {
    const auto read = [&](Alpha alpha) {
      return decode_image(from_hexadecimal(bytes), clip_decode_options({.alpha = alpha}));
    };
    ASSERT_EQ(read(Alpha::over_white).size(), size) << name;
    EXPECT_EQ(read(Alpha::over_white).rgb, from_hexadecimal(white)) << name;
    EXPECT_EQ(read(Alpha::ignored).rgb, from_hexadecimal(beneath)) << name;
  }
  EXPECT_EQ(kinds, 9);
}

TEST(ClipPreprocess, GivesTheSameNumbersInEitherOrder) {
  const ClipPreprocess preprocess({.shortest_edge = 9, .crop = {{7, 5}}});
  const auto image = congruent({20, 13}, 3);
  Tensor<float, 3> planes({3, 5, 7});
  Tensor<float, 3> interleaved({5, 7, 3});
  preprocess.planes<float>(image, planes.view());
  preprocess.interleaved<float>(image, interleaved.view());
  for (Index y = 0; y < 5; ++y)
    for (Index x = 0; x < 7; ++x)
      for (Index c = 0; c < 3; ++c) EXPECT_EQ(planes.view()(c, y, x), interleaved.view()(y, x, c));
  EXPECT_THROW(preprocess.planes<float>(image, interleaved.view()), ShapeError);
  EXPECT_THROW(preprocess.interleaved<float>(image, planes.view()), ShapeError);
}

TEST(ClipPreprocess, ShowsAnElongatedImageWithoutResizingItWhole) {
  const auto image = congruent({60000, 2}, 5);  // whole: 6 720 000 x 224 pixels
  const ClipPreprocess preprocess;
  EXPECT_EQ(preprocess.crop(image).size(), (ImageSize{224, 224}));
}

TEST(ClipPreprocess, RefusesOptionsThatMakeNoImage) {
  const auto making = [](const ClipImageOptions& options) { return [=] { ClipPreprocess{options}; }; };
  EXPECT_THAT(making({.shortest_edge = 0}), ThrowsMessage<OptionError>(HasSubstr("shortest_edge is 0")));
  EXPECT_THAT(making({.crop = {{224, 9000}}}), ThrowsMessage<OptionError>(HasSubstr("crop height is 9000")));
  EXPECT_THAT(making({.exact_size = {{8, 8}}}), ThrowsMessage<OptionError>(HasSubstr("one of them")));
  EXPECT_THAT(making({.longest_edge = 8}), ThrowsMessage<OptionError>(HasSubstr("one of them")));
  EXPECT_THAT(making({.shortest_edge = {}, .longest_edge = 0}),
              ThrowsMessage<OptionError>(HasSubstr("longest_edge is 0")));
  EXPECT_THAT(making({.rescale_factor = std::nan("")}), ThrowsMessage<OptionError>(HasSubstr("rescale_factor")));
  EXPECT_THAT(making({.normalization = {.deviation = {1, 0, 1}}}), ThrowsMessage<OptionError>(HasSubstr("deviation")));
  EXPECT_THROW(ClipPreprocess().crop(Image{}), OptionError);
}

}  // namespace
}  // namespace gatefold::clip_preprocess_test
