#include "gatefold/core/error.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace gatefold {
namespace {

TEST(Error, SaysPlaceWhatCameAndWhatWasWanted) {
  std::vector<float> data(35);
  const View<float, 2> x(data.data(), {7, 5});
  EXPECT_NO_THROW(expect_shape(x, {7, 5}, "Layer::forward: x"));
  try {
    expect_shape(x, {7, 6}, "TopKRouter::forward: x");
    FAIL();
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "TopKRouter::forward: x has shape [7, 5], expected [7, 6]");
  }
  EXPECT_EQ(to_string<1>({3}), "[3]");
  EXPECT_EQ(to_string<3>({0, 1, 2}), "[0, 1, 2]");
}

TEST(Error, Options) {
  EXPECT_NO_THROW(expect_option(true, "never"));
  try {
    expect_option(false, "TopKRouter: num_selected is 9, expected 1..8");
    FAIL();
  } catch (const OptionError& error) {
    EXPECT_STREQ(error.what(), "TopKRouter: num_selected is 9, expected 1..8");
  }
}

}  // namespace
}  // namespace gatefold
