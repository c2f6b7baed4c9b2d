#include "search/photo_index.hpp"

#include <gmock/gmock.h>

#include "tests/zero_shot/tiny_clip.hpp"

namespace search {
namespace {

using gatefold::testing::message_of;
using gatefold::testing::write_text;
using ::testing::HasSubstr;
namespace tiny = zero_shot::tiny;

class PhotoIndexTest : public ::testing::Test {
 protected:
  PhotoIndexTest() {
    tiny::write_clip(folder_ / "clip");
    tiny::write_photos(photos_);
  }
  zero_shot::ClipModel open(const zero_shot::OpenClipOptions& how = {}) const {
    return zero_shot::open_clip(folder_ / "clip", how);
  }
  Update update(const zero_shot::ClipModel& clip, const std::optional<PhotoIndex>& old) {
    return update_index(photos_, clip, old, {}, ctx_);
  }
  std::string refusal() const {
    return message_of<gatefold::FormatError>([&] { (void)read_index(path_); });
  }

  const gatefold::testing::TemporaryFolder folder_;
  const fs::path photos_ = folder_ / "photos", path_ = folder_ / "photos.index.safetensors";
  gatefold::Context ctx_;
};

TEST_F(PhotoIndexTest, IsReadAsItWasWritten) {
  const auto made = update(open(), std::nullopt);
  EXPECT_EQ(made.embedded, 3);
  ASSERT_EQ(made.index.entries.size(), 3u);
  EXPECT_EQ(made.index.entries[0].name, "deep/blue.png");
  EXPECT_EQ(made.index.entries[0].size, static_cast<std::int64_t>(fs::file_size(photos_ / "deep" / "blue.png")));
  write_index(made.index, path_);
  const auto read = read_index(path_);
  EXPECT_EQ(read.folder, fs::canonical(photos_).string());
  EXPECT_EQ(read.model, made.index.model);
  EXPECT_EQ(read.format, "fp32");
  EXPECT_EQ(read.entries, made.index.entries);
  EXPECT_EQ(read.z, made.index.z);
}

TEST_F(PhotoIndexTest, EmbedsOnlyWhatChanged) {
  const auto clip = open();
  auto first = update(clip, std::nullopt);
  auto marked = first.index;  // so that it shows what was taken over
  for (float& x : marked.z.flat()) x = 0.5f;
  gatefold::write_png(tiny::photo({1, 2, 3}), photos_ / "red.png");
  fs::last_write_time(photos_ / "red.png", fs::file_time_type::clock::now() + std::chrono::hours(1));
  fs::remove(photos_ / "green.png");
  write_text(photos_ / "new.png", "no picture");
  const auto second = update(clip, marked);
  EXPECT_EQ(second.embedded, 1);
  EXPECT_EQ(second.kept, 1);
  EXPECT_EQ(second.gone, 1);
  ASSERT_EQ(second.faults.size(), 1u);
  EXPECT_THAT(second.faults[0], HasSubstr("new.png"));
  ASSERT_EQ(second.index.entries.size(), 2u);
  EXPECT_EQ(second.index.entries[0].name, "deep/blue.png");
  EXPECT_EQ(second.index.z.view()(0, 0), 0.5f);
  EXPECT_EQ(second.index.entries[1].name, "red.png");
  const fs::path red[]{photos_ / "red.png"};
  const auto wanted = zero_shot::embed_photos(clip, red, {}, ctx_);
  for (Index i = 0; i < 6; ++i) EXPECT_NEAR(second.index.z.view()(1, i), wanted.z.view()(0, i), 1e-6);
}

TEST_F(PhotoIndexTest, OfAnotherModelOrFormatIsMadeAnew) {
  const auto first = update(open(), std::nullopt);
  EXPECT_EQ(update(open(), first.index).kept, 3);
  EXPECT_EQ(update(open({.format = "int8"}), first.index).kept, 0);
  auto other = first.index;
  other.model = "another";
  EXPECT_EQ(update(open(), other).embedded, 3);
}

TEST_F(PhotoIndexTest, TheNearestComeFirst) {
  PhotoIndex index;
  index.entries = {{"a"}, {"b"}, {"c"}};
  index.z = gatefold::Tensor<float, 2>({3, 2});
  index.z.view()(0, 1) = 1;
  index.z.view()(1, 0) = 0.6f, index.z.view()(1, 1) = 0.8f;
  index.z.view()(2, 0) = std::nanf("");
  const std::vector<float> z{1, 0};
  const auto hits = best(index, {z.data(), {2}}, 5);
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_EQ(hits[0].photo, 1u);
  EXPECT_NEAR(hits[0].cosine, 0.6, 1e-6);
  EXPECT_EQ(hits[1].photo, 0u);
  EXPECT_EQ(best(index, {z.data(), {2}}, 1).size(), 1u);
}

TEST_F(PhotoIndexTest, RefusesWhatIsNone) {
  EXPECT_THAT(refusal(), HasSubstr("does not exist; expected an index, which search index FOLDER --model DIR makes"));
  write_text(path_, "a letter");
  EXPECT_THAT(refusal(), HasSubstr("expected an index"));
  fs::copy_file(folder_ / "clip" / "model.safetensors", path_, fs::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(), HasSubstr("has no «search.index»"));
  const gatefold::Tensor<float, 2> z({2, 6});
  const auto write = [&](const std::string& note) {
    gatefold::SafeTensorsWriter writer;
    writer.add("photos", z.view());
    writer.add_metadata("search.index", note);
    writer.write(path_);
  };
  write("{\"folder\": ");
  EXPECT_THAT(refusal(), HasSubstr("its notes are not what search writes"));
  write(R"({"folder": 7, "model": "m", "format": "f", "names": [], "sizes": [], "changed": []})");
  EXPECT_THAT(refusal(), HasSubstr("its notes are not what search writes"));
  write(R"({"folder": "/", "model": "m", "format": "f", "names": ["a"], "sizes": [1], "changed": [1]})");
  EXPECT_THAT(refusal(), HasSubstr("not equally many"));
  write(R"({"folder": "/", "model": "m", "format": "f", "names": ["a", "b"], "sizes": [1], "changed": [1, 2]})");
  EXPECT_THAT(refusal(), HasSubstr("not equally many"));
  EXPECT_THAT(message_of<gatefold::FormatError>([&] { (void)update_index(path_, open(), std::nullopt, {}, ctx_); }),
              HasSubstr("expected a folder"));
}

}  // namespace
}  // namespace search
