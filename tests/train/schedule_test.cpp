#include "gatefold/train/schedule.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

TEST(ConstantSchedule, WarmsUpWithoutAWastedStep) {
  const ConstantSchedule schedule{.peak = 2, .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(schedule(0), 0.5);
  EXPECT_DOUBLE_EQ(schedule(2), 1.5);
  EXPECT_DOUBLE_EQ(schedule(3), 2);
  EXPECT_DOUBLE_EQ(schedule(1000), 2);
  EXPECT_DOUBLE_EQ(ConstantSchedule{.peak = 3}(0), 3);
}

TEST(CosineSchedule, KnownValues) {
  const CosineSchedule schedule{.peak = 1, .warmup_steps = 10, .total_steps = 70, .last = 0.2};
  EXPECT_DOUBLE_EQ(schedule(0), 0.1);
  EXPECT_DOUBLE_EQ(schedule(9), 1);
  EXPECT_DOUBLE_EQ(schedule(10), 1);
  EXPECT_DOUBLE_EQ(schedule(30), 0.2 + 0.8 * 0.75);  // a third: cos 60 degrees = 1/2
  EXPECT_DOUBLE_EQ(schedule(40), 0.6);
  EXPECT_DOUBLE_EQ(schedule(50), 0.2 + 0.8 * 0.25);
  EXPECT_DOUBLE_EQ(schedule(70), 0.2);
  EXPECT_DOUBLE_EQ(schedule(100), 0.2);
}

TEST(CosineSchedule, WarmUpLongerThanTheRun) {
  const CosineSchedule schedule{.peak = 1, .warmup_steps = 10, .total_steps = 5};
  EXPECT_DOUBLE_EQ(schedule(4), 0.5);
  EXPECT_DOUBLE_EQ(schedule(10), 0);
}

TEST(RsqrtSchedule, KnownValues) {
  const RsqrtSchedule schedule{.peak = 6, .warmup_steps = 100, .timescale = 1000};
  EXPECT_DOUBLE_EQ(schedule(49), 3);
  EXPECT_DOUBLE_EQ(schedule(100), 6);
  EXPECT_DOUBLE_EQ(schedule(3100), 3);  // sqrt(1 + 3)
  EXPECT_DOUBLE_EQ(schedule(8100), 2);  // sqrt(1 + 8)
}

TEST(RsqrtSchedule, CoolsDownToZero) {
  const RsqrtSchedule schedule{
      .peak = 6, .warmup_steps = 100, .timescale = 1000, .total_steps = 3600, .cooldown_steps = 1000};
  EXPECT_DOUBLE_EQ(schedule(2600), 6 / std::sqrt(3.5));
  EXPECT_DOUBLE_EQ(schedule(3100), 1.5);  // half of 3
  EXPECT_DOUBLE_EQ(schedule(3600), 0);
  EXPECT_DOUBLE_EQ(schedule(5000), 0);
}

}  // namespace
}  // namespace gatefold
