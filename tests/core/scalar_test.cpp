#include "gatefold/core/scalar.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/dual.hpp"

namespace gatefold {
namespace {

static_assert(Real<float> && Real<double> && Real<Dual> && !Real<bf16> && !Real<const char*>);
static_assert(sizeof(bf16) == 2);

TEST(Bf16, EveryPatternSurvivesTheWayThroughFloat) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    bf16 x;
    x.bits = static_cast<std::uint16_t>(bits);
    const auto value = static_cast<float>(x);
    const bf16 back(value);
    const bool nan = (bits & 0x7fff) > 0x7f80;
    EXPECT_EQ(std::isnan(value), nan);
    if (nan)
      ASSERT_EQ(back.bits, bits | 0x40) << bits;  // quiet, the rest of the payload and the sign kept
    else
      ASSERT_EQ(back, x) << bits;
  }
}

TEST(Bf16, RoundsToNearestAndTiesToEven) {
  // Between every two neighbours: just below the middle, the middle, just above.
  for (std::uint32_t bits = 0; bits < 0x7f80; ++bits)
    for (const std::uint32_t sign : {0u, 0x8000u}) {
      const std::uint32_t low = (bits | sign) << 16;
      const auto rounded = [&](std::uint32_t rest) { return bf16(std::bit_cast<float>(low | rest)).bits; };
      const auto here = static_cast<std::uint16_t>(bits | sign), next = static_cast<std::uint16_t>(here + 1);
      ASSERT_EQ(rounded(0x7fff), here);
      ASSERT_EQ(rounded(0x8001), next);  // beyond the largest: infinity
      ASSERT_EQ(rounded(0x8000), bits % 2 ? next : here);
      ASSERT_EQ(rounded(0xffff), next);
      ASSERT_EQ(rounded(1), here);
    }
}

TEST(Bf16, ANanWhoseUpperHalfIsInfinityStaysNan) {
  for (const std::uint32_t bits : {0x7f800001u, 0xff80ffffu, 0x7fffffffu}) {
    const bf16 x(std::bit_cast<float>(bits));
    EXPECT_TRUE(std::isnan(static_cast<float>(x)));
    EXPECT_EQ(x.bits >> 15, bits >> 31);
  }
}

TEST(Bf16, WorksInConstantExpressions) {
  static_assert(static_cast<float>(bf16(1.0f)) == 1.0f);
  static_assert(bf16(1.0f).bits == 0x3f80 && bf16(-2.0f).bits == 0xc000);
  static_assert(bf16(1.00390625f).bits == 0x3f80 && bf16(1.01171875f).bits == 0x3f82);
}

TEST(Scalar, ConstantsOfEveryNumber) {
  EXPECT_EQ(constant<float>(0.5), 0.5f);
  EXPECT_EQ(constant<Dual>(2).d, 0);
  EXPECT_EQ(to_double(Dual(3, 4)), 3);
  EXPECT_EQ(to_double(1.5f), 1.5);
  EXPECT_EQ(select(true, 1, 2), 1);
  EXPECT_EQ(select(false, 1, 2), 2);
}

}  // namespace
}  // namespace gatefold
