#include "gatefold/adapt/prune.hpp"

#include "gatefold/adapt/drop_experts.hpp"
#include "gatefold/adapt/sparse_gpt.hpp"
#include "gatefold/blocks/encoder.hpp"
#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/nn/attention.hpp"
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
