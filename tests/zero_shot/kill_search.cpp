// Kills `search index` at random moments and looks at what is left: kill_search SEARCH FOLDER KILLS
// FOLDER is emptied first. After each kill -9 the index must be whole, hold every photograph that it
// held before, with the same embedding to the bit, and in the end, when a run was let go to its end, be as one that
// nobody disturbed, with no other file left.
#include <fcntl.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <map>
#include <random>
#include <thread>

#include "gatefold/image/encode.hpp"
#include "search/photo_index.hpp"
#include "tests/zero_shot/tiny_clip.hpp"

namespace {

namespace fs = std::filesystem;
using Rows = std::map<std::string, std::vector<float>>;

constexpr int kPhotos = 300;

[[noreturn]] void fail(const std::string& why) { throw std::runtime_error(why); }

pid_t start(const fs::path& search, const fs::path& folder, const fs::path& index, const char* save_every = "0") {
  const pid_t child = ::fork();
  if (child < 0) fail("fork");
  if (child > 0) return child;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);  // a shell may have them ignored
  const int nothing = ::open("/dev/null", O_WRONLY);
  ::dup2(nothing, STDOUT_FILENO);
  ::dup2(nothing, STDERR_FILENO);
  ::execl(search.c_str(), "search", "index", (folder / "many").c_str(), "--model", (folder / "clip").c_str(), "--out",
          index.c_str(), "--save-every", save_every, "--batch", "4", "--threads", "1", nullptr);
  ::_exit(127);
}

/// The exit status, or -1 when a signal ended it.
int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Rows rows_of(const fs::path& path) {
  Rows rows;
  if (!fs::exists(path)) return rows;
  const auto index = search::read_index(path);  // throws when it is not whole
  for (std::size_t i = 0; i < index.entries.size(); ++i) {
    const auto row = index.z.view()[static_cast<gatefold::Index>(i)];
    rows[index.entries[i].name] = {row.data(), row.data() + row.extent(0)};
  }
  return rows;
}

/// A signal that may be answered: what was done is written though no time to save had come.
void stop(int signal, const fs::path& search, const fs::path& folder, double seconds) {
  const auto index = folder / "stopped.safetensors";
  std::mt19937 random(static_cast<unsigned>(signal));
  for (int attempt = 0; attempt < 200; ++attempt) {
    fs::remove(index);
    const pid_t child = start(search, folder, index, "86400");
    std::this_thread::sleep_for(
        std::chrono::duration<double>(std::uniform_real_distribution<double>(0, seconds)(random)));
    ::kill(child, signal);
    if (wait_for(child) != 128 + signal) continue;  // before it could answer, or when it was done
    const auto kept = rows_of(index).size();
    if (kept == kPhotos) fail("a stopped run did not stop");
    if (kept > 0) return;
  }
  fail("signal " + std::to_string(signal) + " never left an index");
}

void run(const fs::path& search, const fs::path& folder, int kills) {
  fs::remove_all(folder);
  fs::create_directories(folder / "many");
  zero_shot::tiny::write_clip(folder / "clip");
  for (int i = 0; i < kPhotos; ++i) {
    const auto c = [&](int step) { return static_cast<std::uint8_t>(i * step); };
    gatefold::write_png(zero_shot::tiny::photo({c(7), c(31), c(101)}), folder / "many" / (std::to_string(i) + ".png"));
  }
  const auto place = folder / "indices", index = place / "killed.safetensors", whole = folder / "whole.safetensors";
  fs::create_directories(place);
  const auto before = std::chrono::steady_clock::now();
  if (wait_for(start(search, folder, whole)) != 0) fail("search index failed");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
  const auto wanted = rows_of(whole);
  if (wanted.size() != kPhotos) fail("the index has " + std::to_string(wanted.size()) + " photographs");

  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) stop(signal, search, folder, 1.1 * took.count());

  std::mt19937 random(20261126);
  std::uniform_real_distribution<double> moment(0, 1.1 * took.count());
  Rows kept;
  int killed = 0, with_work = 0, again = 0;
  while (killed < kills) {
    const pid_t child = start(search, folder, index);
    std::this_thread::sleep_for(std::chrono::duration<double>(moment(random)));
    ::kill(child, SIGKILL);
    killed += wait_for(child) < 0;
    const auto now = rows_of(index);
    for (const auto& [name, row] : kept) {
      const auto at = now.find(name);
      if (at == now.end()) fail(name + " was in the index and is no more");
      if (at->second != row) fail(name + " has another embedding than before");
    }
    with_work += now.size() > kept.size();
    kept = now;
    if (kept.size() == kPhotos) {  // all over again
      fs::remove(index);
      kept.clear();
      ++again;
    }
  }
  if (with_work == 0) fail("no killed run had saved anything: the kills come too early");
  if (wait_for(start(search, folder, index)) != 0) fail("search index failed after the kills");
  const auto now = rows_of(index);
  if (now.size() != wanted.size()) fail("after the kills the index has " + std::to_string(now.size()) + " photographs");
  for (const auto& [name, row] : wanted)
    for (std::size_t i = 0; i < row.size(); ++i)
      if (std::abs(now.at(name)[i] - row[i]) > 1e-6f) fail(name + " has another embedding than without kills");
  for (const auto& file : fs::directory_iterator(place))
    if (file.path() != index) fail("left behind: " + file.path().string());
  std::printf("%d kills: %d runs had saved something new, %d indices were complete before a kill, nothing was lost\n",
              killed, with_work, again);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    run(argv[1], argv[2], std::stoi(argv[3]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kill_search: %s\n", error.what());
    return 1;
  }
}
