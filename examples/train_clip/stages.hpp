#pragma once
#include "train_clip/arguments.hpp"

namespace train_clip {

/// One stage in the folder `out`: from its beginning, or from where its checkpoint is. Returns the exit status.
int run_stage(const Settings& settings, const std::filesystem::path& out, bool resumes, bool overwrites,
              const Arguments& args);

/// All stages, each in a folder of its own within `args.out`: those that are done are not done again. Returns the exit
/// status.
int run_all(const Arguments& args);

/// Whether the folder is one of run_all.
bool holds_all(const std::filesystem::path& folder);

/// Prints what a model can in the wardrobe world.
void evaluate_model(const Arguments& args);

}  // namespace train_clip
