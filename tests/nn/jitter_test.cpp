#include "gatefold/nn/jitter.hpp"

#include "gatefold/nn/linear.hpp"
#include "gatefold/nn/sequence.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

// Without random numbers, as in use, it is the identity.
TEST(Jitter, KeepsTheContractOfALayer) {
  test::check_layer(
      [](auto type) {
        using T = typename decltype(type)::type;
        return Sequence(Jitter<T>({.amount = 0.5}), Linear<T>({.in = 3, .out = 2}));
      },
      {.in = 3, .out = 2, .rows = 4, .paths = {"1.weight", "1.bias"}, .copies = 1500});
}

TEST(Jitter, DrawsItsFactorsForEachNumberAndTheSameForTheWayBack) {
  constexpr Index kRows = 211, kWidth = 67;
  Tensor<float, 2> ones({kRows, kWidth});
  std::ranges::fill(ones.flat(), 1.0f);
  const Jitter<float> layer({.amount = 0.25});
  const auto pass = [&](Rng& rng, ParallelFor parallel_for) {
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    ctx.rng = &rng;
    return test::run_pass(layer, ones, ones, ctx);
  };
  Rng rng(1);
  const auto once = pass(rng, ParallelFor());
  EXPECT_EQ(once.dx, once.y);
  double sum = 0, squares = 0;
  float least = 2, most = 0;
  for (const float v : once.y.flat()) {
    least = std::min(least, v), most = std::max(most, v);
    sum += v - 1, squares += (v - 1) * (v - 1);
  }
  // n numbers of variance 0.25^2 / 3: the mean errs by 0.0012, of which five are allowed; the variance by 0.9 %.
  const double n = double(kRows * kWidth);
  EXPECT_NEAR(sum / n, 0, 5 * 0.25 / std::sqrt(3 * n));
  EXPECT_NEAR(squares / n, 0.0625 / 3, 5 * 0.009 * 0.0625 / 3);
  EXPECT_GE(least, 0.75f);
  EXPECT_LE(most, 1.25f);
  Rng same(1);
  EXPECT_EQ(pass(same, test::threads(7)).y, once.y);
  EXPECT_NE(pass(same, test::threads(7)).y, once.y) << "the next pass draws others";
}

TEST(Jitter, RefusesAnAmountThatIsNone) {
  try {
    (void)Jitter<float>({.amount = 1});
    FAIL();
  } catch (const OptionError& error) {
    EXPECT_STREQ(error.what(), "Jitter: amount is 1, expected a number in [0, 1)");
  }
  EXPECT_THROW((void)Jitter<float>({.amount = std::numeric_limits<double>::quiet_NaN()}), OptionError);
}

}  // namespace
}  // namespace gatefold
