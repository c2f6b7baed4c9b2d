#pragma once
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/core/shape.hpp"

namespace search {

/// Photographs and which captions are true of which.
struct Captions {
  std::vector<std::filesystem::path> photos;  // [N] each once
  std::vector<std::string> texts;             // [M]
  std::vector<gatefold::Index> photo_of;      // [M]
};

namespace detail {

class CaptionsOf {
 public:
  explicit CaptionsOf(std::filesystem::path file) : folder_(file.parent_path()) {}
  void add(const std::filesystem::path& photo, const std::string& text) {
    const auto [at, fresh] = known_.emplace(photo.string(), std::ssize(captions_.photos));
    if (fresh) captions_.photos.push_back(photo.is_absolute() ? photo : folder_ / photo);
    captions_.texts.push_back(text);
    captions_.photo_of.push_back(at->second);
  }
  Captions take() { return std::move(captions_); }

 private:
  std::filesystem::path folder_;
  std::map<std::string, gatefold::Index> known_;
  Captions captions_;
};

}  // namespace detail

/// Lines of photograph, tab, caption; a photograph may stand in several. Empty lines and those that begin with # are
/// skipped. Photographs are beside the file, or named in full. Throws FormatError that names the line.
inline Captions read_captions_tsv(std::istream& in, const std::filesystem::path& path) {
  detail::CaptionsOf captions(path);
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with('#')) continue;
    const auto tab = line.find('\t');
    if (tab == line.npos || tab == 0 || tab + 1 == line.size())
      throw gatefold::FormatError(path.string() + ":" + std::to_string(number) +
                                  ": expected a photograph's path, a tab, and its caption");
    captions.add(line.substr(0, tab), line.substr(tab + 1));
  }
  return captions.take();
}

/// [{"image": "a.jpg", "caption": "..."}, ...], where a caption may be a list of them. Throws FormatError.
inline Captions read_captions_json(std::istream& in, const std::filesystem::path& path) {
  const auto refuse = [&](const std::string& why) {
    throw gatefold::FormatError(path.string() + ": " + why +
                                ", expected [{\"image\": \"a.jpg\", \"caption\": \"...\" or [\"...\", ...]}, ...]");
  };
  const auto json = nlohmann::json::parse(in, nullptr, false);
  if (!json.is_array()) refuse("is no JSON list");
  detail::CaptionsOf captions(path);
  for (std::size_t i = 0; i < json.size(); ++i) {
    const auto& item = json[i];
    const auto refuse_item = [&] { refuse("item " + std::to_string(i + 1) + " is another"); };
    if (!item.is_object() || !item.contains("image") || !item["image"].is_string() || !item.contains("caption"))
      refuse_item();
    const auto& caption = item["caption"];
    if (!caption.is_string() && !caption.is_array()) refuse_item();
    const auto add = [&](const nlohmann::json& text) {
      if (!text.is_string()) refuse_item();
      captions.add(item["image"].get<std::string>(), text.get<std::string>());
    };
    if (caption.is_string()) add(caption);
    if (caption.is_array())
      for (const auto& text : caption) add(text);
  }
  return captions.take();
}

/// By the file's name: .json, else tab separated. Throws FormatError, also when there is nothing in it.
inline Captions read_captions(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path))
    throw gatefold::FormatError(path.string() +
                                ": cannot be read, expected lines of a photograph's path, a tab and its caption, or a "
                                ".json");
  auto captions = path.extension() == ".json" ? read_captions_json(in, path) : read_captions_tsv(in, path);
  if (captions.texts.empty()) throw gatefold::FormatError(path.string() + ": holds no captions");
  return captions;
}

}  // namespace search
