#pragma once
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "gatefold/core/shape.hpp"
#include "zero_shot/clip_photos.hpp"
#include "zero_shot/labels.hpp"

namespace zero_shot {

/// What the command line of zero_shot says.
struct Arguments {
  std::vector<std::filesystem::path> images;  ///< Or folders of them.
  std::vector<std::string> labels, templates;
  std::string labels_file, template_set, report;
  std::filesystem::path model, samples, cache;
  std::string format = "fp32";
  gatefold::Index top = 5, batch = 32, upcycle = 0;
  int threads = 0;
  bool json = false, centre = false, wants_report = false;
};

/// Those of the command line and of the file, each once.
inline std::vector<std::string> all_labels(const Arguments& a) {
  auto labels = a.labels;
  if (!a.labels_file.empty()) {
    const auto more = a.labels_file == "-" ? read_labels(std::cin, "standard input")
                                           : read_labels(std::filesystem::path(a.labels_file));
    labels.insert(labels.end(), more.begin(), more.end());
  }
  return without_repeats(labels);
}

}  // namespace zero_shot
