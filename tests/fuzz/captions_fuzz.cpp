// Captions of photographs: the first byte says whether as lines or as JSON.
#include "search/captions.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto text = fuzz::text_of(data + 1, size - 1);
  fuzz::refuse_or([&] {
    const auto captions =
        data[0] % 2 ? search::captions_of_json(text, "captions.json") : search::captions_of_tsv(text, "captions.tsv");
    fuzz::expect(captions.texts.size() == captions.photo_of.size() && captions.photos.size() <= captions.texts.size());
    for (const auto photo : captions.photo_of) fuzz::expect(0 <= photo && photo < std::ssize(captions.photos));
  });
  return 0;
}
