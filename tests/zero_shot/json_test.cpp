#include "zero_shot/json.hpp"

#include <gtest/gtest.h>

#include "tests/zero_shot/tiny_reader.hpp"

namespace zero_shot {
namespace {

TEST(Json, IsValidWhateverTheLabelsHold) {
  Reader reader = tiny::reader();
  const std::vector<std::string> labels{"a pink bag", "\"quoted\" \\ \n", "broken \xff byte"};
  Reading reading = tiny::plan(2, labels, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  reading.pictures[1].ranked[2].probability = std::nan("");
  const auto json = nlohmann::json::parse(to_json(reading, reader));
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
