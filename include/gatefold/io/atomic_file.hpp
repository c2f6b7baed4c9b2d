#pragma once
#include <sys/file.h>

#include <cstdio>

#include "gatefold/io/mapped_file.hpp"

namespace gatefold {

namespace detail {
inline std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}
}  // namespace detail

/// From here on what stood under the name `from` stands under `to`, in the same folder, also after a power cut. Throws
/// std::system_error.
inline void replace_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) detail::throw_file_error(errno, "replace", to);
  // The rename itself lives in the folder. Some file systems cannot flush one (EINVAL); the file is in place by then.
  const int folder = ::open(detail::folder_of(to).c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  if (folder < 0) return;
  (void)::fsync(folder);
  ::close(folder);
}

/// A file that appears under its name complete or not at all: bytes go to a temporary file in the same folder,
/// `commit` flushes them to the disk and renames. Without `commit` (an exception, say) whatever stood under the name
/// before stays as it was and the temporary file is removed. A symbolic link under the name is replaced, not followed.
/// Temporary files that killed writers of the same name left behind are removed by the next one.
class AtomicFile {
 public:
  /// Throws std::system_error with the path and the reason of the system, as all members do.
  explicit AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
    remove_abandoned();
    for (int attempt = 0; file_ < 0; ++attempt) {
      temporary_ = path_;
      temporary_ += kInfix + std::to_string(::getpid()) + "-" + std::to_string(attempt);
      file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file_ < 0 && (errno != EEXIST || attempt == kMaxAttempts)) detail::throw_file_error(errno, "create", path_);
      if (file_ >= 0 && !lock()) ::close(std::exchange(file_, -1));
    }
  }
  ~AtomicFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());  // before the lock goes with the descriptor
    if (file_ >= 0) ::close(file_);
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    put(bytes, [&](std::span<const std::byte> rest) { return ::write(file_, rest.data(), rest.size()); });
  }
  /// Over what was written before; the next `write` goes on at the end.
  void overwrite(std::size_t offset, std::span<const std::byte> bytes) {
    const auto end = offset + bytes.size();
    put(bytes, [&](std::span<const std::byte> rest) {
      return ::pwrite(file_, rest.data(), rest.size(), static_cast<off_t>(end - rest.size()));
    });
  }

  /// From here on the new content stands under the name, also after a power cut.
  void commit() {
    struct stat old {};
    if (::stat(path_.c_str(), &old) == 0) (void)::fchmod(file_, old.st_mode & 07777);  // a private file stays private
    if (::fsync(file_) != 0) detail::throw_file_error(errno, "flush", path_);
    replace_file(temporary_, path_);
    temporary_.clear();
    ::close(std::exchange(file_, -1));  // flushed, so that there is nothing left that could fail
  }

 private:
  static constexpr int kMaxAttempts = 1000;
  static constexpr const char* kInfix = ".tmp-";

  void put(std::span<const std::byte> bytes, const auto& some) {
    while (!bytes.empty()) {
      const auto written = some(bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) detail::throw_file_error(errno, "write", path_);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  // A writer holds a lock on its temporary file, which the kernel takes away when the writer ends in whatever way. So a
  // file that nobody has locked is abandoned; the number in its name says nothing, for numbers of processes come again
  // and another host has its own. Where a file system knows no locks nothing is removed.

  /// False when somebody took the new file for abandoned before it was locked.
  bool lock() const {
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK;
    struct stat facts {};
    return ::fstat(file_, &facts) != 0 || facts.st_nlink > 0;
  }

  void remove_abandoned() const {
    const auto prefix = path_.filename().string() + kInfix;
    std::error_code error;
    for (std::filesystem::directory_iterator at(detail::folder_of(path_), error), end; !error && at != end;
         at.increment(error)) {
      const auto name = at->path().filename().string();
      if (name.starts_with(prefix) && name.find_first_not_of("0123456789-", prefix.size()) == name.npos)
        remove_if_abandoned(at->path());
    }
  }

  static void remove_if_abandoned(const std::filesystem::path& path) {
    constexpr int kHow = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int file = ::open(path.c_str(), O_WRONLY | kHow);  // NFS locks only what may be written
    if (file < 0) file = ::open(path.c_str(), O_RDONLY | kHow);
    if (file < 0) return;
    struct stat locked {
    }, named{};
    // While we hold the lock the name cannot come to mean another writer's file: it is taken.
    if (::flock(file, LOCK_EX | LOCK_NB) == 0 && ::fstat(file, &locked) == 0 && S_ISREG(locked.st_mode) &&
        ::lstat(path.c_str(), &named) == 0 && named.st_ino == locked.st_ino && named.st_dev == locked.st_dev)
      ::unlink(path.c_str());
    ::close(file);
  }

  std::filesystem::path path_, temporary_;
  int file_ = -1;
};

/// A text as a file, complete or not at all. Throws std::system_error as AtomicFile does.
inline void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

}  // namespace gatefold
