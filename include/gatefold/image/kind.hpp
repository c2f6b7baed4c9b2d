#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "gatefold/core/language.hpp"

namespace gatefold {

/// The ends of the names of files that this build decodes: WebP and HEIC with AVIF where it has their libraries.
inline const auto& decodable_endings() {
  static constexpr auto kEndings = std::to_array<std::string_view>({
      "png",
      "jpg",
      "jpeg",
      "jpe",
      "jfif",
#ifdef GATEFOLD_HAS_WEBP
      "webp",
#endif
#ifdef GATEFOLD_HAS_HEIF
      "heic",
      "heif",
      "hif",
      "avif",
#endif
  });
  return kEndings;
}

namespace detail {

/// «PNG, JPEG or WebP»: what decode_image takes.
inline constexpr std::string_view kDecodable =
#if defined(GATEFOLD_HAS_WEBP) && defined(GATEFOLD_HAS_HEIF)
    "PNG, JPEG, WebP, HEIC or AVIF";
#elif defined(GATEFOLD_HAS_WEBP)
    "PNG, JPEG or WebP";
#elif defined(GATEFOLD_HAS_HEIF)
    "PNG, JPEG, HEIC or AVIF";
#else
    "PNG or JPEG";
#endif

/// What a file is by its first bytes.
enum class ImageKind { png, jpeg, webp, heif, other };

struct KnownKind {
  ImageKind kind = ImageKind::other;
  std::string name{};    ///< «a GIF»; empty when nobody knows.
  std::string advice{};  ///< What to do; empty: convert it.
};

inline KnownKind kind_of(std::span<const std::uint8_t> bytes) {
  using namespace std::string_view_literals;
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 1024));
  const auto at = [&](std::size_t offset, std::string_view magic) {
    return head.size() >= offset && head.substr(offset).starts_with(magic);
  };
  if (at(0, "\x89PNG\r\n\x1a\n")) return {ImageKind::png, "a PNG"};
  if (at(0, "\xff\xd8\xff")) return {ImageKind::jpeg, "a JPEG"};
  if (at(0, "RIFF") && at(8, "WEBP")) return {ImageKind::webp, "a WebP"};
  if (at(4, "ftyp")) {  // ISO base media: the first brand, or one of those it says it is compatible with
    const auto box = std::min<std::size_t>(head.size(), static_cast<std::uint8_t>(head[3]));
    bool heic = false;
    for (std::size_t brand = 8; brand + 4 <= box; brand += brand == 8 ? 8 : 4) {
      const auto name = head.substr(brand, 4);
      if (name == "avif" || name == "avis") return {ImageKind::heif, "an AVIF"};
      heic = heic || name == "heic" || name == "heix" || name == "mif1" || name == "msf1" || name == "heim" ||
             name == "heis" || name == "hevc";
    }
    if (heic) return {ImageKind::heif, "a HEIC"};
    return {.name = "a video", .advice = "take a picture out of it"};
  }
  constexpr struct {
    std::string_view magic;
    const char* name;
  } kOthers[]{{"GIF8", "a GIF"},
              {"BM", "a BMP"},
              {"II*\0"sv, "a TIFF or a camera's raw file"},
              {"MM\0*"sv, "a TIFF or a camera's raw file"},
              {"8BPS", "a Photoshop file"},
              {"\xff\x0a", "a JPEG XL"},
              {"\0\0\0\x0cJXL "sv, "a JPEG XL"},
              {"\0\0\0\x0cjP  "sv, "a JPEG 2000"},
              {"%PDF", "a PDF"}};
  for (const auto& [magic, name] : kOthers)
    if (at(0, magic)) return {.name = name};
  if (at(0, "version https://git-lfs"))
    return {.name = "a pointer of Git LFS, not the file", .advice = "run «git lfs pull» in its folder"};
  std::string text(head);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (text.find("<svg") != text.npos) return {.name = "an SVG"};
  if (text.find("<!doctype html") != text.npos || text.find("<html") != text.npos)
    return {.name = "a web page, not a picture", .advice = "download the picture itself"};
  return {};
}

}  // namespace detail
}  // namespace gatefold
