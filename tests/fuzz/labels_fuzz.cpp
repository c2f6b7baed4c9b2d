// A file of labels, and a sentence that they stand in.
#include "tests/fuzz/fuzz.hpp"
#include "zero_shot/clip_templates.hpp"
#include "zero_shot/html.hpp"
#include "zero_shot/labels.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace zero_shot;
  fuzz::refuse_or([&] {
    const auto labels = labels_of(fuzz::text_of(data, size), "file");
    fuzz::expect(labels.size() <= kMaxLabels);
    std::string lines;
    for (const auto& label : labels) {
      fuzz::expect(!label.empty() && label.size() <= kMaxLabelBytes && gatefold::is_utf8(label));
      fuzz::expect(label.find_first_of("\r\n") == label.npos);
      fuzz::expect(fill_template("{} and {}", label) == label + " and " + label);
      lines += label + "\r\n";
    }
    fuzz::expect(labels_of(lines, "file") == labels);
    fuzz::expect(without_repeats(without_repeats(labels)) == without_repeats(labels));
  });
  fuzz::refuse_or([&] {
    for (const auto& sentence : templates_of({}, fuzz::file_of(fuzz::text_of(data, size)).string()))
      fuzz::expect(fill_template(sentence, "x").size() < sentence.size());
  });
  return 0;
}
