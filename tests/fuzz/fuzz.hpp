#pragma once
// The shape of a target: what nobody vouches for is refused with a FormatError, and with nothing else, or read; and
// what is read keeps its laws.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gatefold/core/error.hpp"
#include "tests/io/temporary_folder.hpp"

namespace fuzz {

/// A law that does not hold stops the fuzzer as a bad access does, also without assertions.
inline void expect(bool holds) {
  if (!holds) std::abort();
}

/// Any other exception than FormatError is a finding.
template <class Read>
void refuse_or(const Read& read) {
  try {
    read();
  } catch (const gatefold::FormatError&) {
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// What is in front of the first NUL, and what is behind it: two files in one input.
inline std::pair<std::string, std::string> two_of(std::string_view input) {
  const auto end = std::min(input.find('\0'), input.size());
  return {std::string(input.substr(0, end)), std::string(input.substr(std::min(end + 1, input.size())))};
}

/// A file for parsers that ask for a path: the one of the process, with these bytes.
inline std::filesystem::path file_of(std::string_view bytes) {
  static const gatefold::test::TemporaryFolder folder;
  const auto path = folder / "file";
  gatefold::test::write_text(path, std::string(bytes));
  return path;
}

/// A safetensors file with this header (but for its last byte, which says how many bytes of data follow): mutations
/// seldom keep the length in step with the header.
inline std::string with_header(std::string_view input) {
  if (input.empty()) return {};
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[static_cast<std::size_t>(i)] = static_cast<char>((input.size() - 1) >> (8 * i));
  const auto data_bytes = static_cast<std::uint8_t>(input.back());
  return file.append(input.substr(0, input.size() - 1)).append(data_bytes, '\x3c');
}

}  // namespace fuzz
