#include "search/recall.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace search {
namespace {

bool same(Index q, Index a) { return q == a; }

TEST(Recall, CountsQuestionsWhoseAnswerIsAmongTheFirst) {
  // 12 answers; question q has q wrong ones before the right one.
  std::vector<float> similarity(12 * 12);
  for (std::size_t q = 0; q < 12; ++q) {
    for (std::size_t a = 0, wrong = 0; a < 12; ++a)
      if (a != q) similarity[12 * q + a] = wrong++ < q ? 0.9f : 0.1f;
    similarity[12 * q + q] = 0.5f;
  }
  const gatefold::Rows<const float> all(similarity.data(), {12, 12});
  Recall recall;  // in two parts
  recall.add(all.rows(0, 5), 0, same);
  recall.add(all.rows(5, 12), 5, same);
  EXPECT_EQ(recall.questions(), 12);
  EXPECT_NEAR(recall.percent(0), 100.0 / 12, 1e-12);
  EXPECT_NEAR(recall.percent(1), 500.0 / 12, 1e-12);
  EXPECT_NEAR(recall.percent(2), 1000.0 / 12, 1e-12);
}

TEST(Recall, AnyRightAnswerCountsTiesDoNotAndNeitherDoesNoNumber) {
  const float nan = std::nanf("");
  const std::vector<float> similarity{0.1f, 0.9f, 0.5f,  // a tie of wrong and right below one that is right
                                      0.5f, 0.5f, 0.1f,  // a tie
                                      0.1f, 0.2f, nan};  // only no number is right
  Recall recall;
  recall.add({similarity.data(), {3, 3}}, 0, [](Index q, Index a) { return q == a || (q == 0 && a == 1); });
  EXPECT_NEAR(recall.percent(0), 100.0 / 3, 1e-12);
  EXPECT_NEAR(recall.percent(1), 200.0 / 3, 1e-12);
}

}  // namespace
}  // namespace search
