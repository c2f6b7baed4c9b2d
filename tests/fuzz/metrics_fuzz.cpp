// A metrics.csv that a run goes on with; the first byte is the step it goes on from.
#include "gatefold/train/metrics.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const double last = data[0];
  const auto bytes = fuzz::text_of(data + 1, size - 1);
  const auto path = fuzz::file_of(bytes);
  const auto text = [&] { return gatefold::test::read_text(path); };
  try {
    {
      gatefold::CsvWriter csv(path, {"step", "loss"}, last);
      fuzz::expect(csv.last_row().empty() || (csv.last_row().size() == 2 && csv.last_row()[0] <= last));
    }
    const auto kept = text();
    fuzz::expect(kept.ends_with('\n') && kept.starts_with("step,loss\n"));
    fuzz::expect(bytes.starts_with(kept) || kept == "step,loss\n");
    gatefold::CsvWriter csv(path, {"step", "loss"}, last);  // which finds what the first one left
    fuzz::expect(text() == kept);
    csv.write({last, 0.5});
    fuzz::expect(gatefold::CsvWriter(path, {"step", "loss"}, last).last_row() == std::vector<double>{last, 0.5});
  } catch (const gatefold::FormatError&) {
    fuzz::expect(text() == bytes);
  }
  return 0;
}
