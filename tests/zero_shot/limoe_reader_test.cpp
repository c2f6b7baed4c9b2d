#include "zero_shot/limoe_reader.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "tests/io/damage.hpp"
#include "tests/zero_shot/tiny_reader.hpp"

namespace zero_shot::limoe_reader_test {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kLabels{"a red dress", "a blue bag", "something", "x < y & \"z\""};

TEST(Read, RanksByCosineAndSumsToOne) {
  Reader reader = tiny::reader();
  Reading reading = tiny::plan(3, kLabels, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  EXPECT_NEAR(reading.temperature, 10, 1e-5);  // as initialised
  for (const Picture& picture : reading.pictures) {
    ASSERT_EQ(picture.ranked.size(), kLabels.size());
    double sum = 0;
    for (std::size_t i = 0; i < picture.ranked.size(); ++i) {
      sum += picture.ranked[i].probability;
      EXPECT_LE(std::abs(picture.ranked[i].cosine), 1 + 1e-6);
      if (i > 0) {
        EXPECT_LE(picture.ranked[i].cosine, picture.ranked[i - 1].cosine);
      }
    }
    EXPECT_NEAR(sum, 1, 1e-12);
  }
}

TEST(Read, APictureDoesNotDependOnItsCompany) {
  Reader reader = tiny::reader();
  Reading together = tiny::plan(70, kLabels, reader);  // two batches
  Reading alone = together;
  alone.pictures.erase(alone.pictures.begin(), alone.pictures.end() - 1);
  gatefold::Context ctx;
  read(together, reader, ctx);
  read(alone, reader, ctx);
  const auto& a = together.pictures.back().ranked;
  const auto& b = alone.pictures.back().ranked;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].label, b[i].label);
    EXPECT_NEAR(a[i].cosine, b[i].cosine, 1e-6);
  }
}

TEST(Read, EveryTokenHasARouteAndTheCountsAgree) {
  Reader reader = tiny::reader();
  Reading reading = tiny::plan(9, kLabels, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  ASSERT_EQ(reading.layers.size(), 1u);
  EXPECT_EQ(reading.layers[0].block, 1);
  std::array<double, 2> tokens{}, kept{};
  std::array<std::array<double, 4>, 2> taken{};
  const auto count = [&](std::size_t modality, const Routes& routes, std::size_t wanted) {
    ASSERT_EQ(routes.size(), 1u);
    ASSERT_EQ(routes[0].size(), wanted);
    for (const Route& route : routes[0]) {
      tokens[modality] += 1, kept[modality] += !route.dropped_trained;
      taken[modality].at(static_cast<std::size_t>(route.expert)) += 1;
      EXPECT_GE(route.gate, 0.25 - 1e-6);  // the largest of four
      EXPECT_LE(route.gate, 1);
    }
  };
  for (const Picture& picture : reading.pictures) count(gatefold::kImage, picture.routes, 4);
  for (const Label& label : reading.labels) count(gatefold::kText, label.routes, label.words.size());
  for (const std::size_t m : {gatefold::kImage, gatefold::kText}) {
    const Usage& usage = reading.layers[0].modalities[m];
    EXPECT_EQ(usage.tokens, tokens[m]);
    EXPECT_EQ(usage.seated_trained, kept[m]);
    double shares = 0;
    for (std::size_t e = 0; e < 4; ++e) {
      EXPECT_EQ(usage.requests[e], taken[m][e]);
      shares += usage.share(static_cast<Index>(e));
    }
    EXPECT_NEAR(shares, 1, 1e-12);
    EXPECT_GE(usage.effective_experts(), 1);
    EXPECT_LE(usage.effective_experts(), 4 + 1e-6);
  }
  // Half as many seats as tokens: at least half were turned away, unless the ceiling of seats leaves room for more.
  EXPECT_LE(kept[0] + kept[1], 4 * std::ceil(0.5 * (tokens[0] + tokens[1]) / 4));
  EXPECT_LT(kept[0] + kept[1], tokens[0] + tokens[1]);
}

TEST(Read, TwoTowersHaveLayersOfTheirOwn) {
  auto options = tiny::options();
  options.towers = gatefold::LimoeOptions::Towers::two;
  Reader reader = tiny::reader(options);
  // 300 labels make two batches, and one picture leaves the first without any.
  std::vector<std::string> labels;
  for (int i = 0; i < 300; ++i) labels.push_back("label " + std::to_string(i));
  Reading reading = tiny::plan(1, labels, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  ASSERT_EQ(reading.layers.size(), 2u);
  EXPECT_EQ(reading.layers[0].modalities[gatefold::kImage].tokens, 4);
  EXPECT_EQ(reading.layers[0].modalities[gatefold::kText].tokens, 0);
  EXPECT_EQ(reading.layers[1].modalities[gatefold::kImage].tokens, 0);
  EXPECT_GT(reading.layers[1].modalities[gatefold::kText].tokens, 600);
  EXPECT_EQ(reading.pictures[0].routes[0].size(), 4u);
  EXPECT_TRUE(reading.pictures[0].routes[1].empty());
  for (const Label& label : reading.labels) {
    EXPECT_TRUE(label.routes[0].empty());
    EXPECT_EQ(label.routes[1].size(), label.words.size());
  }
}

TEST(Read, ADenseModelHasNoRoutes) {
  auto options = tiny::options();
  options.sparse = gatefold::Placement::none();
  Reader reader = tiny::reader(options);
  Reading reading = tiny::plan(1, kLabels, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  EXPECT_TRUE(reading.layers.empty());
  EXPECT_EQ(reading.pictures[0].ranked.size(), kLabels.size());
}

TEST(MakeLabel, KnowsWhatTrainingHasSeen) {
  const Reader reader = tiny::reader();
  EXPECT_EQ(make_label("a pink bag", reader).seen, wardrobe::Seen::no);
  EXPECT_EQ(make_label("a photo of a Blue Bag!", reader).seen, wardrobe::Seen::yes);
  EXPECT_EQ(make_label("a zebra", reader).seen, wardrobe::Seen::not_a_combination);
  EXPECT_EQ(make_label("a blue bag", reader).words, (std::vector<std::string>{"a", "blue", "bag", "<end>"}));
  EXPECT_FALSE(make_label("a a a a a a a", reader).cut);  // seven words and the end mark
  EXPECT_TRUE(make_label("a a a a a a a a", reader).cut);
}

class OpenModel : public testing::Test {
 protected:
  OpenModel() { std::filesystem::create_directories(folder_); }
  ~OpenModel() override { std::filesystem::remove_all(folder_); }

  void save(const gatefold::LimoeFile& file) {
    gatefold::Context ctx;
    const auto image = tiny::plan(1, {"a"}, tiny::reader()).pictures[0].image;
    gatefold::Tensor<float, 4> probe({1, 12, 12, 3});
    std::copy(image.rgb.begin(), image.rgb.end(), probe.data());
    const std::vector<Index> ids{260, 261, 1};
    gatefold::save_limoe(file, probe.view(), gatefold::View<const Index, 1>(ids.data(), {3}), path_,
                         gatefold::Dtype::f32, ctx);
  }
  std::string refusal() {
    gatefold::Context ctx;
    try {
      open_model(path_, ctx);
    } catch (const gatefold::FormatError& e) {
      return e.what();
    }
    return "accepted";
  }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("gatefold-open-model-" + std::to_string(::getpid()));
  const std::filesystem::path path_ = folder_ / "tiny.safetensors";
};

TEST_F(OpenModel, TakesASoundOneAndLiftsItsCapacity) {
  save(tiny::file());
  gatefold::Context ctx;
  const Reader reader = open_model(path_, ctx);
  EXPECT_LE(reader.deviation, 1e-5);
  EXPECT_EQ(reader.trained.factor, 0.5);
  EXPECT_TRUE(std::isinf(reader.file.model.options.capacity.factor));
}

TEST_F(OpenModel, RefusesADamagedOneAndSaysWhatToDo) {
  EXPECT_THAT(refusal(), HasSubstr("no model at "));
  EXPECT_THAT(refusal(), HasSubstr("train_limoe --minutes 5"));
  save(tiny::file());
  {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    const auto size = static_cast<std::streamoff>(std::filesystem::file_size(path_));
    file.seekp(size / 2);  // all weights from there on
    for (auto i = size / 2; i < size; ++i) file.put('\x3f');
  }
  EXPECT_THAT(refusal(), HasSubstr("checksum"));
  EXPECT_THAT(refusal(), HasSubstr("fetch it again"));
  // Where the sum is right, the answers are still those of another model.
  gatefold::test::write_text(path_, gatefold::test::with_checksum(gatefold::test::read_text(path_)));
  EXPECT_THAT(refusal(), HasSubstr("self-check"));
  EXPECT_THAT(refusal(), HasSubstr("fetch it again"));
  std::filesystem::resize_file(path_, 100);
  EXPECT_THAT(refusal(), HasSubstr("fetch it again"));
}

TEST_F(OpenModel, SaysOfAFileOfAnotherKindThatItIsNoModel) {
  save(tiny::file());
  const std::string png = "\x89PNG\r\n\x1a\n" + std::string(3, '\0') + "\rIHDR";
  for (const std::string& text : {png, std::string("hello"), std::string()}) {
    gatefold::test::write_text(path_, text);
    EXPECT_THAT(refusal(), ::testing::StartsWith(path_.string() + ": is no model, for it does not begin as"));
    EXPECT_THAT(refusal(), ::testing::Not(HasSubstr("header length")));
  }
}

TEST_F(OpenModel, RefusesWeightsThatAreNoNumbers) {
  auto file = tiny::file();
  file.model.word_embed.table.flat()[0] = std::nanf("");  // padding, which no probe reads
  save(file);
  EXPECT_THAT(refusal(), HasSubstr("holds NaN or infinity"));
}

}  // namespace
}  // namespace zero_shot::limoe_reader_test
