#pragma once
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "gatefold/core/error.hpp"
#include "program.hpp"

namespace train_limoe {

namespace detail {
/// Who holds a lock (of flock) on the inode, if the kernel tells: lines «1: FLOCK ADVISORY WRITE 4711 fe:01:131090 0
/// EOF».
inline std::optional<long> owner_of_lock(ino_t inode, std::istream& locks) {
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, advice, access, place;
    long process = 0;
    if (words >> number >> kind >> advice >> access >> process >> place && kind == "FLOCK" && process > 0 &&
        place.substr(place.rfind(':') + 1) == std::to_string(inode))
      return process;
  }
  return std::nullopt;
}
}  // namespace detail

/// The folder of a run, which is this process's alone as long as the object lives.
class RunFolder {
 public:
  static constexpr const char *kCheckpoint = "run.safetensors", *kModel = "model.safetensors",
                              *kMetrics = "metrics.csv", *kReport = "report.md", *kSummary = "summary.json";
  enum class Use { begin, overwrite, resume };

  /// Throws FormatError that says what to do: another process trains here, there is a run that would be lost, or none
  /// to go on with. Removes nothing yet.
  RunFolder(std::filesystem::path path, Use use) : RunFolder(std::move(path)) {
    const auto refuse = [&](const std::string& why) { throw gatefold::FormatError(path_.string() + " " + why); };
    if (use != Use::resume) created_ = std::filesystem::create_directories(path_);
    if (std::filesystem::exists(path_)) lock();
    if (use == Use::resume && !std::filesystem::exists(*this / kCheckpoint))
      refuse(std::string("holds no run to go on with (there is no ") + kCheckpoint + " in it); begin one with --out " +
             path_.string());
    for (const char* name : {kCheckpoint, kModel})
      if (use == Use::begin && std::filesystem::exists(*this / name))
        refuse(std::string("holds a run already (") + name + "); go on with it by --resume " + path_.string() +
               ", name another folder with --out, or give --overwrite to lose it");
  }
  ~RunFolder() {
    if (created_) ::rmdir(path_.c_str());  // which fails, as it should, where anything was written
    if (file_ >= 0) ::close(file_);
  }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

  /// Removes what a run that was here has written.
  void remove_run() const {
    for (const char* name : {kCheckpoint, kModel, kMetrics, kReport, kSummary}) std::filesystem::remove(*this / name);
  }

 private:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}  // from here on the destructor cleans up

  // The kernel takes the lock away when the process ends in whatever way, so there is no lock file to outlive it.
  void lock() {
    file_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file_ < 0) throw std::system_error(errno, std::generic_category(), "open " + path_.string());
    if (::flock(file_, LOCK_EX | LOCK_NB) == 0) return;
    if (const int error = errno; error != EWOULDBLOCK) {  // a file system without locks
      std::cerr << gatefold::message("note: " + path_.string() + " cannot be locked (" +
                                     std::generic_category().message(error) + "); start no other run in it");
      return;
    }
    struct stat facts {};
    std::ifstream locks("/proc/locks");
    const auto owner = ::fstat(file_, &facts) == 0 ? detail::owner_of_lock(facts.st_ino, locks) : std::nullopt;
    throw gatefold::FormatError(path_.string() + " is where another process trains" +
                                (owner ? " (its number is " + std::to_string(*owner) + ")" : "") +
                                "; wait until it has ended, or name another folder with --out");
  }

  std::filesystem::path path_;
  bool created_ = false;
  int file_ = -1;
};

}  // namespace train_limoe
