#pragma once
#include <array>
#include <csignal>

namespace train_limoe {

/// While this lives, Ctrl-C, a polite kill and a terminal that is closed only ask to stop, so that a run can be saved.
/// What was to be ignored (nohup) stays so.
class StopSignals {
 public:
  StopSignals() {
    received_ = 0;
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      struct sigaction wanted {};
      wanted.sa_handler = [](int signal) { received_ = signal; };
      wanted.sa_flags = SA_RESTART;
      ::sigaction(kSignals[i], nullptr, &before_[i]);
      const bool ignored = before_[i].sa_handler == SIG_IGN && kSignals[i] == SIGHUP;
      if (!ignored) ::sigaction(kSignals[i], &wanted, nullptr);
    }
  }
  ~StopSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The last of them; 0: none so far.
  static int received() { return received_; }

 private:
  static constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};
  static inline volatile std::sig_atomic_t received_ = 0;
  std::array<struct sigaction, kSignals.size()> before_{};
};

}  // namespace train_limoe
