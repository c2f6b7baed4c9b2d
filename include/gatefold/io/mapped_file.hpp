#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "gatefold/core/language.hpp"

namespace gatefold {

namespace detail {
/// Throws std::system_error «open /data/model.safetensors: No such file or directory» for the errno given.
[[noreturn]] inline void throw_file_error(int error, const std::string& action, const std::filesystem::path& path) {
  throw std::system_error(error, std::generic_category(), action + " " + path.string());
}
}  // namespace detail

/// A file as read-only memory (POSIX mmap): pages are read when touched, so opening costs the same for any size. A
/// small file (kCopied) is copied instead, and then nothing that happens to it matters. Writers must replace a larger
/// one (as AtomicFile does) rather than shorten it: the kernel answers a touch of a page that is no longer there with
/// SIGBUS, which no check at opening can prevent.
class MappedFile {
 public:
  static constexpr std::size_t kCopied = std::size_t{1} << 20;

  /// Throws std::system_error with the path and the reason of the system.
  explicit MappedFile(std::filesystem::path path) : path_(std::move(path)) {
    // O_NONBLOCK: a pipe in place of the file shall be refused, not waited for.
    const int file = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) detail::throw_file_error(errno, "open", path_);
    struct stat facts {};
    int error = ::fstat(file, &facts) != 0 ? errno : 0;
    if (!error && !S_ISREG(facts.st_mode)) error = S_ISDIR(facts.st_mode) ? EISDIR : EINVAL;
    if (!error && facts.st_size > 0) {  // mmap refuses a length of zero, an empty file is fine
      const auto size = static_cast<std::size_t>(facts.st_size);
      copied_ = size <= kCopied;
      void* const data = copied_ ? ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                 : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
      if (data == MAP_FAILED) {
        error = errno;
      } else {
        bytes_ = {static_cast<const std::byte*>(data), size};
        if (copied_ && !(error = copy(file, {static_cast<std::byte*>(data), size})))
          (void)::mprotect(data, size, PROT_READ);
        if (error) ::munmap(data, size);
      }
    }
    ::close(file);  // the mapping outlives the descriptor
    if (error) detail::throw_file_error(error, "map", path_);
  }
  ~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  MappedFile(MappedFile&& other) noexcept
      : path_(std::move(other.path_)),
        bytes_(std::exchange(other.bytes_, std::span<const std::byte>{})),
        copied_(other.copied_) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(bytes_, other.bytes_);
    std::swap(copied_, other.copied_);
    return *this;
  }

  /// The whole file; the address stays the same when the object is moved.
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

  /// Lets go of the memory of a part that has been read: a later touch reads it from the file again. Who goes through a
  /// file so needs no more memory than the part at hand.
  void forget(std::span<const std::byte> part) const {
    if (copied_) return;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto begin = static_cast<std::size_t>(part.data() - bytes_.data()), end = begin + part.size();
    const std::size_t first = (begin + page - 1) / page * page, last = end / page * page;  // whole pages only
    if (first < last) (void)::madvise(const_cast<std::byte*>(bytes_.data()) + first, last - first, MADV_DONTNEED);
  }

 private:
  /// errno, or 0 when all is there.
  static int copy(int file, std::span<std::byte> to) {
    while (!to.empty()) {
      const auto got = ::read(file, to.data(), to.size());
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return got < 0 ? errno : EIO;  // it has become shorter
      to = to.subspan(static_cast<std::size_t>(got));
    }
    return 0;
  }

  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
  bool copied_ = false;
};

}  // namespace gatefold
