#pragma once
#include <sys/stat.h>

#include <array>
#include <compare>
#include <cstdint>
#include <vector>

#include "gatefold/io/checksum.hpp"
#include "gatefold/io/mapped_file.hpp"

namespace zero_shot {

/// What the file system says of a file. Whoever writes into it, replaces it or sets its times back changes one of them:
/// the time of change cannot be set, and a file that takes another's place has another inode. A copy or another disk
/// changes them too, so where they differ, the content decides. Seconds and nanoseconds, since both in one number end
/// in 2262.
struct FileFacts {
  std::int64_t size = -1;                      ///< Bytes.
  std::int64_t modified = 0, modified_ns = 0;  ///< The content.
  std::int64_t changed = 0, changed_ns = 0;    ///< The content, or what the folder says of it.
  std::int64_t inode = 0;

  auto operator<=>(const FileFacts&) const = default;

  static constexpr std::size_t kNumbers = 6;
  std::array<std::int64_t, kNumbers> numbers() const {
    return {size, modified, modified_ns, changed, changed_ns, inode};
  }
  static FileFacts of_numbers(const std::int64_t* n) { return {n[0], n[1], n[2], n[3], n[4], n[5]}; }
};

namespace detail {
inline FileFacts facts_of(const struct stat& s) {
  return {.size = s.st_size,
          .modified = s.st_mtim.tv_sec,
          .modified_ns = s.st_mtim.tv_nsec,
          .changed = s.st_ctim.tv_sec,
          .changed_ns = s.st_ctim.tv_nsec,
          .inode = static_cast<std::int64_t>(s.st_ino)};
}
}  // namespace detail

/// Of the file that a link leads to. Throws std::system_error with the path and the reason of the system.
inline FileFacts facts_of(const std::filesystem::path& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) gatefold::detail::throw_file_error(errno, "look at", path);
  return detail::facts_of(facts);
}

/// A file's bytes in one number, and what it was before they were read: who writes meanwhile changes the facts.
struct SummedFile {
  FileFacts facts;
  std::uint64_t sum = 0;
};

/// Reads rather than maps, so that a file that is shortened meanwhile does no harm. Throws std::system_error, also for
/// what is no file: a pipe is not waited for.
inline SummedFile sum_file(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) gatefold::detail::throw_file_error(errno, "open", path);
  struct stat facts {};
  int error = ::fstat(file, &facts) != 0 ? errno
              : S_ISREG(facts.st_mode)   ? 0
              : S_ISDIR(facts.st_mode)   ? EISDIR
                                         : EINVAL;
  gatefold::Checksum sum;
  std::vector<std::byte> block(std::size_t{1} << 18);
  while (!error) {
    const auto size = ::read(file, block.data(), block.size());
    if (size == 0) break;
    if (size > 0) sum.add(std::span(block).first(static_cast<std::size_t>(size)));
    if (size < 0 && errno != EINTR) error = errno;
  }
  ::close(file);
  if (error) gatefold::detail::throw_file_error(error, "read", path);
  return {detail::facts_of(facts), sum.value()};
}

}  // namespace zero_shot
