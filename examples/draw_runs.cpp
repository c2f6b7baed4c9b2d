// Draws what several runs cost and what they kept: draw_runs FILE.svg NAME=RUN,RUN... NAME=RUN...
// Accuracy (the mean of the tests of summary.json) against the bytes of model.safetensors, and beside it which share of
// each block's matrices is zero. Runs of one name differ in their seed: small dots, and a large one for their mean.
#include "gatefold/io/atomic_file.hpp"
#include "program.hpp"
#include "run_drawing.hpp"

namespace {

int run_main(int argc, char** argv) {
  constexpr const char* kUsage = "usage: draw_runs FILE.svg NAME=RUN,RUN... NAME=RUN...";
  if (argc < 3 || !std::string_view(argv[1]).ends_with(".svg")) throw gatefold::UsageError(kUsage);
  std::vector<run_drawing::Drawn> all;
  for (int i = 2; i < argc; ++i) all.push_back(run_drawing::measured(gatefold::read_group(argv[i])));
  gatefold::write_file(argv[1], run_drawing::drawing_of(all));
  return gatefold::kDone;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("draw_runs", run_main, argc, argv); }
