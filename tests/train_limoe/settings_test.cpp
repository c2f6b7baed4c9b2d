#include "train_limoe/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/io/json_file.hpp"
#include "tests/io/temporary_folder.hpp"

namespace train_limoe {
namespace {

using gatefold::FormatError;
using gatefold::test::message_of;
using ::testing::HasSubstr;

/// Every setting differs from its default.
Settings settings() {
  Settings s;
  visit_settings(
      []<class T>(const char*, T& value, const auto&, const char*) {
        if constexpr (std::is_same_v<T, bool>)
          value = !value;
        else if constexpr (std::is_same_v<T, double>)
          value = value / 2 + 0.001;
        else if constexpr (!std::is_same_v<T, std::string>)
          value = value / 2 + 1;
      },
      s);
  s.losses = "classic", s.priority = "position", s.seed = std::numeric_limits<std::uint64_t>::max();
  s.min_image_experts = 3, s.min_text_experts = 1.5;
  return s;
}

/// What is said of a file that has `json` as the value of one setting.
std::string refusal(const std::string& name, const std::string& json) {
  auto all = nlohmann::json::parse(to_json(Settings()));
  all[name] = nlohmann::json::parse(json);
  return message_of<FormatError>([&] { (void)settings_from_json(all.dump(), "FILE"); });
}

TEST(Settings, GoThroughJson) {
  const auto s = settings();
  EXPECT_EQ(to_json(settings_from_json(to_json(s), "FILE")), to_json(s));
  EXPECT_NE(to_json(s), to_json(Settings()));
  EXPECT_EQ(settings_from_json(to_json(s), "FILE").seed, s.seed);
}

TEST(Settings, DefaultsAreInTheirRanges) {
  const Settings s;
  visit_settings([](const char* name, const auto& value, const auto& allowed,
                    const char*) { EXPECT_TRUE(allowed.holds(value)) << name; },
                 s);
}

TEST(Settings, OfAHostileFileAreRefusedByNameAndWithWhatWasWanted) {
  EXPECT_EQ(refusal("batch", "1.5"), "FILE: settings: «batch» is 1.5, expected a whole number in 2..4096");
  EXPECT_EQ(refusal("layers", "1000000000"),
            "FILE: settings: «layers» is 1000000000, expected a whole number in 1..256");
  EXPECT_EQ(refusal("losses", "\"any\""), "FILE: settings: «losses» is \"any\", expected one of none|classic|limoe");
  EXPECT_EQ(refusal("max_temperature", "-1"),
            "FILE: settings: «max_temperature» is -1, expected a number in 0.001..1000000");
  EXPECT_EQ(refusal("dense", "1"), "FILE: settings: «dense» is 1, expected true or false");
  EXPECT_EQ(refusal("colour", "1"), "FILE: settings: «colour» is 1, expected no setting of this name");
  for (const auto& [name, json] : std::vector<std::pair<std::string, std::string>>{{"two_objects", "5"},
                                                                                   {"warmup", "-1"},
                                                                                   {"priority", "\"\""},
                                                                                   {"priority", "3"},
                                                                                   {"width", "true"},
                                                                                   {"width", "\"128\""},
                                                                                   {"width", "[128]"},
                                                                                   {"width", "null"},
                                                                                   {"width", "0"},
                                                                                   {"width", "9223372036854775808"},
                                                                                   {"seed", "-1"},
                                                                                   {"seed", "1.0"},
                                                                                   {"seed", "18446744073709551616"},
                                                                                   {"lr", "0"},
                                                                                   {"lr", "null"},
                                                                                   {"lr", "\"nan\""},
                                                                                   {"lr", "1e308"},
                                                                                   {"capacity", "-1"},
                                                                                   {"steps", "0"},
                                                                                   {"masked", "null"},
                                                                                   {"aux", "{}"}})
    EXPECT_THAT(refusal(name, json), HasSubstr("FILE: settings: «" + name + "» is ")) << json;
  auto fewer = nlohmann::json::parse(to_json(Settings()));
  fewer.erase("lr");
  EXPECT_EQ(message_of<FormatError>([&] { (void)settings_from_json(fewer.dump(), "FILE"); }),
            "FILE: settings: «lr» is missing");
  for (const std::string text : {"", "[]", "3", "{\"lr\": 1"})
    EXPECT_THAT(message_of<FormatError>([&] { (void)settings_from_json(text, "FILE"); }),
                HasSubstr("FILE: settings: "));
}

TEST(Settings, ThatContradictEachOtherAreRefused) {
  EXPECT_EQ(refusal("min_image_experts", "9"), "FILE: settings: «min_image_experts» is 9, expected 1 to «experts», 8");
  EXPECT_EQ(refusal("min_text_experts", "8.5"),
            "FILE: settings: «min_text_experts» is 8.5, expected 1 to «experts», 8");
  EXPECT_EQ(refusal("min_image_experts", "8"), "nothing thrown");
  Settings s;
  s.min_image_experts = 9;
  s.dense = true;
  EXPECT_NO_THROW((void)settings_from_json(to_json(s), "FILE"));
}

TEST(Settings, NoRangeHoldsNan) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  Settings s;
  visit_settings(
      [&]<class T>(const char* name, T&, const auto& allowed, const char*) {
        if constexpr (std::is_same_v<T, double>) {
          EXPECT_FALSE(allowed.holds(nan) || allowed.holds(inf) || allowed.holds(-inf) || allowed.holds(-1)) << name;
        }
      },
      s);
}

}  // namespace
}  // namespace train_limoe
