#include "gatefold/core/small_float.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

TEST(SmallFloat, E2M1HasItsSixteenValues) {
  const float magnitude[] = {0, .5f, 1, 1.5f, 2, 3, 4, 6};
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(e2m1_value(static_cast<std::uint8_t>(i)), magnitude[i]);
    EXPECT_EQ(e2m1_value(static_cast<std::uint8_t>(8 + i)), -magnitude[i]);
    EXPECT_EQ(e2m1_value(static_cast<std::uint8_t>(0xf0 + i)), magnitude[i]) << "the upper bits are another's";
  }
  EXPECT_TRUE(std::signbit(e2m1_value(8)));
}

// Table 1 of «FP8 formats for deep learning» (arXiv 2209.05433).
TEST(SmallFloat, E4M3HasTheLimitsOfItsPaper) {
  EXPECT_EQ(e4m3_value(0b0'1111'110), 448);
  EXPECT_EQ(e4m3_value(0b0'0001'000), 0x1p-6f) << "the smallest normal";
  EXPECT_EQ(e4m3_value(0b0'0000'111), .875f * 0x1p-6f) << "the largest subnormal";
  EXPECT_EQ(e4m3_value(0b0'0000'001), 0x1p-9f) << "the smallest subnormal";
  EXPECT_EQ(e4m3_value(0b0'0111'000), 1);
  EXPECT_TRUE(std::isnan(e4m3_value(0b0'1111'111)) && std::isnan(e4m3_value(0b1'1111'111)));
  for (int i = 0; i < 126; ++i) {
    const auto bits = static_cast<std::uint8_t>(i), next = static_cast<std::uint8_t>(i + 1);
    EXPECT_LT(e4m3_value(bits), e4m3_value(next)) << i;
    EXPECT_EQ(e4m3_value(static_cast<std::uint8_t>(i | 128)), -e4m3_value(bits)) << i;
  }
}

TEST(SmallFloat, E8M0IsAPowerOfTwo) {
  EXPECT_EQ(e8m0_value(0), 0x1p-127f);
  EXPECT_EQ(e8m0_value(127), 1);
  EXPECT_EQ(e8m0_value(130), 8);
  EXPECT_EQ(e8m0_value(254), 0x1p127f);
  EXPECT_TRUE(std::isnan(e8m0_value(255)));
}

}  // namespace
}  // namespace gatefold
