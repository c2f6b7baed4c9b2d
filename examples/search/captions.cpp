#include "search/captions.hpp"

#include "gatefold/io/json_file.hpp"

namespace search {
namespace {

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

}  // namespace

Captions captions_of_tsv(std::string_view text, const std::filesystem::path& path) {
  CaptionsOf captions(path);
  for (const auto& [number, line] : zero_shot::lines_of(text, path.string())) {
    const auto tab = line.find('\t');
    if (tab == line.npos)
      throw gatefold::FormatError(path.string() + ":" + std::to_string(number) +
                                  ": expected a photograph's path, a tab, and its caption");
    captions.add(line.substr(0, tab), std::string(line.substr(tab + 1)));
  }
  return captions.take();
}

Captions captions_of_json(std::string_view json_text, const std::filesystem::path& path) {
  const auto refuse = [&](const std::string& why) {
    throw gatefold::FormatError(path.string() + ": " + why +
                                ", expected [{\"image\": \"a.jpg\", \"caption\": \"...\" or [\"...\", ...]}, ...]");
  };
  const auto json = gatefold::parse_json(json_text, path.string());
  if (!json.is_array()) refuse("is no JSON list");
  CaptionsOf captions(path);
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

Captions read_captions(const std::filesystem::path& path) {
  const auto text = gatefold::read_file<std::string>(path, std::size_t{1} << 30);  // COCO's captions have 90 MB
  auto captions = path.extension() == ".json" ? captions_of_json(text, path) : captions_of_tsv(text, path);
  if (captions.texts.empty()) throw gatefold::FormatError(path.string() + ": holds no captions");
  return captions;
}

}  // namespace search
