#pragma once
#include <array>
#include <csignal>
#include <utility>

namespace gatefold {

/// While it lives, Ctrl-C, kill and a terminal that closes (SIGINT, SIGTERM, SIGHUP) are noted instead of ending the
/// program: work in steps asks between two of them, keeps what it has and ends by itself. The same signal once more
/// ends the program at once. Signals that were ignored before (nohup) stay so.
class StopSignals {
 public:
  StopSignals() {
    came_ = 0;
    for (auto& [signal, old] : old_) {
      struct sigaction note {};
      note.sa_handler = [](int s) { came_ = s; };
      note.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
      sigemptyset(&note.sa_mask);
      ::sigaction(signal, nullptr, &old);
      if (old.sa_handler != SIG_IGN) ::sigaction(signal, &note, nullptr);
    }
  }
  ~StopSignals() {
    for (const auto& [signal, old] : old_) ::sigaction(signal, &old, nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  static bool came() { return came_ != 0; }
  /// The last of them; 0: none so far.
  static int signal() { return came_; }
  /// As a shell has it of a program that a signal ended.
  static int exit_status() { return 128 + came_; }

 private:
  static inline volatile std::sig_atomic_t came_ = 0;
  std::array<std::pair<int, struct sigaction>, 3> old_{{{SIGINT, {}}, {SIGTERM, {}}, {SIGHUP, {}}}};
};

}  // namespace gatefold
