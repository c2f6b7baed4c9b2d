#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <istream>
#include <string>
#include <vector>

#include "gatefold/core/error.hpp"

namespace zero_shot {

/// What one may ask for at once; a file of another kind is noticed before it eats the memory.
inline constexpr std::size_t kMaxLabels = 10'000, kMaxLabelBytes = 16'384;  // no tokenizer reads more of a text

/// One label a line; empty lines and lines that begin with # are skipped, white space around a label is dropped.
/// Throws FormatError that names the line of a label that is too long, or the source when there are too many.
inline std::vector<std::string> read_labels(std::istream& in, const std::string& source) {
  std::vector<std::string> labels;
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    const auto begin = line.find_first_not_of(" \t\r\v\f");
    if (begin == std::string::npos || line[begin] == '#') continue;
    const auto end = line.find_last_not_of(" \t\r\v\f") + 1;
    if (end - begin > kMaxLabelBytes)
      throw gatefold::FormatError(source + ":" + std::to_string(number) + ": a label of " +
                                  std::to_string(end - begin) + " bytes, expected at most " +
                                  std::to_string(kMaxLabelBytes) + "; is this a text file with one label a line?");
    if (labels.size() == kMaxLabels)
      throw gatefold::FormatError(source + ": more than " + std::to_string(kMaxLabels) + " labels");
    labels.push_back(line.substr(begin, end - begin));
  }
  return labels;
}

inline std::vector<std::string> read_labels(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in || std::filesystem::is_directory(path))
    throw gatefold::FormatError("the labels' file " + path.string() +
                                " cannot be read; give a text file with one label a line, or - for standard input");
  return read_labels(in, path.string());
}

/// Each label once, where it first stood.
inline std::vector<std::string> without_repeats(const std::vector<std::string>& labels) {
  std::vector<std::string> unique;
  for (const auto& label : labels)
    if (std::find(unique.begin(), unique.end(), label) == unique.end()) unique.push_back(label);
  return unique;
}

}  // namespace zero_shot
