#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gatefold/core/tensor.hpp"
#include "zero_shot/file_sums.hpp"
#include "zero_shot/saving.hpp"

namespace search {

using gatefold::Index;
namespace fs = std::filesystem;

/// A photograph as it was when it was embedded.
struct Entry {
  std::string name;  ///< Relative to the index's folder, with / between folders.
  zero_shot::FileFacts facts{};
  std::uint64_t content = 0;  ///< The sum of its bytes.

  bool operator==(const Entry&) const = default;
};

/// The embeddings of a folder's photographs.
struct PhotoIndex {
  fs::path folder;                       ///< Where the photographs are now.
  std::string model, format;             ///< What embedded them: ClipModel::identity, ClipModel::format.
  std::string sums = "[]";               ///< FileSums::text of the model's files.
  std::vector<Entry> entries;            // [N]
  gatefold::Tensor<float, 2> z{{0, 0}};  // [N, P] of length 1

  std::string path_of(std::size_t i) const { return (folder / entries[i].name).string(); }
  /// Whether there is no file of this name any more.
  bool is_gone(std::size_t i) const {
    std::error_code error;
    return fs::status(path_of(i), error).type() == fs::file_type::not_found;
  }
};

/// Replaces the file. The folder is kept as seen from the index as well as in full, so that both can be moved, together
/// or the index alone. Throws FormatError when it cannot be written.
void write_index(const PhotoIndex& index, const fs::path& path);

/// An index whose bytes are not those that were written.
struct DamagedIndex : gatefold::FormatError {
  using FormatError::FormatError;
};

/// Throws FormatError for what is no whole index, DamagedIndex for one that was; nothing in it is trusted.
PhotoIndex read_index(const fs::path& path);

/// An index that one run reads, adds to and replaces now and then. Another run that has replaced it meanwhile is not
/// overwritten: its photographs would be lost.
class IndexFile {
 public:
  /// To be made before the index is read.
  explicit IndexFile(fs::path path) : path_(std::move(path)), seen_(version()) {}

  const fs::path& path() const { return path_; }
  /// Throws FormatError when the file is not the one that was there when it was last looked at.
  void write(const PhotoIndex& index);

 private:
  /// Who replaces the file makes a new one, with an inode and a time of its own. The time of change does not count: a
  /// backup or chmod changes it.
  using Version = std::array<std::int64_t, 4>;
  std::optional<Version> version() const;

  fs::path path_;
  std::optional<Version> seen_;
};

}  // namespace search
