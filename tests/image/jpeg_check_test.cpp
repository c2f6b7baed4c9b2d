#include "gatefold/image/jpeg_check.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace gatefold::detail::jpeg_check_test {
namespace {

using ::testing::HasSubstr;
using Bytes = std::vector<std::uint8_t>;

/// Start marker, the segments, end marker.
Bytes jpeg(std::initializer_list<Bytes> segments) {
  Bytes bytes{0xff, 0xd8};
  for (const auto& segment : segments) bytes.insert(bytes.end(), segment.begin(), segment.end());
  bytes.insert(bytes.end(), {0xff, 0xd9});
  return bytes;
}

/// A DHT segment with one table that claims `counts` codes of each length and brings `symbols` symbols.
Bytes huffman(std::array<std::uint8_t, 16> counts, std::size_t symbols) {
  Bytes bytes{0xff, 0xc4, static_cast<std::uint8_t>((19 + symbols) >> 8), static_cast<std::uint8_t>(19 + symbols),
              0x10};
  bytes.insert(bytes.end(), counts.begin(), counts.end());
  bytes.resize(bytes.size() + symbols, 1);
  return bytes;
}

const Bytes kScan{0xff, 0xda, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3f, 0x00};

TEST(JpegCheck, PassesScansWithStuffedBytesRestartsAndFill) {
  EXPECT_EQ(jpeg_fault(jpeg({kScan, {0x12, 0xff, 0x00, 0x34, 0xff, 0xd0, 0x56, 0xff, 0xff}})), "");
}

TEST(JpegCheck, SkipsWhatLooksLikeAMarkerInsideASegment) {
  EXPECT_EQ(jpeg_fault(jpeg({{0xff, 0xe1, 0x00, 0x06, 0xff, 0xc4, 0xff, 0xff}, kScan})), "");
}

TEST(JpegCheck, CountsScans) {
  auto bytes = jpeg({kScan});
  for (int i = 1; i < kMaxJpegScans; ++i) bytes.insert(bytes.begin() + 2, kScan.begin(), kScan.end());
  EXPECT_EQ(jpeg_fault(bytes), "");
  bytes.insert(bytes.begin() + 2, kScan.begin(), kScan.end());
  EXPECT_THAT(jpeg_fault(bytes), HasSubstr("more than 200 scans"));
}

TEST(JpegCheck, HoldsHuffmanTablesTo256Symbols) {
  EXPECT_EQ(jpeg_fault(jpeg({huffman({0, 0, 0, 0, 0, 0, 0, 128, 128}, 256)})), "");
  EXPECT_THAT(jpeg_fault(jpeg({huffman({0, 0, 0, 0, 0, 0, 0, 129, 128}, 257)})), HasSubstr("257 symbols"));
  EXPECT_THAT(jpeg_fault(jpeg({huffman({0, 2, 3}, 4)})), HasSubstr("ends too early"));  // 4 of 5 symbols
  EXPECT_THAT(jpeg_fault(jpeg({huffman({0, 2, 3}, 6)})), HasSubstr("ends too early"));  // one byte of a second table
}

TEST(JpegCheck, WantsToKnowWhatFourColoursMean) {
  const auto frame = [](std::uint8_t colors) { return Bytes{0xff, 0xc2, 0x00, 0x08, 8, 0, 1, 0, 1, colors}; };
  const auto adobe = [](std::uint8_t transform) {
    return Bytes{0xff, 0xee, 0x00, 0x0e, 'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, transform};
  };
  EXPECT_EQ(jpeg_fault(jpeg({frame(3), kScan})), "");
  EXPECT_THAT(jpeg_fault(jpeg({frame(4), kScan})), HasSubstr("CMYK"));
  EXPECT_EQ(jpeg_fault(jpeg({adobe(0), frame(4), kScan})), "");
  EXPECT_EQ(jpeg_fault(jpeg({frame(4), adobe(2), kScan})), "");
  EXPECT_THAT(jpeg_fault(jpeg({adobe(1), frame(4), kScan})), HasSubstr("CMYK"));
}

TEST(JpegCheck, MissesTheEnd) {
  const auto whole = jpeg({huffman({0, 1}, 1), kScan, {1, 2, 3}});
  ASSERT_EQ(jpeg_fault(whole), "");
  for (std::size_t length = 2; length < whole.size(); ++length)
    EXPECT_THAT(jpeg_fault(std::span(whole).first(length)), HasSubstr("end marker")) << length;
  EXPECT_THAT(jpeg_fault(jpeg({{0xff, 0xe0, 0x00, 0x01}})), HasSubstr("segment of length 1"));
}

}  // namespace
}  // namespace gatefold::detail::jpeg_check_test
