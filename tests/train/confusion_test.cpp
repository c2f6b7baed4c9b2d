#include "gatefold/train/confusion.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace gatefold {
namespace {

void add(Confusion& confusion, std::vector<float> logits, std::vector<Index> label) {
  const Index rows = std::ssize(label);
  confusion.add<float>({logits.data(), {rows, std::ssize(logits) / rows}}, {label.data(), {rows}});
}

TEST(Confusion, CountsWhoWasTakenForWhom) {
  Confusion c(3);
  EXPECT_EQ(c.accuracy(), 0);
  add(c, {3, 1, 2, /**/ 0, 5, 5, /**/ -1, -3, -2, /**/ 9, 9, 9}, {0, 1, 2, -1});
  add(c, {0, 0, 1, /**/ 1, 0, 0}, {0, 2});
  EXPECT_EQ(c.total(), 5);  // the row without a label is none
  EXPECT_EQ(std::vector(c.count.flat().begin(), c.count.flat().end()), (std::vector<Index>{1, 0, 1, 0, 1, 0, 2, 0, 0}));
  EXPECT_DOUBLE_EQ(c.accuracy(), 0.4);
  EXPECT_DOUBLE_EQ(c.recall(0), 0.5);
  EXPECT_DOUBLE_EQ(c.recall(2), 0);
  EXPECT_DOUBLE_EQ(c.precision(0), 1.0 / 3);
  EXPECT_DOUBLE_EQ(c.precision(1), 1);
  EXPECT_EQ(c.nearest(0), 2);
  EXPECT_EQ(c.nearest(1), -1);
  EXPECT_EQ(c.nearest(2), 0);
  const char* const names[] = {"cat", "dog", "emu"};
  EXPECT_EQ(c.table(names),
            "| class | n | recall % | precision % | most often taken for |\n|---|---|---|---|---|\n"
            "| cat | 2 | 50.0 | 33.3 | emu |\n| dog | 1 | 100.0 | 100.0 |  |\n| emu | 2 | 0.0 | 0.0 | cat |\n");
}

TEST(Confusion, ANanIsNoAnswer) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Confusion c(3);
  add(c, {nan, 1, 2, /**/ 1, nan, 2, /**/ 2, 1, nan}, {2, 2, 0});
  EXPECT_EQ(c.accuracy(), 1);
}

TEST(Confusion, RefusesWhatDoesNotFit) {
  EXPECT_THROW(Confusion(0), OptionError);
  Confusion c(3);
  EXPECT_THROW(add(c, {1, 2}, {0}), ShapeError);
  EXPECT_THROW(add(c, {1, 2, 3, 1, 2, 3}, {0, 3}), ShapeError);
  EXPECT_EQ(c.total(), 0);  // nothing of a call that was refused
  const char* const names[] = {"cat", "dog"};
  EXPECT_THROW((void)c.table(names), ShapeError);
}

}  // namespace
}  // namespace gatefold
