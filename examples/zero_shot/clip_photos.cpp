#include "zero_shot/clip_photos.hpp"

namespace zero_shot {

std::string ending_of(const std::filesystem::path& path) {
  auto end = path.extension().string();
  if (!end.empty()) end.erase(0, 1);
  std::transform(end.begin(), end.end(), end.begin(),
                 [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return end;
}

bool is_photo_name(const std::filesystem::path& path) {
  const auto& endings = gatefold::decodable_endings();
  return std::find(endings.begin(), endings.end(), ending_of(path)) != endings.end() &&
         !path.filename().string().starts_with('.');
}

std::string LeftOut::of_other_kinds() const {
  std::vector<std::pair<std::string, std::size_t>> sorted(kinds.begin(), kinds.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::size_t all = 0;
  std::string each;
  for (const auto& [kind, count] : sorted) {
    all += count;
    each += (each.empty() ? "" : ", ") + kind + " " + std::to_string(count);
  }
  if (all == 0) return "";
  return std::to_string(all) + (all == 1 ? " file of another kind was left (" : " files of other kinds were left (") +
         each + ")";
}

namespace detail {

void walk(const std::filesystem::path& folder, std::vector<std::filesystem::path>& photos, LeftOut& left) {
  namespace fs = std::filesystem;
  std::vector<fs::path> folders{folder};
  while (!folders.empty()) {
    const auto here = std::move(folders.back());
    folders.pop_back();
    std::error_code error;
    for (fs::directory_iterator at(here, error), end; !error && at != end; at.increment(error)) {
      const auto& path = at->path();
      if (path.filename().string().starts_with('.')) continue;
      std::error_code unknown;
      if (fs::is_directory(at->symlink_status(unknown))) {
        folders.push_back(path);
        continue;
      }
      const auto status = at->status(unknown);
      if (is_photo_name(path)) {
        // A link that leads nowhere or to itself has the name of a photograph: reading it will say what is wrong.
        if (fs::is_regular_file(status) || !fs::status_known(status) || status.type() == fs::file_type::not_found)
          photos.push_back(path);
      } else if (fs::is_regular_file(status)) {
        const auto ending = ending_of(path);
        for (const auto& [known, kind] : kOtherKinds)
          if (ending == known) ++left.kinds[kind];
      }
    }
    if (error) left.closed.push_back(here.string() + ": " + error.message());
  }
}

}  // namespace detail

std::vector<std::filesystem::path> find_photos(std::span<const std::filesystem::path> places, LeftOut& left) {
  namespace fs = std::filesystem;
  std::vector<fs::path> photos;
  std::string folders;
  for (const auto& place : places) {
    std::error_code error;
    const auto status = fs::status(place, error);
    if (status.type() == fs::file_type::not_found && !fs::is_symlink(place, error)) {
      const bool sentence = place.string().find(' ') != std::string::npos && !place.has_extension();
      throw gatefold::FormatError(
          "no picture at " + place.string() +
          (sentence ? "; is this a label? Labels come behind --labels" : "; is the name right?"));
    }
    if (!fs::is_directory(status)) {
      photos.push_back(place);
      continue;
    }
    folders += (folders.empty() ? "" : ", ") + place.string();
    const auto first = photos.size();
    detail::walk(place, photos, left);
    std::sort(photos.begin() + static_cast<std::ptrdiff_t>(first), photos.end());
  }
  std::sort(left.closed.begin(), left.closed.end());
  if (photos.empty()) {
    std::string why = "no photographs in " + folders + ": expected files that end in ";
    const auto& endings = gatefold::decodable_endings();
    for (std::size_t i = 0; i < endings.size(); ++i)
      why += (i == 0 ? "." : i + 1 < endings.size() ? ", ." : " or .") + std::string(endings[i]);
    why += ", there or in folders below";
    for (const auto& closed : left.closed) why += "; " + closed;
    if (!left.kinds.empty()) why += "; " + left.of_other_kinds() + ": convert them to JPEG or PNG";
    throw gatefold::FormatError(why);
  }
  std::unordered_set<std::string> known;  // a place that is named twice, or in another
  std::vector<fs::path> unique;
  for (auto& photo : photos)
    if (known.insert(photo.string()).second) unique.push_back(std::move(photo));
  return unique;
}

std::vector<std::filesystem::path> find_photos(std::span<const std::filesystem::path> places) {
  LeftOut left;
  auto photos = find_photos(places, left);
  if (!left.closed.empty()) throw gatefold::FormatError(left.closed.front());
  return photos;
}

}  // namespace zero_shot
