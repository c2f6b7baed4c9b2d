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

}  // namespace
}  // namespace gatefold
