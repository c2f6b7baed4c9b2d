#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "gatefold/adapt/lora.hpp"
#include "gatefold/adapt/prune.hpp"

namespace compress {

using gatefold::Index;

/// The command line.
struct Arguments {
  std::filesystem::path model, out;
  std::string prune = "wanda";        ///< magnitude, wanda, sparsegpt, dsnot
  std::vector<std::string> pattern;   ///< «2:4», or «PATH=2:4» for the weights of a path; the first that fits
  std::filesystem::path calibrate{};  ///< Photographs: a folder, or captions
  Index samples = 128;                ///< For calibration
  std::filesystem::path repair{};     ///< Captions
  bool no_repair = false;             ///< Of the wardrobe model, which needs no captions
  Index steps = 400, batch = 0;       ///< 0: 256 of the wardrobe world, 64 of photographs
  double lr = 2e-3, distill = 0.5;
  std::string teacher = "similarity";  ///< What distillation compares: similarity or embeddings
  Index rank = 8;
  double alpha = 16;
  Index seed = 1;
  int threads = 0;
  std::filesystem::path fashion_mnist{};
  bool overwrite = false;

  /// Rules for the weights in the blocks; routers, embeddings and projections stay as they are.
  std::vector<gatefold::PruneRule> rules() const;
  std::vector<gatefold::LoraRule> lora() const;
};

/// Nothing when there was only help to be given. Throws UsageError.
std::optional<Arguments> parse(int argc, char** argv);

}  // namespace compress
