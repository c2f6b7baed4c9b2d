#pragma once
#include <unistd.h>

#include <filesystem>
#include <string>
#include <unordered_set>
#include <vector>

#include "zero_shot/text_lines.hpp"

namespace zero_shot {

/// What one may ask for at once; a file of another kind is noticed before it eats the memory.
inline constexpr std::size_t kMaxLabels = 10'000, kMaxLabelBytes = 16'384;  // no tokenizer reads more of a text

/// One label a line, as lines_of has them. Throws FormatError that names the line of a label that is too long, or the
/// source when there are too many.
inline std::vector<std::string> labels_of(std::string_view text, const std::string& source) {
  std::vector<std::string> labels;
  for (const auto& [number, label] : lines_of(text, source)) {
    if (label.size() > kMaxLabelBytes)
      throw gatefold::FormatError(source + ":" + std::to_string(number) + ": a label of " +
                                  std::to_string(label.size()) + " bytes, expected at most " +
                                  std::to_string(kMaxLabelBytes) + "; is this a text file with one label a line?");
    if (labels.size() == kMaxLabels)
      throw gatefold::FormatError(source + ": more than " + std::to_string(kMaxLabels) + " labels");
    labels.emplace_back(label);
  }
  return labels;
}

/// The same from a file; «-» is standard input.
inline std::vector<std::string> read_labels(const std::filesystem::path& path) {
  try {
    return path == "-"
               ? labels_of(gatefold::read_descriptor<std::string>(STDIN_FILENO, "standard input", kMaxTextBytes),
                           "standard input")
               : labels_of(gatefold::read_file<std::string>(path, kMaxTextBytes), path.string());
  } catch (const gatefold::FormatError& error) {
    throw gatefold::FormatError(std::string(error.what()) +
                                " (a file of labels or templates has one a line; - is standard input)");
  }
}

/// Each label once, where it first stood.
inline std::vector<std::string> without_repeats(const std::vector<std::string>& labels) {
  std::vector<std::string> unique;
  std::unordered_set<std::string_view> known;
  for (const auto& label : labels)
    if (known.insert(label).second) unique.push_back(label);
  return unique;
}

}  // namespace zero_shot
