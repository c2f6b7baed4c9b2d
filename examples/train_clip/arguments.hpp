#pragma once
#include <nlohmann/json.hpp>
#include <optional>

#include "train_clip/settings.hpp"
#include "training/loop.hpp"
#include "wardrobe/fashion_mnist.hpp"

namespace train_clip {

/// What the command line says: settings that were given, which differ from those of a stage, and what is of this call
/// alone.
struct Arguments {
  std::string stage = "all";
  nlohmann::json given = nlohmann::json::object();  ///< Of the settings, by name.
  training::LoopOptions loop;
  std::filesystem::path out = "clip-run", resume, evaluate, fashion_mnist = wardrobe::kDebianFashionMnist;
  Index evaluation = 1000;  ///< Pairs; 0: none.
  Index stages = 3;         ///< Of mcl, in all.
  int threads = 0, loaders = 0;
  bool overwrite = false;
};

/// Nothing when all that was asked for was help. Throws UsageError, also for what is out of its range or contradicts
/// itself.
std::optional<Arguments> parse(int argc, char** argv);

/// The settings of a stage with what was given. Throws UsageError or FormatError when they contradict each other.
Settings settings_of(const std::string& stage, const nlohmann::json& given);

}  // namespace train_clip
