#pragma once
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "gatefold/image/stb.hpp"

namespace gatefold::detail {

inline constexpr std::size_t kMaxPngText = std::size_t{1} << 20;  ///< Pillow's MAX_TEXT_CHUNK; of one that is packed.

inline std::string inflate_png_text(std::span<const std::uint8_t> packed) {
  const std::unique_ptr<char[]> text(new char[kMaxPngText]);
  const int length = stb::gatefold_stbi_zlib_decode_buffer(text.get(), static_cast<int>(kMaxPngText),
                                                           reinterpret_cast<const char*>(packed.data()),
                                                           static_cast<int>(packed.size()));
  return length < 0 ? std::string() : std::string(text.get(), static_cast<std::size_t>(length));
}

/// The text of a tEXt, zTXt or iTXt chunk with this key (PNG specification, third edition, section 11.3.3); empty for
/// other chunks, keys and kinds, for what is damaged, and for more than kMaxPngText when unpacked.
inline std::string png_text(std::string_view kind, std::span<const std::uint8_t> data, std::string_view key) {
  if (kind != "tEXt" && kind != "zTXt" && kind != "iTXt") return {};
  if (data.size() <= key.size() || !std::equal(key.begin(), key.end(), data.begin()) || data[key.size()] != 0)
    return {};
  data = data.subspan(key.size() + 1);
  const auto text = [](std::span<const std::uint8_t> bytes) { return std::string(bytes.begin(), bytes.end()); };
  if (kind == "tEXt") return text(data);
  if (kind == "zTXt") return !data.empty() && data[0] == 0 ? inflate_png_text(data.subspan(1)) : std::string();
  if (data.size() < 2) return {};
  const bool packed = data[0] != 0, deflate = data[1] == 0;
  data = data.subspan(2);
  for (int field = 0; field < 2; ++field) {  // a language, the key in that language
    const auto end = std::ranges::find(data, std::uint8_t{0});
    if (end == data.end()) return {};
    data = data.subspan(static_cast<std::size_t>(end - data.begin()) + 1);
  }
  return !packed ? text(data) : deflate ? inflate_png_text(data) : std::string();
}

}  // namespace gatefold::detail
