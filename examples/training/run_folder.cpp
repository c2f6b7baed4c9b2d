#include "training/run_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "gatefold/core/error.hpp"
#include "program.hpp"

namespace training {

namespace detail {

std::optional<long> owner_of_lock(ino_t inode, std::istream& locks) {
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

RunFolder::RunFolder(std::filesystem::path path, Use use) : RunFolder(std::move(path)) {
  const auto refuse = [&](const std::string& why) { throw gatefold::FormatError(path_.string() + " " + why); };
  if (use != Use::resume) created_ = std::filesystem::create_directories(path_);
  if (std::filesystem::exists(path_)) lock();
  if (use == Use::resume && !std::filesystem::exists(*this / kCheckpoint))
    refuse(std::string("holds no run to go on with (there is no ")
               .append(kCheckpoint)
               .append(" in it); begin one with --out ")
               .append(path_.string()));
  for (const char* name : {kCheckpoint, kModel})
    if (use == Use::begin && std::filesystem::exists(*this / name))
      refuse(std::string("holds a run already (") + name + "); go on with it by --resume " + path_.string() +
             ", name another folder with --out, or give --overwrite to lose it");
}

RunFolder::~RunFolder() {
  if (created_) ::rmdir(path_.c_str());  // which fails, as it should, where anything was written
  if (file_ >= 0) ::close(file_);
}

void RunFolder::lock() {
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

}  // namespace training
