#pragma once
#include <cstdio>

#include "gatefold/io/mapped_file.hpp"

namespace gatefold {

/// A file that appears under its name complete or not at all: bytes go to a temporary file in the same folder,
/// `commit` flushes them to the disk and renames. Without `commit` (an exception, say) whatever stood under the name
/// before stays as it was and the temporary file is removed. A symbolic link under the name is replaced, not followed.
class AtomicFile {
 public:
  /// Throws std::system_error with the path and the reason of the system, as all members do.
  explicit AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
    // O_EXCL makes the name ours; a leftover of a crashed process with our id only costs another round.
    for (int attempt = 0; file_ < 0; ++attempt) {
      temporary_ = path_;
      temporary_ += ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
      file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file_ < 0 && (errno != EEXIST || attempt == kMaxAttempts)) detail::throw_file_error(errno, "create", path_);
    }
  }
  ~AtomicFile() {
    if (file_ >= 0) ::close(file_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto written = ::write(file_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) detail::throw_file_error(errno, "write", path_);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  /// From here on the new content stands under the name, also after a power cut.
  void commit() {
    struct stat old {};
    if (::stat(path_.c_str(), &old) == 0) (void)::fchmod(file_, old.st_mode & 07777);  // a private file stays private
    if (::fsync(file_) != 0) detail::throw_file_error(errno, "flush", path_);
    if (::close(std::exchange(file_, -1)) != 0) detail::throw_file_error(errno, "close", path_);
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) detail::throw_file_error(errno, "replace", path_);
    temporary_.clear();
    flush_folder();
  }

 private:
  static constexpr int kMaxAttempts = 1000;

  // The rename itself lives in the folder. Some file systems cannot flush one (EINVAL); the file is in place by then.
  void flush_folder() const {
    const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
    const int file = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (file < 0) return;
    (void)::fsync(file);
    ::close(file);
  }

  std::filesystem::path path_, temporary_;
  int file_ = -1;
};

}  // namespace gatefold
