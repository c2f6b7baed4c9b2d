// The first byte chooses a parser, the rest is a JSON file that comes with a CLIP: refused with a FormatError, or read
// into options that are within bounds.
#include <cstdlib>

#include "gatefold/models/clip_image_config.hpp"
#include "gatefold/models/clip_tokenizer_file.hpp"
#include "gatefold/models/open_clip_config.hpp"

namespace {

using namespace gatefold;

void expect(bool holds) {
  if (!holds) std::abort();
}

void expect_bounds(const ClipOptions& o) {
  for (const Index size : {o.image_size, o.patch, o.channels, o.vocabulary, o.context, o.embedding, o.vision.width,
                           o.vision.hidden, o.vision.num_heads, o.text.width, o.text.hidden, o.text.num_heads})
    expect(1 <= size && size <= detail::kMaxClipSize);
  for (const auto* tower : {&o.vision, &o.text}) {
    expect(1 <= tower->num_layers && tower->num_layers <= detail::kMaxClipLayers);
    expect(0 < tower->epsilon && tower->epsilon < 1);
  }
}

void run(unsigned choice, const std::string& text) {
  const auto json = [&] { return parse_json_object(text, "file"); };
  switch (choice % 5) {
    case 0:
      return expect_bounds(clip_options_of_config(json(), "file"));
    case 1: {
      ClipOptions options;  // as weights of ViT-B/32 tell them
      read_open_clip_config(json(), "file", {choice % 2 == 0, false}, options);
      expect(options.vision.width == 768 && options.context == 77);
      return expect_bounds(options);
    }
    case 2:
      return (void)ClipPreprocess(clip_image_options_of_json(json(), "file"));
    case 3:
      return (void)ClipPreprocess(clip_image_options_of_open_clip(json(), "file", 224));
    default:
      expect(clip_tokenizer_of_json(text, {}, "file").size() >= 2);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  try {
    run(data[0], std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  } catch (const gatefold::FormatError&) {
  }
  return 0;
}
