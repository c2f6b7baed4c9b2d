// vocab.json, a NUL, and merges.txt.
#include "gatefold/models/clip_tokenizer_file.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto files = fuzz::two_of(fuzz::text_of(data, size));
  fuzz::refuse_or([&] {
    const auto tokenizer = gatefold::clip_tokenizer_of_pair(files.first, files.second, {}, "folder");
    for (const auto id : tokenizer.encode(files.second)) fuzz::expect(0 <= id && id < tokenizer.size());
  });
  return 0;
}
