// Prunes a model and repairs it. See --help.
#include "compress/compress.hpp"

#include "program.hpp"
#include "zero_shot/clip_model.hpp"

namespace {

int run_main(int argc, char** argv) {
  const auto args = compress::parse(argc, argv);
  if (!args) return gatefold::kDone;
  if (zero_shot::is_clip(args->model))
    compress::compress_clip(*args);
  else
    compress::compress_limoe(*args);
  return gatefold::kDone;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("compress", run_main, argc, argv); }
