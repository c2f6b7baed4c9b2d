// A file of photos as Fashion-MNIST has them, packed or not, of two times 2 x 3 pixels.
#include "tests/fuzz/fuzz.hpp"
#include "wardrobe/idx.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto path = fuzz::file_of(fuzz::text_of(data, size));
  fuzz::refuse_or([&] { fuzz::expect(wardrobe::read_idx(path, {2, 2, 3}).values.size() == 12); });
  fuzz::refuse_or([&] { fuzz::expect(wardrobe::read_idx(path, {5}).values.size() == 5); });
  fuzz::refuse_or([&] {
    const auto idx = wardrobe::read_idx(path, {wardrobe::kAnyExtent, 2});
    fuzz::expect(std::ssize(idx.values) == idx.shape[0] * 2);
  });
  return 0;
}
