#pragma once
#include "train_limoe/arguments.hpp"
#include "train_limoe/run.hpp"
#include "train_limoe/run_folder.hpp"

namespace train_limoe {

/// Says when a run stops being finite, and ends one that does not recover.
class FiniteWatch {
 public:
  explicit FiniteWatch(Index most_in_a_row) : most_(most_in_a_row) {}

  /// Throws FormatError when the run has diverged; `kept` says what is left of it.
  void see(Index step, const Run::Result& result, const std::string& kept);
  Index skipped() const { return skipped_; }
  /// Whether the last step taught anything: if not, the weights may be beyond repair, and are not to be kept.
  bool sound() const { return in_a_row_ == 0; }

 private:
  Index most_, in_a_row_ = 0, skipped_ = 0;
};

/// Trains to the end, or until it is asked to stop; either way the run is saved then. Returns the exit status: 128 +
/// the signal in the second case. Throws FormatError for a run that diverges, whose last checkpoint is left alone.
int train(Run& run, const RunFolder& folder, const Arguments& args);

}  // namespace train_limoe
