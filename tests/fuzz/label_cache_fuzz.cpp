// A cache of labels' embeddings: what is none is refused, what is one holds rows of length 1.
#include "tests/fuzz/fuzz.hpp"
#include "zero_shot/clip_label_cache.hpp"

namespace {

zero_shot::ClipModel model() {
  zero_shot::ClipModel clip{.options = {},
                            .towers = nullptr,
                            .tokenizer = gatefold::ClipTokenizer::of_merges({}, {}),
                            .preprocess = gatefold::ClipPreprocess({.shortest_edge = 8, .crop = {{8, 8}}}),
                            .format = "fp32",
                            .identity = "tiny"};
  clip.options.embedding = 2;
  return clip;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto clip = model();
  const auto input = fuzz::text_of(data, size);
  for (const auto& bytes : {std::string(input), fuzz::with_header(input)})
    fuzz::refuse_or([&] {
      const zero_shot::LabelCache cache(fuzz::file_of(bytes), clip, {"{}"});
      fuzz::expect(cache.size() <= std::ssize(bytes) / 8);
      if (const float* z = cache.find("cat")) fuzz::expect(std::abs(z[0] * z[0] + z[1] * z[1] - 1) < 1e-3f);
    });
  return 0;
}
