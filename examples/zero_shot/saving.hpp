#pragma once
#include <sys/file.h>

#include <chrono>
#include <functional>

#include "gatefold/core/error.hpp"
#include "gatefold/io/atomic_file.hpp"

namespace zero_shot {

/// How long work is kept while it goes on, so that an interruption costs minutes and not hours.
struct SaveOptions {
  double every_seconds = 120;
  std::function<bool()> stop{};     ///< Asked between two batches: true saves, and leaves the rest for another run.
  std::function<double()> clock{};  ///< Seconds; default: the steady clock.

  bool stops() const { return stop && stop(); }
};

/// Says when it is time to save: every so many seconds, and so seldom that saving takes a twentieth of the time at
/// most.
class SaveClock {
 public:
  explicit SaveClock(const SaveOptions& options) : every_(options.every_seconds), clock_(options.clock) {
    if (!clock_)
      clock_ = [] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
      };
    last_ = clock_();
  }

  template <class Save>
  void save_if_due(Save&& save) {
    const double now = clock_();
    if (now - last_ < std::max(every_, 20 * took_)) return;
    save();
    last_ = clock_();
    took_ = every_ > 0 ? last_ - now : 0;  // 0: after each batch, whatever it costs
  }

 private:
  double every_, last_ = 0, took_ = 0;
  std::function<double()> clock_;
};

/// Throws FormatError when no file can be written there: to be asked before the work, not after it. What stands under
/// the name is not touched.
inline void expect_writable(const std::filesystem::path& path, const std::string& what) {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto kind = fs::status(path, error).type();
  if (kind != fs::file_type::regular && kind != fs::file_type::not_found && kind != fs::file_type::none)
    throw gatefold::FormatError(what + " " + path.string() + ": is no file that could be replaced");
  try {
    (void)gatefold::AtomicFile(path);
  } catch (const std::system_error& e) {
    throw gatefold::FormatError(what + ": " + e.what());
  }
}

/// Held by one program at a time that replaces files in a folder after it has read them. It waits for the others, and
/// leaves no file behind: the lock is on the folder itself. Where a file system knows no locks there is none.
class WriterLock {
 public:
  explicit WriterLock(const std::filesystem::path& file)
      : folder_(::open(file.has_parent_path() ? file.parent_path().c_str() : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    while (folder_ >= 0 && ::flock(folder_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~WriterLock() {
    if (folder_ >= 0) ::close(folder_);
  }
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  int folder_;
};

}  // namespace zero_shot
