// Trains a small vision-language model on questions about the wardrobe world, and writes one that ask can use. See
// --help.
#include <cstdio>

#include "program.hpp"
#include "train_ask/arguments.hpp"
#include "train_ask/results.hpp"

namespace {

using namespace train_ask;
using training::RunFolder;

int run_main(int argc, char** argv) {
  const auto parsed = parse(argc, argv);
  if (!parsed) return gatefold::kDone;
  auto args = *parsed;
  const bool resumes = !args.resume.empty();
  const RunFolder folder(args.out, resumes          ? RunFolder::Use::resume
                                   : args.overwrite ? RunFolder::Use::overwrite
                                                    : RunFolder::Use::begin);
  const auto data = wardrobe::load_fashion_mnist(args.fashion_mnist);
  std::optional<Run> run;
  if (resumes) {
    const gatefold::CheckpointReader checkpoint(folder / RunFolder::kCheckpoint);
    run.emplace(checkpoint, args.threads, data);
    args.loop.minutes = training::minutes_of(checkpoint);
  } else {
    run.emplace(args.settings, args.threads, data);
    if (args.overwrite) folder.remove_run();
  }
  std::printf("%s parameters, seed %s, kernels: %s, threads: %s\n", to_text(count_params(run->model)).c_str(),
              to_text(run->settings.seed).c_str(), std::string(name(run->ctx.isa)).c_str(),
              to_text(run->ctx.parallel_for.workers()).c_str());
  if (const int status = training::train(*run, folder, args.loop)) return status;
  publish(*run, folder / RunFolder::kModel);
  if (args.evaluation) evaluate(*run, args.evaluation * wardrobe::kAsksCount, data, folder);
  return gatefold::kDone;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("train_ask", run_main, argc, argv); }
