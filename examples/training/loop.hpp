#pragma once
#include <array>

#include "gatefold/io/checkpoint.hpp"
#include "training/run_folder.hpp"
#include "training/settings.hpp"

namespace training {

struct StepResult {
  double loss, image_accuracy, text_accuracy, gradient_norm, rate, temperature;
  bool skipped = false;  ///< The gradient was not finite: nothing changed but the step.
  bool finite = true;    ///< The weights are; otherwise the run is lost.
};

/// What is trained, as the loop sees it.
class Trainee {
 public:
  virtual ~Trainee() = default;
  virtual Index step() const = 0;
  virtual Index steps() const = 0;
  virtual void set_steps(Index steps) = 0;
  virtual Index batch() const = 0;   ///< Pairs in a step.
  virtual Index warmup() const = 0;  ///< Steps.
  /// Of what the two accuracies of a StepResult are.
  virtual std::array<std::string, 2> accuracies() const { return {"image", "text"}; }
  /// One update. `logged`: `row` is asked for it.
  virtual StepResult advance(bool logged) = 0;
  /// What metrics.csv has of a step behind what is in a StepResult.
  virtual std::vector<std::string> columns() const { return {}; }
  virtual std::vector<double> row() const { return {}; }
  /// Behind the loss in the line of progress; may be empty.
  virtual std::string note() const { return {}; }
  /// Throws std::system_error, and then the old checkpoint is still there. `minutes` that are still to be made into
  /// steps are kept with it.
  virtual void save(const std::filesystem::path& path, double minutes) const = 0;
};

/// Those of `save`; 0 if there were none. Throws FormatError.
double minutes_of(const gatefold::CheckpointReader& file);

/// What is of a call alone.
struct LoopOptions {
  double minutes = 0;  ///< Of which a run's steps are made, once it is known how long one takes. 0: they are given.
  Index save_every = 500, log_every = 20, stop_after = 0, max_skipped = 20;
};

template <class Visitor>
void visit_loop_options(Visitor&& visit, LoopOptions& o) {
  using Whole = Range<Index>;
  visit("minutes", o.minutes, kMinutes, "train about this long: sets --steps after measuring twenty; 0: --steps says");
  visit("save_every", o.save_every, Whole{1, kMostSteps}, "steps between checkpoints");
  visit("log_every", o.log_every, Whole{1, kMostSteps}, "steps between lines of metrics.csv");
  visit("max_skipped", o.max_skipped, Whole{1, kMostSteps},
        "stop after so many steps in a row whose gradient is not finite, which are skipped");
  visit("stop_after", o.stop_after, Whole{0, kMostSteps}, "interrupt the run after this step, as by Ctrl-C; 0: never");
}

/// Says when a run stops being finite, and ends one that does not recover.
class FiniteWatch {
 public:
  explicit FiniteWatch(Index most_in_a_row) : most_(most_in_a_row) {}

  /// Throws FormatError when the run has diverged; `kept` says what is left of it.
  void see(Index step, const StepResult& result, const std::string& kept);
  Index skipped() const { return skipped_; }
  /// Whether the last step taught anything: if not, the weights may be beyond repair, and are not to be kept.
  bool sound() const { return in_a_row_ == 0; }

 private:
  Index most_, in_a_row_ = 0, skipped_ = 0;
};

/// Trains to the end, or until it is asked to stop; either way the run is saved then. Returns the exit status: 128 +
/// the signal in the second case. Throws FormatError for a run that diverges, whose last checkpoint is left alone.
int train(Trainee& trainee, const RunFolder& folder, const LoopOptions& options);

/// What a run has taken up to its step, interruptions aside, as its metrics.csv has it; 0 without one.
double seconds_of(const Trainee& trainee, const RunFolder& folder);

}  // namespace training
