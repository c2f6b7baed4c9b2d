#include "training/loop.hpp"

#include <charconv>
#include <chrono>
#include <cstdio>
#include <optional>

#include "gatefold/train/metrics.hpp"
#include "gatefold/train/progress.hpp"
#include "program.hpp"
#include "stop_signals.hpp"

namespace training {

double minutes_of(const gatefold::CheckpointReader& file) {
  if (!file.has_metadata("minutes")) return 0;
  const auto& text = file.metadata("minutes");
  double minutes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), minutes);
  if (error != std::errc{} || end != text.data() + text.size() || !kMinutes.holds(minutes))
    throw gatefold::FormatError(file.file().source() + ": «minutes» is " + gatefold::detail::quote_text(text) +
                                ", expected " + kMinutes.text());
  return minutes;
}

void FiniteWatch::see(Index step, const StepResult& result, const std::string& kept) {
  const auto advice = "; " + kept + "; begin again with a lower --lr or a longer --warmup";
  if (!result.finite)
    throw gatefold::FormatError("step " + to_text(step) +
                                ": the weights are no finite numbers any more: the run has "
                                "diverged" +
                                advice);
  in_a_row_ = result.skipped ? in_a_row_ + 1 : 0;
  skipped_ += result.skipped;
  if (in_a_row_ == 1)
    std::cerr << gatefold::message("step " + to_text(step) + ": the gradient is not finite, and the step is skipped");
  if (in_a_row_ == most_)
    throw gatefold::FormatError("step " + to_text(step) + ": the gradient has not been finite for " +
                                to_text(in_a_row_) + " steps in a row (--max-skipped): the run has diverged" + advice);
}

namespace {

/// metrics.csv, from which rows behind the trainee's step are cut off.
gatefold::CsvWriter metrics_of(const Trainee& trainee, const RunFolder& folder) {
  const auto [first, second] = trainee.accuracies();
  std::vector<std::string> columns{"step",          "loss", first + "_accuracy", second + "_accuracy",
                                   "gradient_norm", "rate", "temperature",       "seconds"};
  for (auto& name : trainee.columns()) columns.push_back(std::move(name));
  return {folder / RunFolder::kMetrics, columns, static_cast<double>(trainee.step())};
}
double seconds_of(const gatefold::CsvWriter& metrics) {
  constexpr std::size_t kSeconds = 7;
  return metrics.last_row().empty() ? 0 : metrics.last_row()[kSeconds];
}

}  // namespace

double seconds_of(const Trainee& trainee, const RunFolder& folder) { return seconds_of(metrics_of(trainee, folder)); }

int train(Trainee& trainee, const RunFolder& folder, const LoopOptions& options) {
  using Clock = std::chrono::steady_clock;
  const Index first = trainee.step();
  const auto accuracy_of = trainee.accuracies();
  auto metrics = metrics_of(trainee, folder);
  const double seconds_before = seconds_of(metrics);
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };

  const gatefold::StopSignals signals;
  int signal = 0;
  double minutes = options.minutes;
  Index saved = -1;
  const auto save = [&] {
    trainee.save(folder / RunFolder::kCheckpoint, minutes);
    saved = trainee.step();
  };
  FiniteWatch watch(options.max_skipped);
  const auto kept = [&] {
    if (saved < 0 && first == 0) return std::string("nothing was saved yet");
    return "the checkpoint of step " + to_text(saved < 0 ? first : saved) + " is as it was";
  };
  gatefold::Ema loss;
  std::optional<gatefold::Progress> progress;
  const auto show_progress = [&] {
    progress.emplace(
        gatefold::ProgressOptions{.total_steps = trainee.steps(), .first_step = trainee.step(), .log_seconds = 60});
  };
  bool due = false;
  while (trainee.step() < trainee.steps() && !(signal && watch.sound())) {
    if (!progress) show_progress();
    const bool log = (trainee.step() + 1) % options.log_every == 0 || trainee.step() + 1 == trainee.steps();
    const auto result = trainee.advance(log);
    const Index step = trainee.step();
    char note[96];
    std::snprintf(note, sizeof note, "loss %.3f  %ss %.0f %%  %ss %.0f %%", loss.update(result.loss),
                  accuracy_of[0].c_str(), 100 * result.image_accuracy, accuracy_of[1].c_str(),
                  100 * result.text_accuracy);
    progress->update(step, note + trainee.note());
    if (log) {
      std::vector<double> row{
          static_cast<double>(step), result.loss, result.image_accuracy, result.text_accuracy,
          result.gradient_norm,      result.rate, result.temperature,    seconds_before + seconds()};
      for (const double value : trainee.row()) row.push_back(value);
      metrics.write(row);
    }
    if (result.skipped || !result.finite) progress->finish();  // the words that follow get a line of their own
    watch.see(step, result, kept());
    if (minutes > 0 && step == first + 20) {
      // From here on the run is one of so many steps. What came before was warm-up, which knows no total.
      trainee.set_steps(std::max<Index>(step, static_cast<Index>(minutes * 60 / (seconds() / 20))));
      minutes = 0;
      progress->finish();
      show_progress();
      const auto steps = to_text(trainee.steps());
      std::cerr << gatefold::message(steps + " steps fit; --steps " + steps + " --warmup " + to_text(trainee.warmup()) +
                                     " is this run again");
    }
    due = due || step % options.save_every == 0;
    if (due && watch.sound()) {
      save();
      due = false;
    }
    if (step == options.stop_after) signal = SIGINT;
    if (signals.came()) signal = signals.signal();
  }
  progress.reset();
  if (!watch.sound())
    throw gatefold::FormatError("the gradients of the last steps were not finite: the run has diverged; " + kept() +
                                "; go on from it with --resume, or begin again with a lower --lr");
  if (saved != trainee.step()) save();
  const auto took = seconds();
  std::printf("%s steps, %s pairs, %s, %.0f pairs/s", to_text(trainee.step()).c_str(),
              to_text(trainee.step() * trainee.batch()).c_str(), gatefold::format_duration(took).c_str(),
              static_cast<double>((trainee.step() - first) * trainee.batch()) / took);
  if (watch.skipped())
    std::printf(", %s steps skipped because their gradient was not finite", to_text(watch.skipped()).c_str());
  std::printf("%s\n", trainee.note().c_str());
  if (!signal) return 0;
  std::printf("interrupted after step %s; go on with --resume %s\n", to_text(trainee.step()).c_str(),
              folder.path().c_str());
  return 128 + signal;
}

}  // namespace training
