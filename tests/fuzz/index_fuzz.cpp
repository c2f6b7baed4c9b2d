// An index of search.
#include "search/photo_index.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = fuzz::text_of(data, size);
  for (const auto& bytes : {std::string(input), fuzz::with_header(input)})
    fuzz::refuse_or([&] {
      const auto index = search::read_index(fuzz::file_of(bytes));
      fuzz::expect(index.z.extent(0) == std::ssize(index.entries));
      for (std::size_t i = 0; i < index.entries.size(); ++i) (void)index.path_of(i);
    });
  return 0;
}
