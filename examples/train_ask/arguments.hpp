#pragma once
#include <optional>

#include "train_ask/settings.hpp"
#include "training/loop.hpp"
#include "wardrobe/fashion_mnist.hpp"

namespace train_ask {

/// What the command line says: settings, which the run keeps, and what is of this call alone.
struct Arguments {
  Settings settings;
  training::LoopOptions loop;
  std::filesystem::path out = "ask-run", resume, fashion_mnist = wardrobe::kDebianFashionMnist;
  int threads = 0;
  Index evaluation = 500;
  bool overwrite = false;
};

/// Nothing when all that was asked for was help. Throws UsageError, also for what is out of its range or contradicts
/// itself.
std::optional<Arguments> parse(int argc, char** argv);

}  // namespace train_ask
