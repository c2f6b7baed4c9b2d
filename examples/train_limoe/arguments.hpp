#pragma once
#include <optional>

#include "train_limoe/settings.hpp"
#include "wardrobe/fashion_mnist.hpp"

namespace train_limoe {

/// What the command line says: settings, which the run keeps, and what is of this call alone.
struct Arguments {
  Settings settings;
  double minutes = 0;  ///< Of which a run's steps are made, once it is known how long one takes. 0: they are given.
  std::filesystem::path out = "limoe-run", resume, fashion_mnist = wardrobe::kDebianFashionMnist;
  Index save_every = 500, log_every = 20, stop_after = 0, max_skipped = 20;
  int threads = 0;
  bool overwrite = false, no_evaluation = false;
  std::filesystem::path evaluate;
  std::string format = "none";
};

/// Nothing when all that was asked for was help. Throws UsageError, also for what is out of its range or contradicts
/// itself.
std::optional<Arguments> parse(int argc, char** argv);

}  // namespace train_limoe
