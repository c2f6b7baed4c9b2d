#include "gatefold/routing/capacity.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gatefold::capacity_test {
namespace {

using Counts = Capacity::Counts;
using Rounding = Capacity::Rounding;
using testing::HasSubstr;
using testing::Property;

struct Row {
  Index requests, experts;
  Capacity capacity;
  Index expected;
};

TEST(Capacity, ReproducesTheTableOfVMoe) {
  const auto ceil4 = [](double factor) { return Capacity{.factor = factor, .multiple_of = 4}; };
  const auto round1 = [](double factor) { return Capacity{.factor = factor, .rounding = Rounding::half_even}; };
  for (const auto& [requests, experts, capacity, expected] :
       {Row{64, 32, ceil4(1), 4}, Row{128, 32, ceil4(2), 8}, Row{800, 32, ceil4(1.05), 28},
        Row{800, 32, round1(1.05), 26}, Row{3152, 8, ceil4(1.05), 416}, Row{10, 4, round1(1), 2},
        Row{8, 5, round1(1), 2}}) {
    EXPECT_EQ(capacity.seats({.tokens = requests, .num_experts = experts}), expected) << requests;
  }
}

TEST(Capacity, ReproducesTheRulesOfOtherLibraries) {
  const Capacity::Group group{.tokens = 1000, .num_selected = 2, .num_experts = 32};
  const double factor = 1.05;
  const Capacity vmoe{.factor = factor, .multiple_of = 4};
  const Capacity vmoe_paper{.factor = factor, .rounding = Rounding::half_even};
  const Capacity flaxformer{.factor = factor, .counts = Counts::tokens, .rounding = Rounding::half_even, .minimum = 4};
  const Capacity mesh{.factor = factor, .counts = Counts::tokens, .rounding = Rounding::floor, .minimum = 4};
  const Capacity deepspeed{.factor = factor, .minimum = 4};
  const Capacity megablocks{.factor = factor, .rounding = Rounding::floor};
  EXPECT_EQ(vmoe.seats(group), 68);
  EXPECT_EQ(vmoe_paper.seats(group), 66);
  EXPECT_EQ(flaxformer.seats(group), 33);
  EXPECT_EQ(mesh.seats(group), 32);
  EXPECT_EQ(deepspeed.seats(group), 66);
  EXPECT_EQ(megablocks.seats(group), 65);
  EXPECT_EQ(mesh.seats({.tokens = 8, .num_experts = 32}), 4) << "the minimum";
}

TEST(Capacity, RoundsInDoubleLikeTheReference) {
  EXPECT_EQ((Capacity{.factor = 1.1}.seats({.tokens = 100, .num_experts = 10})), 12);
  const Capacity half_even{.rounding = Rounding::half_even};
  for (const auto& [factor, expected] : {std::pair{0.5, 2}, {1.5, 6}, {0.625, 2}, {0.875, 4}}) {
    auto c = half_even;
    c.factor = factor;  // 4 tokens, 1 expert: 2, 6, 2.5, 3.5
    EXPECT_EQ(c.seats({.tokens = 4}), expected) << factor;
  }
}

TEST(Capacity, UnlimitedSeatsEveryToken) {
  EXPECT_EQ((Capacity{}.seats({.tokens = 77, .num_selected = 3, .num_experts = 8})), 77);
  EXPECT_EQ((Capacity{.factor = 1e300}.seats({.tokens = 5, .num_experts = 2})), Index{1'000'000'000'000'000});
}

TEST(Capacity, AnEmptyGroupNeedsNoSeat) { EXPECT_EQ((Capacity{.factor = 1}.seats({.num_experts = 8})), 0); }

TEST(Capacity, RefusesWhatLeavesNoSeat) {
  const Capacity::Group group{.tokens = 2, .num_experts = 4};
  const auto refused = [&](const Capacity& c, const char* why) {
    EXPECT_THAT([&] { (void)c.seats(group); },
                testing::Throws<OptionError>(Property(&OptionError::what, HasSubstr(why))));
  };
  refused({.factor = 1, .rounding = Rounding::half_even}, "leaves no seat at an expert for 2 requests to 4 experts");
  refused({.factor = 1, .rounding = Rounding::half_even, .multiple_of = 4}, "leaves no seat");
  refused({.factor = 1, .rounding = Rounding::floor}, "leaves no seat");
  refused({.factor = 0}, "factor is 0");
  refused({.factor = -1}, "factor is -1");
  refused({.factor = std::numeric_limits<double>::quiet_NaN()}, "factor is");
  refused({.multiple_of = 0}, "multiple_of is 0");
  refused({.minimum = -1}, "minimum is -1");
  EXPECT_EQ((Capacity{.factor = 1, .multiple_of = 4}.seats(group)), 4) << "0.5 up to 1, then to a multiple of 4";
}

}  // namespace
}  // namespace gatefold::capacity_test
