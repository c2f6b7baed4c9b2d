#include "gatefold/blocks/encoder.hpp"

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/losses/balance.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/routing_tape.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold::encoder_test {
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

Encoder<EncoderBlock<Mlp<float>>> wide_encoder(Index layers) {
  using Block = EncoderBlock<Mlp<float>>;
  Encoder<Block> encoder({.width = 48}, layers, [](Index layer) {
    return Block({.width = 48, .num_heads = 3}, Mlp<float>({.width = 48, .hidden = 40 + layer}));
  });
  test::disturb(encoder, 3, 0.15);
  return encoder;
}

template <Index kLayers>
constexpr auto kMakeRecomputing = [](auto type) {
  auto encoder = kMake<kLayers>(type);
  encoder.recompute = true;
  return encoder;
};
TEST(Encoder, KeepsTheContractWhereBackwardRunsItsBlocksAgain) {
  test::check_layer(kMakeRecomputing<2>,
                    {.in = 4, .out = 4, .rows = 5, .paths = paths(2), .layout = &kLayout, .copies = 100});
}

/// A pass over a mixture with noise and a penalty, by chance.
struct NoisyPass {
  using Block = EncoderBlock<SparseMlp<TopKRouter<float>, Mlp<float>, AuxLosses<Balance>>>;
  Encoder<Block> encoder{{.width = 16}, 3, [](Index) {
                           return Block(
                               {.width = 16, .num_heads = 2},
                               {TopKRouter<float>({.width = 16, .num_experts = 4, .num_selected = 2, .noise = 1}),
                                Mlp<float>({.width = 16, .hidden = 24}), AuxLosses<Balance>()});
                         }};
  Tensor<float, 2> x = test::random_matrix<float>({40, 16}, 1), dy = test::random_matrix<float>({40, 16}, 2);
  Tensor<float, 2> y{{40, 16}}, dx{{40, 16}};
  Encoder<Block> grad;
  float aux = 0;
  Rng rng{11};
  RoutingReport report;

  explicit NoisyPass(bool recompute, bool with_noise = true) : grad((test::disturb(encoder, 3), zeros_like(encoder))) {
    encoder.recompute = recompute;
    Context ctx;
    if (with_noise) ctx.rng = &rng;
    ctx.report = &report;
    const auto saved = encoder.forward(x, y, ctx);
    aux = recompute ? saved.aux : aux_loss(encoder, saved, ctx);
    ctx.layout = nullptr;
    encoder.backward(saved, dy, dx, grad, ctx);
    EXPECT_EQ(ctx.rng, with_noise ? &rng : nullptr);
    EXPECT_EQ(ctx.report, &report);
  }
};

TEST(Encoder, GradientsKeepEveryBitWhereBlocksRunAgain) {
  for (const bool noise : {true, false}) {
    const NoisyPass plain(false, noise), again(true, noise);
    EXPECT_EQ(again.y, plain.y);
    EXPECT_EQ(again.dx, plain.dx);
    EXPECT_EQ(again.aux, plain.aux);
    EXPECT_EQ(again.rng.state(), plain.rng.state());
    EXPECT_EQ(again.report.layers().size(), plain.report.layers().size());
    for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, again.grad,
                   plain.grad);
  }
  EXPECT_NE(NoisyPass(true, true).y, NoisyPass(true, false).y);
}

TEST(Encoder, RecomputeRefusesWhatWouldSeeABlockTwice) {
  NoisyPass pass(true);
  Context ctx;
  const auto saved = pass.encoder.forward(pass.x, pass.y, ctx);
  EXPECT_THROW((void)aux_loss(pass.encoder, saved, ctx), OptionError);
  RoutingTape tape;
  ctx.tape = &tape;
  EXPECT_THROW((void)pass.encoder.forward(pass.x, pass.y, ctx), OptionError);
}

// Of ten blocks: what goes into each, R D, against 16 R D.
TEST(Encoder, RecomputeKeepsLittle) {
  test::OwnedLayout sequences{.offset = {}, .modality = std::vector<std::uint8_t>(512)};
  for (Index row = 0; row <= 512; row += 16) sequences.offset.push_back(row);
  const auto layout = sequences.view();
  const auto taken = [&](bool recompute) {
    auto encoder = wide_encoder(10);
    encoder.recompute = recompute;
    const auto x = test::random_matrix<float>({512, 48}, 5);
    Tensor<float, 2> y({512, 48}), dx({512, 48});
    auto grad = zeros_like(encoder);
    Context ctx;
    ctx.parallel_for = test::threads(2);  // each has room of its own, which is no part of this
    ctx.layout = &layout;
    encoder.backward(encoder.forward(x, y, ctx), x, dx, grad, ctx);
    return ctx.workspace.size_bytes();
  };
  EXPECT_LT(3 * taken(true), taken(false));
}

TEST(Encoder, MakesOneBlockForEachLayer) {
  const auto encoder = kMake<3>(std::type_identity<float>{});
  for (std::size_t layer = 0; layer < 3; ++layer)
    EXPECT_EQ(encoder.blocks[layer].ffn.inner.up.out(), static_cast<Index>(layer) + 2);
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
}  // namespace gatefold::encoder_test
