#include "gatefold/train/weight_average.hpp"

#include <gtest/gtest.h>

#include "tests/train/optimizer_model.hpp"

namespace gatefold {
namespace {

using test::scatter;
using test::Toy;

/// The weights of each model that was seen, multiplied out: the average is their sum, the first ones fade by every
/// decay.
TEST(WeightAverage, IsTheWeightedSumOfAllThatItSaw) {
  Toy<double> model;
  scatter(model, 1);
  WeightAverage average(model, {.decay = 0.4});
  std::vector<std::vector<double>> seen{test::values(model)};
  std::vector<double> share{1};
  for (int t = 0; t < 9; ++t) {
    scatter(model, 10 + static_cast<std::uint64_t>(t));
    Context ctx;
    average.update(model, ctx);
    const double decay = std::min(0.4, (1.0 + t) / (10 + t));
    for (double& s : share) s *= decay;
    share.push_back(1 - decay);
    seen.push_back(test::values(model));
  }
  const auto mean = test::values(average.mean);
  const std::size_t floats = mean.size() - 4;  // the last four are integers: those of the last model
  for (std::size_t i = 0; i < mean.size(); ++i) {
    double wanted = seen.back()[i];
    if (i < floats) {
      wanted = 0;
      for (std::size_t m = 0; m < seen.size(); ++m) wanted += share[m] * seen[m][i];
    }
    ASSERT_NEAR(mean[i], wanted, 1e-13) << i;
  }
  EXPECT_EQ(average.steps.data()[0], 9);
}

TEST(WeightAverage, WithoutDecayItIsTheModel) {
  Toy<float> model;
  scatter(model, 1);
  WeightAverage average(model, {.decay = 0});
  scatter(model, 2);
  Context ctx;
  average.update(model, ctx);
  const auto a = test::values(average.mean), b = test::values(model);
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-6);
}

TEST(WeightAverage, SameBitsForAnyNumberOfThreadsAndWhenResumed) {
  const auto run = [](Index workers, bool resumed) {
    Toy<float> model;
    scatter(model, 1);
    WeightAverage average(model, {.decay = 0.3});
    Context ctx;
    ctx.parallel_for = test::threads(workers);
    for (std::uint64_t s = 0; s < 6; ++s) {
      scatter(model, 10 + s);
      average.update(model, ctx);
      if (resumed && s == 2) {
        WeightAverage other(Toy<float>(), {.decay = 0.3});
        convert(average, other);
        average = other;
      }
    }
    return average;
  };
  const auto serial = run(1, false);
  EXPECT_TRUE(test::same_bits(serial, run(2, false)));
  EXPECT_TRUE(test::same_bits(serial, run(7, true)));
}

TEST(WeightAverage, RefusesRatesAndModelsThatDoNotFit) {
  Toy<float> model;
  for (const double decay : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()})
    EXPECT_THROW(WeightAverage(model, {.decay = decay}), OptionError);
  WeightAverage average(model);
  auto other = model;
  other.wide = Tensor<float, 2>({90, 100});
  scatter(other, 1);
  Context ctx;
  EXPECT_THROW(average.update(other, ctx), ShapeError);
  EXPECT_TRUE(test::same_bits(average.mean, model));
}

}  // namespace
}  // namespace gatefold
