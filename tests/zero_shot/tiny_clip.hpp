#pragma once
#include "gatefold/core/shape.hpp"
#include "gatefold/image/image.hpp"
#include "tests/io/temporary_folder.hpp"

namespace zero_shot::tiny {

namespace fs = std::filesystem;
using gatefold::Index;

/// 512 symbols of bytes, the results of two merges, two markers.
inline constexpr Index kVocabulary = 516;

/// A CLIP as Hugging Face lays it out: 8 x 8 pixels in 4 patches, two blocks in each tower, 10 tokens a text.
void write_clip(const fs::path& folder);
/// The same under OpenAI's names: one file, and the tokenizer beside it.
void write_openai_clip(const fs::path& folder);
/// CLIP-MoE: OpenAI's names with experts, and 248 positions in two tables.
void write_clip_moe(const fs::path& folder);

/// One colour, with a corner of another.
gatefold::Image photo(std::array<std::uint8_t, 3> colour);
/// red.png, green.png and deep/blue.png.
void write_photos(const fs::path& folder);

}  // namespace zero_shot::tiny
