#include "gatefold/train/schedule.hpp"

#include <gtest/gtest.h>

#include "tests/support/refused.hpp"

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

TEST(Schedules, NameWhatMakesNoSense) {
  using test::expect_option_error;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  expect_option_error([] { (void)ConstantSchedule{.peak = -1}(0); }, "ConstantSchedule: peak is -1");
  expect_option_error([] { (void)ConstantSchedule{.peak = 1, .warmup_steps = -1}(0); }, "warmup_steps is -1");
  expect_option_error([] { (void)ConstantSchedule{.peak = 1}(-1); }, "step is -1");
  expect_option_error([] { (void)CosineSchedule{.peak = 1e-3, .total_steps = 0}(0); },
                      "CosineSchedule: total_steps is 0, expected at least 1");
  expect_option_error([] { (void)CosineSchedule{.peak = 1e-3, .warmup_steps = 5, .total_steps = -2}(0); },
                      "total_steps is -2");
  expect_option_error([] { (void)CosineSchedule{.peak = kNan, .total_steps = 9}(0); }, "peak is nan");
  expect_option_error([] { (void)CosineSchedule{.peak = 1, .total_steps = 9, .last = -1}(0); }, "last is -1");
  expect_option_error([] { (void)RsqrtSchedule{.peak = 1, .timescale = 0}(0); }, "RsqrtSchedule: timescale is 0");
  expect_option_error([] { (void)RsqrtSchedule{.peak = 1, .cooldown_steps = 10}(0); },
                      "total_steps is 0, expected at least 1, since cooldown_steps");
  expect_option_error([] { (void)RsqrtSchedule{.peak = 1, .total_steps = 10, .cooldown_steps = -1}(0); },
                      "cooldown_steps is -1");
}

}  // namespace
}  // namespace gatefold
