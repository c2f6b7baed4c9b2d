#include "wardrobe/idx.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "gatefold/core/error.hpp"
#include "tests/io/temporary_folder.hpp"

namespace wardrobe {
namespace {

using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The magic number and extents of a file of bytes.
std::string header(std::vector<std::uint32_t> words) {
  words.insert(words.begin(), 0x800 + static_cast<std::uint32_t>(words.size()));
  std::string text;
  for (const auto word : words)
    for (const int shift : {24, 16, 8, 0}) text += static_cast<char>(word >> shift & 0xff);
  return text;
}
void write_gzip(const std::filesystem::path& file, const std::string& text) {
  const gzFile stream = gzopen(file.c_str(), "wb");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(gzwrite(stream, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
  EXPECT_EQ(gzclose(stream), Z_OK);
}
std::string refusal(const std::filesystem::path& file, const std::vector<Index>& extents) {
  return message_of<gatefold::FormatError>([&] { (void)read_idx(file, extents); });
}

TEST(Idx, ReadsPackedAndPlainFiles) {
  const TemporaryFolder folder;
  const auto text = header({2, 3}) + "abcdef";
  write_gzip(folder / "a.gz", text);
  write_text(folder / "b", text);     // as it is, and asked for by the name that it has when packed
  write_text(folder / "c.gz", text);  // nor does the name decide
  for (const char* name : {"a.gz", "b.gz", "b", "c.gz"}) {
    const auto idx = read_idx(folder / name, {2, kAnyExtent});
    EXPECT_THAT(idx.shape, ElementsAre(2, 3));
    EXPECT_EQ(std::string(idx.values.begin(), idx.values.end()), "abcdef");
  }
}

TEST(Idx, RefusesWhatIsNotAsItsHeaderSays) {
  const TemporaryFolder folder;
  const auto file = folder / "x";
  write_text(file, header({2, 3}) + "abcdef");
  EXPECT_EQ(refusal(file, {6}), file.string() + ": the idx magic number is 2050, expected 2049");
  EXPECT_EQ(refusal(file, {3, 3}), file.string() + ": the count is 2, expected 3");
  EXPECT_EQ(refusal(file, {2, 4}), file.string() + ": the edge of a photo is 3, expected 4");
  write_text(file, header({2, 3}) + "abcde");
  EXPECT_EQ(refusal(file, {-1, -1}), file.string() + ": holds 17 bytes, expected 18");
  write_text(file, header({2, 3}) + "abcdefg");
  EXPECT_EQ(refusal(file, {-1, -1}), file.string() + ": holds more than 18 bytes, expected 18");
  write_text(file, header({0xffffffff, 0xffffffff}));  // nothing is allocated for a promise
  EXPECT_THAT(refusal(file, {-1, -1}), HasSubstr("is larger than any file of its kind"));
  write_text(file, header({0xffffffff}) + "abc");
  EXPECT_THAT(refusal(file, {-1}), HasSubstr("holds 11 bytes, expected 4294967303"));
  EXPECT_THAT(refusal(folder / "nowhere.gz", {-1}), HasSubstr("nowhere.gz: cannot be opened"));
}

TEST(Labelled, ReadsPicturesWithTheirLabels) {
  const TemporaryFolder folder;
  const auto images = folder / "t10k-images-idx3-ubyte", labels = folder / "t10k-labels-idx1-ubyte";
  write_text(images, header({2, 2, 2}) + "abcdefgh");
  write_text(labels, header({2}) + std::string("\x09\x01", 2));
  const auto data = read_labelled(folder / "", "t10k");
  EXPECT_EQ(data.size(), 2);
  EXPECT_EQ(data.edge(), 2);
  EXPECT_EQ(data.pixel(1, 0, 1), 'f');
  EXPECT_EQ(data.label(0), 9);

  const auto refused = [&](const LabelledSize& size = {}) {
    return message_of<gatefold::FormatError>([&] { (void)read_labelled(folder / "", "t10k", size); });
  };
  EXPECT_THAT(refused({.classes = 9}), HasSubstr("labels-idx1-ubyte.gz: label 0 is 9, expected 0 to 8"));
  EXPECT_THAT(refused({.edge = 28}), HasSubstr("the edge of a photo is 2, expected 28"));
  write_text(labels, header({3}) + "abc");
  EXPECT_THAT(refused(), HasSubstr("the count is 3, expected 2"));
  write_text(images, header({2, 2, 1}) + "abcd");
  EXPECT_THAT(refused(), HasSubstr("its pictures are [2, 2, 1], expected one or more that are square"));
  write_text(images, header({0, 2, 2}));
  EXPECT_THAT(refused(), HasSubstr("its pictures are [0, 2, 2]"));
}

}  // namespace
}  // namespace wardrobe
