#include "gatefold/module/decode.hpp"

#include "gatefold/blocks/encoder.hpp"
#include "gatefold/blocks/soft_moe.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/gated.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/identity.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/nn/position.hpp"
#include "gatefold/nn/sequence.hpp"
#include "gatefold/nn/sum.hpp"
#include "gatefold/routing/expert_choice_router.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

using test::random_matrix;
using Causal = Attention<float>;
using Sparse = SparseMlp<TopKRouter<float>, Mlp<float>>;

Causal attention(Index window = 0) {
  return Causal({.width = 16, .num_heads = 2, .mask = Causal::Mask::causal, .window = window, .rotary = {.width = 8}});
}
Sparse sparse() {
  return Sparse(TopKRouter<float>({.width = 16, .num_experts = 4, .num_selected = 2}),
                Mlp<float>({.width = 16, .hidden = 8}));
}

/// What decode gives for 11 rows, 6 of them at once, against forward. The longest sum has 16 terms.
template <class L>
void expect_as_forward(L layer) {
  test::disturb(layer, 3, 0.2);
  const auto x = random_matrix<float>({11, 16}, 4);
  Tensor<float, 2> y({11, 16}), z({11, 16});
  Context ctx;
  infer(layer, x, y, ctx);
  auto cache = make_cache(layer, {.capacity = 11});
  decode(layer, x.view().rows(0, 6), z.view().rows(0, 6), cache, ctx);
  for (Index i = 6; i < 11; ++i) decode(layer, x.view().rows(i, i + 1), z.view().rows(i, i + 1), cache, ctx);
  test::expect_near<float, float>(z.flat(), y.flat(), 200, "y");
}

TEST(Decode, ThroughEveryLayerOfLayers) {
  const Mlp<float> mlp({.width = 16, .hidden = 8});
  const LayerNorm<float> norm({.width = 16});
  expect_as_forward(Residual({.width = 16}, attention()));
  expect_as_forward(PostNorm({.width = 16}, attention()));
  expect_as_forward(Sequence(mlp, attention(), norm, attention(3)));
  expect_as_forward(Sequence(attention(), mlp));
  expect_as_forward(Sequence(LearnedPosition<float>({.length = 11, .width = 16}), attention()));
  expect_as_forward(Sum(attention(), sparse()));
  expect_as_forward(Sum(mlp, attention(2)));
  expect_as_forward(Gated({.width = 16}, attention()));
  expect_as_forward(OneOf<Causal, Mlp<float>>(attention()));
  expect_as_forward(OneOf<Causal, Mlp<float>>(mlp));
  expect_as_forward(EncoderBlock(Residual({.width = 16}, attention()), Residual({.width = 16}, sparse())));
  expect_as_forward(EncoderBlock(PostNorm({.width = 16}, attention()), PostNorm({.width = 16}, mlp)));
  using Ffn = OneOf<Mlp<float>, Sparse>;
  using Block = EncoderBlock<Ffn, Causal, RmsNorm<float>>;
  expect_as_forward(Encoder<Block, RmsNorm<float>>({.width = 16}, 3, [&](Index layer) {
    return Block({.width = 16, .num_heads = 4, .mask = Causal::Mask::causal, .num_key_heads = 2, .window = layer},
                 layer % 2 ? Ffn(sparse()) : Ffn(mlp));
  }));
}

TEST(Decode, LayersOfRowsAloneNeedNoCache) {
  static_assert(std::is_same_v<CacheOf<float, Mlp<float>>, Nothing>);
  static_assert(std::is_same_v<CacheOf<float, Residual<Sparse>>, Nothing>);
  static_assert(
      std::is_same_v<CacheOf<bf16, Sequence<Mlp<float>, Causal>>, std::tuple<Nothing, KeyValueCache<float, bf16>>>);
  static_assert(!Remembers<Residual<Sparse>> && Remembers<Residual<Causal>>);
  expect_as_forward(Residual({.width = 16}, sparse()));
}

TEST(Decode, LayersInWhichRowsMeetSaySo) {
  using ExpertChoice = SparseMlp<ExpertChoiceRouter<float>, Mlp<float>>;
  static_assert(MixesRows<SoftMoe<Mlp<float>>> && MixesRows<ExpertChoice> && !MixesRows<Sparse>);
  static_assert(MixesRows<Residual<ExpertChoice>> && MixesRows<OneOf<Mlp<float>, ExpertChoice>>);
  static_assert(!MixesRows<Mlp<float>> && !MixesRows<Residual<Sparse>>);
}

// Each block's cache is its own, and may be of another length: a layer that skips tokens does not remember them.
TEST(Decode, NothingIsRememberedWhereOneBlockHasNoRoom) {
  using Block = EncoderBlock<Mlp<float>>;
  const Encoder<Block> encoder({.width = 16}, 3, [](Index) {
    return Block({.width = 16, .num_heads = 2, .mask = Causal::Mask::causal}, Mlp<float>({.width = 16, .hidden = 8}));
  });
  auto cache = make_cache(encoder, {.capacity = 4});
  const auto x = random_matrix<float>({2, 16}, 4);
  Tensor<float, 2> y({2, 16});
  Context ctx;
  decode(encoder, x, y, cache, ctx);
  std::get<0>(cache[2]).length[0] = 3;
  try {
    decode(encoder, x, y, cache, ctx);
    ADD_FAILURE() << "no room, and nothing said";
  } catch (const CacheError& error) {
    EXPECT_STREQ(error.what(), "KeyValueCache: sequence 0 has 3 of 4 tokens, no room for 2 more");
  }
  EXPECT_EQ(std::get<0>(cache[0]).length[0], 2);
  decode(encoder, x.view().rows(0, 1), y.view().rows(0, 1), cache, ctx);
  EXPECT_EQ(std::get<0>(cache[0]).length[0], 3);
  EXPECT_EQ(std::get<0>(cache[2]).length[0], 4);
  cache.pop_back();
  EXPECT_THROW(decode(encoder, x.view().rows(0, 1), y.view().rows(0, 1), cache, ctx), ShapeError);
}

}  // namespace
}  // namespace gatefold
