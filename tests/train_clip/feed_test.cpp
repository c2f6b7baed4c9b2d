#include "train_clip/feed.hpp"

#include <gmock/gmock.h>

#include "gatefold/core/error.hpp"

namespace train_clip {
namespace {

/// Pictures of one number, each with two captions, of which the first is the same for all even ones.
class Numbers : public Pairs {
 public:
  Index size() const override { return 10; }
  Index num_captions(Index) const override { return 2; }
  std::string caption(Index picture, Index which) const override {
    return which == 0 ? "parity " + std::to_string(picture % 2) : "number " + std::to_string(picture);
  }
  std::uint64_t meaning(Index picture, Index which) const override {
    return static_cast<std::uint64_t>(which == 0 ? picture % 2 : 10 + picture);
  }
  void draw(Index picture, gatefold::Rng* augment, gatefold::View<float, 3> out) const override {
    if (picture == 9) throw gatefold::FormatError("nine is broken");
    for (float& x : std::span(out.data(), 12))
      x = static_cast<float>(static_cast<double>(picture) + (augment ? augment->uniform() : 0.0));
  }
  std::string identity() const override { return "numbers"; }
};

const gatefold::ClipTokenizer& tokenizer() {
  static const auto tokens = gatefold::ClipTokenizer::of_merges({}, {.context = 16});
  return tokens;
}

std::vector<FedBatch> batches(Index threads, Index first, Index count) {
  const Numbers numbers;
  Feed feed(numbers, tokenizer(),
            [](Index step, std::span<Index> which) {
              for (std::size_t i = 0; i < which.size(); ++i) which[i] = (step * 4 + static_cast<Index>(i)) % 9;
            },
            {.batch = 4, .image_size = 2, .seed = 7, .augment = true, .threads = threads, .first_step = first});
  std::vector<FedBatch> all;
  for (Index i = 0; i < count; ++i) all.push_back(feed.next());
  EXPECT_GE(feed.seconds_waited(), 0);
  return all;
}

TEST(Feed, ABatchIsAFunctionOfItsStepWhateverTheThreadsAndWhereverItBegan) {
  const auto one = batches(1, 0, 12), three = batches(3, 0, 12), late = batches(2, 8, 4);
  for (std::size_t i = 0; i < one.size(); ++i) {
    const auto same = [&](const FedBatch& other) {
      EXPECT_EQ(one[i].images, other.images) << i;
      EXPECT_EQ(one[i].ids, other.ids) << i;
      EXPECT_EQ(one[i].same, other.same) << i;
    };
    same(three[i]);
    if (i >= 8) same(late[i - 8]);
  }
  EXPECT_FALSE(one[0].images == one[9].images);  // the same pictures, seen in other ways
}

TEST(Feed, PairsOfOneMeaningAreNoNegativesButAPairIsOneOfItself) {
  bool some = false, none = false;
  for (const auto& batch : batches(1, 0, 12))
    for (Index i = 0; i < 4; ++i) {
      EXPECT_EQ(batch.same.view()(i, i), 0);
      for (Index j = 0; j < 4; ++j) {
        EXPECT_EQ(batch.same.view()(i, j), batch.same.view()(j, i));
        (batch.same.view()(i, j) ? some : none) = true;
      }
    }
  EXPECT_TRUE(some && none);
}

TEST(Feed, WhatGoesWrongIsSaidWhereTheBatchIsWanted) {
  const Numbers numbers;
  Feed feed(numbers, tokenizer(),
            [](Index step, std::span<Index> which) { std::ranges::fill(which, step == 1 ? 9 : 0); },
            {.batch = 2, .image_size = 2, .threads = 2});
  EXPECT_NO_THROW((void)feed.next());
  EXPECT_THROW((void)feed.next(), gatefold::FormatError);
}

}  // namespace
}  // namespace train_clip
