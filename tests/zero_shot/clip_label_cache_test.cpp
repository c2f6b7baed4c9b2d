#include "zero_shot/clip_label_cache.hpp"

#include <gmock/gmock.h>

#include <random>

#include "tests/zero_shot/tiny_clip.hpp"

namespace zero_shot {
namespace {

using gatefold::test::message_of;
using ::testing::HasSubstr;

class ClipLabelCache : public ::testing::Test {
 protected:
  ClipLabelCache() { tiny::write_clip(folder_ / "clip"); }
  gatefold::Tensor<float, 2> embed(const ClipModel& clip, const std::vector<std::string>& labels,
                                   const std::vector<std::string>& templates = {"a {}"}) {
    LabelCache cache(path_, clip, templates);
    auto z = embed_labels(clip, labels, templates, cache, {}, ctx_);
    cache.write();
    return std::move(*z);
  }
  ClipModel open(OpenClipOptions how = {}) {
    how.sums = &sums_;
    return open_clip(folder_ / "clip", how);
  }
  Index size(const ClipModel& clip, const std::vector<std::string>& templates = {"a {}"}) const {
    return LabelCache(path_, clip, templates).size();
  }

  const gatefold::test::TemporaryFolder folder_;
  const std::filesystem::path path_ = folder_ / "labels.safetensors";
  FileSums sums_;
  gatefold::Context ctx_;
};

TEST_F(ClipLabelCache, GrowsAndGivesWhatWasComputed) {
  const auto clip = open();
  const std::vector<std::string> templates{"a {}"}, all{"cat", "dog", "\xff", "cat", "bird"};
  const auto wanted = embed_labels(clip, all, templates, {.batch = 1}, ctx_);
  (void)embed(clip, {"dog"});
  EXPECT_EQ(size(clip), 1);
  for (int time = 0; time < 2; ++time) {
    const auto got = embed(clip, all);
    for (std::size_t i = 0; i < got.flat().size(); ++i) EXPECT_NEAR(got.flat()[i], wanted.flat()[i], 1e-6);
    EXPECT_EQ(size(clip), 3);  // without the one that is not UTF-8
  }
}

TEST_F(ClipLabelCache, IsUsedAsItStands) {
  const auto clip = open();
  gatefold::Tensor<float, 2> made_up({1, 6});
  made_up.flat()[2] = 1;
  LabelCache cache(path_, clip, {"a {}"});
  cache.add("cat", made_up.view()[0]);
  cache.write();
  EXPECT_EQ(embed(clip, {"cat"}), made_up);
}

TEST_F(ClipLabelCache, OfAnotherModelFormatOrTemplatesIsReplaced) {
  const auto clip = open();
  (void)embed(clip, {"cat", "dog"});
  EXPECT_EQ(size(clip), 2);
  EXPECT_EQ(size(clip, {"the {}"}), 0);
  EXPECT_EQ(size(open({.format = "int8"})), 0);
  EXPECT_EQ(size(open({.upcycle = 2})), 0);
  (void)embed(clip, {"cat"}, {"the {}"});
  EXPECT_EQ(size(clip), 0);
  EXPECT_EQ(size(clip, {"the {}"}), 1);
}

TEST_F(ClipLabelCache, WhatIsNoEmbeddingIsComputedAnew) {
  const auto clip = open();
  gatefold::Tensor<float, 2> wrong({1, 6});
  wrong.flat()[2] = std::nanf("");
  LabelCache cache(path_, clip, {"a {}"});
  cache.add("cat", wrong.view()[0]);
  wrong.flat()[2] = 2;
  cache.add("dog", wrong.view()[0]);
  cache.write();
  EXPECT_EQ(size(clip), 0);
}

TEST_F(ClipLabelCache, IsWrittenOnTheWay) {
  const auto clip = open();
  const std::vector<std::string> labels{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, templates(4, "a {}");
  std::vector<Index> saved;
  {
    LabelCache cache(path_, clip, templates);
    const SaveOptions saving{.every_seconds = 0, .stop = [&] {
                               saved.push_back(size(clip, templates));
                               return saved.size() == 4;
                             }};
    EXPECT_EQ(embed_labels(clip, labels, templates, cache, {.batch = 1}, ctx_, saving), std::nullopt);
  }
  EXPECT_THAT(saved, ::testing::ElementsAre(0, 2, 4, 6));
  LabelCache cache(path_, clip, templates);
  int rounds = 0;
  const SaveOptions counting{.stop = [&] { return ++rounds < 0; }};
  EXPECT_NE(embed_labels(clip, labels, templates, cache, {.batch = 1}, ctx_, counting), std::nullopt);
  EXPECT_EQ(rounds, 2);
}

TEST_F(ClipLabelCache, TwoWritersKeepWhatBothHave) {
  const auto clip = open();
  const std::vector<std::string> templates{"a {}"}, cat{"cat"}, dog{"dog"};
  LabelCache one(path_, clip, templates), other(path_, clip, templates);
  (void)embed_labels(clip, cat, templates, one, {}, ctx_);
  (void)embed_labels(clip, dog, templates, other, {}, ctx_);
  one.write();
  other.write();
  EXPECT_EQ(size(clip), 2);
}

TEST_F(ClipLabelCache, SaysAtOnceThatItCannotBeWritten) {
  const auto clip = open();
  EXPECT_THAT(message_of<gatefold::FormatError>([&] { LabelCache(folder_ / "no" / "cache", clip, {"a {}"}); }),
              HasSubstr("--cache: create"));
  EXPECT_THAT(message_of<gatefold::FormatError>([&] { LabelCache(folder_ / "clip", clip, {"a {}"}); }),
              HasSubstr("is no file that could be replaced"));
  EXPECT_EQ(folder_.count(), 1);
}

TEST_F(ClipLabelCache, NoFlippedBitIsUsed) {
  const auto clip = open();
  (void)embed(clip, {"cat", "dog"});
  const auto sound = gatefold::test::read_text(path_);
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    auto damaged = sound;
    damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
    gatefold::test::write_text(path_, damaged);
    try {
      EXPECT_EQ(size(clip), 0);
    } catch (const gatefold::FormatError&) {  // no longer to be told from a file of somebody else
    }
  }
}

TEST_F(ClipLabelCache, LeavesOtherFilesAlone) {
  const auto clip = open();
  const auto refusal = [&] { return message_of<gatefold::FormatError>([&] { (void)embed(clip, {"cat"}); }); };
  gatefold::test::write_text(path_, "a letter");
  EXPECT_THAT(refusal(), HasSubstr("is no cache of labels"));
  EXPECT_EQ(gatefold::test::read_text(path_), "a letter");
  std::filesystem::copy_file(folder_ / "clip" / "model.safetensors", path_,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(), HasSubstr("is left alone; name another file"));
}

}  // namespace
}  // namespace zero_shot
