#pragma once
#include <algorithm>
#include <array>
#include <cstdint>

#include "gatefold/core/language.hpp"

namespace gatefold::detail {

// The arithmetic of libjpeg and libjpeg-turbo, bit for bit, in place of stb_image's: with it a photograph has the very
// pixels that Pillow, and so CLIP's reference, sees.

/// Wide, since a damaged file's coefficients would overflow 32 bits.
using JpegFixed = std::int64_t;

inline JpegFixed descale(JpegFixed value, int bits) { return (value + (JpegFixed{1} << (bits - 1))) >> bits; }
inline std::uint8_t jpeg_byte(JpegFixed value) {
  return static_cast<std::uint8_t>(std::clamp<JpegFixed>(value, 0, 255));
}

/// One inverse cosine transform of eight values in 13-bit fixed point (Loeffler, Ligtenberg, Moschytz, 1989; libjpeg's
/// jidctint.c).
inline std::array<JpegFixed, 8> jpeg_idct_line(const std::array<JpegFixed, 8>& in) {
  const JpegFixed even = (in[2] + in[6]) * 4433, low = even - in[6] * 15137, high = even + in[2] * 6270;
  const JpegFixed sum = (in[0] + in[4]) * 8192, difference = (in[0] - in[4]) * 8192;
  const std::array<JpegFixed, 4> evens{sum + high, difference + low, difference - low, sum - high};
  const JpegFixed z5 = (in[7] + in[3] + in[5] + in[1]) * 9633;
  const JpegFixed z1 = (in[7] + in[1]) * -7373, z2 = (in[5] + in[3]) * -20995;
  const JpegFixed z3 = (in[7] + in[3]) * -16069 + z5, z4 = (in[5] + in[1]) * -3196 + z5;
  const std::array<JpegFixed, 4> odds{in[1] * 12299 + z1 + z4, in[3] * 25172 + z2 + z3, in[5] * 16819 + z2 + z4,
                                      in[7] * 2446 + z1 + z3};
  return {evens[0] + odds[0], evens[1] + odds[1], evens[2] + odds[2], evens[3] + odds[3],
          evens[3] - odds[3], evens[2] - odds[2], evens[1] - odds[1], evens[0] - odds[0]};
}

/// Pixels [8, 8], `stride` bytes from row to row, of dequantised coefficients [8, 8].
inline void jpeg_idct(unsigned char* out, int stride, short data[64]) {
  constexpr int kBits = 13, kKept = 2;  // what the columns keep of the fraction
  std::array<std::array<JpegFixed, 8>, 8> columns{};
  for (std::size_t x = 0; x < 8; ++x) {
    std::array<JpegFixed, 8> column{};
    int frequencies = 0;
    for (std::size_t y = 0; y < 8; ++y) {
      column[y] = data[8 * y + x];
      if (y > 0) frequencies |= data[8 * y + x];
    }
    if (frequencies == 0) {  // most columns of most photographs; the same numbers
      for (auto& row : columns) row[x] = column[0] * (1 << kKept);
      continue;
    }
    column = jpeg_idct_line(column);
    for (std::size_t y = 0; y < 8; ++y) columns[y][x] = descale(column[y], kBits - kKept);
  }
  for (const auto& row : columns) {
    const auto line = jpeg_idct_line(row);
    for (std::size_t x = 0; x < 8; ++x) out[x] = jpeg_byte(descale(line[x], kBits + kKept + 3) + 128);
    out += stride;
  }
}

/// `count` pixels of `step` bytes from luma and chroma (jdcolor.c): 16-bit fixed point.
inline void jpeg_rgb_row(unsigned char* out, const unsigned char* luma, const unsigned char* blue,
                         const unsigned char* red, int count, int step) {
  for (int i = 0; i < count; ++i, out += step) {
    const int y = luma[i], cb = blue[i] - 128, cr = red[i] - 128;
    constexpr int kHalfUnit = 1 << 15;
    out[0] = jpeg_byte(y + ((91881 * cr + kHalfUnit) >> 16));
    out[1] = jpeg_byte(y + ((-22554 * cb - 46802 * cr + kHalfUnit) >> 16));
    out[2] = jpeg_byte(y + ((116130 * cb + kHalfUnit) >> 16));
    if (step == 4) out[3] = 255;
  }
}

/// Chroma of half width, 2 * w values: triangle filter, but for rows of at most two (jdsample.c, h2v1_fancy_upsample).
inline unsigned char* jpeg_double_width(unsigned char* out, unsigned char* in, unsigned char*, int w, int) {
  for (int i = 0; i < w; ++i) {
    const int here = in[i], left = i > 0 && w > 2 ? in[i - 1] : here, right = i + 1 < w && w > 2 ? in[i + 1] : here;
    out[2 * i] = static_cast<unsigned char>((3 * here + left + 1) >> 2);
    out[2 * i + 1] = static_cast<unsigned char>((3 * here + right + 2) >> 2);
  }
  return out;
}

/// Chroma of half width and height, 2 * w values from the nearest row and the next (h2v2_fancy_upsample).
inline unsigned char* jpeg_double_both(unsigned char* out, unsigned char* near, unsigned char* far, int w, int) {
  if (w <= 2) far = near;
  const auto mixed = [&](int i) { return 3 * near[i] + far[i]; };
  for (int i = 0; i < w; ++i) {
    const int here = mixed(i), left = i > 0 && w > 2 ? mixed(i - 1) : here,
              right = i + 1 < w && w > 2 ? mixed(i + 1) : here;
    out[2 * i] = static_cast<unsigned char>((3 * here + left + 8) >> 4);
    out[2 * i + 1] = static_cast<unsigned char>((3 * here + right + 7) >> 4);
  }
  return out;
}

}  // namespace gatefold::detail
