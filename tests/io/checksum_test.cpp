#include "gatefold/io/checksum.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/io/checkpoint.hpp"
#include "gatefold/io/sharded_safetensors.hpp"
#include "tests/io/damage.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::checksum_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using test::message_of;
using test::read_text;
using test::write_text;

const std::filesystem::path kData = test::test_data("");

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

/// Why a file of these bytes is not what its checksum says; «nothing thrown» if it is.
std::string trouble(const std::string& text) {
  return message_of<FormatError>([&] { SafeTensors(bytes(text), "FILE").expect_checksum(); });
}

// xxhash 4.1.0 of Python (xxHash 0.8.4), xxh3_64 of the first n of bytes 37 i + 11. The algorithm has branches of its
// own up to 16, 128 and 240 bytes, and blocks of 1024.
TEST(Checksum, IsThatOfTheReferenceInWhateverPieces) {
  std::vector<std::byte> all(5000);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(37 * i + 11);
  for (const auto& [n, wanted] : std::vector<std::pair<std::size_t, std::uint64_t>>{{0, 0x2d06800538d394c2},
                                                                                    {1, 0x4a4139caf4136257},
                                                                                    {3, 0x505118c313121c0e},
                                                                                    {4, 0x3f6889ef166b4ad1},
                                                                                    {8, 0x93f1200f9be82671},
                                                                                    {9, 0x05b2fd4d97edcdae},
                                                                                    {16, 0x2e4359e2a04a5e32},
                                                                                    {17, 0xf60c53684bbc489d},
                                                                                    {128, 0x5c6ab7b5b2360539},
                                                                                    {129, 0x45fabbd183de7649},
                                                                                    {240, 0xc0796428068cd12e},
                                                                                    {241, 0x859dc8ab6dd85c7c},
                                                                                    {1024, 0x7df7f049c0c1ad73},
                                                                                    {1025, 0x29adcfcac5492652},
                                                                                    {5000, 0x3be1ff1b0768cfb2}}) {
    for (const std::size_t piece : {std::size_t{5000}, std::size_t{100}, std::size_t{1}}) {
      Checksum sum;
      for (std::size_t at = 0; at < n; at += piece) sum.add(std::span(all).subspan(at, std::min(piece, n - at)));
      EXPECT_EQ(sum.value(), wanted) << n << " in pieces of " << piece;
    }
  }
  EXPECT_EQ(to_hex(0x0123456789abcdef), "0123456789abcdef");
  EXPECT_EQ(to_hex(0), "0000000000000000");
}

TEST(Checksum, OfTheReferenceWritersFilesIsRight) {
  for (const auto* const name : {"mixed", "matrix", "empty"}) {
    const auto path = kData / ("safetensors_" + std::string(name));
    const SafeTensors sealed(MappedFile(path.string() + "_checksum.safetensors"));
    const SafeTensors plain(MappedFile(path.string() + ".safetensors"));
    EXPECT_NO_THROW(sealed.expect_checksum()) << name;
    EXPECT_TRUE(sealed.checksum()) << name;
    EXPECT_EQ(sealed.metadata(), plain.metadata()) << name;  // of which the checksum is no part
    EXPECT_NO_THROW(plain.expect_checksum()) << name;
    EXPECT_FALSE(plain.checksum()) << name;
  }
}

TEST(Checksum, EveryFlippedBitIsNoticed) {
  const auto whole = read_text(kData / "safetensors_matrix_checksum.safetensors");
  ASSERT_EQ(trouble(whole), "nothing thrown");
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    auto text = whole;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_NE(trouble(text), "nothing thrown") << "bit " << bit % 8 << " of byte " << bit / 8;
  }
}

TEST(Checksum, FlipsInALargeCheckpointAreNoticed) {
  const test::TemporaryFolder folder;
  Tensor<float, 2> matrix({300, 1000});
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<float>(i) / 3;
  CheckpointWriter writer;
  writer.add_tensor("matrix", matrix);
  writer.add_metadata("step", 7);
  writer.write(folder / "file");
  EXPECT_EQ(test::unnoticed_flips(folder / "file", 200, [](const auto& path) { CheckpointReader{path}; }), 0);
  EXPECT_EQ(
      test::unnoticed_flips(folder / "file", 20, [](const auto& path) { (void)ShardedSafeTensors::open(path); }), 0);
}

TEST(Checksum, FlipsInTheShippedModelAreNoticed) {
  auto text = read_text(kData / "../../examples/models/wardrobe.safetensors");
  ASSERT_TRUE(SafeTensors(bytes(text)).checksum());
  ASSERT_EQ(trouble(text), "nothing thrown");
  std::mt19937_64 rng(11);
  for (int i = 0; i < 200; ++i) {
    const auto bit = rng() % (8 * text.size());
    const auto flip = [&] { text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8))); };
    flip();
    EXPECT_NE(trouble(text), "nothing thrown") << "bit " << bit;
    flip();
  }
}

TEST(Checksum, MessagesSayWhichFileWhatWasWantedAndWhatToDo) {
  auto text = read_text(kData / "safetensors_matrix_checksum.safetensors");
  const auto came = std::string(*SafeTensors(bytes(text)).checksum());
  text.back() ^= 1;
  const auto wanted = *SafeTensors(bytes(test::with_checksum(text))).checksum();
  EXPECT_THAT(trouble(text), AllOf(HasSubstr("FILE: checksum came " + came + ", wanted " + wanted),
                                   HasSubstr("take it from where it came"), HasSubstr("«gatefold.checksum»")));
}

TEST(Checksum, AHeaderThatAnotherProgramWroteIsRefusedInTheseWords) {
  auto text = read_text(kData / "safetensors_matrix_checksum.safetensors");
  text.replace(text.find(":\"xxh3"), 2, ": \"");
  const auto end = text.find("}} ");
  ASSERT_NE(end, text.npos);
  text.erase(end + 2, 1);
  EXPECT_THAT(trouble(text), HasSubstr("in a header that another program wrote"));
}

TEST(Checksum, OfAnotherKindIsRefused) {
  auto text = read_text(kData / "safetensors_matrix_checksum.safetensors");
  text.replace(text.find("xxh3-64:"), 8, "sha9-99:");
  EXPECT_THAT(trouble(text), HasSubstr("checksum came 'sha9-99:"));
}

}  // namespace
}  // namespace gatefold::checksum_test
