#pragma once
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>

#include "gatefold/core/error.hpp"

namespace gatefold {

/// All that an open file still has to say, in `Bytes` (std::string, std::vector<std::uint8_t>). Throws FormatError
/// «NAME: …» when reading fails, also half way, and when there are more than `most` bytes, as /dev/zero has.
template <class Bytes>
Bytes read_descriptor(int file, const std::string& name, std::size_t most) {
  Bytes bytes;
  struct stat facts {};
  const bool sized = ::fstat(file, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size > 0;
  const auto refuse_size = [&](const std::string& size) {
    throw FormatError(name + ": has " + size + " bytes, expected at most " + std::to_string(most));
  };
  if (sized && static_cast<std::uintmax_t>(facts.st_size) > most) refuse_size(std::to_string(facts.st_size));
  // One byte beyond what is expected, which only says that this was all.
  std::size_t room = sized ? static_cast<std::size_t>(facts.st_size) + 1 : std::size_t{1} << 16, filled = 0;
  for (;;) {
    bytes.resize(std::min(filled + room, most + 1));
    const auto got = ::read(file, bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {  // of a pipe that was opened without waiting, and whose writer takes its time
      pollfd wait{.fd = file, .events = POLLIN, .revents = 0};
      (void)::poll(&wait, 1, -1);
      continue;
    }
    if (got < 0) throw FormatError(name + ": cannot be read: " + std::generic_category().message(errno));
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
    if (filled > most) refuse_size("more than " + std::to_string(most));
    if (filled == bytes.size()) room = std::max<std::size_t>(filled, std::size_t{1} << 16);
  }
  bytes.resize(filled);
  return bytes;
}

/// A whole file in memory, at most `most` bytes of it. It may be a pipe with somebody at its other end, as shells make
/// for <(COMMAND); one that nobody writes into is refused instead of waited for. Throws FormatError that begins with
/// the path and gives the reason of the system.
template <class Bytes>
Bytes read_file(const std::filesystem::path& path, std::size_t most) {
  const auto refuse = [&](const std::string& why) { throw FormatError(path.string() + ": cannot be read: " + why); };
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file < 0) refuse(std::generic_category().message(errno));
  const struct Closing {
    int file;
    ~Closing() { ::close(file); }
  } closing{file};
  struct stat facts {};
  if (::fstat(file, &facts) != 0) refuse(std::generic_category().message(errno));
  if (S_ISDIR(facts.st_mode)) refuse("Is a directory");
  if (!S_ISREG(facts.st_mode) && !S_ISFIFO(facts.st_mode) && !S_ISCHR(facts.st_mode))
    refuse("it is no file but a device or a socket");
  auto bytes = read_descriptor<Bytes>(file, path.string(), most);
  if (bytes.empty() && S_ISFIFO(facts.st_mode)) refuse("it is a pipe that nobody writes into");
  return bytes;
}

}  // namespace gatefold
