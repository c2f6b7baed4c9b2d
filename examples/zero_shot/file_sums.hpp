#pragma once
#include <map>

#include "gatefold/core/shape.hpp"
#include "zero_shot/file_facts.hpp"

namespace zero_shot {

/// Checksums of large files with what the file system said of each, so that a file is summed once and not at each
/// start. They are kept in the metadata of what depends on the files: an index, a cache.
class FileSums {
 public:
  static constexpr const char* kKey = "zero_shot.sums";

  /// Of the whole file: as it is known, else summed now, at the speed of memory. Throws std::system_error.
  std::uint64_t of(const std::filesystem::path& path);

  /// Files that were read to be summed.
  gatefold::Index summed() const { return summed_; }

  /// Those that were asked for, for the metadata of a file.
  std::string text() const;

  /// What an index or a cache keeps of them; nothing where there is none. It is not trusted further than that: who can
  /// write a wrong sum there can write wrong embeddings as well.
  static FileSums kept_in(const std::filesystem::path& path);

 private:
  std::map<FileFacts, std::uint64_t> sums_, used_;
  gatefold::Index summed_ = 0;
};

}  // namespace zero_shot
