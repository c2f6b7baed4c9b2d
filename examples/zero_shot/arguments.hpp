#pragma once
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "gatefold/image/image.hpp"
#include "zero_shot/clip_photos.hpp"
#include "zero_shot/labels.hpp"

namespace zero_shot {

/// What the command line of zero_shot says.
struct Arguments {
  std::vector<std::filesystem::path> images;  ///< Or folders of them.
  std::vector<std::string> labels, templates;
  std::string labels_file, template_set, report;
  std::filesystem::path model, samples, cache, packed;
  std::string format{};  ///< Empty: as the model is packed, fp32 where it is not.
  std::string activation{};
  gatefold::Index top = 5, batch = 32, upcycle = 0;
  gatefold::Index json_top =
      std::numeric_limits<gatefold::Index>::max();  ///< Of JSON, which has all labels unless told.
  gatefold::Index max_pixels = gatefold::kUsualPixels;
  double threshold = -std::numeric_limits<double>::infinity();
  int threads = 0;
  bool json = false, jsonl = false, multi_label = false, centre = false, wants_report = false;
};

/// Those of the command line and of the file, each once, without white space at their ends. Throws FormatError for an
/// empty one, which would get a probability like any other.
inline std::vector<std::string> all_labels(const Arguments& a) {
  std::vector<std::string> labels;
  for (const auto& label : a.labels) {
    if (detail::trimmed(label).empty())
      throw gatefold::FormatError("label " + std::to_string(labels.size() + 1) +
                                  " behind --labels is empty; expected words that a picture may be described by");
    labels.emplace_back(detail::trimmed(label));
  }
  if (!a.labels_file.empty()) {
    const auto more = read_labels(a.labels_file);
    labels.insert(labels.end(), more.begin(), more.end());
  }
  return without_repeats(labels);
}

/// What a person should know who gave such labels, one line each.
inline std::vector<std::string> doubts_about(const std::vector<std::string>& labels) {
  std::vector<std::string> doubts;
  if (labels.size() == 1) doubts.push_back("one label alone gets 100 % of every picture; give others to choose among");
  for (const auto& label : labels) {
    std::error_code error;
    if (label.size() < 256 && std::filesystem::exists(label, error))
      doubts.push_back("the label «" + label +
                       "» is the name of a file: if it is a picture, name it in front of --labels");
  }
  return doubts;
}

}  // namespace zero_shot
