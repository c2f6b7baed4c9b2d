#include "gatefold/module/pack.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/nn/patch_embed.hpp"

namespace gatefold {
namespace {

std::vector<std::string> paths(const auto& module) {
  std::vector<std::string> all;
  for_each_param([&](std::string_view path, const auto&) { all.emplace_back(path); }, module);
  return all;
}
template <class F, class L>
concept Packable = requires(const L& layer) {
  pack<F>(layer);
};

struct Stored {
  int bits;
};
struct Own {
  template <class F>
  Stored over(const PackTo<F>&) const {
    return {static_cast<int>(8 * sizeof(F))};
  }
};

TEST(Pack, AsksTheLayer) {
  EXPECT_EQ(pack<bf16>(Own{}).bits, 16);
  static_assert(!Packable<bf16, int>);
  static_assert(Packable<int8, Linear<float>> && Packable<float, Mlp<float>>);
  // What is packed has no way back, and cannot be packed again.
  static_assert(!Packable<int4, Linear<float, Packed<int8>>> && !Packable<int4, Mlp<float, Gelu, Packed<int8>>>);
  static_assert(!Layer<Linear<float, Packed<float>>> && ForwardLayer<Linear<float, Packed<float>>>);
}

TEST(Pack, GivesTheSameLayersOverAnotherStorage) {
  static_assert(std::same_as<decltype(pack<bf16>(Linear<float>({.in = 1, .out = 1}))), Linear<float, Packed<bf16>>>);
  static_assert(
      std::same_as<decltype(pack<int4>(Mlp<float, Relu>({.width = 1, .hidden = 1}))), Mlp<float, Relu, Packed<int4>>>);
  static_assert(std::same_as<decltype(pack<int8>(GatedMlp<float>({.width = 1, .hidden = 1}))),
                             GatedMlp<float, Silu, Packed<int8>>>);
  using Both = OneOf<Mlp<float>, GatedMlp<float>>;
  static_assert(std::same_as<decltype(pack<int8>(Both(Mlp<float>({.width = 1, .hidden = 1})))),
                             OneOf<Mlp<float, Gelu, Packed<int8>>, GatedMlp<float, Silu, Packed<int8>>>>);
}

TEST(Pack, ListsValuesAndScalesWhereTheWeightWas) {
  const Mlp<float> mlp({.width = 3, .hidden = 5});
  EXPECT_THAT(paths(pack<bf16>(mlp)),
              testing::ElementsAre("up.weight.values", "up.bias", "down.weight.values", "down.bias"));
  EXPECT_THAT(paths(pack<int8>(mlp)), testing::ElementsAre("up.weight.values", "up.weight.scale", "up.bias",
                                                           "down.weight.values", "down.weight.scale", "down.bias"));
  const Linear<float> plain({.in = 3, .out = 4, .bias = Bias::none});
  EXPECT_THAT(paths(pack<int4>(plain)), testing::ElementsAre("weight.values", "weight.scale"));
}

TEST(Pack, KeepsTheChoiceOfOneOfAndTheShapeOfPatches) {
  using Both = OneOf<Mlp<float>, GatedMlp<float>>;
  EXPECT_EQ(pack<bf16>(Both(Mlp<float>({.width = 2, .hidden = 3}))).layer.index(), 0u);
  EXPECT_EQ(pack<bf16>(Both(GatedMlp<float>({.width = 2, .hidden = 3}))).layer.index(), 1u);

  PatchEmbed<float> patches({.patch = 2, .channels = 3, .width = 5, .bias = Bias::none});
  Rng rng(1);
  for (float& v : patches.projection.weight.flat()) v = static_cast<float>(rng.normal());
  const auto packed = pack<float>(patches);
  EXPECT_EQ(packed.patch, 2);
  EXPECT_EQ(packed.channels, 3);
  EXPECT_THAT(paths(packed), testing::ElementsAre("projection.weight.values"));
  Tensor<float, 4> images({2, 4, 6, 3});
  for (float& v : images.flat()) v = static_cast<float>(rng.normal());
  Tensor<float, 2> y({12, 5}), expected({12, 5});
  Context ctx;
  (void)packed.forward(images, y, ctx);
  (void)patches.forward(images, expected, ctx);
  for (std::size_t i = 0; i < y.flat().size(); ++i)
    EXPECT_NEAR(y.flat()[i], expected.flat()[i], 1e-5);  // 12 terms of 1
}

}  // namespace
}  // namespace gatefold
