#include "gatefold/blocks/encoder.hpp"

#include "gatefold/nn/mlp.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

template <Index kLayers>
constexpr auto kMake = [](auto type) {
  using T = typename decltype(type)::type;
  using Block = EncoderBlock<Mlp<T>>;
  return Encoder<Block>({.width = 4}, kLayers, [](Index layer) {
    return Block({.width = 4, .num_heads = 2}, Mlp<T>({.width = 4, .hidden = layer + 2}));
  });
};

std::vector<std::string> paths(Index layers) {
  std::vector<std::string> all;
  for (Index layer = 0; layer < layers; ++layer)
    for (const char* path :
         {"attention.norm.gain", "attention.norm.bias", "attention.inner.qkv.weight", "attention.inner.qkv.bias",
          "attention.inner.out.weight", "attention.inner.out.bias", "ffn.norm.gain", "ffn.norm.bias",
          "ffn.inner.up.weight", "ffn.inner.up.bias", "ffn.inner.down.weight", "ffn.inner.down.bias"})
      all.push_back("blocks." + std::to_string(layer) + "." + path);
  all.push_back("norm.gain");
  all.push_back("norm.bias");
  return all;
}

const test::OwnedLayout kLayout{.offset = {0, 2, 5}, .modality = {0, 0, 1, 1, 1}};

// An even and an odd number of blocks end in different buffers; none at all is just the norm.
TEST(Encoder, KeepsTheContractOfALayerAtAnyDepth) {
  const auto check = [](const auto& make, Index layers) {
    SCOPED_TRACE(layers);
    test::check_layer(make, {.in = 4, .out = 4, .rows = 5, .paths = paths(layers), .layout = &kLayout, .copies = 100});
  };
  check(kMake<0>, 0);
  check(kMake<1>, 1);
  check(kMake<2>, 2);
  check(kMake<3>, 3);
}

TEST(Encoder, MakesOneBlockForEachLayer) {
  const auto encoder = kMake<3>(std::type_identity<float>{});
  for (std::size_t layer = 0; layer < 3; ++layer)
    EXPECT_EQ(encoder.blocks[layer].ffn.inner.up.out(), static_cast<Index>(layer) + 2);
}

Encoder<EncoderBlock<Mlp<float>>> wide_encoder(Index layers) {
  using Block = EncoderBlock<Mlp<float>>;
  Encoder<Block> encoder({.width = 48}, layers, [](Index layer) {
    return Block({.width = 48, .num_heads = 3}, Mlp<float>({.width = 48, .hidden = 40 + layer}));
  });
  test::disturb(encoder, 3, 0.15);
  return encoder;
}

TEST(Encoder, MayBePackedAtAnyDepth) {
  for (Index layers = 1; layers <= 4; ++layers) {
    SCOPED_TRACE(layers);
    test::check_packed(wide_encoder(layers), {.in = 48, .out = 48, .rows = 9, .products = 4. * double(layers)});
  }
}

// Whatever the depth: two buffers for what passes between the blocks, and what one block needs.
TEST(Encoder, PackedKeepsNothing) {
  const auto packed = pack<bf16>(wide_encoder(3));
  const auto x = test::random_matrix<float>({200, 48}, 5);
  Tensor<float, 2> y({200, 48});
  Context ctx;
  (void)packed.forward(x, y, ctx);
  const auto blocks = ctx.workspace.allocations();
  const float* const before = ctx.workspace.take<float>(1).data();
  for (int pass = 0; pass < 50; ++pass) (void)packed.forward(x, y, ctx);  // no scope around it
  EXPECT_EQ(ctx.workspace.allocations(), blocks);
  EXPECT_EQ(ctx.workspace.take<float>(1).data(), before + kAlignment / sizeof(float)) << "something was kept";
}

}  // namespace
}  // namespace gatefold
