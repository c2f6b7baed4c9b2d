#pragma once
#include <filesystem>
#include <optional>
#include <string>

namespace training {

namespace detail {
/// Who holds a lock (of flock) on the inode, if the kernel tells: lines «1: FLOCK ADVISORY WRITE 4711 fe:01:131090 0
/// EOF».
std::optional<long> owner_of_lock(ino_t inode, std::istream& locks);
}  // namespace detail

/// The folder of a run, which is this process's alone as long as the object lives.
class RunFolder {
 public:
  static constexpr const char *kCheckpoint = "run.safetensors", *kModel = "model.safetensors",
                              *kMetrics = "metrics.csv", *kReport = "report.md", *kSummary = "summary.json";
  enum class Use { begin, overwrite, resume };

  /// Throws FormatError that says what to do: another process trains here, there is a run that would be lost, or none
  /// to go on with. Removes nothing yet.
  RunFolder(std::filesystem::path path, Use use);
  ~RunFolder();
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
  void lock();

  std::filesystem::path path_;
  bool created_ = false;
  int file_ = -1;
};

}  // namespace training
