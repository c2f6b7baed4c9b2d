#pragma once
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/core/shape.hpp"
#include "zero_shot/text_lines.hpp"

namespace search {

/// Photographs and which captions are true of which.
struct Captions {
  std::vector<std::filesystem::path> photos;  // [N] each once
  std::vector<std::string> texts;             // [M]
  std::vector<gatefold::Index> photo_of;      // [M]
};

/// Lines of photograph, tab, caption; a photograph may stand in several. Which lines count and how they may end:
/// zero_shot::lines_of. Photographs are beside the file, or named in full. Throws FormatError that names the line.
Captions captions_of_tsv(std::string_view text, const std::filesystem::path& path);

/// [{"image": "a.jpg", "caption": "..."}, ...], where a caption may be a list of them. Throws FormatError.
Captions captions_of_json(std::string_view json_text, const std::filesystem::path& path);

/// By the file's name: .json, else tab separated. Throws FormatError, also when there is nothing in it.
Captions read_captions(const std::filesystem::path& path);

}  // namespace search
