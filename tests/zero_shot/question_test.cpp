#include "search/question.hpp"

#include <gmock/gmock.h>

#include "gatefold/io/safetensors_writer.hpp"
#include "search/embeddings_out.hpp"
#include "tests/support/test_data.hpp"
#include "tests/zero_shot/tiny_clip.hpp"

namespace search {
namespace {

using gatefold::test::message_of;
using ::testing::HasSubstr;
namespace fs = std::filesystem;
namespace tiny = zero_shot::tiny;

std::vector<std::string> shown(const std::vector<std::string>& words) {
  std::vector<std::string> all;
  for (const auto& question : questions_of(words)) all.push_back(question.text());
  return all;
}

TEST(Questions, SignsThatStandAloneBind) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(shown({"a red car"}), Texts{"a red car"});
  EXPECT_EQ(shown({"cat", "dog"}), (Texts{"cat", "dog"}));
  EXPECT_EQ(shown({"beach", "+", "sunset", "-", "people", "cat"}), (Texts{"beach + sunset - people", "cat"}));
  EXPECT_EQ(shown({"Paris - the tower", "a+b"}), (Texts{"Paris - the tower", "a+b"}));  // words are left as they are
  EXPECT_EQ(questions_of(Texts{"a", "-", "b"})[0].terms.size(), 2u);
  EXPECT_TRUE(questions_of(Texts{"a", "-", "b"})[0].terms[1].minus);
  for (const Texts& wrong : {Texts{"+", "a"}, {"a", "-"}, {"a", "+", "-", "b"}})
    EXPECT_THAT(message_of<gatefold::FormatError>([&] { (void)questions_of(wrong); }), HasSubstr("there is nothing"));
  EXPECT_THAT(message_of<gatefold::FormatError>([&] { (void)questions_of(Texts{"a.jpg"}); }),
              HasSubstr("no picture at a.jpg"));
}

class EmbedQuestions : public ::testing::Test {
 protected:
  EmbedQuestions() {
    tiny::write_clip(folder_ / "clip");
    tiny::write_photos(folder_ / "photos");
  }
  const gatefold::test::TemporaryFolder folder_;
  gatefold::Context ctx_;
};

TEST_F(EmbedQuestions, SumsUnitRowsOfTextsAndPictures) {
  const auto clip = zero_shot::open_clip(folder_ / "clip");
  const auto red = (folder_ / "photos" / "red.png").string();
  const std::vector<std::string> words{"cat", "-", red, "+", "dog", red, "bird"};
  const auto z = embed_questions(clip, questions_of(words), "a {}", {}, ctx_);
  ASSERT_EQ(z.shape(), (gatefold::Shape<2>{3, 6}));
  const std::vector<std::string> texts{"a cat", "a dog", "a bird"};
  const fs::path photos[]{red};
  const auto of_texts = zero_shot::embed_texts(clip, texts, {}, ctx_);
  const auto of_photos = zero_shot::embed_photos(clip, photos, {}, ctx_);
  double squares = 0;
  std::vector<double> sum;
  for (Index i = 0; i < 6; ++i) {
    sum.push_back(of_texts.view()(0, i) - of_photos.z.view()(0, i) + of_texts.view()(1, i));
    squares += sum.back() * sum.back();
  }
  for (Index i = 0; i < 6; ++i) {
    EXPECT_NEAR(z.view()(0, i), sum[static_cast<std::size_t>(i)] / std::sqrt(squares), 1e-6);
    EXPECT_NEAR(z.view()(1, i), of_photos.z.view()(0, i), 1e-6);
    EXPECT_NEAR(z.view()(2, i), of_texts.view()(2, i), 1e-6);
  }
}

TEST_F(EmbedQuestions, RefusesWhatHasNoDirection) {
  const auto clip = zero_shot::open_clip(folder_ / "clip");
  const auto refusal = [&](const std::vector<std::string>& words) {
    return message_of<gatefold::FormatError>([&] { (void)embed_questions(clip, questions_of(words), "{}", {}, ctx_); });
  };
  EXPECT_THAT(refusal({"cat", "-", "cat"}), HasSubstr("«cat - cat» take each other away"));
  gatefold::test::write_text(folder_ / "broken.png", "no picture");
  EXPECT_THAT(refusal({(folder_ / "broken.png").string()}), HasSubstr("broken.png"));
}

Embeddings some() {
  Embeddings e{.images = {"a.png"}, .labels = {"cat", "a\xff"}, .facts = {{"format", "fp32"}}};
  e.z_images = gatefold::Tensor<float, 2>({1, 3});
  e.z_labels = gatefold::Tensor<float, 2>({2, 3});
  for (int i = 0; i < 3; ++i) e.z_images.flat()[static_cast<std::size_t>(i)] = static_cast<float>(i);
  for (int i = 0; i < 6; ++i) e.z_labels.flat()[static_cast<std::size_t>(i)] = static_cast<float>(3 + i);
  return e;
}

TEST(EmbeddingsOut, NpyIsToTheByteAsNumpyWritesIt) {
  const gatefold::test::TemporaryFolder folder;
  write_npy(some(), folder / "z.npy");
  EXPECT_EQ(gatefold::test::read_text(folder / "z.npy"),
            gatefold::test::read_text(gatefold::test::test_data("three_by_three.npy")));
  const auto names = nlohmann::json::parse(gatefold::test::read_text(folder / "z.npy.json"));
  EXPECT_EQ(names["images"], (std::vector<std::string>{"a.png"}));
  EXPECT_EQ(names["labels"], (std::vector<std::string>{"cat", "a\xef\xbf\xbd"}));
  EXPECT_EQ(names["format"], "fp32");
  for (const Index rows : {Index{0}, Index{9}, Index{10}, Index{1'000'000'000'000}}) {  // numpy's reader asks for this
    const auto header = detail::npy_header(rows, 512);
    EXPECT_EQ(header.size() % 64, 0u);
    EXPECT_EQ(header.back(), '\n');
  }
}

TEST(EmbeddingsOut, SafetensorsHaveTheNamesInTheirMetadata) {
  const gatefold::test::TemporaryFolder folder;
  write_safetensors(some(), folder / "z.safetensors");
  const gatefold::SafeTensors file{gatefold::MappedFile(folder / "z.safetensors")};
  EXPECT_EQ(file.metadata().at("images"), R"(["a.png"])");
  EXPECT_EQ(file.metadata().at("labels"), "[\"cat\",\"a\xef\xbf\xbd\"]");
  EXPECT_EQ(file.metadata().at("format"), "fp32");
  EXPECT_EQ(file.find("images")->shape, (std::vector<Index>{1, 3}));
  EXPECT_EQ(file.find("labels")->shape, (std::vector<Index>{2, 3}));
  std::vector<float> labels(6);
  gatefold::decode<float>(gatefold::Dtype::f32, file.find("labels")->bytes, labels);
  EXPECT_EQ(labels, (std::vector<float>{3, 4, 5, 6, 7, 8}));
}

}  // namespace
}  // namespace search
