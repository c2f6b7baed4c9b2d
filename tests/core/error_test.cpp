#include "gatefold/core/error.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "tests/support/alloc_guard.hpp"

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

TEST(Error, AnOptionIsNamedWithWhatCameAndWhatWasWanted) {
  const auto what = [](auto&& check) -> std::string {
    try {
      check();
    } catch (const OptionError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(what([] { expect_size("Mlp", "hidden", 0); }), "Mlp: hidden is 0, expected at least 1");
  EXPECT_EQ(what([] { expect_size("Mlp", "width", -3); }), "Mlp: width is -3, expected at least 1");
  EXPECT_EQ(what([] { expect_rate("AdamW", "lr", -1e-30); }),
            "AdamW: lr is -1e-30, expected a finite number of at least 0");
  EXPECT_EQ(what([] { expect_rate("AdamW", "lr", std::numeric_limits<double>::quiet_NaN()); }),
            "AdamW: lr is nan, expected a finite number of at least 0");
  EXPECT_EQ(what([] { expect_rate("AdamW", "lr", std::numeric_limits<double>::infinity()); }),
            "AdamW: lr is inf, expected a finite number of at least 0");
  const test::AllocGuard guard;
  expect_size("ALayerOfALongNameThatFitsNoShortString", "width", 1);
  expect_rate("ALayerOfALongNameThatFitsNoShortString", "lr", 0);
  EXPECT_EQ(guard.count(), 0) << "it stands in passes, which do not allocate";
}

}  // namespace
}  // namespace gatefold
