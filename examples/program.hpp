#pragma once
#include <cstdio>
#include <exception>
#include <iostream>

#include "gatefold/core/error.hpp"

namespace gatefold {

/// What every program does around its work: says on standard error what went wrong, be it that a full disk took only a
/// part of what was printed. Returns the exit status.
inline int run_program(const char* name, int (*work)(int, char**), int argc, char** argv) {
  try {
    const int status = work(argc, argv);
    std::fflush(stdout);
    std::cout.flush();
    if (!std::cout || std::ferror(stdout))
      throw FormatError("what there is to say could not be written to standard output");
    return status;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name, e.what());
    return 1;
  }
}

}  // namespace gatefold
