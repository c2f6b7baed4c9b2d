#pragma once
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "gatefold/core/error.hpp"
#include "gatefold/core/read_file.hpp"

namespace gatefold {

/// A small file, read whole. Throws FormatError when it cannot be read or has more than `most` bytes.
inline std::string read_text_file(const std::filesystem::path& path, std::size_t most) {
  return read_file<std::string>(path, most);
}

/// Arrays and objects within each other: more than any file of ours has. What goes through a value by recursion, as
/// copying and printing one do, would run out of stack at some ten thousands.
inline constexpr int kMaxJsonDepth = 64;

namespace detail {
inline int json_depth(std::string_view text) {
  int depth = 0, most = 0;
  bool quoted = false;
  for (std::size_t at = 0; at < text.size() && most <= kMaxJsonDepth; ++at) {
    const char c = text[at];
    if (c == '"') quoted = !quoted;
    if (quoted)
      at += c == '\\';
    else if (c == '[' || c == '{')
      most = std::max(most, ++depth);
    else if (c == ']' || c == '}')
      --depth;
  }
  return most;
}
}  // namespace detail

/// The one way that JSON from outside is read. A value of kind «discarded» for what is no JSON. Throws FormatError that
/// begins with `source` when it is nested deeper than kMaxJsonDepth.
template <class Json = nlohmann::json>  // or nlohmann::ordered_json
Json parse_json(std::string_view text, const std::string& source) {
  if (detail::json_depth(text) > kMaxJsonDepth)
    throw FormatError(source + ": is nested deeper than " + std::to_string(kMaxJsonDepth) +
                      " levels, which nothing of this kind is");
  return Json::parse(text, nullptr, false);
}

/// Throws FormatError that begins with `source` for anything but {…}.
inline nlohmann::json parse_json_object(const std::string& text, const std::string& source) {
  auto json = parse_json(text, source);
  if (!json.is_object())
    throw FormatError(source + ": is " +
                      (text.empty()            ? "empty"
                       : text.starts_with('<') ? "a web page, not JSON"
                                               : "not a JSON object (cut short?)") +
                      "; fetch it again from where the model came");
  return json;
}

/// A field of an object; null if it is missing or null.
inline const nlohmann::json* find_field(const nlohmann::json& object, const char* name) {
  const auto at = object.find(name);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

/// Throws FormatError «SOURCE: «name» is 'value', expected WANTED».
[[noreturn]] inline void refuse_field(const std::string& source, const std::string& name, const nlohmann::json& value,
                                      const std::string& wanted) {
  const auto text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  throw FormatError(source + ": «" + name + "» is " + (text.size() > 120 ? text.substr(0, 120) + "…" : text) +
                    ", expected " + wanted);
}

/// A file with {…}. Throws FormatError. The configuration of a model has a few kilobytes.
inline nlohmann::json read_json_object(const std::filesystem::path& path, std::size_t most = std::size_t{1} << 20) {
  return parse_json_object(read_text_file(path, most), path.string());
}

}  // namespace gatefold
