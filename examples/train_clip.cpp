// Trains a CLIP and makes a CLIP-MoE of it. See --help.
#include "program.hpp"
#include "train_clip/stages.hpp"
#include "training/run_folder.hpp"

namespace {

int run_main(int argc, char** argv) {
  using namespace train_clip;
  const auto args = parse(argc, argv);
  if (!args) return gatefold::kDone;
  if (!args->evaluate.empty()) {
    evaluate_model(*args);
    return gatefold::kDone;
  }
  const bool resumes = !args->resume.empty();
  if (resumes ? holds_all(args->resume) : args->stage == "all") return run_all(*args);
  return run_stage(resumes ? Settings() : settings_of(args->stage, args->given), args->out, resumes, args->overwrite,
                   *args);
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("train_clip", run_main, argc, argv); }
