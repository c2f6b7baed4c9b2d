#include "gatefold/io/json_file.hpp"

#include <gmock/gmock.h>

#include "tests/io/temporary_folder.hpp"

namespace gatefold::json_file_test {
namespace {

using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(JsonFile, ReadsAnObject) {
  const TemporaryFolder folder;
  write_text(folder / "a.json", "\xef\xbb\xbf{\"x\": [1, 2]}");  // with the mark that Windows puts there
  EXPECT_EQ(read_json_object(folder / "a.json")["x"][1], 2);
  EXPECT_EQ(read_text_file(folder / "a.json", 16).size(), 16u);
}

TEST(JsonFile, SaysWhatIsThereInstead) {
  const TemporaryFolder folder;
  const auto why = [&](const std::string& text, std::size_t most = 100) {
    write_text(folder / "a.json", text);
    return message_of<FormatError>([&] { (void)read_json_object(folder / "a.json", most); });
  };
  EXPECT_THAT(why(""), AllOf(HasSubstr("a.json: is empty"), HasSubstr("fetch it again")));
  EXPECT_THAT(why("<!doctype html>"), HasSubstr("is a web page"));
  for (const auto* text : {"{\"x\": 1", "[1]", "3", "\xff\xfe{", "null"})
    EXPECT_THAT(why(text), HasSubstr("is not a JSON object (cut short?)")) << text;
  EXPECT_THAT(why("{      }", 7), HasSubstr("has 8 bytes, expected at most 7"));
  EXPECT_THAT(message_of<FormatError>([&] { (void)read_json_object(folder / "none"); }), HasSubstr("No such file"));
  EXPECT_THAT(message_of<FormatError>([&] { (void)read_json_object(folder / "."); }), HasSubstr("Is a directory"));
}

TEST(JsonFile, IsNotReadWhenNestedDeeperThanAnyOfOurs) {
  const auto nested = [](std::size_t depth, const std::string& inside) {
    return "{\"x\": " + std::string(depth - 1, '[') + inside + std::string(depth - 1, ']') + "}";
  };
  const auto why = [](const std::string& text) {
    return message_of<FormatError>([&] { (void)parse_json_object(text, "config.json"); });
  };
  EXPECT_EQ(why(nested(64, "1")), "nothing thrown");
  EXPECT_THAT(why(nested(65, "1")), HasSubstr("config.json: is nested deeper than 64 levels"));
  EXPECT_THAT(why(nested(95'000, "")), HasSubstr("nested deeper"));  // which copying or printing it would not survive
  EXPECT_THAT(why(std::string(95'000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(why("{\"a\": " + nested(65, "") + "}"), HasSubstr("nested deeper"));
  // Brackets in texts do not count, whatever is quoted within them.
  const std::string text(1000, '[');
  EXPECT_EQ(parse_json_object("{\"x\": \"\\\"" + text + "\\\\\", \"y\": [1]}", "c")["y"][0], 1);
  EXPECT_EQ(why("{\"x\": \"" + text + "\"}"), "nothing thrown");
  std::string wide = "{\"x\": [[]";
  for (int i = 0; i < 1000; ++i) wide += ", [{}]";
  EXPECT_EQ(why(wide + "]}"), "nothing thrown");
}

TEST(JsonFile, FieldsThatAreNullAreMissing) {
  const auto json = nlohmann::json::parse(R"({"a": null, "b": 3})");
  EXPECT_EQ(find_field(json, "a"), nullptr);
  EXPECT_EQ(find_field(json, "c"), nullptr);
  EXPECT_EQ(*find_field(json, "b"), 3);
  EXPECT_EQ(message_of<FormatError>([&] { refuse_field("x.json", "b", json["b"], "4"); }),
            "x.json: «b» is 3, expected 4");
  // What a file says can neither flood a terminal nor steer it.
  const auto why = message_of<FormatError>([&] { refuse_field("x", "b", "\x1b[2J" + std::string(1000, 'a'), "4"); });
  EXPECT_LT(why.size(), 200u);
  EXPECT_EQ(why.find('\x1b'), why.npos);
}

}  // namespace
}  // namespace gatefold::json_file_test
