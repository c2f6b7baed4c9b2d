#pragma once
#include "train_limoe/run.hpp"
#include "training/loop.hpp"

namespace train_limoe {

/// training::train of a run; metrics.csv tells of the routing too.
int train(Run& run, const training::RunFolder& folder, const training::LoopOptions& options);

}  // namespace train_limoe
