// The manifest of the samples.
#include "tests/fuzz/fuzz.hpp"
#include "zero_shot/samples.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::refuse_or([&] {
    const auto manifest = zero_shot::parse_manifest(std::string(fuzz::text_of(data, size)), "file");
    for (const auto& sample : manifest.pictures) {
      fuzz::expect(sample.file.find('/') == std::string::npos && sample.file != "..");
      fuzz::expect(manifest.label_sets.contains(sample.label_set));
    }
    const auto text = to_json(manifest);
    fuzz::expect(to_json(zero_shot::parse_manifest(text, "again")) == text);
  });
  return 0;
}
