// Any bytes are either refused with a FormatError or decoded to an image that survives resizing and PNG.
#include <cstdlib>

#include "gatefold/image/clip_preprocess.hpp"
#include "gatefold/image/decode.hpp"
#include "gatefold/image/encode.hpp"
#include "gatefold/image/resize.hpp"

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

void run(std::span<const std::uint8_t> bytes) {
  using namespace gatefold;
  constexpr Index kMost = 1 << 14;  // small, so that a run has many
  Image image;
  try {
    image = decode_image(bytes, {.max_pixels = kMost});
  } catch (const FormatError&) {
    return;
  }
  expect(image.width * image.height <= kMost);
  expect(static_cast<Index>(image.rgb.size()) == image.width * image.height * 3);
  expect(decode_image(bytes) == image);  // no pixel comes from memory that nobody wrote
  expect(decode_image(encode_png(image)) == image);
  expect(resize(image, {.width = 7, .height = 5}).size() == ImageSize{7, 5});
  static const ClipPreprocess clip({.shortest_edge = 6, .crop = {{5, 8}}});
  auto options = clip_decode_options(clip.options());
  options.max_pixels = kMost;
  expect(clip.crop(decode_image(bytes, options)).size() == ImageSize{5, 8});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run({data, size});
  // Most mutations lose the end that a whole file must have; with it they get as far as stb.
  static constexpr std::array<std::uint8_t, 2> kJpegEnd{0xff, 0xd9};
  static constexpr std::array<std::uint8_t, 12> kPngEnd{0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82};
  std::vector<std::uint8_t> ended(data, data + size);
  if (gatefold::detail::kind_of(ended).kind == gatefold::detail::ImageKind::jpeg)
    ended.insert(ended.end(), kJpegEnd.begin(), kJpegEnd.end());
  else
    ended.insert(ended.end(), kPngEnd.begin(), kPngEnd.end());
  run(ended);
  return 0;
}
