#include "zero_shot/json.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/zero_shot/tiny_reader.hpp"

namespace zero_shot {
namespace {

std::string json_of(const Reading& reading, const Reader& reader, Index top = 100) {
  std::ostringstream out;
  write_json(out, reading, reader, top);
  return out.str();
}

TEST(JsonStream, WritesTheBytesOfTheWhole) {
  const Json item{{"name", "a\n\"{\u00f6"}, {"labels", {1, 2}}, {"none", Json::array()}}, model{{"kind", "clip"}};
  for (const int items : {0, 1, 3}) {
    Json whole{{"model", model}, {"pictures", Json::array()}, {"experts", {{"image", {1.5}}}}};
    std::ostringstream out;
    JsonStream stream(out);
    stream.member("model", model);
    stream.begin_list("pictures");
    for (int i = 0; i < items; ++i) stream.item(item), whole["pictures"].push_back(item);
    stream.end_list();
    stream.member("experts", whole["experts"]);
    stream.end();
    EXPECT_EQ(out.str(), dump(whole, 2) + "\n");
  }
}

TEST(Json, HasPicturesThatCannotBeReadInTheirPlaceAndAsManyLabelsAsAsked) {
  Reader reader = tiny::reader();
  Reading reading = tiny::plan(2, {"a pink bag", "a blue bag", "a red bag"}, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  reading.unread = {{"x", "x: is empty", 0}, {"y", "y: is a GIF", 1}, {"z", "z: is a GIF", 2}};
  const auto json = nlohmann::json::parse(json_of(reading, reader, 2));
  std::ostringstream lines;
  write_json_lines(lines, reading, 2);
  std::istringstream in(lines.str());
  std::vector<std::string> names;
  for (const auto& picture : json["pictures"]) {
    std::string line;
    ASSERT_TRUE(std::getline(in, line));
    EXPECT_EQ(nlohmann::json::parse(line), picture);
    names.push_back(picture["name"]);
    EXPECT_EQ(picture["labels"].size(), picture.contains("fault") ? 0u : 2u);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"x", "picture 0", "y", "picture 1", "z"}));
  EXPECT_EQ(json["pictures"][2]["fault"], "y: is a GIF");
}

TEST(Json, IsValidWhateverTheLabelsHold) {
  Reader reader = tiny::reader();
  const std::vector<std::string> labels{"a pink bag", "\"quoted\" \\ \n", "broken \xff byte"};
  Reading reading = tiny::plan(2, labels, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  reading.pictures[1].ranked[2].probability = std::nan("");
  const auto json = nlohmann::json::parse(json_of(reading, reader));
  EXPECT_EQ(json["model"]["card"]["title"], "tiny");
  ASSERT_EQ(json["pictures"].size(), 2u);
  const auto& first = json["pictures"][0];
  EXPECT_EQ(first["expected"], "a pink bag");
  EXPECT_EQ(first["right"], reading.pictures[0].right());
  double sum = 0;
  for (const auto& entry : first["labels"]) sum += entry["probability"].get<double>();
  EXPECT_NEAR(sum, 1, 1e-12);
  EXPECT_TRUE(json["pictures"][1]["labels"][2]["probability"].is_null());
  for (const auto& entry : first["labels"]) {
    EXPECT_EQ(entry["seen_in_training"], entry["label"] == "a pink bag" ? "no" : "not_a_combination");
  }
  EXPECT_EQ(json["sparse_layers"][0]["image"]["tokens"], 8);
}

}  // namespace
}  // namespace zero_shot
