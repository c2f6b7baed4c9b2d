#include "gatefold/adapt/mask.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "gatefold/nn/linear.hpp"

namespace gatefold {
namespace {

using ::testing::ElementsAre;

Tensor<double, 2> scores(Shape<2> shape, std::vector<double> values) {
  Tensor<double, 2> all(shape);
  std::ranges::copy(values, all.flat().begin());
  return all;
}

TEST(KeepHighest, OfEqualScoresTheLaterStayAndAShortGroupKeepsAsMany) {
  const auto equal = scores({1, 7}, std::vector<double>(7, 1.0));
  EXPECT_THAT(keep_highest(equal, Unstructured{.share = 0.5}).flat(), ElementsAre(0, 0, 0, 1, 1, 1, 1));
  EXPECT_THAT(keep_highest(equal, NOfM{2, 4}).flat(), ElementsAre(0, 0, 1, 1, /**/ 0, 1, 1));
  EXPECT_THAT(keep_highest(equal, NOfM{3, 5}).flat(), ElementsAre(0, 0, 1, 1, 1, /**/ 1, 1));
  const auto rows = scores({2, 2}, {1, 2, 3, 4});
  EXPECT_THAT(keep_highest(rows, Unstructured{.share = 0.5}).flat(), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(keep_highest(rows, Unstructured{.share = 0.5, .scope = Scope::tensor}).flat(), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(keep_highest(rows, Unstructured{.share = 0}).flat(), ElementsAre(1, 1, 1, 1));
  EXPECT_THROW((void)keep_highest(scores({1, 2}, {1, std::numeric_limits<double>::quiet_NaN()}), NOfM{1, 2}),
               OptionError);
}

TEST(Masks, SetToZeroWhatTheyRemoveOrSayWhatDoesNotFit) {
  Linear<float> linear({.in = 2, .out = 2});
  std::ranges::fill(linear.weight.flat(), 3.0f);
  Masks masks;
  masks.of.emplace("weight", Mask(keep_highest(scores({2, 2}, {1, 2, 4, 3}), NOfM{1, 2})));
  masks.apply(linear);
  EXPECT_THAT(linear.weight.flat(), ElementsAre(0, 3, 3, 0));
  EXPECT_EQ(masks.find("bias"), nullptr);
  Linear<float> wide({.in = 3, .out = 2});
  EXPECT_THROW(masks.apply(wide), ShapeError);
  masks.of.emplace("down.weight", masks.of.begin()->second);
  EXPECT_THROW(masks.apply(linear), OptionError);
}

}  // namespace
}  // namespace gatefold
