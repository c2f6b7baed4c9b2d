// Writes what examples/clip_test.cmake runs the programs on: make_tiny_clip FOLDER
#include <cstdio>

#include "tests/zero_shot/tiny_clip.hpp"

int main(int argc, char** argv) {
  using namespace zero_shot::tiny;
  if (argc != 2) return 2;
  try {
    const fs::path folder = argv[1];
    write_clip(folder / "clip");
    write_openai_clip(folder / "openai");
    write_clip_moe(folder / "clip_moe");
    write_photos(folder / "photos");
    write_photos(folder / "with_broken");
    gatefold::test::write_text(folder / "with_broken" / "broken.png", "no picture");
    gatefold::test::write_text(
        folder / "captions.tsv", "photos/red.png\ta red cat\nphotos/green.png\tgrass\nphotos/deep/blue.png\tthe sea\n");
    fs::create_directories(folder / "empty");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_tiny_clip: %s\n", error.what());
    return 1;
  }
}
