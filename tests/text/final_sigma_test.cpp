#include "gatefold/text/final_sigma.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

// Expectations from Python's str.lower.

TEST(FinalSigma, StandsAtTheEndOfWordsOnly) {
  EXPECT_EQ(to_lower_with_final_sigma("\u039f\u0394\u039f\u03a3"), "\u03bf\u03b4\u03bf\u03c2");
  EXPECT_EQ(to_lower_with_final_sigma("\u03a3\u039f\u03a3 \u03a3"), "\u03c3\u03bf\u03c2 \u03c3");  // none alone
  EXPECT_EQ(to_lower_with_final_sigma("\u0391\u03a3\u0391"), "\u03b1\u03c3\u03b1");
  EXPECT_EQ(to_lower_with_final_sigma("\u0391\u03a3\u03a3"), "\u03b1\u03c3\u03c2");
  EXPECT_EQ(to_lower_with_final_sigma("A\u03a3!B\u03a31"), "a\u03c2!b\u03c21");
}

TEST(FinalSigma, LooksThroughWhatACaseIgnores) {
  EXPECT_EQ(to_lower_with_final_sigma("\u0391'\u03a3"), "\u03b1'\u03c2");
  EXPECT_EQ(to_lower_with_final_sigma("\u0391\u03a3'\u0391"), "\u03b1\u03c3'\u03b1");
  EXPECT_EQ(to_lower_with_final_sigma("\u0391\u03a3\u0301."), "\u03b1\u03c2\u0301.");
  EXPECT_EQ(to_lower_with_final_sigma("'\u03a3"), "'\u03c3");
  EXPECT_EQ(to_lower_with_final_sigma("\u2163\u03a3 \u24b6\u03a3 \u00aa\u03a3"),
            "\u2173\u03c2 \u24d0\u03c2 \u00aa\u03c2");
}

TEST(FinalSigma, KeepsPlacesBehindLettersThatGrow) {
  EXPECT_EQ(to_lower_with_final_sigma("\u0130\u023a\u03a3 \u0391\u03a3"), "i\u0307\u2c65\u03c2 \u03b1\u03c2");
  EXPECT_EQ(to_lower_with_final_sigma("CAF\u00c9"), "caf\u00e9");
}

}  // namespace
}  // namespace gatefold
