#include "gatefold/nn/padding.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

TEST(Padding, SequencesOwnTheRowsInOrder) {
  const auto message = [](std::vector<Index> offset, Index rows) -> std::string {
    try {
      expect_sequences({offset.data(), {std::ssize(offset)}}, rows, "offset");
    } catch (const ShapeError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({0}, 0), "accepted");
  EXPECT_EQ(message({0, 2, 2, 5}, 5), "accepted");
  EXPECT_EQ(message({0, 2, 4}, 5), "offset ends at [4], expected [5]");
  for (const std::vector<Index>& bad : {std::vector<Index>{}, {1, 5}, {0, 3, 2, 5}, {0, -1, 5}})
    EXPECT_EQ(message(bad, 5), "offset does not ascend from 0, expected [0, ..., 5]");
}

TEST(Padding, ZerosInsteadOfWhateverStoodThere) {
  auto x = test::random_matrix<float>({4, 3}, 1);
  x.view()(2, 1) = std::numeric_limits<float>::quiet_NaN();
  const test::OwnedLayout owned{.offset = {0, 4}, .modality = {0, 1, kPadding, 0}};
  const TokenLayout layout = owned.view();
  Context ctx;
  EXPECT_EQ(without_padding<float>(x, ctx).data(), x.data());  // no layout, no copy
  ctx.layout = &layout;
  const auto clean = without_padding<float>(x, ctx);
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 3; ++j) EXPECT_EQ(clean(i, j), i == 2 ? 0 : x.view()(i, j));

  const test::OwnedLayout all{.offset = {0, 4}, .modality = {0, 1, 0, 0}};
  const TokenLayout no_padding = all.view();
  ctx.layout = &no_padding;
  EXPECT_EQ(without_padding<float>(x, ctx).data(), x.data());
}

}  // namespace
}  // namespace gatefold
