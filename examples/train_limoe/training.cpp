#include "train_limoe/training.hpp"

#include <chrono>
#include <cstdio>
#include <optional>

#include "gatefold/train/metrics.hpp"
#include "gatefold/train/progress.hpp"
#include "program.hpp"
#include "stop_signals.hpp"
#include "wardrobe/routing_table.hpp"

namespace train_limoe {

void FiniteWatch::see(Index step, const Run::Result& result, const std::string& kept) {
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

int train(Run& run, const RunFolder& folder, const Arguments& args) {
  using Clock = std::chrono::steady_clock;
  const Index first = run.step;
  gatefold::CsvWriter metrics(
      folder / RunFolder::kMetrics,
      {"step", "loss", "image_accuracy", "text_accuracy", "gradient_norm", "rate", "temperature", "seconds",
       "image_success", "text_success", "image_experts", "text_experts"},
      static_cast<double>(first));
  const double seconds_before = metrics.last_row().empty() ? 0 : metrics.last_row()[7];
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };

  const gatefold::StopSignals signals;
  int signal = 0;
  double minutes = args.minutes;
  Index saved = -1;
  const auto save = [&] {
    run.save(folder / RunFolder::kCheckpoint, minutes);
    saved = run.step;
  };
  FiniteWatch watch(args.max_skipped);
  const auto kept = [&] {
    if (saved < 0 && first == 0) return std::string("nothing was saved yet");
    return "the checkpoint of step " + to_text(saved < 0 ? first : saved) + " is as it was";
  };
  gatefold::Ema loss;
  std::optional<gatefold::Progress> progress;
  const auto show_progress = [&] {
    progress.emplace(
        gatefold::ProgressOptions{.total_steps = run.settings.steps, .first_step = run.step, .log_seconds = 60});
  };
  gatefold::RoutingReport report;
  bool due = false;
  while (run.step < run.settings.steps && !(signal && watch.sound())) {
    if (!progress) show_progress();
    const bool log = (run.step + 1) % args.log_every == 0 || run.step + 1 == run.settings.steps;
    report.clear();
    run.ctx.report = log ? &report : nullptr;
    const auto result = run.advance();
    run.ctx.report = nullptr;
    char note[96];
    std::snprintf(note, sizeof note, "loss %.3f  images %.0f %%  texts %.0f %%", loss.update(result.loss),
                  100 * result.image_accuracy, 100 * result.text_accuracy);
    progress->update(run.step, note);
    if (log) {
      const auto usage = wardrobe::mean_usage(report);
      metrics.write({static_cast<double>(run.step), result.loss, result.image_accuracy, result.text_accuracy,
                     result.gradient_norm, result.rate, std::exp(double{run.model.log_temperature.flat()[0]}),
                     seconds_before + seconds(), usage[0].success, usage[1].success, usage[0].experts,
                     usage[1].experts});
    }
    if (result.skipped || !result.finite) progress->finish();  // the words that follow get a line of their own
    watch.see(run.step, result, kept());
    if (minutes > 0 && run.step == first + 20) {
      // From here on the run is one of so many steps. What came before was warm-up, which knows no total.
      run.settings.steps = std::max<Index>(run.step, static_cast<Index>(minutes * 60 / (seconds() / 20)));
      minutes = 0;
      progress->finish();
      show_progress();
      const auto steps = to_text(run.settings.steps);
      std::cerr << gatefold::message(steps + " steps fit; --steps " + steps + " --warmup " +
                                     to_text(run.settings.warmup) + " is this run again");
    }
    due = due || run.step % args.save_every == 0;
    if (due && watch.sound()) {
      save();
      due = false;
    }
    if (run.step == args.stop_after) signal = SIGINT;
    if (signals.came()) signal = signals.signal();
  }
  progress.reset();
  if (!watch.sound())
    throw gatefold::FormatError("the gradients of the last steps were not finite: the run has diverged; " + kept() +
                                "; go on from it with --resume, or begin again with a lower --lr");
  if (saved != run.step) save();
  const auto took = seconds();
  std::printf("%s steps, %s pairs, %s, %.0f pairs/s", to_text(run.step).c_str(),
              to_text(run.step * run.settings.batch).c_str(), gatefold::format_duration(took).c_str(),
              static_cast<double>((run.step - first) * run.settings.batch) / took);
  if (watch.skipped())
    std::printf(", %s steps skipped because their gradient was not finite", to_text(watch.skipped()).c_str());
  std::printf("\n");
  if (!signal) return 0;
  std::printf("interrupted after step %s; go on with --resume %s\n", to_text(run.step).c_str(), folder.path().c_str());
  return 128 + signal;
}

}  // namespace train_limoe
