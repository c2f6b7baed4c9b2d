#pragma once
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "gatefold/core/shape.hpp"

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

namespace gatefold {

/// "1:02:03" from seconds; "?" for what is no duration.
inline std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "?";
  const auto all = static_cast<long long>(std::llround(seconds));
  const auto two_digits = [](long long n) { return std::string(n < 10 ? "0" : "").append(std::to_string(n)); };
  return std::to_string(all / 3600) + ":" + two_digits(all / 60 % 60) + ":" + two_digits(all % 60);
}

/// Is standard error a terminal that somebody may look at?
inline bool stderr_is_terminal() {
#if __has_include(<unistd.h>)
  return isatty(STDERR_FILENO) != 0;
#else
  return false;
#endif
}

struct ProgressOptions {
  Index total_steps = 0;  ///< 0: unknown, then no share and no remaining time.
  Index first_step = 0;   ///< Steps done before this run, for a resumed one: they do not count into the rate.
  std::string label = "step";
  double redraw_seconds = 0.1;                   ///< On a terminal the line is rewritten at most this often.
  Index log_steps = 0;                           ///< Elsewhere, one line every so many steps ...
  double log_seconds = 0;                        ///< ... or every so many seconds; with neither (0), nothing at all.
  std::optional<bool> terminal{};                ///< Default: what standard error is.
  std::function<double()> clock{};               ///< Seconds; default: the steady clock.
  std::function<void(std::string_view)> sink{};  ///< Default: standard error.
};

/// Tells how far a long run is: `step 120/1000  12%  34.5/s  left 0:00:26  loss 1.23`.
class Progress {
 public:
  explicit Progress(ProgressOptions options) : options_(std::move(options)) {
    if (!options_.clock)
      options_.clock = [] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
      };
    if (!options_.sink) options_.sink = [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); };
    terminal_ = options_.terminal.value_or(stderr_is_terminal());
    start_ = shown_at_ = options_.clock();
    shown_step_ = options_.first_step;
  }
  ~Progress() {
    try {
      finish();
    } catch (...) {  // a line on the terminal is not worth a crash
    }
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` steps are behind us, those before first_step included. `note` ends the line: a loss, say.
  void update(Index done, std::string_view note = {}) {
    const double now = options_.clock();
    if (!due(done, now)) return;
    shown_at_ = now;
    shown_step_ = done;
    const std::string text = line(done, now, note);
    if (terminal_) {
      options_.sink("\r" + text + "\x1b[K");  // and erase what a longer line left
      open_line_ = true;
    } else {
      options_.sink(text + "\n");
    }
  }

  /// Ends the line, so that other output starts on its own; called by the destructor as well.
  void finish() {
    if (std::exchange(open_line_, false)) options_.sink("\n");
  }

  double elapsed_seconds() const { return options_.clock() - start_; }

 private:
  bool due(Index done, double now) const {
    if (terminal_) return !open_line_ || is_last(done) || now - shown_at_ >= options_.redraw_seconds;
    if (options_.log_steps <= 0 && options_.log_seconds <= 0) return false;
    return is_last(done) || (options_.log_steps > 0 && done - shown_step_ >= options_.log_steps) ||
           (options_.log_seconds > 0 && now - shown_at_ >= options_.log_seconds);
  }
  bool is_last(Index done) const { return options_.total_steps > 0 && done == options_.total_steps; }

  std::string line(Index done, double now, std::string_view note) const {
    const double rate = now > start_ ? static_cast<double>(done - options_.first_step) / (now - start_) : 0;
    const Index total = options_.total_steps;
    std::string text = options_.label + " " + std::to_string(done);
    if (total > 0) text += "/" + std::to_string(total) + "  " + std::to_string(100 * done / total) + "%";
    if (rate > 0) text += "  " + three_digits(rate) + "/s";
    if (rate > 0 && total > done) text += "  left " + format_duration(static_cast<double>(total - done) / rate);
    if (!note.empty()) text += "  " + std::string(note);
    return text;
  }

  static std::string three_digits(double x) {
    char text[64];
    const int decimals = x < 10 ? 2 : x < 100 ? 1 : 0;
    const auto result = std::to_chars(text, text + sizeof text, x, std::chars_format::fixed, decimals);
    return result.ec == std::errc() ? std::string(text, result.ptr) : std::string("?");
  }

  ProgressOptions options_;
  bool terminal_ = false, open_line_ = false;
  double start_ = 0, shown_at_ = 0;
  Index shown_step_ = 0;
};

}  // namespace gatefold
