#include "wardrobe/told.hpp"

#include <gmock/gmock.h>

#include <map>

#include "tests/wardrobe/fake_photos.hpp"

namespace wardrobe {
namespace {

TEST(Told, TheSameMeaningIsOnlyOfScenesOfWhichTheSameIsTrue) {
  const auto photos = fake::photos();
  const auto words = told_words();
  for (const auto telling : {Telling::brief, Telling::medium, Telling::detailed}) {
    std::map<std::string, std::uint64_t> meaning_of;
    std::size_t longest = 0;
    for (std::uint64_t i = 0; i < 2000; ++i) {
      const Scene scene = corpus_scene({1, i}, photos);
      gatefold::Rng rng(2, i);
      const auto [text, meaning] = tell(scene, telling, rng);
      const auto said = split_words(text);
      longest = std::max(longest, said.size());
      for (const auto word : said) EXPECT_TRUE(std::ranges::binary_search(words, word)) << word;
      const auto [at, fresh] = meaning_of.emplace(text, meaning);
      EXPECT_TRUE(fresh || at->second == meaning) << text;  // one text, one meaning
    }
    EXPECT_LE(longest, 18u);
    EXPECT_GT(meaning_of.size(), telling == Telling::brief ? 300u : 1200u);
  }
}

TEST(Told, DetailedNamesEveryAttribute) {
  Scene scene;
  auto& o = scene.objects[0];
  o.object_class = ObjectClass::dress, o.colour = Colour::red, o.pattern = Pattern::striped;
  o.size = 30, o.centre_x = 20, o.centre_y = 27;
  scene.background = Colour::green, scene.texture = Texture::grain;
  gatefold::Rng rng(1);
  EXPECT_THAT(tell(scene, Telling::detailed, rng).text,
              ::testing::ContainsRegex("a small striped red dress in the lower left (on|against) a grainy green "
                                       "background$"));
  EXPECT_EQ(tell(scene, Telling::medium, rng).text, "a striped red dress on a green background");
}

TEST(Told, AnotherSizeIsAnotherMeaningOfDetailedOnly) {
  Scene small, large;
  small.objects[0].size = 25, large.objects[0].size = 40;
  const auto meaning = [](const Scene& scene, Telling telling) {
    gatefold::Rng rng(1);
    return tell(scene, telling, rng).meaning;
  };
  EXPECT_NE(meaning(small, Telling::detailed), meaning(large, Telling::detailed));
  EXPECT_EQ(meaning(small, Telling::medium), meaning(large, Telling::medium));
}

}  // namespace
}  // namespace wardrobe
