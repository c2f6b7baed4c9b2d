#pragma once
#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gatefold/io/safetensors_writer.hpp"
#include "zero_shot/clip_embed.hpp"
#include "zero_shot/clip_photos.hpp"

namespace search {

using gatefold::Index;
namespace fs = std::filesystem;

/// A photograph as it was when it was looked at; another size or time of change means that it is another.
struct Entry {
  std::string name;                    ///< Relative to the index's folder, with / between folders.
  std::int64_t size = 0, changed = 0;  ///< Bytes; ticks of the file system's clock.

  bool operator==(const Entry&) const = default;
};

/// The embeddings of a folder's photographs, in a file beside their names.
struct PhotoIndex {
  std::string folder;                    ///< As it was named, made absolute.
  std::string model, format;             ///< What embedded them: ClipModel::identity, ClipModel::format.
  std::vector<Entry> entries;            // [N]
  gatefold::Tensor<float, 2> z{{0, 0}};  // [N, P] of length 1

  std::string path_of(std::size_t i) const { return (fs::path(folder) / entries[i].name).string(); }
};

/// What the file system says of a photograph now. Throws FormatError when it is gone.
inline Entry entry_of(const fs::path& photo, const fs::path& folder) {
  std::error_code error;
  const auto size = fs::file_size(photo, error);
  const auto changed = error ? fs::file_time_type() : fs::last_write_time(photo, error);
  if (error) throw gatefold::FormatError(photo.string() + ": " + error.message());
  return {fs::relative(photo, folder).generic_string(), static_cast<std::int64_t>(size),
          static_cast<std::int64_t>(changed.time_since_epoch().count())};
}

/// The bytes of a name as text that JSON can hold: a name that is not UTF-8 is not found again and embedded anew.
inline void write_index(const PhotoIndex& index, const fs::path& path) {
  nlohmann::json names = nlohmann::json::array(), sizes = names, changes = names;
  for (const Entry& entry : index.entries) {
    names.push_back(entry.name);
    sizes.push_back(entry.size);
    changes.push_back(entry.changed);
  }
  const nlohmann::json facts{{"folder", index.folder}, {"model", index.model}, {"format", index.format},
                             {"names", names},         {"sizes", sizes},       {"changed", changes}};
  gatefold::SafeTensorsWriter writer;
  writer.add("photos", index.z.view());
  writer.add_metadata("search.index", facts.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  try {
    writer.write(path);
  } catch (const std::system_error& error) {
    throw gatefold::FormatError(std::string("the index: ") + error.what());
  }
}

/// Throws FormatError for what is no whole index; nothing in it is trusted.
inline PhotoIndex read_index(const fs::path& path) {
  const auto refuse = [&](const std::string& why) {
    throw gatefold::FormatError(path.string() + ": " + why +
                                "; expected an index, which search index FOLDER --model DIR makes");
  };
  if (!fs::exists(path)) refuse("does not exist");
  std::optional<gatefold::SafeTensors> file;
  try {
    file.emplace(gatefold::MappedFile(path));
    file->expect_checksum();
  } catch (const std::exception& error) {
    refuse(error.what());
  }
  const auto note = file->metadata().find("search.index");
  if (note == file->metadata().end()) refuse("has no «search.index»");
  const auto json = nlohmann::json::parse(note->second, nullptr, false);
  PhotoIndex index;
  const auto* photos = file->find("photos");
  try {
    json.at("folder").get_to(index.folder);
    json.at("model").get_to(index.model);
    json.at("format").get_to(index.format);
    const auto names = json.at("names").get<std::vector<std::string>>();
    const auto sizes = json.at("sizes").get<std::vector<std::int64_t>>();
    const auto changed = json.at("changed").get<std::vector<std::int64_t>>();
    const auto count = std::ssize(names);
    if (!photos || photos->dtype != gatefold::Dtype::f32 || photos->shape.size() != 2 || photos->shape[0] != count ||
        std::ssize(sizes) != count || std::ssize(changed) != count)
      refuse("its names, sizes, times and embeddings are not equally many");
    for (std::size_t i = 0; i < names.size(); ++i) index.entries.push_back({names[i], sizes[i], changed[i]});
  } catch (const nlohmann::json::exception&) {
    refuse("its notes are not what search writes");
  }
  index.z = gatefold::Tensor<float, 2>({photos->shape[0], photos->shape[1]});
  gatefold::decode<float>(gatefold::Dtype::f32, photos->bytes, index.z.flat());
  return index;
}

/// What a run of `search index` did.
struct Update {
  PhotoIndex index;
  Index kept = 0, embedded = 0, gone = 0;
  std::vector<std::string> faults{};  ///< Of photographs that cannot be read; they are not in the index.
};

/// The index of a folder as it is now, taking over from `old` what has not changed. Throws FormatError.
inline Update update_index(const fs::path& folder, const zero_shot::ClipModel& clip,
                           const std::optional<PhotoIndex>& old, const zero_shot::EmbedOptions& how,
                           gatefold::Context& ctx) {
  if (!fs::is_directory(folder)) throw gatefold::FormatError(folder.string() + ": expected a folder of photographs");
  Update update;
  PhotoIndex& index = update.index;
  index.folder = fs::canonical(folder).string();
  index.model = clip.identity;
  index.format = clip.format;
  std::map<std::string, std::size_t> known;
  if (old && old->model == index.model && old->format == index.format && old->z.extent(1) == clip.options.embedding)
    for (std::size_t i = 0; i < old->entries.size(); ++i) known.emplace(old->entries[i].name, i);
  const fs::path places[]{fs::path(index.folder)};
  const auto photos = zero_shot::find_photos(places);
  std::vector<fs::path> changed;
  std::vector<Entry> now;
  for (const auto& photo : photos) {
    now.push_back(entry_of(photo, index.folder));
    const auto at = known.find(now.back().name);
    if (at == known.end() || old->entries[at->second] != now.back()) changed.push_back(photo);
  }
  const auto fresh = zero_shot::embed_photos(clip, changed, how, ctx);
  std::vector<const float*> rows;
  std::size_t next = 0;
  for (std::size_t i = 0; i < photos.size(); ++i) {
    const bool is_fresh = next < changed.size() && changed[next] == photos[i];
    if (is_fresh) {
      const auto at = next++;
      if (!fresh.faults[at].empty()) {
        update.faults.push_back(fresh.faults[at]);
        continue;
      }
      rows.push_back(fresh.z.view()[static_cast<Index>(at)].data());
      ++update.embedded;
    } else {
      rows.push_back(old->z.view()[static_cast<Index>(known.at(now[i].name))].data());
      ++update.kept;
    }
    index.entries.push_back(now[i]);
  }
  if (old)
    for (const Entry& entry : old->entries)
      update.gone += std::none_of(now.begin(), now.end(), [&](const Entry& e) { return e.name == entry.name; });
  index.z = gatefold::Tensor<float, 2>({std::ssize(rows), clip.options.embedding});
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy_n(rows[i], clip.options.embedding, index.z.view()[static_cast<Index>(i)].data());
  return update;
}

struct Hit {
  std::size_t photo = 0;
  double cosine = 0;
};

/// The photographs nearest to a text, best first. z // [P] of length 1
inline std::vector<Hit> best(const PhotoIndex& index, gatefold::View<const float, 1> z, Index top) {
  std::vector<Hit> hits;
  for (std::size_t i = 0; i < index.entries.size(); ++i) {
    const double c = zero_shot::cosine(index.z.view()[static_cast<Index>(i)], z);
    if (!std::isnan(c)) hits.push_back({i, c});
  }
  std::stable_sort(hits.begin(), hits.end(), [](const Hit& a, const Hit& b) { return a.cosine > b.cosine; });
  hits.resize(std::min(hits.size(), static_cast<std::size_t>(top)));
  return hits;
}

}  // namespace search
