#pragma once
#include "gatefold/models/limoe_file.hpp"
#include "gatefold/text/vocabulary.hpp"
#include "gatefold/train/adamw.hpp"
#include "train_limoe/settings.hpp"
#include "training/loop.hpp"
#include "wardrobe/fashion_mnist.hpp"

namespace train_limoe {

using gatefold::Context;
using gatefold::Limoe;
using gatefold::Tensor;

gatefold::LimoeOptions model_options(const Settings& s, const gatefold::Vocabulary& vocabulary);

/// One run: everything that is saved, and the buffers of a step.
class Run {
 public:
  /// Throws OptionError for settings that contradict each other.
  Run(const Settings& s, int threads, const wardrobe::FashionMnist& data);

  /// The run of a checkpoint, as it was. Throws FormatError for whatever in it is not what `save` writes.
  Run(const gatefold::CheckpointReader& file, int threads, const wardrobe::FashionMnist& data);

  /// One update on batch number `step`.
  training::StepResult advance();

  /// Throws std::system_error, and then the old checkpoint is still there. `minutes` that are still to be made into
  /// steps are kept with it.
  void save(const std::filesystem::path& path, double minutes) const;

  /// Those of `save`; 0 if there were none. Throws FormatError.
  static double minutes_of(const gatefold::CheckpointReader& file);

  Settings settings;
  Context ctx;
  gatefold::Vocabulary vocabulary;
  Limoe<float> model;
  Index step = 0;

 private:
  /// Those whose model the file can hold.
  static Settings settings_of(const gatefold::CheckpointReader& file);

  const Limoe<float>& initialised();

  const wardrobe::FashionMnist& data_;
  gatefold::Rng rng_;
  gatefold::AdamW<Limoe<float>> optimizer_;
  Limoe<float> grad_;
  Tensor<float, 4> images_;
};

}  // namespace train_limoe
