#include "zero_shot/fit.hpp"

#include <gtest/gtest.h>

namespace zero_shot {
namespace {

/// White, with a border of one pixel in another colour and a black dot at (x, y).
Image framed(Index width, Index height) {
  Image image = Image::of_size({width, height});
  for (Index y = 0; y < height; ++y)
    for (Index x = 0; x < width; ++x) {
      const bool border = x == 0 || y == 0 || x == width - 1 || y == height - 1;
      const std::array<std::uint8_t, 3> colour =
          border ? std::array<std::uint8_t, 3>{10, 200, 30} : std::array<std::uint8_t, 3>{255, 255, 255};
      for (Index c = 0; c < 3; ++c) image.pixels()(y, x, c) = colour[static_cast<std::size_t>(c)];
    }
  return image;
}

TEST(BorderColour, IsTheMeanOfTheOutermostPixels) {
  EXPECT_EQ(border_colour(framed(7, 5)), (std::array<std::uint8_t, 3>{10, 200, 30}));
  EXPECT_EQ(border_colour(framed(1, 5)), (std::array<std::uint8_t, 3>{10, 200, 30}));
  EXPECT_EQ(border_colour(framed(1, 1)), (std::array<std::uint8_t, 3>{10, 200, 30}));
  Image corner = framed(3, 3);  // eight border pixels, of which one is other
  corner.pixels()(0, 0, 0) = 90;
  EXPECT_EQ(border_colour(corner)[0], 20);
}

TEST(Fit, LeavesAPictureOfTheRightSizeAlone) {
  const Image image = framed(48, 48);
  EXPECT_EQ(fit(image, 48, Fit::whole), image);
  EXPECT_EQ(fit(image, 48, Fit::centre), image);
}

TEST(Fit, WholeKeepsBothEndsAndFillsTheSides) {
  const Image tall = fit(framed(30, 60), 48, Fit::whole);
  EXPECT_EQ(tall.size(), (gatefold::ImageSize{48, 48}));
  for (const Index x : {Index{0}, Index{11}, Index{36}, Index{47}}) {
    EXPECT_EQ(tall.pixels()(24, x, 0), 10) << x;
    EXPECT_EQ(tall.pixels()(24, x, 1), 200) << x;
  }
  EXPECT_EQ(tall.pixels()(24, 24, 0), 255);  // the picture's white inside
  EXPECT_EQ(fit(framed(60, 30), 48, Fit::whole).pixels()(0, 24, 0), 10);
  EXPECT_EQ(fit(framed(5000, 1), 48, Fit::whole).size(), (gatefold::ImageSize{48, 48}));
}

TEST(Fit, CentreCutsTheEndsOff) {
  const Image middle = fit(framed(480, 4800), 48, Fit::centre);
  EXPECT_EQ(middle.size(), (gatefold::ImageSize{48, 48}));
  EXPECT_EQ(middle.pixels()(0, 24, 0), 255);  // the upper border is gone
}

}  // namespace
}  // namespace zero_shot
