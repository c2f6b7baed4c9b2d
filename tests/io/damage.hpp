#pragma once
#include <random>

#include "gatefold/io/checksum.hpp"
#include "tests/io/temporary_folder.hpp"

namespace gatefold::test {

/// The text of a file of ours that was changed on purpose, with the checksum that it now has to have.
inline std::string with_checksum(std::string text) {
  const std::string note = "\"gatefold.checksum\":\"xxh3-64:";
  const auto at = text.find(note);
  if (at == text.npos) throw std::runtime_error("the file has no checksum");
  text.replace(at + note.size(), 16, 16, '0');
  Checksum sum;
  sum.add(std::as_bytes(std::span(text)));
  return text.replace(at + note.size(), 16, to_hex(sum.value()));
}

/// Of so many copies of a file, each with one bit flipped anywhere in it, how many `open(path)` takes without a word.
/// Leaves the file as it was.
template <class Open>
int unnoticed_flips(const std::filesystem::path& path, int count, const Open& open) {
  const auto whole = read_text(path);
  std::mt19937_64 rng(7);
  int unnoticed = 0;
  for (int i = 0; i < count; ++i) {
    auto text = whole;
    const auto bit = rng() % (8 * text.size());
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8)));
    write_text(path, text);
    try {
      open(path);
      ++unnoticed;
    } catch (const std::exception&) {
    }
  }
  write_text(path, whole);
  open(path);
  return unnoticed;
}

}  // namespace gatefold::test
