// A file of photos as Fashion-MNIST has them, packed or not, of two times 2 x 3 pixels.
#include "tests/fuzz/fuzz.hpp"
#include "wardrobe/fashion_mnist.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto path = fuzz::file_of(fuzz::text_of(data, size));
  fuzz::refuse_or([&] { fuzz::expect(wardrobe::detail::read_idx(path, {2, 2, 3}).size() == 12); });
  fuzz::refuse_or([&] { fuzz::expect(wardrobe::detail::read_idx(path, {5}).size() == 5); });
  return 0;
}
