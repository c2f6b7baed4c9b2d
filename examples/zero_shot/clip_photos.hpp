#pragma once
#include <algorithm>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/image/kind.hpp"

namespace zero_shot {

/// The end of a file's name behind its last dot, in lower case: «jpg».
std::string ending_of(const std::filesystem::path& path);

/// By its name; what is inside shows when it is read.
bool is_photo_name(const std::filesystem::path& path);

/// What a search for photographs did not hand out.
struct LeftOut {
  std::vector<std::string> closed{};           ///< «holiday/private: Permission denied», of folders.
  std::map<std::string, std::size_t> kinds{};  ///< Pictures that cannot be decoded, counted by kind: «HEIC», «GIF».

  /// «312 files of other kinds were left (HEIC 300, GIF 12)»; empty when there were none.
  std::string of_other_kinds() const;
};

namespace detail {

inline constexpr std::pair<const char*, const char*> kOtherKinds[]{
    {"heic", "HEIC"}, {"heif", "HEIC"}, {"hif", "HEIC"},  {"avif", "AVIF"}, {"webp", "WebP"},   {"gif", "GIF"},
    {"bmp", "BMP"},   {"tif", "TIFF"},  {"tiff", "TIFF"}, {"svg", "SVG"},   {"jxl", "JPEG XL"}, {"jp2", "JPEG 2000"},
    {"psd", "PSD"},   {"ico", "ICO"},   {"dng", "raw"},   {"cr2", "raw"},   {"cr3", "raw"},     {"nef", "raw"},
    {"arw", "raw"},   {"orf", "raw"},   {"rw2", "raw"},   {"raf", "raw"},   {"pef", "raw"}};

/// All below a folder, folder by folder. What cannot be opened is no reason to stop. A link to a folder is not
/// followed.
void walk(const std::filesystem::path& folder, std::vector<std::filesystem::path>& photos, LeftOut& left);

}  // namespace detail

/// The files among `places`, and of the folders all below them that are named as pictures that can be decoded, sorted
/// folder by folder; hidden ones and those behind symbolic links to folders are left. Each once. What was left is told
/// in `left`. Throws FormatError for what is not there and when there is no photo at all.
std::vector<std::filesystem::path> find_photos(std::span<const std::filesystem::path> places, LeftOut& left);

/// The same for who does not tell what was left. Throws FormatError for a folder that may not be opened as well.
std::vector<std::filesystem::path> find_photos(std::span<const std::filesystem::path> places);

}  // namespace zero_shot
