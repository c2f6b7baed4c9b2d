#include "train_clip/captions_file.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "gatefold/core/read_file.hpp"
#include "gatefold/text/unicode.hpp"
#include "zero_shot/text_lines.hpp"

namespace train_clip {
namespace {

namespace fs = std::filesystem;
using gatefold::FormatError;

constexpr std::size_t kMostBytes = std::size_t{4} << 30;

std::string lower_extension(const fs::path& path) {
  auto end = path.extension().string();
  std::ranges::transform(end, end.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return end;
}

/// Says of a whole file that it is no text of ours.
std::string read_text(const fs::path& path) {
  auto text = gatefold::read_file<std::string>(path, kMostBytes);
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    throw FormatError(path.string() + ": is UTF-16; save it as UTF-8");
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  return text;
}

class Collector {
 public:
  explicit Collector(fs::path folder) : folder_(std::move(folder)) {}

  void fault(const std::string& where, const std::string& why) { captions_.faults.push_back(where + ": " + why); }

  void add(const std::string& where, std::string_view photo, std::string_view caption) {
    const std::string text(zero_shot::detail::trimmed(caption)), name(zero_shot::detail::trimmed(photo));
    if (!gatefold::is_utf8(photo) || !gatefold::is_utf8(caption) || caption.find('\0') != caption.npos)
      return fault(where, "is not UTF-8 (an older encoding such as Latin-1, or no text)");
    if (name.empty()) return fault(where, "names no photograph");
    if (text.empty()) return fault(where, "has an empty caption");
    auto at = known_.find(name);
    if (at == known_.end()) {
      const fs::path path = fs::path(name).is_absolute() ? fs::path(name) : folder_ / name;
      std::error_code error;
      if (!fs::is_regular_file(path, error)) return fault(where, path.string() + " is not there");
      at = known_.emplace(name, captions_.photos.size()).first;
      captions_.photos.push_back({path, {}});
    }
    if (!said_.emplace(at->second, text).second) return fault(where, "says the same of " + name + " again");
    captions_.photos[at->second].captions.push_back(text);
  }

  Captions take() { return std::move(captions_); }

 private:
  fs::path folder_;
  Captions captions_;
  std::map<std::string, std::size_t> known_;
  std::set<std::pair<std::size_t, std::string>> said_;
};

std::string place(const fs::path& path, Index line) { return path.string() + ":" + std::to_string(line); }

void read_tsv(const fs::path& path, Collector& to) {
  const auto text = read_text(path);
  Index number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find_first_of("\r\n", at), text.size());
    const auto line = std::string_view(text).substr(at, end - at);
    at = end + (std::string_view(text).substr(end).starts_with("\r\n") ? 2 : 1);
    ++number;
    if (zero_shot::detail::trimmed(line).empty()) continue;
    const auto tab = line.find('\t');
    if (tab == line.npos)
      to.fault(place(path, number), "has no tab; expected a photograph, a tab, and its caption");
    else
      to.add(place(path, number), line.substr(0, tab), line.substr(tab + 1));
  }
}

/// The rows of RFC 4180, each with the line in which it begins.
struct CsvRow {
  Index line;
  std::vector<std::string> cells;
};
std::vector<CsvRow> rows_of_csv(const std::string& text) {
  std::vector<CsvRow> rows;
  Index line = 1;
  for (std::size_t at = 0; at < text.size();) {
    CsvRow row{line, {""}};
    bool quoted = false;
    for (; at < text.size(); ++at) {
      const char c = text[at];
      if (c == '\n') ++line;
      if (quoted && c == '"' && at + 1 < text.size() && text[at + 1] == '"')
        row.cells.back() += text[++at];
      else if (c == '"')
        quoted = !quoted;
      else if (!quoted && c == ',')
        row.cells.emplace_back();
      else if (!quoted && c == '\n')
        break;
      else if (quoted || c != '\r')
        row.cells.back() += c;
    }
    ++at;
    if (row.cells.size() > 1 || !row.cells[0].empty()) rows.push_back(std::move(row));
  }
  return rows;
}

void read_csv(const fs::path& path, Collector& to) {
  const auto rows = rows_of_csv(read_text(path));
  const auto column = [&](std::initializer_list<std::string_view> names) {
    for (const auto name : names)
      for (std::size_t i = 0; !rows.empty() && i < rows[0].cells.size(); ++i)
        if (gatefold::to_lower(std::string(zero_shot::detail::trimmed(rows[0].cells[i]))) == name)
          return std::optional(i);
    return std::optional<std::size_t>();
  };
  const auto photo = column({"image", "filepath", "file", "photo"}), caption = column({"caption", "title", "text"});
  if (!photo || !caption)
    throw FormatError(path.string() +
                      ": its first line names no columns «image» and «caption» (also taken: filepath, file, photo; "
                      "title, text)");
  for (std::size_t i = 1; i < rows.size(); ++i) {
    const auto& [line, cells] = rows[i];
    if (cells.size() <= std::max(*photo, *caption))
      to.fault(place(path, line),
               "has " + std::to_string(cells.size()) + " columns, expected " + std::to_string(rows[0].cells.size()));
    else
      to.add(place(path, line), cells[*photo], cells[*caption]);
  }
}

void read_folder(const fs::path& folder, Collector& to) {
  std::vector<fs::path> texts;
  for (const auto& file : fs::recursive_directory_iterator(folder))
    if (file.path().extension() == ".txt") texts.push_back(file.path());
  std::ranges::sort(texts);
  for (const auto& path : texts) {
    std::optional<fs::path> photo;
    for (const auto* end : {".jpg", ".jpeg", ".png", ".webp", ".JPG", ".JPEG", ".PNG"})
      if (auto beside = fs::path(path).replace_extension(end); !photo && fs::exists(beside)) photo = beside;
    if (!photo) {
      to.fault(path.string(), "has no photograph of its name beside it");
      continue;
    }
    const auto text = read_text(path);
    Index number = 0, said = 0;
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      ++number;
      const auto line = std::string_view(text).substr(at, end - at);
      at = end + 1;
      if (zero_shot::detail::trimmed(line).empty()) continue;
      ++said;
      to.add(place(path, number), fs::absolute(*photo).string(), line);
    }
    if (said == 0) to.fault(path.string(), "has an empty caption");
  }
}

}  // namespace

Captions read_captions(const fs::path& path, bool skip_bad) {
  if (!fs::exists(path)) throw FormatError(path.string() + ": is not there; expected captions.tsv, .csv or a folder");
  const bool folder = fs::is_directory(path);
  Collector collector(folder ? path : path.parent_path());
  if (folder)
    read_folder(path, collector);
  else if (lower_extension(path) == ".csv")
    read_csv(path, collector);
  else
    read_tsv(path, collector);
  auto captions = collector.take();
  std::erase_if(captions.photos, [](const Captioned& photo) { return photo.captions.empty(); });
  std::string some;
  for (std::size_t i = 0; i < std::min<std::size_t>(10, captions.faults.size()); ++i)
    some += "\n  " + captions.faults[i];
  if (!captions.faults.empty() && (!skip_bad || captions.photos.empty()))
    throw FormatError(path.string() + ": " + std::to_string(captions.faults.size()) + " lines or files are of no use" +
                      (captions.photos.empty() ? ", and nothing is left:" : "; --skip-bad true goes on without them:") +
                      some);
  if (captions.photos.empty()) throw FormatError(path.string() + ": holds no captions");
  return captions;
}

}  // namespace train_clip
