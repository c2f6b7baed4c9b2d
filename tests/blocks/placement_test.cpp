#include "gatefold/blocks/placement.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gatefold::placement_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Placement, EveryNth) {
  EXPECT_THAT(Placement::every(1, 4).layers, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Placement::every(2, 12).layers, ElementsAre(1, 3, 5, 7, 9, 11));
  EXPECT_THAT(Placement::every(3, 8).layers, ElementsAre(2, 5));
  EXPECT_THAT(Placement::every(5, 4).layers, IsEmpty());
  EXPECT_THROW(Placement::every(0, 4), OptionError);
}

TEST(Placement, LastAlternating) {
  // V-MoE's last 2 of a B/16 (12 layers): blocks 9 and 11; last 5 of an H/14 (32 layers): 23, 25, 27, 29, 31.
  EXPECT_THAT(Placement::last_alternating(2, 12).layers, ElementsAre(9, 11));
  EXPECT_THAT(Placement::last_alternating(5, 32).layers, ElementsAre(23, 25, 27, 29, 31));
  EXPECT_THAT(Placement::last_alternating(0, 4).layers, IsEmpty());
  EXPECT_THAT(Placement::last_alternating(2, 5).layers, ElementsAre(1, 3));
  EXPECT_THROW(Placement::last_alternating(3, 5), OptionError);
  EXPECT_THROW(Placement::last_alternating(-1, 5), OptionError);
}

TEST(Placement, Last) {
  EXPECT_THAT(Placement::last(2, 5).layers, ElementsAre(3, 4));
  EXPECT_THAT(Placement::last(0, 5).layers, IsEmpty());
  EXPECT_THAT(Placement::last(5, 5).layers, ElementsAre(0, 1, 2, 3, 4));
  try {
    (void)Placement::last(6, 5);
    FAIL();
  } catch (const OptionError& error) {
    EXPECT_STREQ(error.what(), "Placement::last: n is 6, expected 0..5");
  }
}

TEST(Placement, AsksByLayer) {
  const auto placement = Placement::every(2, 6);
  for (Index layer = 0; layer < 6; ++layer) EXPECT_EQ(placement.is_sparse(layer), layer % 2 == 1);
  EXPECT_FALSE(Placement::none().is_sparse(0));
}

}  // namespace
}  // namespace gatefold::placement_test
