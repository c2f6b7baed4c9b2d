#pragma once
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <new>
#include <stdexcept>
#include <string>

#include "gatefold/core/error.hpp"
#include "zero_shot/terminal.hpp"

namespace gatefold {

namespace detail {

inline const char* running_program = "";  ///< All that a signal can know.

/// The kernel's answer to a touch of a mapped file that somebody has shortened meanwhile. Nothing but words is left to
/// do, and only with what a signal may do.
inline void say_file_was_shortened(int) {
  static constexpr char kWords[] =
      ": a file was shortened or replaced while it was read (is it still being copied?); start again when it is "
      "whole\n";
  (void)!::write(STDERR_FILENO, running_program, std::strlen(running_program));
  (void)!::write(STDERR_FILENO, kWords, sizeof(kWords) - 1);
  ::_exit(1);
}

}  // namespace detail

/// A message for standard error: in characters that do nothing to a terminal and in lines as wide as it is. Into a file
/// or a pipe it goes as it is, unless COLUMNS says how wide, for who looks for words in it. Lines that are indented
/// stay whole, for they are commands to be copied.
inline std::string message(const std::string& what) {
  const char* columns = std::getenv("COLUMNS");
  const bool wraps = ::isatty(STDERR_FILENO) != 0 || (columns != nullptr && *columns != '\0');
  const auto width = zero_shot::terminal_of(STDERR_FILENO).width;
  std::string lines;
  for (std::size_t at = 0; at <= what.size();) {  // advice may stand in a line of its own
    const auto end = std::min(what.find('\n', at), what.size());
    const auto line = zero_shot::printable(std::string_view(what).substr(at, end - at));
    lines += (wraps && !line.starts_with(' ') ? zero_shot::wrapped(line, width) : line) + "\n";
    at = end + 1;
  }
  return lines;
}

/// Exit statuses of a program.
enum ExitStatus { kDone = 0, kFailed = 1, kMisused = 2 };

/// A command line that nobody understands.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What every program does around its work: says on standard error what went wrong, be it that a full disk took only a
/// part of what was printed, in characters that do nothing to a terminal. Returns the exit status.
inline int run_program(const char* name, int (*work)(int, char**), int argc, char** argv) {
  detail::running_program = name;
  std::signal(SIGBUS, detail::say_file_was_shortened);
  const auto say = [&](const std::string& what) {
    std::fflush(stdout);
    std::fputs(message(std::string(name) + ": " + what).c_str(), stderr);
  };
  try {
    const int status = work(argc, argv);
    std::fflush(stdout);
    std::cout.flush();
    if (!std::cout || std::ferror(stdout))
      throw FormatError("what there is to say could not be written to standard output");
    return status;
  } catch (const UsageError& e) {
    say(e.what());
    return kMisused;
  } catch (const std::bad_alloc&) {
    say("there is not enough memory for this; fewer --threads and a smaller --batch need less, and so do weights of "
        "fewer bits (--format bf16 or int8)");
    return kFailed;
  } catch (const std::exception& e) {
    say(e.what());
    return kFailed;
  }
}

}  // namespace gatefold
