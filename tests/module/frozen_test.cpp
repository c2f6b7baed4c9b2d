#include "gatefold/module/frozen.hpp"

#include "gatefold/nn/embedding.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/layer_norm.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/position.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

/// With each parameter frozen in turn, alone and with all others: `backward` leaves what is there, and all else has the
/// bits that it has without.
template <class L, class Backward>
void check(const L& layer, const Backward& backward) {
  const auto run = [&](const Frozen* frozen) {
    Context ctx;
    ctx.frozen = frozen;
    L grad = layer;
    for_each_param([](std::string_view, auto& g) { std::ranges::fill(g.flat(), 7.0f); }, grad);
    Tensor<float, 2> dx = backward(grad, ctx);
    return std::pair(std::move(grad), std::move(dx));
  };
  const auto [all, dx_of_all] = run(nullptr);
  std::vector<std::string> paths;
  for_each_param([&](std::string_view path, const auto&) { paths.emplace_back(path); }, layer);
  std::vector<std::set<std::string>> sets{{paths.begin(), paths.end()}};
  for (const auto& path : paths) sets.push_back({path});
  for (const auto& chosen : sets) {
    const Frozen frozen(layer, [&](std::string_view path) { return !chosen.contains(std::string(path)); });
    const auto [some, dx] = run(&frozen);
    EXPECT_EQ(dx, dx_of_all);
    for_each_param(
        [&](std::string_view path, const auto& got, const auto& wanted) {
          const bool left = std::ranges::all_of(got.flat(), [](float g) { return g == 7; });
          EXPECT_FALSE(std::ranges::all_of(wanted.flat(), [](float g) { return g == 7; })) << path;
          // The two of a norm come from one walk over the rows.
          if (chosen.contains(std::string(path)) && (chosen.size() > 1 || !std::is_same_v<L, LayerNorm<float>>))
            EXPECT_TRUE(left) << path;
          else
            EXPECT_EQ(got, wanted) << path;
        },
        some, all);
  }
}

template <class L>
void check_rows(L layer, Index out) {
  test::disturb(layer, 3);
  const auto x = test::random_matrix<float>({6, 8}, 1), dy = test::random_matrix<float>({6, out}, 2);
  check(layer, [&](L& grad, Context& ctx) {
    Tensor<float, 2> y({6, out}), dx({6, 8});
    layer.backward(layer.forward(x, y, ctx), dy, dx, grad, ctx);
    return dx;
  });
}

TEST(Frozen, SparesLayersTheirGradientsAndNothingElse) {
  check_rows(Linear<float>({.in = 8, .out = 5}), 5);
  check_rows(Mlp<float>({.width = 8, .hidden = 12}), 8);
  check_rows(GatedMlp<float, Silu>({.width = 8, .hidden = 12, .bias = Bias::zero}), 8);
  check_rows(LayerNorm<float>({.width = 8}), 8);

  const auto dx = test::random_matrix<float>({6, 8}, 2);
  const std::vector<Index> ids{3, 1, 3, 0, 2, 1}, offset{0, 4, 6};
  const Embedding<float> words({.vocabulary = 4, .width = 8});
  check(words, [&](Embedding<float>& grad, Context& ctx) {
    words.backward({{ids.data(), {6}}}, dx, grad, ctx);
    return dx;
  });
  const LearnedPosition<float> position({.length = 4, .width = 8});
  check(position, [&](LearnedPosition<float>& grad, Context& ctx) {
    Tensor<float, 2> x({6, 8});
    position.backward(position.forward({offset.data(), {3}}, x, ctx), dx, grad, ctx);
    return dx;
  });
}

TEST(Frozen, KnowsAModelByWhereItLies) {
  const Linear<float> layer({.in = 2, .out = 3});
  const auto copy = layer;
  const Frozen frozen(layer, [](std::string_view path) { return path == "bias"; });
  EXPECT_TRUE(frozen.holds(&layer.weight));
  EXPECT_FALSE(frozen.holds(&layer.bias));
  EXPECT_FALSE(frozen.holds(&copy.weight));
}

}  // namespace
}  // namespace gatefold
