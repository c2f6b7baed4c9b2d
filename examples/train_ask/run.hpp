#pragma once
#include "gatefold/models/vision_language.hpp"
#include "gatefold/train/adamw.hpp"
#include "train_ask/settings.hpp"
#include "training/loop.hpp"
#include "wardrobe/asked_texts.hpp"
#include "wardrobe/questions.hpp"

namespace train_ask {

using gatefold::Context;
using gatefold::Tensor;
using Model = gatefold::VisionLanguage<float>;

gatefold::VisionLanguageOptions model_options(const Settings& s, const gatefold::Vocabulary& vocabulary);

/// Questions about pictures that are still to be rendered.
struct Batch {
  std::vector<wardrobe::Scene> scenes;
  std::vector<wardrobe::Asks> asks;
  wardrobe::AskedTexts texts;
};
/// Those of a seed from `first` on.
Batch make_batch(const wardrobe::SampleKey& first, Index count, wardrobe::Shown shown, const wardrobe::Photos& photos,
                 const gatefold::Vocabulary& vocabulary);

/// Whether each answer is the model's own, word by word as it would give it: where each word is the most probable one
/// behind those before it. // logits [N, V], [B]
std::vector<bool> right_answers(gatefold::Rows<const float> logits, const wardrobe::AskedTexts& texts);

/// One run: everything that is saved, and the buffers of a step.
class Run : public training::Trainee {
 public:
  /// Throws OptionError for settings that contradict each other.
  Run(const Settings& s, int threads, const wardrobe::FashionMnist& data);

  /// The run of a checkpoint, as it was. Throws FormatError for whatever in it is not what `save` writes.
  Run(const gatefold::CheckpointReader& file, int threads, const wardrobe::FashionMnist& data);

  Index step() const override { return step_; }
  Index steps() const override { return settings.steps; }
  void set_steps(Index steps) override { settings.steps = steps; }
  Index batch() const override { return settings.batch; }
  Index warmup() const override { return settings.warmup; }
  std::array<std::string, 2> accuracies() const override { return {"answer", "word"}; }
  training::StepResult advance(bool logged) override;
  void save(const std::filesystem::path& path, double minutes) const override;

  Settings settings;
  Context ctx;
  gatefold::Vocabulary vocabulary;
  Model model;

 private:
  /// Those whose model the file can hold.
  static Settings settings_of(const gatefold::CheckpointReader& file);

  const Model& initialised();

  const wardrobe::FashionMnist& data_;
  gatefold::AdamW<Model> optimizer_;
  Model grad_;
  Tensor<float, 4> images_;
  Index step_ = 0;
};

}  // namespace train_ask
