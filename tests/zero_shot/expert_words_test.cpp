#include "zero_shot/expert_words.hpp"

#include <gtest/gtest.h>

namespace zero_shot {
namespace {

/// A picture of 4 x 4 patches of 4 x 4 pixels: green and plain, but for a chequered middle in black and white.
gatefold::Image chequered_on_green() {
  auto image = gatefold::Image::of_size({16, 16});
  for (Index y = 0; y < 16; ++y)
    for (Index x = 0; x < 16; ++x) {
      const bool middle = x >= 4 && x < 12 && y >= 4 && y < 12, white = (x + y) % 2 == 0;
      const std::array<std::uint8_t, 3> colour = !middle ? std::array<std::uint8_t, 3>{20, 180, 40}
                                                 : white ? std::array<std::uint8_t, 3>{255, 255, 255}
                                                         : std::array<std::uint8_t, 3>{0, 0, 0};
      std::copy_n(colour.begin(), 3, image.rgb.begin() + (y * 16 + x) * 3);
    }
  return image;
}

/// Three such pictures, of which `expert_of` says which expert takes the patch at a row and column.
template <class ExpertOf>
Reading reading_of(const ExpertOf& expert_of) {
  Reading reading;
  for (int i = 0; i < 3; ++i) {
    Picture picture;
    picture.image = chequered_on_green();
    picture.routes.resize(1);
    for (Index t = 0; t < 16; ++t) picture.routes[0].push_back({.expert = expert_of(t / 4, t % 4)});
    reading.pictures.push_back(std::move(picture));
  }
  return reading;
}

TEST(ExpertWords, NamesWhatMostPatchesOfAnExpertShareAndOthersDoNot) {
  const auto reading =
      reading_of([](Index row, Index column) { return row >= 1 && row <= 2 && column >= 1 && column <= 2 ? 1 : 0; });
  const auto looks = looks_of(reading, 4);
  EXPECT_EQ(what_it_takes(reading, looks, 0, 1), "edges in the middle, mostly grey");
  EXPECT_EQ(what_it_takes(reading, looks, 0, 0), "plain areas at the rim, mostly green");
}

TEST(ExpertWords, SaysNothingOfAnExpertThatTakesFromEverywhere) {
  const auto reading = reading_of([](Index row, Index column) { return (row + column) % 2; });
  const auto looks = looks_of(reading, 4);
  EXPECT_EQ(what_it_takes(reading, looks, 0, 0), "");
  EXPECT_EQ(what_it_takes(reading, looks, 0, 1), "");
}

TEST(ExpertWords, SaysNothingOfAFewPatches) {
  const auto reading = reading_of([](Index row, Index column) { return row == 1 && column == 1 ? 1 : 0; });
  EXPECT_EQ(what_it_takes(reading, looks_of(reading, 4), 0, 1), "");  // three of them
  EXPECT_EQ(what_it_takes(reading, looks_of(reading, 4), 0, 2), "");
}

TEST(ExpertWords, ColoursHaveTheNamesThatPeopleGiveThem) {
  using detail::colour_name;
  EXPECT_STREQ(colour_name({220, 30, 30}), "red");
  EXPECT_STREQ(colour_name({240, 150, 20}), "orange");
  EXPECT_STREQ(colour_name({120, 60, 20}), "brown");
  EXPECT_STREQ(colour_name({240, 230, 40}), "yellow");
  EXPECT_STREQ(colour_name({30, 160, 60}), "green");
  EXPECT_STREQ(colour_name({30, 70, 220}), "blue");
  EXPECT_STREQ(colour_name({130, 40, 200}), "purple");
  EXPECT_STREQ(colour_name({250, 120, 190}), "pink");
  EXPECT_STREQ(colour_name({10, 12, 11}), "dark");
  EXPECT_STREQ(colour_name({250, 250, 245}), "white");
}

}  // namespace
}  // namespace zero_shot
