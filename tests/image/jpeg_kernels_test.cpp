#include "gatefold/image/jpeg_kernels.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "gatefold/core/random.hpp"

namespace gatefold::detail::jpeg_kernels_test {
namespace {

using ::testing::ElementsAre;

// The exact bits are held by the files of clip_preprocess_test; here, that they are the right mathematics.

TEST(JpegKernels, TransformsBackToTheNearestByte) {
  Rng rng(3);
  const auto wave = [](int frequency, int at) {
    const double scale = frequency == 0 ? std::sqrt(0.125) : 0.5;
    return scale * std::cos((2 * at + 1) * frequency * std::numbers::pi / 16);
  };
  for (int round = 0; round < 200; ++round) {
    short data[64] = {};
    for (Index i = rng.below(20); i >= 0; --i)
      data[rng.below(64)] = static_cast<short>(static_cast<int>(rng.below(801)) - 400);
    unsigned char pixels[8 * 11] = {};
    jpeg_idct(pixels, 11, data);
    for (int y = 0; y < 8; ++y)
      for (int x = 0; x < 8; ++x) {
        double exact = 128;
        for (int v = 0; v < 8; ++v)
          for (int u = 0; u < 8; ++u) exact += data[8 * v + u] * wave(v, y) * wave(u, x);
        EXPECT_NEAR(pixels[11 * y + x], std::clamp(exact, 0.0, 255.0), 0.6);  // half a unit, and 13 bits of weights
      }
    for (int y = 0; y < 7; ++y) EXPECT_EQ(pixels[11 * y + 9], 0);  // nothing beside the block
  }
}

TEST(JpegKernels, SurvivesWhatOnlyADamagedFileHolds) {
  short data[64];
  std::fill_n(data, 64, static_cast<short>(-32768));
  unsigned char pixels[64];
  jpeg_idct(pixels, 8, data);
  EXPECT_EQ(pixels[0], 0);
}

TEST(JpegKernels, TurnsLumaAndChromaToTheNearestColour) {
  for (int luma = 0; luma < 256; luma += 5)
    for (int blue = 0; blue < 256; blue += 5)
      for (int red = 0; red < 256; red += 5) {
        const unsigned char y[] = {static_cast<unsigned char>(luma)}, cb[] = {static_cast<unsigned char>(blue)},
                            cr[] = {static_cast<unsigned char>(red)};
        unsigned char rgb[4] = {0, 0, 0, 77};
        jpeg_rgb_row(rgb, y, cb, cr, 1, 3);
        const auto near = [](int byte, double exact) {
          EXPECT_NEAR(byte, std::clamp(exact, 0.0, 255.0), 0.51) << exact;  // ITU T.871
        };
        near(rgb[0], luma + 1.402 * (red - 128));
        near(rgb[1], luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128));
        near(rgb[2], luma + 1.772 * (blue - 128));
        EXPECT_EQ(rgb[3], 77);
      }
}

TEST(JpegKernels, DoublesChromaByTriangles) {
  unsigned char near[] = {0, 100, 200}, far[] = {40, 60, 80}, out[6];
  EXPECT_THAT(std::vector(out, jpeg_double_width(out, near, far, 3, 2) + 6), ElementsAre(0, 25, 75, 125, 175, 200));
  // Rows first: 3/4 near + 1/4 far is 10, 90, 170; ties go up and down in turn.
  EXPECT_THAT(std::vector(out, jpeg_double_both(out, near, far, 3, 2) + 6), ElementsAre(10, 30, 70, 110, 150, 170));
  EXPECT_THAT(std::vector(out, jpeg_double_width(out, near, far, 2, 2) + 4), ElementsAre(0, 0, 100, 100));
  EXPECT_THAT(std::vector(out, jpeg_double_both(out, near, far, 2, 2) + 4), ElementsAre(0, 0, 100, 100));
}

}  // namespace
}  // namespace gatefold::detail::jpeg_kernels_test
