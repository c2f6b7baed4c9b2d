#include "search/photo_index.hpp"

#include <gmock/gmock.h>

#include <ctime>
#include <random>

#include "gatefold/image/encode.hpp"
#include "gatefold/io/safetensors_writer.hpp"
#include "tests/zero_shot/tiny_clip.hpp"

namespace search {
namespace {

using gatefold::test::message_of;
using gatefold::test::write_text;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace tiny = zero_shot::tiny;

/// What a model with damaged weights gives.
struct NoNumbers : zero_shot::ClipTowers {
  void encode_images(gatefold::View<const float, 4>, gatefold::Rows<float> z, gatefold::Context&) const override {
    for (Index r = 0; r < z.extent(0); ++r) z(r, 0) = std::nanf("");
  }
  void encode_texts(gatefold::View<const Index, 2>, gatefold::Rows<float> z, gatefold::Context&) const override {
    for (Index r = 0; r < z.extent(0); ++r) z(r, 0) = std::nanf("");
  }
  void save(gatefold::ClipNames, const fs::path&, const std::map<std::string, std::string>&) const override {}
};

class PhotoIndexTest : public ::testing::Test {
 protected:
  PhotoIndexTest() {
    tiny::write_clip(folder_ / "clip");
    tiny::write_photos(photos_);
  }
  zero_shot::ClipModel open(zero_shot::OpenClipOptions how = {}) {
    how.sums = &sums_;
    return zero_shot::open_clip(folder_ / "clip", how);
  }
  Update update(const zero_shot::ClipModel& clip, const std::optional<PhotoIndex>& old) {
    return update_index(photos_, clip, old, {}, ctx_);
  }
  /// Photograph by photograph, stopped after so many.
  Update update_some(const zero_shot::ClipModel& clip, const std::optional<PhotoIndex>& old, int most,
                     const std::function<void(const PhotoIndex&)>& save = {}) {
    const zero_shot::SaveOptions saving{.every_seconds = 0, .stop = [&] { return most-- <= 0; }};
    return update_index(photos_, clip, old, {.batch = 1}, ctx_, saving, save);
  }
  /// Rows that no model makes, so that it shows what was taken over.
  static PhotoIndex marked(PhotoIndex index) {
    for (Index i = 0; i < index.z.extent(0); ++i)
      for (Index j = 0; j < index.z.extent(1); ++j) index.z.view()(i, j) = j == i;
    return index;
  }
  static std::vector<std::string> names_of(const PhotoIndex& index) {
    std::vector<std::string> names;
    for (const Entry& entry : index.entries) names.push_back(entry.name);
    return names;
  }
  std::string refusal() const {
    return message_of<gatefold::FormatError>([&] { (void)read_index(path_); });
  }

  const gatefold::test::TemporaryFolder folder_;
  const fs::path photos_ = folder_ / "photos", path_ = folder_ / "photos.index.safetensors";
  zero_shot::FileSums sums_;
  gatefold::Context ctx_;
};

TEST_F(PhotoIndexTest, IsReadAsItWasWritten) {
  gatefold::write_png(tiny::photo({1, 2, 3}), photos_ / "no\xffutf8.png");
  const auto made = update(open(), std::nullopt);
  EXPECT_EQ(made.embedded, 4);
  ASSERT_EQ(made.index.entries.size(), 4u);
  EXPECT_EQ(made.index.entries[0].name, "deep/blue.png");
  EXPECT_EQ(made.index.entries[0].facts.size, static_cast<std::int64_t>(fs::file_size(photos_ / "deep" / "blue.png")));
  write_index(made.index, path_);
  const auto read = read_index(path_);
  EXPECT_EQ(read.folder, fs::canonical(photos_));
  EXPECT_EQ(read.model, made.index.model);
  EXPECT_EQ(read.format, "fp32");
  EXPECT_EQ(read.entries, made.index.entries);
  EXPECT_EQ(read.z, made.index.z);
  EXPECT_EQ(update(open(), read).kept, 4);
}

TEST_F(PhotoIndexTest, EmbedsOnlyWhatChanged) {
  const auto clip = open();
  const auto old = marked(update(clip, std::nullopt).index);
  // Another photograph of the same size and time, as cp -p and unpacking make them.
  const auto red = photos_ / "red.png";
  const auto time = fs::last_write_time(red);
  auto bytes = gatefold::test::read_text(red);
  gatefold::write_png(tiny::photo({210, 30, 20}), red);
  ASSERT_EQ(fs::file_size(red), bytes.size());
  fs::last_write_time(red, time);
  fs::remove(photos_ / "green.png");
  write_text(photos_ / "new.png", "no picture");
  const auto second = update(clip, old);
  EXPECT_EQ(second.embedded, 1);
  EXPECT_EQ(second.kept, 1);
  EXPECT_EQ(second.gone, 1);
  ASSERT_EQ(second.faults.size(), 1u);
  EXPECT_THAT(second.faults[0], HasSubstr("new.png"));
  ASSERT_THAT(names_of(second.index), ElementsAre("deep/blue.png", "red.png"));
  EXPECT_EQ(second.index.z.view()(0, 0), 1.0f);
  const fs::path changed[]{red};
  const auto wanted = zero_shot::embed_photos(clip, changed, {}, ctx_);
  for (Index i = 0; i < 6; ++i) EXPECT_NEAR(second.index.z.view()(1, i), wanted.z.view()(0, i), 1e-6);
}

TEST_F(PhotoIndexTest, TheSameBytesAreNotEmbeddedAgain) {
  const auto clip = open();
  auto old = marked(update(clip, std::nullopt).index);
  const auto touched = fs::file_time_type::clock::now() + std::chrono::hours(1);
  fs::last_write_time(photos_ / "red.png", touched);
  fs::rename(photos_ / "green.png", photos_ / "meadow.png");
  const auto here = update(clip, old);
  EXPECT_EQ(here.embedded, 0);
  EXPECT_EQ(here.kept, 3);
  EXPECT_EQ(here.gone, 1);
  ASSERT_THAT(names_of(here.index), ElementsAre("deep/blue.png", "meadow.png", "red.png"));
  EXPECT_EQ(here.index.z.view()(1, 1), 1.0f);  // as green.png was
  EXPECT_EQ(update(clip, here.index).kept, 3);

  write_index(here.index, path_);  // a copy of all, on a disk with other inodes and times
  fs::create_directories(folder_ / "disk");
  fs::copy(photos_, folder_ / "disk" / "photos", fs::copy_options::recursive);
  fs::copy(path_, folder_ / "disk" / "photos.index.safetensors");
  const auto copy = read_index(folder_ / "disk" / "photos.index.safetensors");
  EXPECT_EQ(copy.folder, fs::canonical(folder_ / "disk") / "photos");
  EXPECT_EQ(update_index(folder_ / "disk" / "photos", clip, copy, {}, ctx_).kept, 3);
}

TEST_F(PhotoIndexTest, FindsItsFolderWhenItIsMoved) {
  write_index(update(open(), std::nullopt).index, path_);
  fs::create_directories(folder_ / "elsewhere");
  const auto other = folder_ / "elsewhere" / "photos.index.safetensors";
  fs::copy(path_, other);
  EXPECT_EQ(read_index(other).folder, fs::canonical(photos_));  // where it was made
  EXPECT_FALSE(read_index(other).is_gone(0));
  fs::rename(photos_, folder_ / "elsewhere" / "photos");
  EXPECT_EQ(read_index(other).folder, folder_ / "elsewhere" / "photos");
  EXPECT_FALSE(read_index(other).is_gone(0));
  EXPECT_TRUE(read_index(path_).is_gone(0));
}

TEST_F(PhotoIndexTest, WhatIsSavedOnTheWayIsOfUse) {
  const auto clip = open();
  std::vector<std::size_t> saved;
  const auto first = update_some(clip, std::nullopt, 2, [&](const PhotoIndex& index) {
    write_index(index, path_);
    saved.push_back(read_index(path_).entries.size());
  });
  EXPECT_THAT(saved, ElementsAre(1, 2));
  EXPECT_TRUE(first.stopped);
  EXPECT_THAT(names_of(first.index), ElementsAre("deep/blue.png", "green.png"));
  const auto second = update_some(clip, marked(read_index(path_)), 9);
  EXPECT_FALSE(second.stopped);
  EXPECT_EQ(second.kept, 2);
  EXPECT_EQ(second.embedded, 1);
  EXPECT_EQ(second.index.z.view()(1, 1), 1.0f);
}

TEST_F(PhotoIndexTest, OfTwoRunsOnOneFileNoneUndoesWhatTheOtherWrote) {
  const auto clip = open();
  const auto all = update(clip, std::nullopt).index;
  IndexFile first(path_), second(path_);  // both begin where there is no index yet
  second.write(all);
  const auto refused = [&] { return message_of<gatefold::FormatError>([&] { first.write(PhotoIndex()); }); };
  EXPECT_THAT(refused(), HasSubstr("another program has written it since this run began"));
  EXPECT_EQ(read_index(path_).entries, all.entries);
  fs::permissions(path_, fs::perms::owner_read | fs::perms::owner_write);  // which changes no byte
  second.write(marked(all));
  EXPECT_THAT(refused(), HasSubstr("--out"));

  IndexFile third(path_);
  fs::remove(path_);
  EXPECT_NE(message_of<gatefold::FormatError>([&] { third.write(all); }), "");
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(PhotoIndexTest, AStoppedRunKeepsWhatItHasNotLookedAt) {
  const auto clip = open();
  const auto old = marked(update(clip, std::nullopt).index);
  for (const auto* name : {"red.png", "green.png", "deep/blue.png"})  // all facts are others
    fs::last_write_time(photos_ / name, fs::file_time_type::clock::now() + std::chrono::hours(1));
  fs::rename(photos_ / "red.png", photos_ / "scarlet.png");
  const auto stopped = update_some(clip, old, 1);
  EXPECT_TRUE(stopped.stopped);
  EXPECT_THAT(names_of(stopped.index), ElementsAre("deep/blue.png", "green.png", "red.png"));
  const auto second = update(clip, stopped.index);
  EXPECT_EQ(second.embedded, 0);
  EXPECT_THAT(names_of(second.index), ElementsAre("deep/blue.png", "green.png", "scarlet.png"));
  EXPECT_EQ(second.index.z.view()(2, 2), 1.0f);
}

TEST_F(PhotoIndexTest, APhotographThatGoesMeanwhileIsOneFault) {
  const auto clip = open();
  const zero_shot::SaveOptions saving{.stop = [&] {  // asked when all are listed
    fs::remove(photos_ / "green.png");
    return false;
  }};
  const auto made = update_index(photos_, clip, std::nullopt, {.batch = 8}, ctx_, saving);
  ASSERT_EQ(made.faults.size(), 1u);
  EXPECT_THAT(made.faults[0], HasSubstr("green.png: No such file"));
  EXPECT_THAT(names_of(made.index), ElementsAre("deep/blue.png", "red.png"));
}

/// For root no folder is closed.
class AsNobody {
 public:
  AsNobody() : root_(::geteuid() == 0) { EXPECT_TRUE(!root_ || ::seteuid(65534) == 0); }
  ~AsNobody() { EXPECT_TRUE(!root_ || ::seteuid(0) == 0); }

 private:
  bool root_;
};

TEST_F(PhotoIndexTest, KeepsWhatIsInAFolderThatCannotBeOpened) {
  fs::permissions(folder_ / "", fs::perms::all);
  const auto clip = open();
  const auto old = marked(update(clip, std::nullopt).index);
  fs::remove(photos_ / "red.png");
  fs::permissions(photos_ / "deep", fs::perms::none);
  Update second;
  {
    const AsNobody nobody;
    second = update(clip, old);
  }
  fs::permissions(photos_ / "deep", fs::perms::all);
  EXPECT_EQ(second.not_seen, 1);
  EXPECT_EQ(second.gone, 1);
  EXPECT_EQ(second.kept, 1);
  ASSERT_EQ(second.left.closed.size(), 1u);
  EXPECT_THAT(names_of(second.index), ElementsAre("green.png", "deep/blue.png"));
  EXPECT_EQ(second.index.z.view()(1, 0), 1.0f);
  EXPECT_EQ(update(clip, second.index).kept, 2);

  fs::permissions(photos_ / "deep",
                  fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read);  // names alone
  {
    const AsNobody nobody;
    second = update(clip, second.index);
  }
  fs::permissions(photos_ / "deep", fs::perms::all);
  ASSERT_EQ(second.faults.size(), 1u);
  EXPECT_THAT(second.faults[0], HasSubstr("blue.png: Permission denied"));
  EXPECT_THAT(names_of(second.index), ElementsAre("deep/blue.png", "green.png"));
}

TEST_F(PhotoIndexTest, KnowsTimesBehind2262) {
  const timespec times[]{{13569465600, 7}, {13569465600, 7}};  // 2400
  ASSERT_EQ(::utimensat(AT_FDCWD, (photos_ / "red.png").c_str(), times, 0), 0);
  const auto clip = open();
  const auto made = update(clip, std::nullopt);
  EXPECT_EQ(made.embedded, 3);
  write_index(made.index, path_);
  EXPECT_EQ(update(clip, read_index(path_)).kept, 3);
  EXPECT_EQ(read_index(path_).entries[2].facts.modified, 13569465600);
}

TEST_F(PhotoIndexTest, CountsWhatIsGoneInTimeOfItsLength) {
  constexpr Index kMany = 200'000;  // compared each with each they would take minutes
  PhotoIndex index;
  std::vector<std::string> names;
  index.z = gatefold::Tensor<float, 2>({kMany, 1});
  for (Index i = 0; i < kMany; ++i) {
    index.entries.push_back({.name = "before/" + std::to_string(i)});
    index.z.flat()[static_cast<std::size_t>(i)] = 1;
    names.push_back((i % 2 ? "before/" : "now/") + std::to_string(i));
  }
  const auto start = std::clock();
  EXPECT_EQ(detail::KnownPhotos(&index).without(names).size(), 100'000u);
  EXPECT_LT(std::clock() - start, 10 * CLOCKS_PER_SEC);
}

TEST_F(PhotoIndexTest, KeepsNoRowThatIsNoNumber) {
  auto clip = open();
  const auto sound = update(clip, std::nullopt).index;
  clip.towers = std::make_unique<NoNumbers>();
  const auto made = update(clip, std::nullopt);
  EXPECT_EQ(made.embedded, 0);
  EXPECT_TRUE(made.index.entries.empty());
  ASSERT_EQ(made.faults.size(), 3u);
  EXPECT_THAT(made.faults[0], HasSubstr("blue.png: the model makes no number of it; are its weights damaged?"));
  for (int i = 0; i < 9; ++i)
    gatefold::write_png(tiny::photo({static_cast<std::uint8_t>(i), 2, 3}), photos_ / (std::to_string(i) + ".png"));
  EXPECT_THAT(message_of<gatefold::FormatError>([&] { (void)update(clip, std::nullopt); }),
              HasSubstr("none of any other photograph"));
  auto bad = sound;  // as an index may hold that did not know this rule
  bad.z.view()(0, 0) = std::nanf("");
  EXPECT_EQ(update(open(), bad).kept, 2);
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

TEST_F(PhotoIndexTest, NoticesEveryFlippedBit) {
  write_index(update(open(), std::nullopt).index, path_);
  const auto sound = gatefold::test::read_text(path_);
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    auto damaged = sound;
    damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
    write_text(path_, damaged);
    EXPECT_NE(refusal(), "nothing thrown");
  }
  auto damaged = sound;
  damaged.back() ^= 1;
  write_text(path_, damaged);
  EXPECT_THROW((void)read_index(path_), DamagedIndex);  // of which search index knows that it is its own
}

TEST_F(PhotoIndexTest, RefusesWhatIsNone) {
  EXPECT_THAT(refusal(), HasSubstr("does not exist; expected an index, which search index FOLDER --model DIR makes"));
  write_text(path_, "a letter");
  EXPECT_THAT(refusal(), HasSubstr("expected an index"));
  fs::copy_file(folder_ / "clip" / "model.safetensors", path_, fs::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(), HasSubstr("has no «search.index»"));
  const gatefold::Tensor<float, 2> z({2, 6});
  const gatefold::Tensor<std::int64_t, 2> entries({2, 7});
  const auto write = [&](const std::string& note, const std::string& names, const std::string& folder) {
    gatefold::SafeTensorsWriter writer;
    writer.add("photos", z.view());
    writer.add("entries", entries.view());
    for (const auto& [name, text] : {std::pair("names", &names), {"folder", &folder}})
      writer.add_bytes(name, gatefold::Dtype::u8, {std::ssize(*text)}, std::as_bytes(std::span(*text)));
    writer.add_metadata("search.index", note);
    writer.write(path_);
  };
  const std::string note = R"({"version": 2, "model": "m", "format": "f"})", two("a\0b\0", 4), place("x\0/x\0", 5);
  write(note, two, place);
  EXPECT_EQ(refusal(), "nothing thrown");
  write("{\"version\": ", two, place);
  EXPECT_THAT(refusal(), HasSubstr("its notes are not what search writes"));
  write(R"({"version": 2, "model": 7, "format": "f"})", two, place);
  EXPECT_THAT(refusal(), HasSubstr("its notes are not what search writes"));
  write(R"({"folder": "/", "model": "m", "format": "f", "names": ["a", "b"]})", two, place);
  EXPECT_THAT(refusal(), HasSubstr("is of another version"));
  write(note, std::string("a\0", 2), place);
  EXPECT_THAT(refusal(), HasSubstr("not equally many"));
  write(note, two, "x");
  EXPECT_THAT(refusal(), HasSubstr("not equally many"));
  EXPECT_THAT(message_of<gatefold::FormatError>([&] { (void)update_index(path_, open(), std::nullopt, {}, ctx_); }),
              HasSubstr("expected a folder"));
}

}  // namespace
}  // namespace search
