#pragma once
#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/text/unicode.hpp"

namespace zero_shot {

/// By its name; what is inside shows when it is read.
inline bool is_photo_name(const std::filesystem::path& path) {
  auto end = path.extension().string();
  std::transform(end.begin(), end.end(), end.begin(),
                 [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return (end == ".png" || end == ".jpg" || end == ".jpeg") && !path.filename().string().starts_with('.');
}

/// The files among `places`, and of the folders all png, jpg and jpeg below them, sorted folder by folder; hidden ones
/// and those behind symbolic links to folders are left. Each once. Throws FormatError for what is not there and when
/// there is no photo at all.
inline std::vector<std::filesystem::path> find_photos(std::span<const std::filesystem::path> places) {
  namespace fs = std::filesystem;
  std::vector<fs::path> photos;
  std::string folders;
  for (const auto& place : places) {
    if (!fs::exists(place)) {
      const bool sentence = place.string().find(' ') != std::string::npos && !place.has_extension();
      throw gatefold::FormatError(
          "no picture at " + place.string() +
          (sentence ? "; is this a label? Labels come behind --labels" : "; is the name right?"));
    }
    if (!fs::is_directory(place)) {
      photos.push_back(place);
      continue;
    }
    folders += (folders.empty() ? "" : ", ") + place.string();
    const auto first = photos.size();
    using Walk = fs::recursive_directory_iterator;
    for (auto at = Walk(place, fs::directory_options::skip_permission_denied); at != Walk(); ++at) {
      if (at->is_directory() && at->path().filename().string().starts_with('.')) {
        at.disable_recursion_pending();
      } else if (is_photo_name(at->path()) && at->is_regular_file()) {
        photos.push_back(at->path());
      }
    }
    std::sort(photos.begin() + static_cast<std::ptrdiff_t>(first), photos.end());
  }
  if (photos.empty())
    throw gatefold::FormatError("no photographs in " + folders +
                                ": expected files that end in .png, .jpg or .jpeg, there or in folders below");
  std::vector<fs::path> sorted = photos;  // a place that is named twice, or in another
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end()) return photos;
  std::vector<fs::path> unique;
  for (const auto& photo : photos) {
    const auto [begin, end] = std::equal_range(sorted.begin(), sorted.end(), photo);
    if (begin == end) continue;
    unique.push_back(photo);
    sorted.erase(begin, end);
  }
  return unique;
}

}  // namespace zero_shot
