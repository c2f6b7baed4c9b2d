#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>

#include "gatefold/core/language.hpp"

namespace gatefold::detail {

/// A JPEG may hold any number of scans, each over the whole image: a few hundred bytes could keep a decoder busy for
/// hours (libjpeg-turbo's `-maxscans` is against the same). Encoders write about 10.
inline constexpr int kMaxJpegScans = 200;

inline constexpr std::array<std::uint8_t, 6> kAdobe{'A', 'd', 'o', 'b', 'e', 0};  ///< What its segment begins with.

/// What is wrong with the tables of a DHT segment, or nothing. A table has 16 counts of codes, one for each length, and
/// that many symbols; more than 256 would run over stb_image 2.27's arrays.
inline std::string huffman_fault(std::span<const std::uint8_t> tables) {
  while (!tables.empty()) {
    if (tables.size() < 17) return "has a Huffman table that ends too early";
    const auto symbols = std::accumulate(tables.begin() + 1, tables.begin() + 17, std::size_t{0});
    if (symbols > 256) return "has a Huffman table of " + std::to_string(symbols) + " symbols, expected at most 256";
    if (tables.size() < 17 + symbols) return "has a Huffman table that ends too early";
    tables = tables.subspan(17 + symbols);
  }
  return "";
}

/// Walks the segments of a JPEG (ITU T.81, annex B) up to its end marker; what stb_image would not notice, or nothing:
/// unsafe Huffman tables, too many scans, a file cut short, which stb takes for a picture with a grey rest, and four
/// colours without Adobe's note what they are, of which stb takes the first three for YCbCr.
inline std::string jpeg_fault(std::span<const std::uint8_t> bytes) {
  int scans = 0;
  bool four_colors = false, adobe = false;
  for (std::size_t at = 2; at + 1 < bytes.size();) {
    const auto marker = bytes[at + 1];
    const bool restart = marker >= 0xd0 && marker <= 0xd7;
    if (bytes[at] != 0xff || marker == 0x00 || marker == 0x01 || marker == 0xff || restart) {
      ++at;  // data of a scan (0xff is stuffed with 0x00 there), fill bytes, markers without a length
      continue;
    }
    if (marker == 0xd9) return "";
    if (marker == 0xda && four_colors && !adobe)
      return "has four colours (CMYK) and no word what they mean; convert it to an RGB JPEG or PNG";
    if (marker == 0xda && ++scans > kMaxJpegScans) return "has more than " + std::to_string(kMaxJpegScans) + " scans";
    if (at + 3 >= bytes.size()) break;
    const std::size_t length = std::size_t{bytes[at + 2]} << 8 | bytes[at + 3];  // counts itself, not the marker
    if (length < 2) return "has a segment of length " + std::to_string(length);
    if (at + 2 + length > bytes.size()) break;
    if (marker == 0xc4)
      if (auto fault = huffman_fault(bytes.subspan(at + 4, length - 2)); !fault.empty()) return fault;
    const auto segment = bytes.subspan(at + 4, length - 2);
    const bool frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (frame && segment.size() > 5) four_colors = segment[5] == 4;
    // Its transform: 0 stands for CMYK, 2 for YCCK.
    if (marker == 0xee && segment.size() >= 12 && std::equal(kAdobe.begin(), kAdobe.end(), segment.begin()))
      adobe = segment[11] == 0 || segment[11] == 2;
    at += 2 + length;
  }
  return "ends before its end marker (cut short?)";
}

}  // namespace gatefold::detail
