#include "wardrobe/questions.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "gatefold/text/vocabulary.hpp"
#include "tests/wardrobe/fake_photos.hpp"
#include "wardrobe/render.hpp"

namespace wardrobe::questions_test {
namespace {

constexpr std::uint64_t kMany = 7000;

const Photos& photos() {
  static const auto fake = fake::photos();
  return fake;
}

/// What is there, upper first, in words.
struct Seen {
  struct Thing {
    std::string name, colour, pattern;
    float y;
  };
  std::vector<Thing> things;

  explicit Seen(const Scene& scene) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(scene.object_count); ++i) {
      const auto& o = scene.objects[i];
      things.push_back({std::string(kClassNames[static_cast<std::size_t>(o.object_class)][0].words),
                        std::string(kColourNames[static_cast<std::size_t>(o.colour)]),
                        std::string(kPatternNames[static_cast<std::size_t>(o.pattern)].adjectives[0]), o.centre_y});
    }
  }
  const Thing* find(std::string_view name) const {
    for (const auto& thing : things)
      if (thing.name == name) return &thing;
    return nullptr;
  }
};

/// The rest of a text behind a beginning, if it has that.
std::optional<std::string> behind(const std::string& text, const std::string& begin) {
  if (!text.starts_with(begin)) return std::nullopt;
  return text.substr(begin.size());
}

/// The answer by reading the words, as no generator does.
std::string slow_answer(const Scene& scene, const std::string& text) {
  const Seen seen(scene);
  const auto yes = [](bool truth) { return std::string(truth ? "yes" : "no"); };
  if (text == "what is this") return seen.things.at(0).name;
  if (text == "how many things are there") return seen.things.size() == 1 ? "one" : "two";
  if (text == "what colour is the background")
    return std::string(kColourNames[static_cast<std::size_t>(scene.background)]);
  for (const std::string verb : {"is", "are"}) {
    if (const auto name = behind(text, "what colour " + verb + " the ")) return seen.find(*name)->colour;
    for (const std::string article : {" a ", " an ", " "})
      if (const auto name = behind(text, verb + " there" + article))
        if (*name != "" && !name->starts_with("a ") && !name->starts_with("an ")) return yes(seen.find(*name));
    if (const auto claim = behind(text, verb + " the ")) {
      for (const bool above : {true, false})
        if (const auto at = claim->find(above ? " above the " : " below the "); at != claim->npos) {
          const auto *a = seen.find(claim->substr(0, at)), *b = seen.find(claim->substr(at + 11));
          return yes(above == (a->y < b->y));
        }
      const auto space = claim->rfind(' ');
      return yes(seen.find(claim->substr(0, space))->colour == claim->substr(space + 1));
    }
  }
  for (const std::string verb : {"has", "have"})
    if (const auto name = behind(text, "what pattern " + verb + " the ")) return seen.find(*name)->pattern;
  for (const bool above : {true, false})
    if (const auto name = behind(text, above ? "what is above the " : "what is below the ")) {
      const auto* from = seen.find(*name);
      for (const auto& thing : seen.things)
        if (&thing != from && (thing.y < from->y) == above) return thing.name;
    }
  return "«" + text + "» is not understood";
}

TEST(Questions, EveryAnswerIsTrueOfItsPicture) {
  for (const auto shown : {Shown::seen, Shown::never_seen})
    for (std::uint64_t i = 0; i < kMany; ++i) {
      const auto [scene, question] = make_question({1, i}, shown, photos());
      EXPECT_EQ(question.answer, slow_answer(scene, question.text)) << question.text;
      EXPECT_THAT(answers_to(question.asks), ::testing::Contains(question.answer));
    }
}

TEST(Questions, TrainingNeitherShowsNorNamesWhatIsHeldOut) {
  std::uint64_t claims = 0;
  for (std::uint64_t i = 0; i < kMany; ++i) {
    const auto [scene, question] = make_question({2, i}, Shown::seen, photos());
    const auto held_out = [](const Scene& of) {
      int count = 0;
      for (std::size_t k = 0; k < static_cast<std::size_t>(of.object_count); ++k) {
        const auto& o = of.objects[k];
        count += !seen_in_training(o.object_class, o.colour, o.pattern);
      }
      return count;
    };
    EXPECT_EQ(held_out(scene), 0);
    EXPECT_GE(held_out(make_question({2, i}, Shown::never_seen, photos()).scene), 1);
    for (Index c = 0; c < kClassCount; ++c)
      for (Index k = 0; k < kColourCount; ++k) {
        const auto words = " the " + std::string(kClassNames[static_cast<std::size_t>(c)][0].words) + " " +
                           std::string(kColourNames[static_cast<std::size_t>(k)]);
        if (question.text != "is" + words && question.text != "are" + words) continue;
        EXPECT_TRUE(seen_in_training(static_cast<ObjectClass>(c), static_cast<Colour>(k))) << question.text;
        ++claims;
      }
  }
  EXPECT_GT(claims, kMany / 7 / 4);  // a third of what is answered by yes or no
}

TEST(Questions, AnswersOfAKindAreEquallyFrequent) {
  for (const auto shown : {Shown::seen, Shown::never_seen}) {
    std::map<std::pair<Asks, std::string>, double> count;
    for (std::uint64_t i = 0; i < 6 * kMany; ++i) {
      const auto question = make_question({3, i}, shown, photos()).question;
      ++count[{question.asks, question.answer}];
    }
    for (Index k = 0; k < kAsksCount; ++k) {
      const auto& answers = answers_to(static_cast<Asks>(k));
      const double expected = 6 * static_cast<double>(kMany) / 7 / static_cast<double>(answers.size());
      for (const auto& answer : answers)
        EXPECT_NEAR((count[{static_cast<Asks>(k), answer}]), expected, 4.5 * std::sqrt(expected)) << answer;
    }
  }
}

/// Words alone do not tell: of each beginning of a yes-or-no question half are true.
TEST(Questions, YesIsAsFrequentAsNoForEachKindOfClaim) {
  std::map<std::string, std::array<double, 2>> count;
  for (std::uint64_t i = 6; i < 6 * kMany; i += 7) {
    const auto question = make_question({4, i}, Shown::seen, photos()).question;
    ASSERT_EQ(question.asks, Asks::yes_no);
    const auto is = [&](const char* words) { return question.text.find(words) != std::string::npos; };
    ++count[is(" there ")   ? "there"
            : is(" above ") ? "above"
            : is(" below ") ? "below"
                            : "colour"][question.answer == "yes"];
  }
  EXPECT_EQ(count.size(), 4u);
  for (const auto& [claim, of] : count)
    EXPECT_NEAR(of[0], of[1], 4.5 * std::sqrt(of[0] + of[1])) << claim << " of " << of[0] + of[1];
}

TEST(Questions, AreAFunctionOfSeedAndIndexAndCanBeDrawn) {
  std::array<std::uint8_t, static_cast<std::size_t>(kCanvasBytes)> canvas{};
  int same_picture = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto a = make_question({5, i}, Shown::seen, photos()), again = make_question({5, i}, Shown::seen, photos());
    EXPECT_EQ(a.scene, again.scene);
    EXPECT_EQ(a.question.text + a.question.answer, again.question.text + again.question.answer);
    same_picture += a.scene == make_question({6, i}, Shown::seen, photos()).scene;
    render(a.scene, photos(), canvas);
    EXPECT_EQ(static_cast<std::uint64_t>(a.question.asks), i % 7);
  }
  EXPECT_EQ(same_picture, 0);
}

TEST(Questions, KnowAllOfTheirWords) {
  const auto words = question_words();
  std::set<std::string> said;
  for (const auto shown : {Shown::seen, Shown::never_seen})
    for (std::uint64_t i = 0; i < kMany; ++i) {
      const auto question = make_question({7, i}, shown, photos()).question;
      for (auto& word : gatefold::split_words(question.text + " " + question.answer)) said.insert(std::move(word));
    }
  EXPECT_THAT(words, ::testing::ElementsAreArray(said));
}

}  // namespace
}  // namespace wardrobe::questions_test
