#include "gatefold/blocks/encoder_block.hpp"

#include "gatefold/blocks/encoder.hpp"
#include "gatefold/nn/dropout.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/identity.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/sequence.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold::encoder_block_test {
namespace {

constexpr auto kMake = [](auto type) {
  using T = typename decltype(type)::type;
  return EncoderBlock<Mlp<T>>({.width = 4, .num_heads = 2}, Mlp<T>({.width = 4, .hidden = 3}));
};
constexpr auto kMakeCausal = [](auto type) {
  using T = typename decltype(type)::type;
  return EncoderBlock<GatedMlp<T>>({.width = 4, .num_heads = 1, .mask = Attention<T>::Mask::causal},
                                   GatedMlp<T>({.width = 4, .hidden = 3}));
};
const std::vector<std::string> kAttentionPaths{"attention.norm.gain",
                                               "attention.norm.bias",
                                               "attention.inner.qkv.weight",
                                               "attention.inner.qkv.bias",
                                               "attention.inner.out.weight",
                                               "attention.inner.out.bias",
                                               "ffn.norm.gain",
                                               "ffn.norm.bias"};
std::vector<std::string> paths(const std::vector<std::string>& ffn) {
  auto all = kAttentionPaths;
  for (const auto& path : ffn) all.push_back("ffn.inner." + path);
  return all;
}

const test::OwnedLayout kLayout{.offset = {0, 3, 7}, .modality = {0, 0, kPadding, 1, 1, 1, 1}};

TEST(EncoderBlock, KeepsTheContractOfALayer) {
  test::check_layer(kMake, {.in = 4,
                            .out = 4,
                            .rows = 7,
                            .paths = paths({"up.weight", "up.bias", "down.weight", "down.bias"}),
                            .layout = &kLayout,
                            .copies = 200});
  test::check_layer(kMakeCausal,
                    {.in = 4,
                     .out = 4,
                     .rows = 5,
                     .paths = paths({"gate.weight", "gate.bias", "up.weight", "up.bias", "down.weight", "down.bias"}),
                     .copies = 20});
}

TEST(EncoderBlock, IsOpenInNormAndOrder) {
  const auto make = [](auto type) {
    using T = typename decltype(type)::type;
    const Sequence attention(Attention<T>({.width = 4, .num_heads = 2}), DropPath<T>({.rate = 0.1}));
    const LayerNorm<T> norm({.width = 4, .epsilon = 1e-3});
    using Block = decltype(EncoderBlock(PostNorm(norm, attention), PostNorm(norm, Mlp<T>({.width = 4, .hidden = 3}))));
    return Encoder<Block, Identity<T>>({}, 2, [&](Index) {
      return Block(PostNorm(norm, attention), PostNorm(norm, Mlp<T>({.width = 4, .hidden = 3})));
    });
  };
  std::vector<std::string> paths;
  for (const char* layer : {"blocks.0.", "blocks.1."})
    for (const char* path :
         {"attention.inner.0.qkv.weight", "attention.inner.0.qkv.bias", "attention.inner.0.out.weight",
          "attention.inner.0.out.bias", "attention.norm.gain", "attention.norm.bias", "ffn.inner.up.weight",
          "ffn.inner.up.bias", "ffn.inner.down.weight", "ffn.inner.down.bias", "ffn.norm.gain", "ffn.norm.bias"})
      paths.push_back(std::string(layer) + path);
  test::check_layer(make, {.in = 4, .out = 4, .rows = 7, .paths = paths, .layout = &kLayout, .copies = 100});

  // The last norm's rows are standardised, whatever came before.
  const auto encoder = make(std::type_identity<double>{});
  Tensor<double, 2> y({5, 4});
  Context ctx;
  infer(encoder, test::random_matrix<double>({5, 4}, 2).view(), y.view(), ctx);
  for (Index i = 0; i < 5; ++i)
    EXPECT_NEAR(y.view()(i, 0) + y.view()(i, 1) + y.view()(i, 2) + y.view()(i, 3), 0, 1e-14);
}

TEST(EncoderBlock, IsTwoResidualBranches) {
  auto block = kMake(std::type_identity<double>{});
  test::disturb(block, 1);
  const auto x = test::random_matrix<double>({5, 4}, 2);
  Tensor<double, 2> y({5, 4}), normed({5, 4}), attended({5, 4}), mixed({5, 4}), wanted({5, 4});
  Context ctx;
  infer<EncoderBlock<Mlp<double>>>(block, x, y, ctx);
  infer<LayerNorm<double>>(block.attention.norm, x, normed, ctx);
  infer<Attention<double>>(block.attention.inner, normed, mixed, ctx);
  for (std::size_t i = 0; i < 20; ++i) mixed.flat()[i] += x.flat()[i];
  infer<LayerNorm<double>>(block.ffn.norm, mixed, normed, ctx);
  infer<Mlp<double>>(block.ffn.inner, normed, wanted, ctx);
  for (std::size_t i = 0; i < 20; ++i) wanted.flat()[i] += mixed.flat()[i];
  EXPECT_THAT(y.flat(), testing::Pointwise(testing::DoubleNear(1e-14), wanted.flat()));
}

TEST(EncoderBlock, MayBePacked) {
  const test::OwnedLayout layout{.offset = {0, 3, 7}, .modality = {0, 0, kPadding, 1, 1, 1, 1}};
  EncoderBlock<Mlp<float>> block({.width = 48, .num_heads = 3}, Mlp<float>({.width = 48, .hidden = 70}));
  test::disturb(block, 1, 0.15);
  test::check_packed(block, {.in = 48, .out = 48, .rows = 7, .products = 4, .layout = &layout});
  EncoderBlock<GatedMlp<float>> causal({.width = 48, .num_heads = 2, .mask = Attention<float>::Mask::causal},
                                       GatedMlp<float>({.width = 48, .hidden = 70}));
  test::disturb(causal, 2, 0.15);
  causal.attention.norm.epsilon = 0.25;
  EXPECT_EQ(pack<bf16>(causal).attention.inner.options.mask, Attention<float>::Mask::causal);
  EXPECT_EQ(pack<bf16>(causal).attention.norm.epsilon, 0.25);
  test::check_packed(causal, {.in = 48, .out = 48, .rows = 130, .products = 5});
}

}  // namespace
}  // namespace gatefold::encoder_block_test
