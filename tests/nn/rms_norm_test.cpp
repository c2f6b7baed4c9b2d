#include "gatefold/nn/rms_norm.hpp"

#include "tests/support/layer_contract.hpp"
#include "tests/support/refused.hpp"

namespace gatefold {
namespace {

TEST(RmsNorm, KeepsTheContractOfALayer) {
  struct Case {
    Index width, parts;
    GainForm form;
  };
  for (const Case c : {Case{37, 1, GainForm::whole}, Case{3, 2, GainForm::from_one}}) {
    const auto make = [&](auto type) {
      return RmsNorm<typename decltype(type)::type>(
          {.width = c.width, .epsilon = 0.5, .form = c.form, .parts = c.parts});
    };
    const Index width = c.width * c.parts;
    test::check_layer(make, {.in = width, .out = width, .rows = 4, .paths = {"gain"}, .copies = 9000 / width});
  }
}

TEST(RmsNorm, AHandComputedRow) {
  // (1, 7): mean of squares 25; with epsilon 11 the divisor is 6. And 3, -3 by 3 √2.
  RmsNorm<float> norm({.width = 2, .epsilon = 11});
  norm.gain.flat()[0] = 6, norm.gain.flat()[1] = 12;
  RmsNorm<float> from_one({.width = 2, .epsilon = 11, .form = GainForm::from_one});
  EXPECT_THAT(from_one.gain.flat(), testing::Each(0));
  from_one.gain.flat()[0] = 5, from_one.gain.flat()[1] = 11;
  Tensor<float, 2> x({1, 2}), y({1, 2});
  x.flat()[0] = 1, x.flat()[1] = 7;
  Context ctx;
  for (const auto& layer : {norm, from_one}) {
    infer(layer, std::as_const(x).view(), y.view(), ctx);
    EXPECT_THAT(y.flat(), testing::Pointwise(testing::FloatNear(1e-6f), {1.0f, 14.0f}));
  }
}

TEST(RmsNorm, PartsOfARowAreRowsOfTheirOwn) {
  RmsNorm<double> norm({.width = 5}), of_three({.width = 5, .parts = 3});
  test::disturb(norm, 1);
  of_three.gain = norm.gain;
  const auto x = test::random_matrix<double>({4, 15}, 2), dy = test::random_matrix<double>({4, 15}, 3);
  const auto rows = [](Tensor<double, 2> t) {
    Tensor<double, 2> narrow({12, 5});
    std::ranges::copy(t.flat(), narrow.flat().begin());
    return narrow;
  };
  Context ctx;
  const auto wide = test::run_pass(of_three, x, dy, ctx), narrow = test::run_pass(norm, rows(x), rows(dy), ctx);
  EXPECT_EQ(rows(wide.y), narrow.y);
  EXPECT_EQ(rows(wide.dx), narrow.dx);
  EXPECT_EQ(wide.grad.gain, narrow.grad.gain);
}

TEST(RmsNorm, RefusesWhatDoesNotFit) {
  test::expect_option_error([] { RmsNorm<float> norm({.width = 0}); }, "RmsNorm: width is 0, expected at least 1");
  test::expect_option_error([] { RmsNorm<float> norm({.width = 3, .parts = 0}); }, "RmsNorm: parts is 0");
  test::expect_option_error([] { RmsNorm<float> norm({.width = 3, .epsilon = -1}); }, "RmsNorm: epsilon is -1");
}

}  // namespace
}  // namespace gatefold
