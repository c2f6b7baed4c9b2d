#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "gatefold/io/json_file.hpp"
#include "gatefold/io/safetensors.hpp"
#include "zero_shot/file_facts.hpp"

namespace zero_shot {

/// Checksums of large files with what the file system said of each, so that a file is summed once and not at each
/// start. They are kept in the metadata of what depends on the files: an index, a cache.
class FileSums {
 public:
  static constexpr const char* kKey = "zero_shot.sums";

  /// Of the whole file: as it is known, else summed now, at the speed of memory. Throws std::system_error.
  std::uint64_t of(const std::filesystem::path& path) {
    auto at = sums_.find(facts_of(path));
    if (at == sums_.end()) {
      const auto file = sum_file(path);
      at = sums_.insert_or_assign(file.facts, file.sum).first;
      ++summed_;
    }
    used_.insert(*at);
    return at->second;
  }

  /// Files that were read to be summed.
  gatefold::Index summed() const { return summed_; }

  /// Those that were asked for, for the metadata of a file.
  std::string text() const {
    auto list = nlohmann::json::array();
    for (const auto& [facts, sum] : used_) list.push_back({{"file", facts.numbers()}, {"sum", sum}});
    return list.dump();
  }

  /// What an index or a cache keeps of them; nothing where there is none. It is not trusted further than that: who can
  /// write a wrong sum there can write wrong embeddings as well.
  static FileSums kept_in(const std::filesystem::path& path) {
    FileSums sums;
    try {
      const gatefold::SafeTensors file{gatefold::MappedFile(path)};
      const auto at = file.metadata().find(kKey);
      if (at == file.metadata().end()) return sums;
      for (const auto& item : gatefold::parse_json(at->second, path.string())) {
        const auto numbers = item.at("file").get<std::array<std::int64_t, FileFacts::kNumbers>>();
        sums.sums_[FileFacts::of_numbers(numbers.data())] = item.at("sum").get<std::uint64_t>();
      }
    } catch (const std::exception&) {  // whoever reads the file for what it is says what is wrong
      sums.sums_.clear();
    }
    return sums;
  }

 private:
  std::map<FileFacts, std::uint64_t> sums_, used_;
  gatefold::Index summed_ = 0;
};

}  // namespace zero_shot
