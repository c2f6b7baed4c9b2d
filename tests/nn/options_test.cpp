// What every layer of nn says of sizes that are none, and of gradients and parameters of other shapes than its own.
#include "gatefold/nn/attention.hpp"
#include "gatefold/nn/attention_pool.hpp"
#include "gatefold/nn/class_token.hpp"
#include "gatefold/nn/embedding.hpp"
#include "gatefold/nn/patch_embed.hpp"
#include "gatefold/nn/position.hpp"
#include "tests/support/refused.hpp"

namespace gatefold {
namespace {

using test::expect_option_error;
using test::expect_shape_error;

template <class L>
void refused(const typename L::Options& o, std::string_view text) {
  expect_option_error([&] { L layer(o); }, text);
}

TEST(Options, NameTheSizeThatIsNone) {
  refused<Linear<float>>({.in = 0, .out = 3}, "Linear: in is 0, expected at least 1");
  refused<Linear<float>>({.in = 3, .out = -1}, "Linear: out is -1");
  refused<LayerNorm<float>>({.width = 0}, "LayerNorm: width is 0");
  refused<LayerNorm<float>>({.width = 3, .epsilon = -1}, "LayerNorm: epsilon is -1");
  refused<Embedding<float>>({.vocabulary = 0, .width = 3}, "Embedding: vocabulary is 0");
  refused<Embedding<float>>({.vocabulary = -3, .width = -3}, "Embedding: vocabulary is -3");
  refused<LearnedPosition<float>>({.length = 0, .width = 3}, "LearnedPosition: length is 0");
  refused<LearnedPosition<float>>({.length = 3, .width = 0}, "LearnedPosition: width is 0");
  refused<ClassToken<float>>({.width = 0}, "ClassToken: width is 0");
  refused<PatchEmbed<float>>({.patch = 0, .width = 3}, "PatchEmbed: patch is 0");
  refused<PatchEmbed<float>>({.patch = -2, .width = 3}, "PatchEmbed: patch is -2");
  refused<PatchEmbed<float>>({.patch = 2, .channels = 0, .width = 3}, "PatchEmbed: channels is 0");
  refused<PatchEmbed<float>>({.patch = 2, .width = 0}, "PatchEmbed: width is 0");
  refused<Attention<float>>({.width = 0, .num_heads = 2}, "Attention: width is 0");
  refused<Attention<float>>({.width = 6, .num_heads = -2}, "Attention: num_heads is -2");
  refused<Attention<float>>({.width = 6, .num_heads = 4}, "width 6 is not a multiple of num_heads 4");
  refused<AttentionPool<float>>({.width = 0, .num_heads = 2, .hidden = 3}, "AttentionPool: width is 0");
  refused<AttentionPool<float>>({.width = 6, .num_heads = 0, .hidden = 3}, "AttentionPool: num_heads is 0");
  refused<AttentionPool<float>>({.width = 6, .num_heads = 2, .hidden = 0}, "AttentionPool: hidden is 0");
  const auto table = [](const SinCos2d& o, std::string_view text) {
    expect_option_error([&] { (void)sincos2d<float>(o); }, text);
  };
  table({.height = 0, .width_in_patches = 1, .width = 8}, "sincos2d: height is 0");
  table({.height = 1, .width_in_patches = -1, .width = 8}, "sincos2d: width_in_patches is -1");
  table({.height = 1, .width_in_patches = 1, .width = 8, .temperature = 0}, "sincos2d: temperature is 0");
}

TEST(Options, AGradientOfOtherShapesIsRefused) {
  Context ctx;
  Tensor<float, 2> x({4, 6}), y({4, 6}), dx({4, 6});
  {
    const Linear<float> layer({.in = 6, .out = 6});
    Linear<float> narrow({.in = 6, .out = 5}), bare({.in = 6, .out = 6, .bias = Bias::none});
    const auto saved = layer.forward(x, y, ctx);
    expect_shape_error([&] { layer.backward(saved, y, dx, narrow, ctx); }, "grad.weight has shape [5, 6]");
    expect_shape_error([&] { layer.backward(saved, y, dx, bare, ctx); }, "grad.bias has shape [0], expected [6]");
    auto odd = layer;
    odd.bias = Tensor<float, 1>({2});
    expect_shape_error([&] { (void)odd.forward(x, y, ctx); }, "Linear::forward: bias has shape [2], expected [6]");
  }
  {
    const LayerNorm<float> layer({.width = 6});
    LayerNorm<float> narrow({.width = 5});
    const auto saved = layer.forward(x, y, ctx);
    expect_shape_error([&] { layer.backward(saved, y, dx, narrow, ctx); }, "grad.gain has shape [5], expected [6]");
  }
  {
    const Embedding<float> layer({.vocabulary = 9, .width = 6});
    Embedding<float> small({.vocabulary = 8, .width = 6});
    const Index ids[] = {8, 8, 8, 8};
    const auto saved = layer.forward({ids, {4}}, y, ctx);
    expect_shape_error([&] { layer.backward(saved, y, small, ctx); }, "grad.table has shape [8, 6], expected [9, 6]");
  }
  {
    const LearnedPosition<float> layer({.length = 9, .width = 6});
    LearnedPosition<float> small({.length = 3, .width = 6});
    const Index offset[] = {0, 4};
    const auto saved = layer.forward({offset, {2}}, x, ctx);
    expect_shape_error([&] { layer.backward(saved, y, small, ctx); }, "grad.table has shape [3, 6], expected [9, 6]");
  }
  {
    const ClassToken<float> layer({.width = 6});
    ClassToken<float> narrow({.width = 5});
    Tensor<float, 2> dy({5, 6});
    expect_shape_error([&] { layer.backward(1, dy, dx, narrow, ctx); }, "grad.token has shape [5], expected [6]");
  }
}

}  // namespace
}  // namespace gatefold
