// The bytes up to the first 0 are a file of merges, refused with a FormatError or used; the rest is a text, and texts
// never fail.
#include <cstdlib>

#include "gatefold/text/clip_tokenizer.hpp"

namespace {

using namespace gatefold;

void expect(bool holds) {
  if (!holds) std::abort();
}

void expect_laws(const ClipTokenizer& clip, std::string_view text) {
  const auto ids = clip.encode(text);
  expect(ids.size() >= 2 && static_cast<Index>(ids.size()) <= clip.options().context);
  expect(ids.front() == clip.start() && ids.back() == clip.end());
  expect(std::count(ids.begin(), ids.end(), clip.end()) == 1);
  for (const auto id : ids) expect(id >= 0 && id < clip.size());
  expect(is_utf8(clip.clean(text)));
  const auto some = text.substr(0, ClipTokenizer::kMaxTextBytes / 3);  // replacing may triple it
  expect(clip.encode(to_utf8(some)) == clip.encode(some));
  (void)clip.decode(ids);
  expect(unescape_html(text).size() <= text.size() * 3);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto end = std::min(input.find('\0'), input.size());
  static const auto hugging_face = ClipTokenizer::of_merges({}, {});
  static const auto open_clip = ClipTokenizer::of_merges({}, {.context = 5, .cleaning = ClipCleaning::open_clip});
  expect_laws(hugging_face, input.substr(end));
  expect_laws(open_clip, input.substr(end));
  if (size % 8 != 0) return 0;  // making a tokenizer takes most of the time
  try {
    const auto merges = ClipTokenizer::merges_of_file(input.substr(0, end));
    expect_laws(ClipTokenizer::of_merges(merges, {}), input);
  } catch (const FormatError&) {
  }
  return 0;
}
