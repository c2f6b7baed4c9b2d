#include "search/index_file.hpp"

#include "gatefold/io/json_file.hpp"
#include "gatefold/io/safetensors_writer.hpp"

namespace search {
namespace {

constexpr const char *kIndexKey = "search.index", *kPlaceKey = "search.index place";
constexpr int kIndexVersion = 2;
constexpr std::size_t kEntryNumbers = zero_shot::FileFacts::kNumbers + 1;

/// Texts of any bytes but NUL, which ends each: names of files need not be UTF-8.
std::vector<std::string> texts_of(std::span<const std::byte> bytes) {
  std::vector<std::string> texts;
  for (std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size()); !all.empty();) {
    const auto end = std::min(all.find('\0'), all.size());
    texts.emplace_back(all.substr(0, end));
    all.remove_prefix(std::min(end + 1, all.size()));
  }
  return texts;
}

fs::path folder_of(const fs::path& file) { return file.has_parent_path() ? file.parent_path() : fs::path("."); }

}  // namespace

void write_index(const PhotoIndex& index, const fs::path& path) {
  const auto count = std::ssize(index.entries);
  gatefold::Tensor<std::int64_t, 2> numbers({count, Index{kEntryNumbers}});
  std::string names;
  for (Index i = 0; i < count; ++i) {
    const Entry& entry = index.entries[static_cast<std::size_t>(i)];
    names.append(entry.name).push_back('\0');
    const auto facts = entry.facts.numbers();
    std::copy(facts.begin(), facts.end(), numbers.view()[i].data());
    numbers.view()(i, std::ssize(facts)) = static_cast<std::int64_t>(entry.content);
  }
  std::error_code unknown;  // a folder that is gone, say: then the one name must do
  const auto here = fs::canonical(folder_of(path), unknown), folder = fs::weakly_canonical(index.folder, unknown);
  std::string place = unknown ? index.folder.generic_string() : folder.lexically_relative(here).generic_string();
  place.append(1, '\0').append(unknown ? index.folder.generic_string() : folder.generic_string()).push_back('\0');
  const nlohmann::json facts{{"version", kIndexVersion}, {"model", index.model}, {"format", index.format}};
  const auto bytes_of = [](const std::string& text) { return std::as_bytes(std::span(text)); };
  gatefold::SafeTensorsWriter writer;
  writer.add("photos", index.z.view());
  writer.add("entries", numbers.view());
  writer.add_bytes("names", gatefold::Dtype::u8, {std::ssize(names)}, bytes_of(names));
  writer.add_bytes("folder", gatefold::Dtype::u8, {std::ssize(place)}, bytes_of(place));
  writer.add_metadata(kIndexKey, facts.dump());
  writer.add_metadata(zero_shot::FileSums::kKey, index.sums);
  try {
    writer.write(path);
  } catch (const std::system_error& error) {
    throw gatefold::FormatError(std::string("the index: ") + error.what());
  }
}

PhotoIndex read_index(const fs::path& path) {
  const auto refuse = [&](const std::string& why) {
    throw gatefold::FormatError(path.string() + ": " + why +
                                "; expected an index, which search index FOLDER --model DIR makes");
  };
  if (!fs::exists(path)) refuse("does not exist");
  std::optional<gatefold::SafeTensors> file;
  try {
    file.emplace(gatefold::MappedFile(path));
  } catch (const std::exception& error) {
    refuse(error.what());
  }
  const auto note = file->metadata().find(kIndexKey);
  if (note == file->metadata().end()) refuse(std::string("has no «") + kIndexKey + "»");
  try {
    file->expect_checksum();
  } catch (const gatefold::FormatError& error) {
    throw DamagedIndex(error.what());
  }
  const auto json = gatefold::parse_json(note->second, path.string());
  PhotoIndex index;
  try {
    if (json.value("version", 1) != kIndexVersion)
      refuse("is of another version of this program; remove it and make it anew");
    json.at("model").get_to(index.model);
    json.at("format").get_to(index.format);
  } catch (const nlohmann::json::exception&) {
    refuse("its notes are not what search writes");
  }
  const auto tensor = [&](const char* name, gatefold::Dtype dtype, std::size_t rank) -> const auto& {
    const auto* found = file->find(name);
    if (!found || found->dtype != dtype || found->shape.size() != rank)
      refuse(std::string("has no «") + name + "» as search writes it");
    return *found;
  };
  const auto& photos = tensor("photos", gatefold::Dtype::f32, 2);
  const auto& entries = tensor("entries", gatefold::Dtype::i64, 2);
  const auto names = texts_of(tensor("names", gatefold::Dtype::u8, 1).bytes);
  const auto place = texts_of(tensor("folder", gatefold::Dtype::u8, 1).bytes);
  const auto count = std::ssize(names);
  if (photos.shape[0] != count || entries.shape != std::vector<Index>{count, Index{kEntryNumbers}} || place.size() != 2)
    refuse("its names, facts and embeddings are not equally many");

  const auto beside = (folder_of(path) / place[0]).lexically_normal();
  std::error_code error;
  index.folder = fs::is_directory(beside, error) || !fs::is_directory(place[1], error) ? beside : fs::path(place[1]);
  if (const auto sums = file->metadata().find(zero_shot::FileSums::kKey); sums != file->metadata().end())
    index.sums = sums->second;
  gatefold::Tensor<std::int64_t, 2> numbers({entries.shape[0], entries.shape[1]});
  gatefold::decode<std::int64_t>(gatefold::Dtype::i64, entries.bytes, numbers.flat());
  for (Index i = 0; i < count; ++i) {
    const std::int64_t* const n = numbers.view()[i].data();
    index.entries.push_back({names[static_cast<std::size_t>(i)], zero_shot::FileFacts::of_numbers(n),
                             static_cast<std::uint64_t>(n[zero_shot::FileFacts::kNumbers])});
  }
  index.z = gatefold::Tensor<float, 2>({photos.shape[0], photos.shape[1]});
  gatefold::decode<float>(gatefold::Dtype::f32, photos.bytes, index.z.flat());
  return index;
}

void IndexFile::write(const PhotoIndex& index) {
  const zero_shot::WriterLock lock(path_);
  if (version() != seen_)
    throw gatefold::FormatError(path_.string() +
                                ": another program has written it since this run began, so it is left as it is; "
                                "wait until that one has ended, then give the same command again, which keeps what "
                                "is in the index, or write another with --out");
  write_index(index, path_);
  seen_ = version();
}

std::optional<IndexFile::Version> IndexFile::version() const {
  if (std::error_code error; !fs::exists(path_, error)) return std::nullopt;
  const auto facts = zero_shot::facts_of(path_);
  return Version{facts.inode, facts.size, facts.modified, facts.modified_ns};
}

}  // namespace search
