// Notes of a camera, in the whole of a JPEG or PNG and in each of the forms that they have within one: some
// orientation, whatever the bytes.
#include <cstdlib>

#include "gatefold/image/exif.hpp"

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}
void expect_sound(std::optional<int> orientation) { expect(!orientation || (1 <= *orientation && *orientation <= 8)); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gatefold;
  const std::span bytes(data, size);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  expect_sound(exif_orientation(bytes));
  expect_sound(detail::tiff_orientation(bytes));
  expect_sound(detail::xmp_orientation(text));
  expect(detail::raw_profile(text).size() <= size / 2);
  for (const auto* kind : {"tEXt", "zTXt", "iTXt"}) {
    const auto packed = detail::png_text(kind, bytes, "Raw profile type exif");
    expect(packed.size() <= detail::kMaxPngText || packed.size() <= size);
  }
  return 0;
}
