#include "zero_shot/clip_answers.hpp"

#include <gmock/gmock.h>

#include <sstream>

#include "tests/zero_shot/tiny_clip.hpp"

namespace zero_shot {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ClipAnswersTest : public ::testing::Test {
 protected:
  ClipAnswersTest() {
    tiny::write_clip(folder_ / "clip");
    clip_ = open_clip(folder_ / "clip");
    answers_.labels = {"cat", "a \033[31mdog", "bird"};
    answers_.templates = {"a {}"};
    PhotoEmbeddings photos{gatefold::Tensor<float, 2>({2, 6}), {"", "b.png: is empty"}};
    photos.z.view()(0, 1) = 1;
    photos.z.view()(1, 0) = std::nanf("");
    gatefold::Tensor<float, 2> z_labels({3, 6});
    z_labels.view()(0, 0) = 1;
    z_labels.view()(1, 1) = 1;
    z_labels.view()(2, 1) = 0.5f;
    const std::vector<std::filesystem::path> names{"a.png", "b.png"};
    answer(answers_, photos, names, z_labels.view(), 2);
  }
  std::string printed(Index top) {
    std::ostringstream out;
    print(out, answers_, clip_, {.top = top});
    return out.str();
  }

  const gatefold::testing::TemporaryFolder folder_;
  ClipModel clip_{.options = {},
                  .towers = nullptr,
                  .tokenizer = gatefold::ClipTokenizer::of_merges({}, {}),
                  .preprocess = gatefold::ClipPreprocess(),
                  .format = "",
                  .identity = ""};
  ClipAnswers answers_;
};

TEST_F(ClipAnswersTest, RanksByCosineWithTheSoftmaxOfTheTemperature) {
  ASSERT_EQ(answers_.photos.size(), 2u);
  const auto& ranked = answers_.photos[0].ranked;
  ASSERT_EQ(ranked.size(), 3u);
  EXPECT_EQ(ranked[0].label, 1);
  EXPECT_EQ(ranked[1].label, 2);
  EXPECT_NEAR(ranked[0].probability, std::exp(2) / (std::exp(2) + std::exp(1) + 1), 1e-12);
  EXPECT_TRUE(answers_.photos[1].ranked.empty());
  EXPECT_EQ(answers_.faults(), 1);
}

TEST_F(ClipAnswersTest, ArePrintedSafelyWithTheBestOnesAndTheRest) {
  const auto text = printed(1);
  EXPECT_THAT(text, HasSubstr("a ?[31mdog"));
  EXPECT_THAT(text, HasSubstr("66.5 %"));
  EXPECT_THAT(text, HasSubstr("2 others"));
  EXPECT_THAT(text, HasSubstr("33.5 %"));
  EXPECT_THAT(text, HasSubstr("b.png\n  cannot be read"));
  EXPECT_THAT(text, HasSubstr("1 photograph, 3 labels, 1 template\n"));
  EXPECT_THAT(printed(3), Not(HasSubstr("other")));
}

TEST_F(ClipAnswersTest, AsJsonHaveAllLabelsAndTheFaults) {
  const auto json = nlohmann::json::parse(to_json(answers_, clip_));
  EXPECT_EQ(json["pictures"][0]["labels"].size(), 3u);
  EXPECT_EQ(json["pictures"][0]["labels"][0]["label"], "a \033[31mdog");
  EXPECT_EQ(json["pictures"][1]["fault"], "b.png: is empty");
  EXPECT_EQ(json["templates"], nlohmann::json{"a {}"});
  EXPECT_FALSE(json.contains("experts"));
}

TEST_F(ClipAnswersTest, TellTheSharesOfExperts) {
  tiny::write_photos(folder_ / "photos");
  const std::vector<std::filesystem::path> red{folder_ / "photos" / "red.png"};
  const std::vector<std::string> texts{"cat"};
  clip_ = open_clip(folder_ / "clip", {.upcycle = 3});
  gatefold::Context ctx;
  (void)embed_photos(clip_, red, {.routing = &answers_.routing}, ctx);
  EXPECT_THAT(printed(1), HasSubstr("patches, and effective experts:\n  block  1 "));
  EXPECT_THAT(printed(1), HasSubstr("was in the cache"));
  (void)embed_texts(clip_, texts, {.routing = &answers_.routing}, ctx);
  EXPECT_THAT(printed(1), HasSubstr("words, and effective experts:\n  block  1 "));
  EXPECT_THAT(printed(1), Not(HasSubstr("was in the cache")));
  const auto json = nlohmann::json::parse(to_json(answers_, clip_));
  ASSERT_EQ(json["experts"]["image"].size(), 2u);
  const auto& block = json["experts"]["image"][1];
  EXPECT_EQ(block["block"], 1);
  EXPECT_EQ(block["tokens"], 5);
  double requests = 0;
  for (const double count : block["requests"]) requests += count;
  EXPECT_EQ(requests, 10);
  EXPECT_EQ(json["experts"]["text"].size(), 2u);
}

}  // namespace
}  // namespace zero_shot
