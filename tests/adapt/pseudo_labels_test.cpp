#include "gatefold/adapt/pseudo_labels.hpp"

#include "gatefold/adapt/kmeans.hpp"
#include "gatefold/io/checkpoint.hpp"
#include "tests/io/temporary_folder.hpp"

namespace gatefold {
namespace {

std::vector<Index> values(const PseudoLabels& labels) { return {labels.values().begin(), labels.values().end()}; }

// Clusters of arXiv 2409.19291, as its code numbers them: y = 3 text + image, then pseudo 9 + y.
TEST(PseudoLabels, FoldTheStages) {
  PseudoLabels labels(4);
  EXPECT_EQ(values(labels), (std::vector<Index>{0, 0, 0, 0}));
  EXPECT_EQ(labels.num_used(), 1);
  labels.append({.text = std::vector<Index>{0, 2, 2, 1}, .image = std::vector<Index>{1, 0, 0, 2}});
  EXPECT_EQ(values(labels), (std::vector<Index>{1, 6, 6, 5}));
  labels.append({.text = std::vector<Index>{2, 1, 0, 1}, .image = std::vector<Index>{2, 0, 0, 2}});
  EXPECT_EQ(values(labels), (std::vector<Index>{1 * 9 + 8, 6 * 9 + 3, 6 * 9 + 0, 5 * 9 + 5}));
  EXPECT_EQ(labels.possible.flat()[0], 81);
  EXPECT_EQ(labels.num_used(), 4);
  labels.append(
      {.text = std::vector<Index>{0, 1, 1, 0}, .image = std::vector<Index>{1, 0, 0, 0}, .num_text = 2, .num_image = 2});
  EXPECT_EQ(values(labels), (std::vector<Index>{17 * 4 + 1, 57 * 4 + 2, 54 * 4 + 2, 50 * 4}));
}

TEST(PseudoLabels, TwoSamplesShareALabelIfEveryStagePutThemTogether) {
  constexpr Index kSamples = 200, kStages = 3;
  const std::vector<Index> num{9, 4, 5};
  std::vector<std::vector<Index>> stages;
  PseudoLabels labels(kSamples);
  Rng rng(3);
  for (Index s = 0; s < kStages; ++s) {
    auto& y = stages.emplace_back(kSamples);
    for (Index& c : y) c = rng.below(num[static_cast<std::size_t>(s)]);
    labels.append(y, num[static_cast<std::size_t>(s)]);
  }
  std::set<std::vector<Index>> tuples;
  for (std::size_t i = 0; i < kSamples; ++i) {
    tuples.insert({stages[0][i], stages[1][i], stages[2][i]});
    for (std::size_t j = 0; j < i; ++j)
      EXPECT_EQ(labels.values()[i] == labels.values()[j],
                std::ranges::all_of(stages, [&](const auto& y) { return y[i] == y[j]; }));
  }
  EXPECT_EQ(labels.num_used(), std::ssize(tuples));
}

TEST(PseudoLabels, ASampleWithoutAClusterStaysWithout) {
  PseudoLabels labels(3);
  labels.append({.text = std::vector<Index>{0, -1, 1}, .image = std::vector<Index>{-1, 2, 1}});
  EXPECT_EQ(values(labels), (std::vector<Index>{-1, -1, 4}));
  labels.append(std::vector<Index>{0, 1, 1}, 2);
  EXPECT_EQ(values(labels), (std::vector<Index>{-1, -1, 9}));
  EXPECT_EQ(labels.num_used(), 1);
}

// What a stage leaves for the next: labels and the centres that they are of.
TEST(PseudoLabels, AreKeptBetweenStages) {
  const test::TemporaryFolder folder;
  PseudoLabels labels(3), loaded(3);
  labels.append(std::vector<Index>{0, 8, -1}, Index{1} << 40);
  labels.append(std::vector<Index>{5, 0, 1}, 9);
  save(labels, folder / "labels.safetensors");
  load(folder / "labels.safetensors", loaded);
  EXPECT_EQ(loaded.label, labels.label);
  EXPECT_EQ(loaded.possible, labels.possible);
  KMeans<float> clusters(Tensor<float, 2>({2, 3})), read(Tensor<float, 2>({2, 3}));
  Context ctx;
  Tensor<float, 2> x({4, 3});
  for (std::size_t i = 0; i < 12; ++i) x.flat()[i] = static_cast<float>(i);
  (void)clusters.learn(x, ctx);
  save(clusters, folder / "clusters.safetensors");
  load(folder / "clusters.safetensors", read);
  EXPECT_EQ(read.centres, clusters.centres);
  EXPECT_EQ(read.weight, clusters.weight);
}

TEST(PseudoLabels, RefuseWhatDoesNotFitAndStayAsTheyWere) {
  PseudoLabels labels(2);
  labels.append(std::vector<Index>{0, 1}, 2);
  const auto before = values(labels);
  EXPECT_THROW(labels.append(std::vector<Index>{0, 1, 1}, 2), ShapeError);
  try {
    labels.append({.text = std::vector<Index>{0, 1}, .image = std::vector<Index>{0, 3}});
    FAIL() << "not refused";
  } catch (const OptionError& error) {
    EXPECT_STREQ(error.what(), "PseudoLabels::append: image has cluster 3, expected -1..2");
  }
  EXPECT_THROW(labels.append(std::vector<Index>{0, 0}, Index{1} << 62), OptionError);
  EXPECT_THROW(labels.append(std::vector<Index>{0, 0}, 0), OptionError);
  EXPECT_THROW(PseudoLabels(-1), OptionError);
  EXPECT_EQ(values(labels), before);
}

}  // namespace
}  // namespace gatefold
