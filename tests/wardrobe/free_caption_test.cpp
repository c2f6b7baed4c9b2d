#include "wardrobe/free_caption.hpp"

#include <gtest/gtest.h>

#include <optional>

namespace wardrobe {
namespace {

TEST(SeenInTraining, AgreesWithTheTablesForEveryLabel) {
  for (Index c = 0; c < kClassCount; ++c) {
    const auto object_class = static_cast<ObjectClass>(c);
    EXPECT_EQ(seen_in_training(label_caption({object_class, {}, {}, {}})), Seen::yes);
    for (Index k = 0; k < kColourCount; ++k) {
      const auto colour = static_cast<Colour>(k);
      EXPECT_EQ(seen_in_training(label_caption({object_class, colour, {}, {}})),
                seen_in_training(object_class, colour) ? Seen::yes : Seen::no);
      for (Index p = 0; p < kPatternCount; ++p) {
        const auto pattern = static_cast<Pattern>(p);
        EXPECT_EQ(seen_in_training(label_caption({object_class, colour, pattern, Colour::white})),
                  seen_in_training(object_class, colour, pattern) ? Seen::yes : Seen::no);
      }
    }
  }
}

/// A seen and an unseen colour of a class.
Colour colour_of(ObjectClass object_class, Seen wanted) {
  for (Index k = 0; k < kColourCount; ++k) {
    const auto colour = static_cast<Colour>(k);
    if (seen_in_training(object_class, colour) == (wanted == Seen::yes)) return colour;
  }
  throw std::logic_error("every class has both");
}

TEST(SeenInTraining, ReadsWhatPeopleType) {
  for (const Seen answer : {Seen::yes, Seen::no}) {
    const std::string red(name_of(colour_of(ObjectClass::ankle_boot, answer)));
    EXPECT_EQ(seen_in_training("A photo of a " + red + " Ankle Boot!"), answer);
    EXPECT_EQ(seen_in_training(red + " boot"), answer);
    EXPECT_EQ(seen_in_training("  this shows a " + red + "  boot, in front of a green wall"), answer);
    EXPECT_EQ(seen_in_training("a boot on a " + red + " background"), Seen::yes) << "backgrounds do not matter";
  }
}

TEST(SeenInTraining, ReadsPatternsInAllForms) {
  Index held_out = 0;
  for (Index k = 0; k < kColourCount; ++k) {
    const auto colour = static_cast<Colour>(k);
    const std::string name(name_of(colour));
    const Seen striped = seen_in_training(ObjectClass::bag, colour, Pattern::striped) ? Seen::yes : Seen::no;
    held_out += striped == Seen::no;
    EXPECT_EQ(seen_in_training("a stripy " + name + " handbag"), striped);
    EXPECT_EQ(seen_in_training("a " + name + " striped bag"), striped);
    EXPECT_EQ(seen_in_training("a " + name + " bag with stripes"), striped);
    EXPECT_EQ(seen_in_training("a " + name + " spotted bag"), seen_in_training("a " + name + " bag with dots"));
  }
  EXPECT_GT(held_out, 0);
}

TEST(SeenInTraining, KnowsWhichObjectsOccurTogether) {
  Index together = 0, apart = 0;
  for (Index i = 0; i < 100; ++i) {
    const auto first = static_cast<Colour>(i / 10), second = static_cast<Colour>(i % 10);
    const std::string a = "a " + std::string(name_of(first)) + " dress",
                      b = "a " + std::string(name_of(second)) + " bag";
    const bool seen = seen_together({ObjectClass::dress, first}, {ObjectClass::bag, second});
    (seen ? together : apart) += 1;
    EXPECT_EQ(seen_in_training(a + " above " + b), seen ? Seen::yes : Seen::no);
    EXPECT_EQ(seen_in_training(b + " and " + a + " on a red background"), seen ? Seen::yes : Seen::no);
  }
  EXPECT_GT(together, 10);
  EXPECT_GE(apart, 10);
  EXPECT_EQ(seen_in_training("a dress below a bag"), Seen::yes);
  EXPECT_EQ(seen_in_training("a dress below a dress"), Seen::no);
  EXPECT_EQ(seen_in_training("a striped dress and a bag"), Seen::no) << "two objects are plain";
}

TEST(SeenInTraining, SaysWhenItIsNoCombination) {
  for (const char* caption :
       {"", "  !? ", "a photo of a cat", "something red", "a red background", "a shiny red dress", "a red blue dress",
        "a striped dotted dress", "a dress bag", "a dress and a bag and a coat", "a dress and", "a red d\xC3\xA9ss"}) {
    EXPECT_EQ(seen_in_training(caption), Seen::not_a_combination) << caption;
  }
}

}  // namespace
}  // namespace wardrobe
