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
    z_labels_.view()(0, 0) = 1;
    z_labels_.view()(1, 1) = 1;
    z_labels_.view()(2, 1) = 0.5f;
    z_.view()(0, 1) = 1;
  }
  PhotoAnswer good() { return answer(answers_, "a.png", "", z_.view()[0], z_labels_.view(), 2); }
  PhotoAnswer bad() { return answer(answers_, "b.png", "b.png: is empty", z_.view()[0], z_labels_.view(), 2); }
  std::string printed(const ClipPrintOptions& options) {
    answers_.answered = 0;
    std::ostringstream out;
    print(out, good(), answers_, options);
    print(out, bad(), answers_, options);
    print_summary(out, answers_, clip_, options);
    return out.str();
  }
  std::string printed(Index top) { return printed({.terminal = {}, .top = top}); }

  gatefold::Tensor<float, 2> z_{{1, 6}}, z_labels_{{3, 6}};
  const gatefold::test::TemporaryFolder folder_;
  ClipModel clip_{.options = {},
                  .towers = nullptr,
                  .tokenizer = gatefold::ClipTokenizer::of_merges({}, {}),
                  .preprocess = gatefold::ClipPreprocess(),
                  .format = "",
                  .identity = ""};
  ClipAnswers answers_;
};

TEST_F(ClipAnswersTest, RanksByCosineWithTheSoftmaxOfTheTemperature) {
  const auto ranked = good().ranked;
  ASSERT_EQ(ranked.size(), 3u);
  EXPECT_EQ(ranked[0].label, 1);
  EXPECT_EQ(ranked[1].label, 2);
  EXPECT_NEAR(ranked[0].probability, std::exp(2) / (std::exp(2) + std::exp(1) + 1), 1e-12);
  EXPECT_TRUE(bad().ranked.empty());
  EXPECT_EQ(answers_.answered, 1);
  ASSERT_EQ(answers_.unread.size(), 1u);
  EXPECT_EQ(answers_.unread[0].fault, "b.png: is empty");
}

TEST_F(ClipAnswersTest, LeaveOutWhatIsBelowTheThreshold) {
  answers_.threshold = 0.3;
  EXPECT_EQ(good().ranked.size(), 1u);  // of 0.665, 0.245 and 0.090
  answers_.threshold = 0.7;
  EXPECT_TRUE(good().ranked.empty());
  EXPECT_THAT(printed(3), HasSubstr("no label reaches 0.7000"));
  answers_.scores = Scores::each_by_itself;
  answers_.threshold = 0.4;
  EXPECT_EQ(good().ranked.size(), 2u);  // of the cosines 1, 0.5 and 0
}

TEST_F(ClipAnswersTest, OfManyRightLabelsAreTheirCosines) {
  answers_.scores = Scores::each_by_itself;
  const auto text = printed(2);
  EXPECT_THAT(text, HasSubstr("   1.0000\n"));
  EXPECT_THAT(text, HasSubstr("   0.5000\n"));
  EXPECT_THAT(text, HasSubstr("1 other"));
  EXPECT_THAT(text, Not(HasSubstr("%")));
  const auto json = json_of(good(), answers_, 3);
  EXPECT_EQ(json["labels"][1]["cosine"], 0.5);
  EXPECT_FALSE(json["labels"][1].contains("probability"));
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

TEST_F(ClipAnswersTest, FitTheTerminal) {
  answers_.labels[1] = std::string(100, 'x');
  for (const Index width : {40, 60, 80}) {
    const auto text = printed({.terminal = {.width = width}});
    std::istringstream lines(text);
    Index most = 0;
    for (std::string line; std::getline(lines, line);) most = std::max(most, columns(line));
    EXPECT_EQ(most, width);
  }
}

TEST_F(ClipAnswersTest, AsJsonHaveAsManyLabelsAsAskedAndTheFaults) {
  EXPECT_EQ(json_of(good(), answers_, 100)["labels"].size(), 3u);
  EXPECT_EQ(json_of(good(), answers_, 2)["labels"].size(), 2u);
  EXPECT_EQ(json_of(good(), answers_, 1)["labels"][0]["label"], "a \033[31mdog");
  EXPECT_EQ(json_of(bad(), answers_, 3)["fault"], "b.png: is empty");
  EXPECT_EQ(json_of(bad(), answers_, 3)["labels"], Json::array());
  EXPECT_FALSE(json_of(good(), answers_, 1)["labels"][0].contains("cut"));
  answers_.cut = {false, true, false};  // the best is the second
  EXPECT_EQ(json_of(good(), answers_, 2)["labels"][0]["cut"], true);
  EXPECT_EQ(json_of(good(), answers_, 2)["labels"][1]["cut"], false);
  EXPECT_EQ(json_of(clip_)["kind"], "clip");
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
  const auto experts = json_of(answers_.routing, clip_);
  ASSERT_EQ(experts["image"].size(), 2u);
  const auto& block = experts["image"][1];
  EXPECT_EQ(block["block"], 1);
  EXPECT_EQ(block["tokens"], 5);
  double requests = 0;
  for (const double count : block["requests"]) requests += count;
  EXPECT_EQ(requests, 10);
  EXPECT_EQ(experts["text"].size(), 2u);
}

}  // namespace
}  // namespace zero_shot
