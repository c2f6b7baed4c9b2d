#include "wardrobe/fashion_mnist.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <fstream>
#include <functional>

namespace wardrobe {
namespace {

using Bytes = std::vector<std::uint8_t>;
namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr SplitSizes kSmall{.train = 20, .test = 10};
const char* const kTestLabels = "t10k-labels-idx1-ubyte.gz";
const char* const kTestImages = "t10k-images-idx3-ubyte.gz";

void append_word(Bytes& bytes, std::uint32_t word) {
  for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<std::uint8_t>(word >> shift));
}

Bytes labels_file(Index count) {
  Bytes bytes;
  append_word(bytes, 0x801), append_word(bytes, static_cast<std::uint32_t>(count));
  for (Index i = 0; i < count; ++i) bytes.push_back(static_cast<std::uint8_t>(i % 10));
  return bytes;
}

/// Photo i is a frame of lightness 100 + i around a dark hole of 8 x 8.
Bytes images_file(Index count) {
  Bytes bytes;
  append_word(bytes, 0x803), append_word(bytes, static_cast<std::uint32_t>(count));
  append_word(bytes, 28), append_word(bytes, 28);
  for (Index i = 0; i < count; ++i) {
    for (Index y = 0; y < 28; ++y) {
      for (Index x = 0; x < 28; ++x) {
        const bool cloth = x >= 5 && x < 23 && y >= 5 && y < 23, hole = x >= 10 && x < 18 && y >= 10 && y < 18;
        bytes.push_back(cloth && !hole ? static_cast<std::uint8_t>(100 + i) : 0);
      }
    }
  }
  return bytes;
}

void write_gzip(const fs::path& file, const Bytes& bytes) {
  const gzFile stream = gzopen(file.c_str(), "wb");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(gzwrite(stream, bytes.data(), static_cast<unsigned>(bytes.size())), static_cast<int>(bytes.size()));
  EXPECT_EQ(gzclose(stream), Z_OK);
}

class FashionMnistFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("wardrobe_fashion_mnist_" + std::to_string(getpid()));
    fs::create_directories(folder_);
    write_gzip(folder_ / "train-images-idx3-ubyte.gz", images_file(20));
    write_gzip(folder_ / "train-labels-idx1-ubyte.gz", labels_file(20));
    write_gzip(folder_ / kTestImages, images_file(10));
    write_gzip(folder_ / kTestLabels, labels_file(10));
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string refusal(const fs::path& folder) const {
    try {
      load_fashion_mnist(folder, kSmall);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "not refused";
  }
  /// What is said when `bytes` replaces the contents of `file`.
  std::string refusal_of(const char* file, const Bytes& bytes) const {
    write_gzip(folder_ / file, bytes);
    return refusal(folder_);
  }
  /// What is said when the compressed bytes of `file` are changed.
  std::string refusal_of_damage(const char* file, const std::function<void(Bytes&)>& damage) const {
    std::ifstream in(folder_ / file, std::ios::binary);
    Bytes bytes{std::istreambuf_iterator<char>(in), {}};
    damage(bytes);
    std::ofstream out(folder_ / file, std::ios::binary);
    for (const std::uint8_t byte : bytes) out.put(static_cast<char>(byte));
    out.close();
    return refusal(folder_);
  }
  fs::path folder_;
};

TEST_F(FashionMnistFiles, LoadsBothSplits) {
  const FashionMnist data = load_fashion_mnist(folder_, kSmall);
  EXPECT_EQ(data.train.labels.size(), 20u);
  EXPECT_EQ(data.test.labels.size(), 10u);
  EXPECT_THAT(data.train.of_class[3], ::testing::ElementsAre(3, 13));
  EXPECT_EQ(data.train.photo(13)[5 * 28 + 5], 113);
  EXPECT_EQ(data.train.photo(13)[4 * 28 + 5], 0);
  EXPECT_FLOAT_EQ(data.train.mean_lightness[13], 113);
}

TEST_F(FashionMnistFiles, FillsHolesInClothButNotBetweenStraps) {
  const FashionMnist data = load_fashion_mnist(folder_, kSmall);
  for (Index i = 0; i < 10; ++i) {
    const auto garment = static_cast<ObjectClass>(i);
    const bool strapped = garment == ObjectClass::sandal || garment == ObjectClass::bag;
    EXPECT_EQ(data.test.photo(i)[14 * 28 + 14], strapped ? 0 : (100 + i) / 2) << i;
    EXPECT_EQ(data.test.photo(i)[0], 0);
  }
}

TEST_F(FashionMnistFiles, MissingFolderSaysWhatToDo) {
  EXPECT_THAT(refusal("/nowhere/at/all"),
              AllOf(HasSubstr("/nowhere/at/all/train-images-idx3-ubyte.gz: cannot be opened"),
                    HasSubstr("Debian package dataset-fashion-mnist"), HasSubstr("--fashion-mnist DIR")));
}

TEST_F(FashionMnistFiles, RefusesWrongMagicCountAndEdge) {
  auto bytes = labels_file(10);
  bytes[3] = 3;
  EXPECT_THAT(refusal_of(kTestLabels, bytes),
              AllOf(HasSubstr(kTestLabels), HasSubstr("magic number is 2051, expected 2049")));
  bytes = labels_file(10);
  bytes[7] = 11;  // ten labels that claim to be eleven
  EXPECT_THAT(refusal_of(kTestLabels, bytes), HasSubstr("the count is 11, expected 10"));
  bytes = labels_file(10);
  bytes[4] = 0xFF;  // a count that would overflow a signed integer
  EXPECT_THAT(refusal_of(kTestLabels, bytes), HasSubstr("the count is 4278190090, expected 10"));
  write_gzip(folder_ / kTestLabels, labels_file(10));
  bytes = images_file(10);
  bytes[15] = 29;
  EXPECT_THAT(refusal_of(kTestImages, bytes), HasSubstr("the edge of a photo is 29, expected 28"));
}

TEST_F(FashionMnistFiles, RefusesWrongSizes) {
  auto bytes = labels_file(10);
  bytes.pop_back();
  EXPECT_THAT(refusal_of(kTestLabels, bytes), HasSubstr("holds 17 bytes, expected 18"));
  bytes = labels_file(10);
  bytes.push_back(0);
  EXPECT_THAT(refusal_of(kTestLabels, bytes), HasSubstr("holds more than 18 bytes, expected 18"));
  EXPECT_THAT(refusal_of(kTestLabels, labels_file(11)), HasSubstr("the count is 11, expected 10"));
  EXPECT_THAT(refusal_of(kTestLabels, {}), HasSubstr("holds 0 bytes, expected 8 or more"));
  EXPECT_THAT(refusal_of(kTestLabels, {0, 0}), HasSubstr("holds 2 bytes, expected 8 or more"));
}

TEST_F(FashionMnistFiles, RefusesLabelsOutOfRangeAndMissingClasses) {
  auto bytes = labels_file(10);
  bytes[8 + 4] = 10;
  EXPECT_THAT(refusal_of(kTestLabels, bytes), HasSubstr("label 4 is 10, expected 0 to 9"));
  bytes[8 + 4] = 255;
  EXPECT_THAT(refusal_of(kTestLabels, bytes), HasSubstr("label 4 is 255, expected 0 to 9"));
  bytes[8 + 4] = 3;
  EXPECT_THAT(refusal_of(kTestLabels, bytes), HasSubstr("has no photo of class 4"));
}

TEST_F(FashionMnistFiles, RefusesDamagedStreams) {
  const char* const file = kTestImages;
  EXPECT_THAT(refusal_of_damage(file, [](Bytes& b) { b.resize(b.size() / 2); }), HasSubstr("zlib refuses it"));
  write_gzip(folder_ / file, images_file(10));
  EXPECT_THAT(refusal_of_damage(file, [](Bytes& b) { b.resize(b.size() - 3); }), HasSubstr("zlib refuses it"));
  write_gzip(folder_ / file, images_file(10));
  EXPECT_THAT(refusal_of_damage(file, [](Bytes& b) { b[b.size() - 6] ^= 1; }), HasSubstr("zlib refuses it"));  // CRC
  EXPECT_THAT(refusal_of_damage(file, [](Bytes& b) { b.assign(100, 0x42); }),
              HasSubstr("the idx magic number is 1111638594"));
  fs::remove(folder_ / file);
  fs::create_directory(folder_ / file);
  EXPECT_THAT(refusal(folder_), HasSubstr(file));
}

TEST(FashionMnist, TheDebianPackageHoldsSixThousandPhotosOfEachClass) {
  if (!fs::exists(kDebianFashionMnist)) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  const FashionMnist data = load_fashion_mnist();
  for (const auto& photos : data.train.of_class) EXPECT_EQ(photos.size(), 6000u);
  for (const auto& photos : data.test.of_class) EXPECT_EQ(photos.size(), 1000u);
  EXPECT_EQ(data.test.labels[0], static_cast<std::uint8_t>(ObjectClass::ankle_boot));  // as the data set's page shows
}

}  // namespace
}  // namespace wardrobe
