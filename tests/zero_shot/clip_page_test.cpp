#include "zero_shot/clip_page.hpp"

#include <gmock/gmock.h>

#include "tests/zero_shot/html_check.hpp"
#include "tests/zero_shot/tiny_clip.hpp"

namespace zero_shot {
namespace {

using html::count;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class ClipPage : public ::testing::Test {
 protected:
  ClipPage() { tiny::write_photos(folder_ / "photos"); }

  ClipModel dense(Index upcycle = 0) {
    tiny::write_clip(folder_ / "clip");
    return open_clip(folder_ / "clip", {.upcycle = upcycle});
  }
  ClipModel clip_moe() {
    tiny::write_clip_moe(folder_ / "clip_moe");
    return open_clip(folder_ / "clip_moe");
  }
  /// The answers as zero_shot has them, and what a page shows of them.
  Reading reading_of(const ClipModel& clip) {
    photos_ = {folder_ / "photos" / "red.png", folder_ / "photos" / "none.png", folder_ / "photos" / "green.png"};
    answers_ = {.labels = {"cat", "<b>dogs"}, .templates = {"a {}", "the {}"}};
    const auto z = embed_labels(clip, answers_.labels, answers_.templates, {}, ctx_);
    embed_photos(clip, photos_, {}, ctx_, [&](const PhotoBatch& batch) {
      for (Index i = 0; i < batch.z.extent(0); ++i) {
        const auto at = static_cast<std::size_t>(i);
        auto photo = answer(answers_, photos_[at], batch.faults[at], batch.z[i], z.view(), clip.temperature);
        if (photo.fault.empty()) answers_.kept.push_back(std::move(photo));
      }
    });
    return read_for_page(answers_, clip, {.batch = 1}, ctx_);
  }
  std::string html_of(const ClipModel& clip) {
    const auto reading = reading_of(clip);
    return page_html(reading, page_model(answers_, clip, "<model>"), 5);
  }

  const gatefold::test::TemporaryFolder folder_;
  gatefold::Context ctx_;
  std::vector<std::filesystem::path> photos_;
  ClipAnswers answers_;
};

TEST_F(ClipPage, HasTheAnswersOfTheProgram) {
  const auto reading = reading_of(dense());
  ASSERT_EQ(reading.pictures.size(), 2u);  // one is not there
  EXPECT_EQ(reading.pictures[1].name, photos_[2].string());
  EXPECT_EQ(reading.pictures[1].ranked[0].probability, answers_.kept[1].ranked[0].probability);
  EXPECT_EQ(reading.pictures[0].image.size(), (gatefold::ImageSize{8, 8}));
  EXPECT_THAT(reading.labels[0].words, ElementsAre("<start>", "a", "cat", "<end>"));
  EXPECT_TRUE(reading.layers.empty());
}

TEST_F(ClipPage, DoesWithoutAPhotographThatHasGoneMeanwhile) {
  const auto clip = dense(4);
  (void)reading_of(clip);
  std::filesystem::remove(photos_[0]);
  const auto reading = read_for_page(answers_, clip, {.batch = 1}, ctx_);
  ASSERT_EQ(reading.pictures.size(), 1u);
  EXPECT_EQ(reading.pictures[0].name, photos_[2].string());
  EXPECT_EQ(reading.pictures[0].routes[0].size(), 4u);
}

TEST_F(ClipPage, RoutesAreThoseOfTheFirstTemplateAndOfEachPatch) {
  const auto clip = dense(4);
  const auto reading = reading_of(clip);
  ASSERT_EQ(reading.layers.size(), 4u);
  EXPECT_EQ(reading.layers[1].title, "Images, block 2 of 2");
  EXPECT_EQ(reading.layers[2].title, "Words, block 1 of 2");
  for (std::size_t l = 0; l < 2; ++l) {
    EXPECT_EQ(reading.layers[l].modalities[gatefold::kImage].tokens, 2 * 5);
    EXPECT_EQ(reading.layers[l].modalities[gatefold::kText].tokens, 0);
    EXPECT_EQ(reading.layers[2 + l].modalities[gatefold::kText].tokens, 4 + 10);  // □ a cat ■, □ a < b > d o g s ■
    for (const Picture& picture : reading.pictures) {
      EXPECT_EQ(picture.routes[l].size(), 4u);
      EXPECT_TRUE(picture.routes[2 + l].empty());
      for (const Route& route : picture.routes[l]) {
        EXPECT_LT(route.expert, 4);
        EXPECT_GE(route.gate, 0.25 - 1e-6);  // the largest of four
      }
    }
    for (const Label& label : reading.labels) EXPECT_EQ(label.routes[2 + l].size(), label.words.size());
  }
  // Alone, a picture goes where it goes in company, behind its class token.
  using Report = gatefold::RoutingReport;
  ClipRouting alone{Report(Report::Detail::tokens), Report(Report::Detail::tokens)};
  (void)embed_photos(clip, std::span(photos_).last(1), {.routing = &alone}, ctx_);
  for (std::size_t t = 0; t < 4; ++t)
    EXPECT_EQ(reading.pictures[1].routes[1][t].expert, alone.images.layers()[1].tokens[1 + t].choices[0].expert);
}

TEST_F(ClipPage, ADenseModelShowsPicturesAndScoresAlone) {
  const auto html = html_of(dense());
  EXPECT_EQ(count(html, "<article"), 2);
  EXPECT_EQ(count(html, "class=\"row"), 2 * 2);
  EXPECT_THAT(html, HasSubstr("none.png"));  // cannot be read, and the page says so
  EXPECT_THAT(html, HasSubstr("&lt;b&gt;dogs"));
  EXPECT_THAT(html, HasSubstr("&lt;model&gt;"));
  EXPECT_THAT(html, HasSubstr("«a {}» and 1 others"));
  for (const auto* of_limoe : {"LIMoE", "seen", "hatchbox", "garments", "Who does what", "expert"})
    EXPECT_THAT(html.substr(html.find("<main>")), Not(HasSubstr(std::string(">") + of_limoe))) << of_limoe;
  html::expect_to_need_nothing_but_itself(html);
  html::expect_to_close_what_it_opens(html);
}

TEST_F(ClipPage, OfMixturesShowsEveryPatchAndEveryWord) {
  for (const auto& clip : {dense(4), clip_moe()}) {
    const auto html = html_of(clip);
    const auto layers = std::ssize(clip.options.vision.mixture.placement.layers);
    const auto across = clip.options.image_size / clip.options.patch;
    EXPECT_EQ(count(html, "<rect class=\"f\""), 2 * layers * across * across);
    EXPECT_EQ(count(html, "<rect class=\"h\""), 0);  // nobody was turned away
    EXPECT_THAT(html, HasSubstr("Who does what"));
    EXPECT_THAT(html, HasSubstr("□<sup>"));
    EXPECT_THAT(html, Not(HasSubstr("with the seats of training")));
    html::expect_to_need_nothing_but_itself(html);
    html::expect_to_close_what_it_opens(html);
  }
}

TEST_F(ClipPage, HasAsManyPhotographsAsABrowserCanBear) {
  auto clip = dense();
  EXPECT_EQ(photos_on_a_page(clip), 60);
  clip.options.image_size = 224, clip.options.patch = 14;
  clip.options.vision.mixture.placement = gatefold::Placement::last(24, 24);
  EXPECT_EQ(photos_on_a_page(clip), 6);  // each of them 24 * 256 squares
}

TEST_F(ClipPage, HasTheWordsOfAsManyLabels) {
  const auto clip = clip_moe();
  for (int i = 0; i < 3500; ++i) answers_.labels.push_back("cat");
  answers_.templates = {"ccc ccc ccc {}"};  // 12 tokens, in one sparse block
  const auto reading = read_for_page(answers_, clip, {.batch = 64}, ctx_);
  ASSERT_EQ(reading.labels.size(), 3500u);
  EXPECT_EQ(reading.labels.front().routes.back().size(), 12u);
  EXPECT_TRUE(reading.labels.back().routes.back().empty());
}

}  // namespace
}  // namespace zero_shot
