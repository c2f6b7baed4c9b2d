#include "gatefold/losses/token_groups.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using ::testing::ElementsAre;
using test::look_at;
using test::RouterCase;

std::vector<Index> rows(const TokenGroups& groups, Index g) { return {groups[g].begin(), groups[g].end()}; }

RouterCase seven_tokens() {
  auto c = test::random_case({.seed = 1, .tokens = 7, .experts = 2});
  c.group_size = 3;
  c.modality = {0, 1, 0, kPadding, kPadding, kPadding, 1};
  return c;
}

TEST(TokenGroups, ListsTokensOfEachGroupThatHasAny) {
  Context ctx;
  test::Scored<double> s;
  look_at(seven_tokens(), s);
  const auto groups = token_groups(s.scores, {}, ctx);
  ASSERT_EQ(groups.count, 2);
  EXPECT_THAT(rows(groups, 0), ElementsAre(0, 1, 2));
  EXPECT_THAT(rows(groups, 1), ElementsAre(6));
}

TEST(TokenGroups, FiltersByModalityAndPoolsTheBatch) {
  Context ctx;
  test::Scored<double> s;
  look_at(seven_tokens(), s);
  const auto images = token_groups(s.scores, {.modality = 0}, ctx);
  ASSERT_EQ(images.count, 1);
  EXPECT_THAT(rows(images, 0), ElementsAre(0, 2));
  const auto text = token_groups(s.scores, {.modality = 1, .scope = LossScope::batch}, ctx);
  ASSERT_EQ(text.count, 1);
  EXPECT_THAT(rows(text, 0), ElementsAre(1, 6));
  EXPECT_EQ(token_groups(s.scores, {.modality = 2}, ctx).count, 0);
  EXPECT_EQ(token_groups(s.scores, {.modality = kPadding}, ctx).count, 0);
}

TEST(TokenGroups, GroupSizeZeroIsOneGroupAndNoLayoutOneModality) {
  Context ctx;
  test::Scored<double> s;
  auto c = seven_tokens();
  c.group_size = 0;
  c.modality.clear();
  look_at(c, s);
  const auto groups = token_groups(s.scores, {.modality = 0}, ctx);
  ASSERT_EQ(groups.count, 1);
  EXPECT_EQ(groups[0].size(), 7u);
  s.scores.group_size = std::numeric_limits<Index>::max();
  EXPECT_EQ(token_groups(s.scores, {}, ctx).count, 1);
}

TEST(TokenGroups, LeavesOutTokensWithNaNInLogitsOrNoise) {
  Context ctx;
  test::Scored<double> s;
  auto c = test::random_case({.seed = 2, .tokens = 4, .experts = 3, .noise_std = 1});
  c.logits.view()(0, 2) = std::numeric_limits<double>::quiet_NaN();
  c.noise.view()(2, 1) = std::numeric_limits<double>::quiet_NaN();
  for (Index e = 0; e < 3; ++e) c.logits.view()(3, e) = test::kMasked;  // no expert open: log softmax is NaN
  look_at(c, s);
  const auto groups = token_groups(s.scores, {}, ctx);
  ASSERT_EQ(groups.count, 1);
  EXPECT_THAT(rows(groups, 0), ElementsAre(1));
}

TEST(TokenGroups, EmptyBatchHasNoGroups) {
  Context ctx;
  RouterScores<float> scores;
  EXPECT_EQ(token_groups(scores, {}, ctx).count, 0);
}

TEST(TokenGroups, RefusesWhatDoesNotFit) {
  Context ctx;
  test::Scored<double> s;
  look_at(seven_tokens(), s);
  auto scores = s.scores;
  scores.group_size = -1;
  EXPECT_THROW(token_groups(scores, {}, ctx), OptionError);
  scores = s.scores;
  scores.noisy_logits = s.logits.view().columns(0, 1);
  EXPECT_THROW(token_groups(scores, {}, ctx), ShapeError);
  scores = s.scores;
  s.layout.modality = {s.modality.data(), {6}};
  EXPECT_THROW(token_groups(scores, {}, ctx), ShapeError);
}

TEST(Wide, FloatSumsInDouble) {
  static_assert(std::same_as<Wide<float>, double> && std::same_as<Wide<double>, double> &&
                std::same_as<Wide<Dual>, Dual>);
}

}  // namespace
}  // namespace gatefold
