#include "train_limoe/training.hpp"

#include "wardrobe/routing_table.hpp"

namespace train_limoe {
namespace {

class LimoeTrainee : public training::Trainee {
 public:
  explicit LimoeTrainee(Run& run) : run_(run) {}
  Index step() const override { return run_.step; }
  Index steps() const override { return run_.settings.steps; }
  void set_steps(Index steps) override { run_.settings.steps = steps; }
  Index batch() const override { return run_.settings.batch; }
  Index warmup() const override { return run_.settings.warmup; }
  training::StepResult advance(bool logged) override {
    report_.clear();
    run_.ctx.report = logged ? &report_ : nullptr;
    const auto result = run_.advance();
    run_.ctx.report = nullptr;
    return result;
  }
  std::vector<std::string> columns() const override {
    return {"image_success", "text_success", "image_experts", "text_experts"};
  }
  std::vector<double> row() const override {
    const auto usage = wardrobe::mean_usage(report_);
    return {usage[0].success, usage[1].success, usage[0].experts, usage[1].experts};
  }
  void save(const std::filesystem::path& path, double minutes) const override { run_.save(path, minutes); }

 private:
  Run& run_;
  gatefold::RoutingReport report_;
};

}  // namespace

int train(Run& run, const training::RunFolder& folder, const training::LoopOptions& options) {
  LimoeTrainee trainee(run);
  return training::train(trainee, folder, options);
}

}  // namespace train_limoe
