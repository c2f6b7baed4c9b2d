#pragma once
#include <nlohmann/json.hpp>

#include "gatefold/core/error.hpp"
#include "gatefold/io/mapped_file.hpp"

namespace gatefold {

/// A small file, read whole. Throws FormatError when it cannot be read or has more than `most` bytes.
inline std::string read_text_file(const std::filesystem::path& path, std::size_t most) {
  try {
    const MappedFile file(path);
    const auto bytes = file.bytes();
    if (bytes.size() > most)
      throw FormatError(path.string() + ": has " + std::to_string(bytes.size()) + " bytes, expected at most " +
                        std::to_string(most));
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  } catch (const std::system_error& error) {
    throw FormatError(error.what());
  }
}

/// Throws FormatError that begins with `source` for anything but {…}.
inline nlohmann::json parse_json_object(const std::string& text, const std::string& source) {
  auto json = nlohmann::json::parse(text, nullptr, false);
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
