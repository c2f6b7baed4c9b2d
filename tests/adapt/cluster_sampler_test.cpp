#include "gatefold/adapt/cluster_sampler.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

/// Clusters 0 (7 samples), 4 (2), 5 (4), 9 (3) and two samples without a label, mixed.
std::vector<Index> labels() { return {0, 5, 0, 9, -1, 0, 4, 0, 5, 9, 0, 5, -1, 0, 4, 9, 5, 0}; }

std::vector<std::vector<Index>> pass(const ClusterSampler& sampler, Index number, std::size_t batch) {
  std::vector<std::vector<Index>> all;
  for (Index i = 0; i < sampler.num_batches(); ++i)
    sampler.batch(number * sampler.num_batches() + i, all.emplace_back(batch));
  return all;
}

// floor(n / B) B of each cluster, one batch of each in turn, by its number; what is smaller than a batch is left out.
TEST(ClusterSampler, OneBatchOfEachClusterInTurn) {
  const auto label = labels();
  const ClusterSampler sampler(label, {.batch = 2, .seed = 1});
  EXPECT_EQ(sampler.num_batches(), 3 + 1 + 2 + 1);
  std::vector<Index> order;
  for (Index i = 0; i < 9; ++i) order.push_back(sampler.label_of(i));
  EXPECT_EQ(order, (std::vector<Index>{0, 4, 5, 9, 0, 5, 0, 0, 4}));
  for (const Index number : {0, 1, 2}) {
    std::set<Index> used;
    Index i = 0;
    for (const auto& batch : pass(sampler, number, 2))
      for (const Index sample : batch) {
        EXPECT_EQ(label[static_cast<std::size_t>(sample)], sampler.label_of(i++ / 2));
        EXPECT_TRUE(used.insert(sample).second) << "twice in a pass";
      }
  }
}

TEST(ClusterSampler, TellsWhatItUsesAndWhatNot) {
  const auto label = labels();
  EXPECT_EQ(ClusterSampler(label, {.batch = 2}).counts(), (ClusterSampler::Counts{.samples = 18,
                                                                                  .used = 14,
                                                                                  .left_over = 2,
                                                                                  .in_small = 0,
                                                                                  .without_label = 2,
                                                                                  .clusters = 4,
                                                                                  .clusters_used = 4}));
  EXPECT_EQ(ClusterSampler(label, {.batch = 3}).counts(), (ClusterSampler::Counts{.samples = 18,
                                                                                  .used = 12,
                                                                                  .left_over = 2,
                                                                                  .in_small = 2,
                                                                                  .without_label = 2,
                                                                                  .clusters = 4,
                                                                                  .clusters_used = 3}));
}

TEST(ClusterSampler, EachPassIsAnother) {
  std::vector<Index> label(1000);
  for (std::size_t i = 0; i < label.size(); ++i) label[i] = static_cast<Index>(i % 2);
  const ClusterSampler sampler(label, {.batch = 150, .seed = 8}), again(label, {.batch = 150, .seed = 8}),
      other(label, {.batch = 150, .seed = 9});
  const auto first = pass(sampler, 0, 150), second = pass(sampler, 1, 150);
  EXPECT_EQ(first, pass(again, 0, 150));
  EXPECT_NE(first, second);
  EXPECT_NE(first, pass(other, 0, 150));
  // Clusters of one size are shuffled apart: sample 2 i + 1 does not follow sample 2 i.
  Index alike = 0;
  for (std::size_t i = 0; i < 150; ++i) alike += first[0][i] + 1 == first[1][i];
  EXPECT_LT(alike, 10);
  // The 100 of a thousand that a pass leaves out come in later ones.
  std::set<Index> used;
  for (Index number = 0; number < 6; ++number)
    for (const auto& batch : pass(sampler, number, 150)) used.insert(batch.begin(), batch.end());
  EXPECT_GT(used.size(), 990U);
}

TEST(ClusterSampler, RefusesWhatMakesNoSense) {
  const auto label = labels();
  EXPECT_THROW(ClusterSampler(label, {.batch = 0}), OptionError);
  try {
    ClusterSampler(label, {.batch = 8});
    FAIL() << "not refused";
  } catch (const OptionError& error) {
    EXPECT_STREQ(error.what(), "ClusterSampler: batch is 8, expected at most the size of the largest cluster, 7");
  }
  EXPECT_THROW(ClusterSampler(std::vector<Index>{}, {.batch = 1}), OptionError);
  const ClusterSampler sampler(label, {.batch = 2});
  std::vector<Index> chosen(3);
  EXPECT_THROW(sampler.batch(0, chosen), ShapeError);
  EXPECT_THROW(sampler.batch(-1, std::span(chosen).first(2)), OptionError);
}

}  // namespace
}  // namespace gatefold
