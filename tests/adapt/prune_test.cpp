#include "gatefold/adapt/prune.hpp"

#include "gatefold/adapt/drop_experts.hpp"
#include "gatefold/adapt/sparse_gpt.hpp"
#include "gatefold/blocks/encoder.hpp"
#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/nn/attention.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

constexpr Index kWidth = 8, kRows = 40;

using Sparse = SparseMlp<TopKRouter<float>, Mlp<float>>;
using Model = Encoder<EncoderBlock<Sparse, Attention<float>>>;

Model make_model() {
  Model model({.width = kWidth}, 2, [](Index) {
    return EncoderBlock({.width = kWidth, .num_heads = 2},
                        Sparse(TopKRouter<float>({.width = kWidth, .num_experts = 3, .num_selected = 2}),
                               Mlp<float>({.width = kWidth, .hidden = 12})));
  });
  test::disturb(model, 5, 0.3);
  return model;
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
  Sparse layer(TopKRouter<float>({.width = kWidth, .num_experts = 4, .num_selected = 2}),
               Mlp<float>({.width = kWidth, .hidden = 12}));
  test::disturb(layer, 5, 0.3);
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
  const Model model = make_model();
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

constexpr Sparsity kTwoOfFour = NOfM{.kept = 2, .of = 4};

TEST(Prune, BlockAfterBlockOnWhatIsAlreadyPruned) {
  const auto x = test::random_matrix<float>({kRows, kWidth}, 2);
  Tensor<float, 2> y(x.shape());
  int passes = 0;
  Context ctx;
  Model model = make_model();
  const auto run = [&](const Model& on) {
    return [&](Context& here) {
      ++passes;
      infer(on, x.view(), y.view(), here);
    };
  };
  std::vector<std::string> blocks;
  const auto pruned = prune(
      model, Wanda(),
      {{.weights = "blocks.*.attention.*.out.weight", .sparsity = NOfM{1, 4}},
       {.weights = "blocks.*.attention.*weight", .sparsity = kTwoOfFour},
       {.weights = "blocks.*.experts.*", .sparsity = Unstructured{.share = 0.75}}},
      Before::pruned, run(model), [&](std::string_view block, Index, Index) { blocks.emplace_back(block); }, ctx);
  EXPECT_EQ(passes, 2);
  EXPECT_THAT(blocks, ::testing::ElementsAre("blocks.0", "blocks.1"));
  EXPECT_EQ(ctx.calibration, nullptr);
  ASSERT_EQ(pruned.weights.size(), 16u);
  for (const auto& weight : pruned.weights) {
    const bool out = weight.path.ends_with("out.weight"), expert = weight.path.find("experts") != std::string::npos;
    EXPECT_EQ(weight.sparsity(), out || expert ? 0.75 : 0.5) << weight.path;
  }
  expect_n_of_m(model.blocks[1].attention.inner.qkv.weight, NOfM{2, 4}, "qkv");
  EXPECT_THROW(expect_n_of_m(make_model().blocks[1].attention.inner.qkv.weight, NOfM{2, 4}, "qkv"), FormatError);

  // By hand: the second block's weights, by what it sees behind the pruned first block.
  Model by_hand = make_model();
  by_hand.blocks[0] = model.blocks[0];
  Calibration calibration(by_hand, {.weights = {"blocks.1.attention.inner.qkv.weight"}});
  ctx.calibration = &calibration;
  run(by_hand)(ctx);
  auto& weight = by_hand.blocks[1].attention.inner.qkv.weight;
  const auto mask = Wanda().prune(weight, calibration.weights()[0], kTwoOfFour, ctx);
  ctx.calibration = nullptr;
  EXPECT_TRUE(std::ranges::equal(mask.flat(), pruned.masks.find("blocks.1.attention.inner.qkv.weight")->flat()));

  // The masks take a dense model there, and keep a gradient there.
  Model again = make_model();
  pruned.masks.apply(again);
  for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, again, model);

  // What dense blocks see is another thing.
  Model dense = make_model();
  passes = 0;
  const auto other = prune(
      dense, SparseGpt(), {{.weights = "blocks.*.weight", .sparsity = kTwoOfFour}}, Before::dense, run(dense),
      [](auto&&...) {}, ctx);
  EXPECT_EQ(passes, 1);
  EXPECT_EQ(other.weights.size(), 18u);  // the routers' too, which nobody shows: by magnitude
  for (const auto& w : other.weights) EXPECT_EQ(w.rows == 0, w.path.find("router") != std::string::npos) << w.path;
}

TEST(Prune, ByOneThresholdForTheWholeModel) {
  Model model = make_model();
  for (float& w : model.blocks[1].attention.inner.out.weight.flat()) w *= 1e-3f;  // all of it goes first
  Context ctx;
  const auto nothing = [](auto&&...) {};
  const PruneRule rule{.weights = "*.attention.*weight", .sparsity = Unstructured{.share = 0.5, .scope = Scope::model}};
  const auto pruned = prune(model, Magnitude(), {rule}, Before::dense, nothing, nothing, ctx);
  Index kept = 0, all = 0;
  for (const auto& w : pruned.weights) kept += w.kept, all += w.size;
  EXPECT_EQ(2 * kept, all);
  EXPECT_EQ(pruned.weights.back().path, "blocks.1.attention.inner.out.weight");
  EXPECT_EQ(pruned.weights.back().kept, 0);
  EXPECT_THROW((void)prune(model, Magnitude(), {rule}, Before::pruned, nothing, nothing, ctx), OptionError);
  EXPECT_THROW((void)prune(model, SparseGpt(), {rule}, Before::dense, nothing, nothing, ctx), OptionError);
  EXPECT_THROW((void)prune(model, Magnitude(), {{"*.wait", kTwoOfFour}}, Before::dense, nothing, nothing, ctx),
               OptionError);
}

TEST(Sparsity, AsText) {
  for (const char* text : {"2:4", "4:8", "70%", "12.5%"}) EXPECT_EQ(to_text(sparsity_of(text)), text);
  EXPECT_EQ(sparsity_of("0.7"), Sparsity(Unstructured{.share = 0.7}));
  for (const char* text : {"", "2", "4:4", "2:17", "100%", "2:4:8", "x", "0.5x", "-1%", "nan"})
    EXPECT_THROW((void)sparsity_of(text), OptionError) << text;
  EXPECT_EQ(share_of(0.29, 100), 29);
}

TEST(KeepExperts, LeavesTheBestAndTheRouterKnowsThem) {
  Sparse layer(TopKRouter<float>({.width = kWidth, .num_experts = 4, .num_selected = 2}),
               Mlp<float>({.width = kWidth, .hidden = 12}));
  test::disturb(layer, 5, 0.3);
  const std::vector<ExpertStatistics> seen{
      {.rows = 2, .weighed_norm = 4}, {.rows = 4, .weighed_norm = 4}, {.rows = 0}, {.rows = 1, .weighed_norm = 1}};
  EXPECT_THAT(best_experts(seen, 3), ::testing::ElementsAre(0, 1, 3));
  EXPECT_THAT(best_experts(seen, 2), ::testing::ElementsAre(0, 3));  // of equal ones the later
  EXPECT_THROW((void)best_experts(seen, 5), OptionError);
  const auto fewer = keep_experts(layer, {1, 3});
  EXPECT_EQ(fewer.router.num_experts(), 2);
  for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, fewer.experts[1],
                 layer.experts[3]);
  // As if the others were closed: both experts see every token, weighed by the softmax over all that are left.
  const auto x = test::random_matrix<float>({5, kWidth}, 2);
  Tensor<float, 2> y(x.shape());
  Context ctx;
  const auto scope = ctx.workspace.scope();
  const auto saved = fewer.forward(x, y, ctx);
  for (Index r = 0; r < 5; ++r) {
    double z[2] = {};
    for (int i = 0; i < 2; ++i)
      for (Index k = 0; k < kWidth; ++k)
        z[i] += double{layer.router.weight.view()(i ? 3 : 1, k)} * double{x.view()(r, k)};
    EXPECT_NEAR(saved.routing.gates(r, 0), 1 / (1 + std::exp(z[1] - z[0])), 1e-5);
  }
  EXPECT_THROW((void)keep_experts(layer, {3, 1}), OptionError);
  EXPECT_THROW((void)keep_experts(layer, {3}), OptionError);  // a token asks for two
}

}  // namespace
}  // namespace gatefold
