#pragma once
#include "gatefold/module/frozen.hpp"
#include "gatefold/train/adamw.hpp"
#include "train_clip/feed.hpp"
#include "train_clip/model.hpp"
#include "training/loop.hpp"

namespace train_clip {

/// What of a model moves, by Settings::train.
gatefold::Trainable trainable_of(const Settings& s);

/// One stage: everything that is saved, and the buffers of a step.
class Run : public training::Trainee {
 public:
  /// `data` and `choose` as Feed takes them; `ctx` has the threads. The data's identity is kept, so that a run goes on
  /// with what it was begun with.
  struct Source {
    const Pairs& pairs;
    Feed::Choose choose;
    Index loaders = 1;
  };
  Run(const Settings& s, Model model, Context ctx);

  /// The run of a checkpoint, as it was, beside its companions. Throws FormatError for whatever in it is not what
  /// `save` writes.
  Run(const gatefold::CheckpointReader& file, const fs::path& folder, Context ctx);

  /// Before the first step. Throws FormatError when the run was begun with other data.
  void feed_from(const Source& source);

  static Settings settings_of(const gatefold::CheckpointReader& file);

  Index step() const override { return step_; }
  Index steps() const override { return settings.steps; }
  void set_steps(Index steps) override { settings.steps = steps; }
  Index batch() const override { return settings.batch; }
  Index warmup() const override { return settings.warmup; }
  training::StepResult advance(bool logged) override;
  std::vector<std::string> columns() const override { return {"balance", "waited"}; }
  std::vector<double> row() const override { return {balance_, waited_share()}; }
  std::string note() const override;
  void save(const fs::path& path, double minutes) const override;

  /// Of the time that steps took, the share in which there was no batch yet.
  double waited_share() const { return seconds_ > 0 ? feed_->seconds_waited() / seconds_ : 0; }

  Settings settings;
  Context ctx;
  Model model;

 private:
  /// Loss, and the gradient of all that moves.
  training::StepResult differentiate(const FedBatch& batch);

  gatefold::Trainable trainable_;
  gatefold::AdamW<Clip> optimizer_;
  Clip grad_;
  gatefold::Frozen frozen_;
  bool images_move_;  ///< Or else their tower only encodes.
  Index step_ = 0;
  std::string identity_;
  std::optional<Feed> feed_;
  double balance_ = 0, seconds_ = 0;
};

}  // namespace train_clip
