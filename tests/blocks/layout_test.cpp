// What a layout means and how long it must live, for every layer that looks at it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/blocks/encoder.hpp"
#include "gatefold/blocks/soft_moe.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/losses/importance.hpp"
#include "gatefold/losses/limoe_losses.hpp"
#include "gatefold/nn/attention_pool.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/expert_choice_router.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/blocks/exact_gradient.hpp"

namespace gatefold {
namespace {

constexpr Index kWidth = 8, kRows = 12;
using Net = Mlp<float>;

/// check(name, layer) for every layer that looks at a layout.
template <class Check>
void for_each_layer(Check&& check) {
  const Net net({.width = kWidth, .hidden = 6});
  const TopKRouter<float> top_k({.width = kWidth, .num_experts = 3, .num_selected = 2, .capacity = {.factor = 1}});
  const ExpertChoiceRouter<float> expert_choice({.width = kWidth, .num_experts = 3});
  const auto losses = limoe_losses({.coefficient = 1, .min_image_experts = 2.9, .min_text_experts = 2.9});
  check("Attention", Attention<float>({.width = kWidth, .num_heads = 2}));
  check("AttentionPool", AttentionPool<float>({.width = kWidth, .num_heads = 2, .hidden = 6}));
  check("TopKRouter", SparseMlp<TopKRouter<float>, Net, LimoeLosses>(top_k, net, losses));
  check("ExpertChoiceRouter", SparseMlp<ExpertChoiceRouter<float>, Net, Importance>(expert_choice, net));
  check("SoftMoe", SoftMoe<Net>({.width = kWidth, .num_experts = 3, .slots_per_expert = 2}, net));
  using Block = EncoderBlock<SparseMlp<TopKRouter<float>, Net>>;
  check("Encoder", Encoder<Block>({.width = kWidth}, 2, [&](Index) {
          return Block({.width = kWidth, .num_heads = 2}, SparseMlp<TopKRouter<float>, Net>(top_k, net));
        }));
}

template <class L>
struct Results {
  Tensor<float, 2> y, dx;
  L grad;
};
/// `during` runs between the passes.
template <class L, class During>
Results<L> run(const L& layer, Index sequences, Context& ctx, During&& during) {
  const auto x = random_tensor<float>(Shape<2>{kRows, kWidth}, 2);
  const Index out = std::is_same_v<L, AttentionPool<float>> ? sequences : kRows;
  const auto dy = random_tensor<float>(Shape<2>{out, kWidth}, 3);
  Results<L> results{Tensor<float, 2>({out, kWidth}), Tensor<float, 2>({kRows, kWidth}), zeros_like(layer)};
  const auto scope = ctx.workspace.scope();
  const auto saved = layer.forward(x, results.y, ctx);
  during();
  layer.backward(saved, dy, results.dx, results.grad, ctx);
  return results;
}
template <class L>
void expect_equal(const Results<L>& a, const Results<L>& b) {
  EXPECT_EQ(a.y, b.y);
  EXPECT_EQ(a.dx, b.dx);
  for_each_param([](std::string_view path, const auto& s, const auto& t) { EXPECT_EQ(s, t) << path; }, a.grad, b.grad);
}

TEST(Layout, MayDieAfterForward) {
  for_each_layer([](const char* name, auto layer) {
    SCOPED_TRACE(name);
    disturb_params(layer, 1);
    std::vector<Index> offset{0, 5, 8, kRows};
    std::vector<std::uint8_t> modality{0, 0, 1, kPadding, 1, 1, 0, 1, 0, kPadding, 0, 1};
    TokenLayout layout{.offset = {offset.data(), {4}}, .modality = {modality.data(), {kRows}}, .num_modalities = 2};
    Context ctx;
    ctx.layout = &layout;
    const auto wanted = run(layer, 3, ctx, [] {});
    const auto got = run(layer, 3, ctx, [&] {
      std::ranges::fill(offset, Index{1} << 60);
      std::ranges::fill(modality, std::uint8_t{77});
      layout = {.offset = {}, .modality = {}, .num_modalities = 77};
      ctx.layout = nullptr;
    });
    expect_equal(got, wanted);
    EXPECT_GT(norm(got.grad), 0);
  });
}

TEST(Layout, NoneMeansOneSequenceWithoutPadding) {
  for_each_layer([](const char* name, auto layer) {
    SCOPED_TRACE(name);
    disturb_params(layer, 1);
    const Index offset[] = {0, kRows};
    const std::vector<std::uint8_t> modality(kRows);
    const TokenLayout layout{.offset = {offset, {2}}, .modality = {modality.data(), {kRows}}};
    Context with, without;
    with.layout = &layout;
    expect_equal(run(layer, 1, without, [] {}), run(layer, 1, with, [] {}));
  });
}

TEST(Layout, IsCopiedAsItIs) {
  const Index offset[] = {0, 2, 3};
  const std::uint8_t modality[] = {1, kPadding, 0};
  const TokenLayout layout{.offset = {offset, {3}}, .modality = {modality, {3}}, .num_modalities = 4};
  Context ctx;
  EXPECT_EQ(keep_layout(ctx), nullptr);
  ctx.layout = &layout;
  const TokenLayout* const kept = keep_layout(ctx);
  ASSERT_NE(kept, &layout);
  EXPECT_EQ(kept->num_sequences(), 2);
  EXPECT_EQ(kept->num_modalities, 4);
  EXPECT_NE(kept->offset.data(), offset);
  EXPECT_TRUE(std::equal(offset, offset + 3, kept->offset.data()));
  EXPECT_NE(kept->modality.data(), modality);
  EXPECT_TRUE(std::equal(modality, modality + 3, kept->modality.data()));
}

TEST(MovedFrom, LayersAreRefusedAndNotRead) {
  for_each_layer([](const char* name, auto layer) {
    SCOPED_TRACE(name);
    const auto moved = std::move(layer);
    for_each_param(
        [](std::string_view path, const auto& t) {
          EXPECT_EQ(t.size(), element_count(t.shape())) << path;
          EXPECT_LE(t.size(), 0) << path;
        },
        layer);
    const Tensor<float, 2> x({kRows, kWidth});
    Tensor<float, 2> y({std::is_same_v<decltype(layer), AttentionPool<float>> ? 1 : kRows, kWidth});
    Context ctx;
    EXPECT_THROW((void)layer.forward(x, y, ctx), std::invalid_argument);
    layer = moved;
    (void)layer.forward(x, y, ctx);
  });
}

}  // namespace
}  // namespace gatefold
