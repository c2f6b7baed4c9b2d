#include "gatefold/nn/calibration.hpp"

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold::calibration_test {
namespace {

constexpr Index kWidth = 8, kRows = 40;

using Sparse = SparseMlp<TopKRouter<float>, Mlp<float>>;

Sparse sparse() {
  Sparse layer(TopKRouter<float>({.width = kWidth, .num_experts = 4, .num_selected = 2}),
               Mlp<float>({.width = kWidth, .hidden = 12}));
  test::disturb(layer, 5, 0.3);
  return layer;
}

/// The rows that the weights of a linear layer see, from the sums over a copy of them.
void expect_statistics(const WeightStatistics& seen, const std::vector<std::vector<float>>& rows) {
  ASSERT_EQ(seen.rows, std::ssize(rows)) << seen.path;
  for (std::size_t k = 0; k < seen.sum.size(); ++k) {
    double sum = 0, squares = 0, low = INFINITY, high = -INFINITY;
    for (const auto& row : rows) {
      const double v = double{row[k]};
      sum += v, squares += v * v, low = std::min(low, v), high = std::max(high, v);
    }
    EXPECT_NEAR(seen.sum[k], sum, 1e-12 * kRows);
    EXPECT_NEAR(seen.squares[k], squares, 1e-12 * kRows);
    EXPECT_EQ(seen.lowest[k], low);
    EXPECT_EQ(seen.highest[k], high);
    for (std::size_t j = 0; seen.gram.size() && j < seen.sum.size(); ++j) {
      double product = 0, size = 0;
      for (const auto& row : rows) product += double{row[k]} * double{row[j]}, size += std::abs(row[k] * row[j]);
      EXPECT_NEAR(seen.gram.view()(static_cast<Index>(k), static_cast<Index>(j)), product,
                  static_cast<double>(rows.size()) * 6e-8 * size);
    }
  }
}

std::vector<std::vector<float>> rows_of(const Tensor<float, 2>& x, const std::vector<Index>& which) {
  std::vector<std::vector<float>> rows;
  for (const Index r : which) rows.emplace_back(x.view()[r].data(), x.view()[r].data() + x.extent(1));
  return rows;
}

TEST(Calibration, SeesWhatEachWeightOfANetIsMultipliedWithButNoPaddingAndNoNan) {
  GatedMlp<float> net({.width = 6, .hidden = 9});
  test::disturb(net, 1);
  auto x = test::random_matrix<float>({kRows, 6}, 2);
  test::OwnedLayout layout;
  layout.offset = {0, 30, kRows};
  layout.modality.assign(kRows, 0);
  layout.modality[29] = layout.modality[39] = kPadding;
  for (const Index broken : {3, 29}) x.view()(broken, 1) = std::numeric_limits<float>::quiet_NaN();
  std::vector<Index> whole;
  for (Index r = 0; r < kRows; ++r)
    if (r != 3 && r != 29 && r != 39) whole.push_back(r);
  Tensor<float, 2> gate({kRows, 9}), up({kRows, 9}), hidden({kRows, 9}), y({kRows, 6});
  Context ctx;
  infer(net.gate, std::as_const(x).view(), gate.view(), ctx);
  infer(net.up, std::as_const(x).view(), up.view(), ctx);
  for (std::size_t i = 0; i < hidden.flat().size(); ++i)
    hidden.flat()[i] = GatedMlp<float>::Glu::value(gate.flat()[i], up.flat()[i]);

  Calibration once(net, {.detail = CalibrationDetail::gram});
  const auto view = layout.view();
  for (const Index workers : {1, 3}) {
    Calibration calibration(net, {.detail = CalibrationDetail::gram});
    Context here;
    here.parallel_for = workers == 1 ? ParallelFor() : test::threads(workers);
    here.layout = &view;
    here.calibration = workers == 1 ? &once : &calibration;
    infer(net, std::as_const(x).view(), y.view(), here);
    if (workers == 1) continue;
    for (std::size_t i = 0; i < once.weights().size(); ++i) {
      EXPECT_EQ(once.weights()[i].gram, calibration.weights()[i].gram);
      EXPECT_EQ(once.weights()[i].sum, calibration.weights()[i].sum);
    }
  }
  ASSERT_EQ(once.weights().size(), 3u);
  expect_statistics(once.of("gate.weight"), rows_of(x, whole));
  expect_statistics(once.of("up.weight"), rows_of(x, whole));
  EXPECT_EQ(once.of("up.weight").rows_left_out, 1);
  EXPECT_EQ(once.of("down.weight").rows, std::ssize(whole));
  const auto wanted = rows_of(hidden, whole);
  double sum = 0;
  for (const auto& row : wanted) sum += double{row[4]};
  EXPECT_NEAR(once.of("down.weight").sum[4], sum, 1e-4);
  EXPECT_NEAR(once.of("up.weight").variance(2),
              once.of("up.weight").mean_square(2) - std::pow(once.of("up.weight").mean(2), 2), 1e-12);
  EXPECT_THROW((void)once.of("nothing"), OptionError);
  EXPECT_THROW(Calibration(net, {.weights = {"*.wait"}}), OptionError);
}

TEST(Calibration, AnExpertShowsTheRowsItWasGivenAndAMixtureWhatTheyGave) {
  const Sparse layer = sparse();
  const auto x = test::random_matrix<float>({kRows, kWidth}, 2);
  Tensor<float, 2> y(x.shape());
  Calibration calibration(layer, {.weights = {"experts.*.weight"}});
  Context ctx;
  ctx.calibration = &calibration;
  const auto scope = ctx.workspace.scope();
  const auto saved = layer.forward(x, y, ctx);
  const auto& plan = saved.routing.plan;
  const auto& experts = calibration.experts_of(&layer);
  ASSERT_EQ(experts.size(), 4u);
  for (Index e = 0; e < 4; ++e) {
    const auto [begin, end] = plan.slots(e);
    std::vector<Index> tokens;
    double norms = 0;
    for (Index n = begin; n < end; ++n) {
      tokens.push_back(plan.token[n]);
      double squares = 0;
      for (Index k = 0; k < kWidth; ++k) squares += std::pow(double{saved.ys(n, k)}, 2);
      norms += double{saved.routing.weight[n]} * std::sqrt(squares);
    }
    expect_statistics(calibration.of("experts." + std::to_string(e) + ".up.weight"), rows_of(x, tokens));
    EXPECT_EQ(experts[static_cast<std::size_t>(e)].rows, end - begin);
    EXPECT_NEAR(experts[static_cast<std::size_t>(e)].score(), norms / static_cast<double>(end - begin), 1e-9);
  }
  EXPECT_TRUE(calibration.experts_of(&x).empty());
}

TEST(Calibration, CostsNothingWhereThereIsNoneAndAllocatesNothingLater) {
  const Sparse model = sparse();
  const auto x = test::random_matrix<float>({kRows, kWidth}, 2);
  Tensor<float, 2> y(x.shape()), same(x.shape());
  Context ctx;
  ctx.parallel_for = ParallelFor();
  infer(model, x.view(), y.view(), ctx);
  Calibration calibration(model, {.detail = CalibrationDetail::gram});
  ctx.calibration = &calibration;
  infer(model, x.view(), same.view(), ctx);
  EXPECT_TRUE(test::same_bits<float>(y.flat(), same.flat()));
  const test::AllocGuard guard;
  infer(model, x.view(), same.view(), ctx);
  EXPECT_EQ(guard.count(), 0);
}

}  // namespace
}  // namespace gatefold::calibration_test
