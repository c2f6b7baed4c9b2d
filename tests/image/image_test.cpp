#include "gatefold/image/image.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "gatefold/core/tensor.hpp"

namespace gatefold::image_test {
namespace {

/// Each byte tells its place: 3 * (width * y + x) + c.
Image counting(ImageSize size) {
  auto image = Image::of_size(size);
  std::iota(image.rgb.begin(), image.rgb.end(), std::uint8_t{0});
  return image;
}

TEST(Image, PixelsAreRowsOfThree) {
  const auto image = counting({.width = 4, .height = 3});
  EXPECT_EQ(image.pixels().shape(), (Shape<3>{3, 4, 3}));
  EXPECT_EQ(image.pixels()(2, 1, 2), 3 * (4 * 2 + 1) + 2);
}

TEST(Image, ByDefaultBytesSpanMinusOneToOne) {
  Image image{1, 1, {0, 255, 51}};
  Tensor<float, 3> planes({3, 1, 1});
  to_planes<float>(image, planes);
  EXPECT_EQ(planes.view()(0, 0, 0), -1.0f);
  EXPECT_EQ(planes.view()(1, 0, 0), 1.0f);
  EXPECT_FLOAT_EQ(planes.view()(2, 0, 0), -0.6f);  // 51 / 255 = 0.2
}

TEST(Image, NormalizationActsPerChannel) {
  Image image{1, 1, {255, 255, 255}};
  Tensor<double, 3> planes({3, 1, 1});
  to_planes<double>(image, planes, {.mean = {0.0, 0.5, 0.75}, .deviation = {1.0, 2.0, 0.5}});
  EXPECT_DOUBLE_EQ(planes.view()(0, 0, 0), 1.0);
  EXPECT_DOUBLE_EQ(planes.view()(1, 0, 0), 0.25);
  EXPECT_DOUBLE_EQ(planes.view()(2, 0, 0), 0.5);
}

TEST(Image, PatchesHoldThePlanesValuesChannelOutermost) {
  const auto image = counting({.width = 6, .height = 4});
  Tensor<float, 3> planes({3, 4, 6});
  to_planes<float>(image, planes);
  Tensor<float, 2> rows({6, 12});
  to_patches<float>(image, 2, rows);
  for (Index y = 0; y < 4; ++y)
    for (Index x = 0; x < 6; ++x)
      for (Index c = 0; c < 3; ++c)
        EXPECT_EQ(rows.view()(y / 2 * 3 + x / 2, c * 4 + y % 2 * 2 + x % 2), planes.view()(c, y, x));
}

TEST(Image, RefusesWhatDoesNotFit) {
  const auto image = counting({.width = 6, .height = 4});
  Tensor<float, 3> planes({3, 6, 4});
  EXPECT_THROW(to_planes<float>(image, planes), ShapeError);
  Tensor<float, 2> rows({6, 12});
  EXPECT_THROW(to_patches<float>(image, 4, rows), OptionError);  // 4 does not divide 6
  EXPECT_THROW(to_patches<float>(image, 0, rows), OptionError);
  EXPECT_THROW(to_patches<float>(image, 1, rows), ShapeError);
  EXPECT_THROW(to_patches<float>(image, 2, rows, {.deviation = {1.0, 0.0, 1.0}}), OptionError);
  Tensor<float, 3> fitting({3, 4, 6});
  EXPECT_THROW(to_planes<float>(Image{6, 4, {1, 2, 3}}, fitting), OptionError);
  EXPECT_THROW(Image::of_size({.width = 0, .height = 4}), OptionError);
  EXPECT_THROW(Image::of_size({.width = kMaxPixels, .height = kMaxPixels}), OptionError);
}

}  // namespace
}  // namespace gatefold::image_test
