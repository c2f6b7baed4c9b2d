// A block of one's own, without a type of its own: DeepSeek-V3's (arXiv 2412.19437) with its shared expert, its groups
// of experts and its balance without a loss, of parts that there are. Its multi-head latent attention is not among
// them; grouped heads stand in.
#include "check.hpp"
#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/gated.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/sum.hpp"
#include "gatefold/routing/selection_bias.hpp"

namespace own {

template <class T>
auto deepseek_block() {
  constexpr Index kWidth = 8;
  const RmsNorm<T> norm({.width = kWidth});
  const Attention<T> attention({.width = kWidth,
                                .num_heads = 4,
                                .mask = Attention<T>::Mask::causal,
                                .num_key_heads = 2,
                                .head_width = 6,
                                .bias = Bias::none,
                                .rotary = {.width = 4, .pairs = Rotary::Pairs::neighbours}});
  const TopKRouter<T> router({.width = kWidth,
                              .num_experts = 8,
                              .num_selected = 2,
                              .score = RouterScore::sigmoid,
                              .selection_bias = true,
                              .groups = {.count = 4, .kept = 2, .score = GroupScore::two_best},
                              .renormalise = Renormalise::before_dropping,
                              .epsilon = 1e-20,
                              .scale = 2.5});
  const GatedMlp<T> expert({.width = kWidth, .hidden = 5, .bias = Bias::none});
  const GatedMlp<T> shared({.width = kWidth, .hidden = 10, .bias = Bias::none});
  return EncoderBlock(Residual(norm, attention), Residual(norm, Sum(SparseMlp(router, expert), shared)));
}

}  // namespace own

int main() {
  using namespace own;
  check_gradient(deepseek_block<double>(), {7, 8}, 8, "the gradient of DeepSeek's block");

  auto block = deepseek_block<float>();
  Rng rng(3);
  for_each_param(
      [&](std::string_view, auto& t) {
        for (float& v : t.flat()) v += 0.3f * float(rng.normal());
      },
      block);
  Tensor<float, 2> x({7, 8}), y({7, 8}), h({7, 8}), normed({7, 8}), routed({7, 8}), shared({7, 8});
  for (float& v : x.flat()) v = float(rng.normal());
  Context ctx;
  const auto run = [&](const auto& layer, const Tensor<float, 2>& from, Tensor<float, 2>& to) {
    infer(layer, from.view(), to.view(), ctx);
  };
  run(block, x, y);
  run(block.attention, x, h);
  run(block.ffn.norm, h, normed);
  run(block.ffn.inner.a, normed, routed);
  run(block.ffn.inner.b, normed, shared);
  bool same = true;
  for (std::size_t i = 0; i < y.flat().size(); ++i)
    same &= is_near(y.flat()[i], h.flat()[i] + routed.flat()[i] + shared.flat()[i], 1e-5);
  expect(same, "the sum of its parts");

  // Balance without a loss: after each step, which is left out here, who was asked too often becomes less attractive.
  RoutingReport counts(RoutingReport::Detail::counts);
  const auto most_asked = [&] {
    counts.clear();
    counts.begin_batch();
    ctx.report = &counts;
    run(block, x, y);
    return std::ranges::max(counts.layers()[0].total().requests);
  };
  const double before = most_asked();
  for (int step = 0; step < 300; ++step) {
    (void)most_asked();
    update_selection_bias(block, counts, 1e-2);
  }
  expect(most_asked() < before, "the most wanted expert is wanted less");
  ctx.report = nullptr;

  // Qwen2-MoE's shared expert has a gate, which each token opens as far as it likes.
  const GatedMlp<double> expert({.width = 4, .hidden = 3, .bias = Bias::none});
  check_gradient(Gated({.width = 4}, expert), {5, 4}, 4, "the gradient of Qwen's shared expert");
  return status();
}
