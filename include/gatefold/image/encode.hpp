#pragma once
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <span>

#include "gatefold/image/image.hpp"
#include "gatefold/image/stb.hpp"

namespace gatefold {

/// The bytes of a PNG file, 8-bit RGB. The same image gives the same bytes. Throws OptionError on an image without
/// pixels or of a wrong length.
inline std::vector<std::uint8_t> encode_png(const Image& image) {
  expect_image(image, "encode_png");
  int length = 0;
  const std::unique_ptr<std::uint8_t, void (*)(void*)> png(
      detail::stb::stbi_write_png_to_mem(image.rgb.data(), static_cast<int>(image.width * 3),
                                         static_cast<int>(image.width), static_cast<int>(image.height), 3, &length),
      std::free);
  if (!png) throw std::bad_alloc();
  return {png.get(), png.get() + length};
}

/// Writes a PNG under a temporary name beside `path` and renames it: a reader sees the old file or the whole new one.
/// Throws FormatError when the file cannot be written.
inline void write_png(const Image& image, const std::filesystem::path& path) {
  const auto bytes = encode_png(image);
  static std::atomic<unsigned> counter{0};  // clock and counter: no two writers share a temporary
  auto temporary = path;
  temporary += ".tmp" + std::to_string(std::chrono::steady_clock::now().time_since_epoch().count()) + "-" +
               std::to_string(++counter);
  std::error_code error;
  {
    std::ofstream file(temporary, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (!file) error = std::make_error_code(std::errc::io_error);
  }
  if (!error) std::filesystem::rename(temporary, path, error);
  if (error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw FormatError("write_png: " + path.string() + " cannot be written (" + error.message() +
                      "); does its folder exist, and is there room?");
  }
}

/// Base64 with padding (RFC 4648, section 4).
inline std::string base64(std::span<const std::uint8_t> bytes) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
    std::uint32_t word = 0;
    for (std::size_t i = 0; i < 3; ++i) word = word << 8 | (i < count ? bytes[at + i] : 0u);
    for (std::size_t i = 0; i < 4; ++i) text += i <= count ? kDigits[word >> (18 - 6 * i) & 63u] : '=';
  }
  return text;
}

/// A PNG as a `data:` URI, to stand in the src of an HTML img.
inline std::string png_data_uri(const Image& image) { return "data:image/png;base64," + base64(encode_png(image)); }

}  // namespace gatefold
