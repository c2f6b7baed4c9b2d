#include "wardrobe/caption.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "fake_photos.hpp"
#include "wardrobe/sampler.hpp"

namespace wardrobe {
namespace {

using ::testing::Contains;

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  for (const auto word : split_words(text)) words.emplace_back(word);
  return words;
}
bool says(const std::string& text, std::string_view word) {
  const auto words = words_of(text);
  return std::find(words.begin(), words.end(), word) != words.end();
}
/// Position of a phrase among the words, -1 if it is not there.
std::ptrdiff_t position(const std::string& text, std::string_view phrase) {
  const std::size_t at = (" " + text + " ").find(" " + std::string(phrase) + " ");
  return at == std::string::npos ? -1 : static_cast<std::ptrdiff_t>(at);
}
bool names_class(const std::string& text, ObjectClass object_class) {
  for (const Name& name : names_of(object_class)) {
    if (position(text, name.words) >= 0) return true;
  }
  return false;
}
bool names_pattern(const std::string& text, Pattern pattern) {
  const PatternNames& names = names_of(pattern);
  return position(text, names.adjectives[0]) >= 0 ||
         (!names.phrase.empty() && (position(text, names.adjectives[1]) >= 0 || position(text, names.phrase) >= 0));
}
std::string colour_word(Colour colour) { return std::string(name_of(colour)); }

/// Lower case, single spaces, known words, the length that the model takes, the right articles.
void expect_well_formed(const std::string& text) {
  static const auto known = vocabulary();
  const auto words = words_of(text);
  ASSERT_FALSE(words.empty());
  EXPECT_LE(std::ssize(words), kMaxCaptionWords) << text;
  std::string joined;
  for (std::size_t i = 0; i < words.size(); ++i) {
    joined += (i ? " " : "") + words[i];
    EXPECT_THAT(known, Contains(words[i]));
    if (words[i] != "a" && words[i] != "an") continue;
    ASSERT_LT(i + 1, words.size()) << text;
    EXPECT_EQ(words[i] == "an", std::string("aeiou").find(words[i + 1][0]) != std::string::npos) << text;
    EXPECT_TRUE(words[i + 1] != "trousers" && words[i + 1] != "pants") << text;
  }
  EXPECT_EQ(joined, text);
}

TEST(Caption, SaysWhatItsMeaningSaysAndNothingElse) {
  const Photos photos = fake::photos();
  gatefold::Rng rng(1);
  for (int i = 0; i < 5000; ++i) {
    const Scene scene = draw_single_scene({}, photos, rng);
    const Object& object = scene.objects[0];
    const Caption caption = draw_caption(scene, draw_caption_kind(rng), rng);
    const auto& [object_class, colour, pattern, background] = caption.meaning;
    expect_well_formed(caption.text);
    EXPECT_TRUE(caption.swapped.empty());
    for (Index k = 0; k < kColourCount; ++k) {
      const auto other = static_cast<Colour>(k);
      EXPECT_EQ(says(caption.text, name_of(other)), colour == other || background == other) << caption.text;
    }
    EXPECT_TRUE(!colour || colour == object.colour);
    EXPECT_TRUE(!background || background == scene.background);
    EXPECT_EQ(says(caption.text, "background") || says(caption.text, "wall"), background.has_value());
    for (Index c = 0; c < kClassCount; ++c) {
      const auto other = static_cast<ObjectClass>(c);
      EXPECT_EQ(names_class(caption.text, other), object_class == other) << caption.text;
    }
    EXPECT_TRUE(!object_class || object_class == object.object_class);
    for (Index p = 0; p < kPatternCount; ++p) {
      const auto other = static_cast<Pattern>(p);
      EXPECT_EQ(names_pattern(caption.text, other), pattern == other) << caption.text;
    }
    EXPECT_TRUE(!pattern || pattern == object.pattern);
  }
}

TEST(Caption, NamesFewAttributesOften) {
  const Photos photos = fake::photos();
  gatefold::Rng rng(2);
  std::map<std::string, double> share;
  constexpr int kCount = 20000;
  for (int i = 0; i < kCount; ++i) {
    const Scene scene = draw_single_scene({}, photos, rng);
    const Meaning meaning = draw_caption(scene, draw_caption_kind(rng), rng).meaning;
    const int named = meaning.object_class.has_value() + meaning.colour.has_value() + meaning.pattern.has_value() +
                      meaning.background.has_value();
    share[named > 1              ? "several"
          : meaning.object_class ? "class"
          : meaning.colour       ? "colour"
          : meaning.background   ? "background"
                                 : "nothing"] += 1.0 / kCount;
  }
  const double tolerance = 4 * 0.5 / std::sqrt(kCount);  // four standard deviations of a fair coin, the widest
  EXPECT_NEAR(share["class"], 0.40, tolerance);
  EXPECT_NEAR(share["colour"], 0.10, tolerance);
  EXPECT_NEAR(share["background"], 0.05, tolerance);
  EXPECT_NEAR(share["several"], 0.45, tolerance);
  EXPECT_EQ(share["nothing"], 0);
}

TEST(Caption, OfTwoObjectsIsCompleteAndTellsTheOrder) {
  const Photos photos = fake::photos();
  gatefold::Rng rng(3);
  std::map<std::string, int> links;
  for (int i = 0; i < 3000; ++i) {
    const Scene scene = draw_pair_scene({}, photos, rng);
    const Caption caption = draw_pair_caption(scene, rng);
    expect_well_formed(caption.text);
    expect_well_formed(caption.swapped);
    const auto& [upper, lower] = scene.objects;
    const std::string link = says(caption.text, "above") ? "above" : says(caption.text, "below") ? "below" : "and";
    ++links[link];
    // The object said before the link, found by its colour and class.
    const auto middle = position(caption.text, link);
    ASSERT_GT(middle, 0) << caption.text;
    const std::string before = caption.text.substr(0, static_cast<std::size_t>(middle));
    const std::string after = caption.text.substr(static_cast<std::size_t>(middle));
    const bool upper_first = names_class(before, upper.object_class);
    const Object& first = upper_first ? upper : lower;
    const Object& second = upper_first ? lower : upper;
    EXPECT_TRUE(says(before, name_of(first.colour))) << caption.text;
    EXPECT_TRUE(names_class(after, second.object_class)) << caption.text;
    EXPECT_TRUE(says(after, name_of(second.colour))) << caption.text;
    if (link != "and") {
      EXPECT_EQ(upper_first, link == "above") << caption.text;
    }
    // The negative is the same sentence with the colours exchanged; articles follow the colours.
    std::string expected;
    for (const auto& word : words_of(caption.text)) {
      if (word == "a" || word == "an") continue;
      const std::string a = colour_word(upper.colour), b = colour_word(lower.colour);
      expected += (word == a ? b : word == b ? a : word) + " ";
    }
    std::string swapped;
    for (const auto& word : words_of(caption.swapped)) swapped += word == "a" || word == "an" ? "" : word + " ";
    EXPECT_EQ(swapped, expected);
  }
  EXPECT_NEAR(links["above"], 3000 * 3 / 8, 110);  // four standard deviations
  EXPECT_NEAR(links["below"], 3000 * 3 / 8, 110);
}

TEST(LabelCaption, ReadsAsPeopleType) {
  EXPECT_EQ(label_caption({ObjectClass::dress, {}, {}, {}}), "a dress");
  EXPECT_EQ(label_caption({ObjectClass::ankle_boot, {}, {}, {}}), "an ankle boot");
  EXPECT_EQ(label_caption({ObjectClass::trousers, Colour::red, {}, {}}), "red trousers");
  EXPECT_EQ(label_caption({ObjectClass::t_shirt, Colour::orange, {}, {}}), "an orange t-shirt");
  EXPECT_EQ(label_caption({ObjectClass::star, Colour::black, Pattern::striped, Colour::orange}),
            "a striped black star on an orange background");
  EXPECT_EQ(label_caption(PairLabel{"above", ObjectClass::bag, Colour::blue, ObjectClass::ring, Colour::orange}),
            "a blue bag above an orange ring");
}

TEST(Vocabulary, IsSortedUniqueAndSaidCompletely) {
  const auto words = vocabulary();
  EXPECT_TRUE(std::is_sorted(words.begin(), words.end()));
  EXPECT_EQ(std::adjacent_find(words.begin(), words.end()), words.end());
  EXPECT_GE(words.size(), 60u);
  EXPECT_LE(words.size(), 300u);
  const Photos photos = fake::photos();
  std::set<std::string> said;
  for (std::uint64_t i = 0; i < 20000; ++i) {
    for (const auto& word : words_of(make_sample({.seed = 4, .index = i}, photos).caption.text)) said.insert(word);
  }
  EXPECT_EQ(std::vector(said.begin(), said.end()), words) << "no word that no caption has";
}

}  // namespace
}  // namespace wardrobe
