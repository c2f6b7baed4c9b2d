#include "wardrobe/scene.hpp"

#include <gtest/gtest.h>

#include <array>

namespace wardrobe {
namespace {

template <class F>
void for_each_pair(const F& f) {
  for (Index c = 0; c < kClassCount; ++c) {
    for (Index k = 0; k < kColourCount; ++k) f(static_cast<ObjectClass>(c), static_cast<Colour>(k));
  }
}

TEST(HeldOut, FifteenPercentOfThePairsSpreadOverClassesAndColours) {
  std::array<int, kClassCount> of_class{};
  std::array<int, kColourCount> of_colour{};
  int held_out = 0;
  for_each_pair([&](ObjectClass c, Colour k) {
    if (seen_in_training(c, k)) return;
    ++held_out, ++of_class[static_cast<std::size_t>(c)], ++of_colour[static_cast<std::size_t>(k)];
  });
  EXPECT_EQ(held_out, 27);  // 15 % of 180
  for (const int count : of_class) EXPECT_TRUE(count >= 1 && count <= 3) << count;
  for (const int count : of_colour) EXPECT_TRUE(count >= 1 && count <= 5) << count;
}

TEST(HeldOut, TwentyPercentOfTheTriplesOfSeenPairs) {
  int triples = 0, held_out = 0;
  for_each_pair([&](ObjectClass c, Colour k) {
    int shown = 0;
    for (const Pattern p : {Pattern::plain, Pattern::striped, Pattern::dotted}) {
      const bool seen = seen_in_training(c, k, p);
      shown += seen;
      EXPECT_TRUE(seen_in_training(c, k) || !seen);
      if (seen_in_training(c, k)) ++triples, held_out += !seen;
    }
    EXPECT_EQ(shown > 0, seen_in_training(c, k)) << "a pair is seen if and only if one of its patterns is";
  });
  EXPECT_EQ(triples, 153 * 3);
  // 108 of all 540 are drawn; how many of them fall on the 459 of seen pairs is hypergeometric: 91.8 +- 3.3.
  EXPECT_NEAR(held_out, 0.2 * triples, 3 * 3.3);
}

TEST(HeldOut, TogetherIsSymmetricAndTheExchangedSentenceIsAllowed) {
  int together = 0;
  for_each_pair([&](ObjectClass a, Colour x) {
    for_each_pair([&](ObjectClass b, Colour y) {
      if (!seen_together({a, x}, {b, y})) return;
      ++together;
      EXPECT_TRUE(seen_together({b, y}, {a, x}));
      EXPECT_TRUE(seen_in_training(a, x, Pattern::plain) && seen_in_training(b, y, Pattern::plain));
      EXPECT_TRUE(seen_in_training(a, y) && seen_in_training(b, x)) << "the exchanged sentence names nothing held out";
      EXPECT_NE(a, b);
      EXPECT_NE(x, y);
    });
  });
  EXPECT_GT(together, 180 * 180 / 5);  // about (0.85 * 0.8 * 0.85)^2 * 0.85 = 0.28 expected
}

TEST(Names, GarmentsComeFirstAndEveryClassHasAName) {
  EXPECT_TRUE(is_garment(ObjectClass::ankle_boot));
  EXPECT_FALSE(is_garment(ObjectClass::circle));
  EXPECT_EQ(static_cast<Index>(ObjectClass::diamond) + 1, kClassCount);
  for (Index c = 0; c < kClassCount; ++c) EXPECT_FALSE(names_of(static_cast<ObjectClass>(c)).empty());
  EXPECT_EQ(names_of(ObjectClass::ankle_boot)[1].words, "boot");
  EXPECT_EQ(names_of(ObjectClass::heart).size(), 1u);
}

}  // namespace
}  // namespace wardrobe
