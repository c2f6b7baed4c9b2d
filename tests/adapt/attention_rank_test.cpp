#include "gatefold/adapt/attention_rank.hpp"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>

#include "gatefold/blocks/mixture_of_depths.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "tests/support/layer_contract.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::attention_rank_test {
namespace {

TEST(AttentionRank, MapsHaveTheRanksThatNumPyGivesThem) {
  std::ifstream file(gatefold::test::test_data("attention_rank.txt"));
  ASSERT_TRUE(file);
  constexpr Index kHeads = 2, kWidth = 3, kColumns = (kHeads + 2) * kWidth;
  const std::vector<double> tolerances{1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-6};
  std::string line, word, mask;
  int cases = 0;
  while (std::getline(file, line)) {
    std::istringstream first(line);
    Index tokens = 0;
    first >> word >> mask >> tokens;
    if (word != "case") continue;
    ++cases;
    SCOPED_TRACE(line);
    Tensor<double, 2> qkv({tokens, kColumns});
    for (Index i = 0; i < tokens; ++i)
      for (Index c = 0; c < (kHeads + 1) * kWidth; ++c) file >> qkv.data()[i * kColumns + c];
    std::vector<Index> offset{0, tokens}, row(static_cast<std::size_t>(tokens));
    std::iota(row.begin(), row.end(), Index{0});
    const bool causal = mask == "causal";
    const kernels::AttentionPlan plan{.offset = {offset.data(), {2}},
                                      .row = {row.data(), {tokens}},
                                      .heads = kHeads,
                                      .mask = causal ? kernels::AttentionMask::causal : kernels::AttentionMask::none,
                                      .key_heads = 1};
    for (Index head = 0; head < kHeads; ++head) {
      auto map = attention_map<double>(qkv, plan, 0, head);
      for (Index t = 0; t < tokens && causal; ++t) map.data()[t * tokens + t] = 0;
      file >> word;
      ASSERT_EQ(word, "ranks");
      for (const double tolerance : tolerances) {
        Index wanted = -1;
        file >> wanted;
        EXPECT_EQ(numerical_rank(map, tolerance), wanted) << tolerance;
      }
    }
  }
  EXPECT_EQ(cases, 6);
}

using Block = EncoderBlock<GatedMlp<float>>;
Encoder<Block> make_encoder(Index layers) {
  Encoder<Block> encoder({.width = 8}, layers, [](Index) {
    return Block({.width = 8,
                  .num_heads = 4,
                  .mask = Attention<float>::Mask::causal,
                  .num_key_heads = 2,
                  .window = 4,
                  .rotary = {.width = 2}},
                 GatedMlp<float>({.width = 8, .hidden = 3}));
  });
  test::disturb(encoder, 1);
  return encoder;
}
const test::OwnedLayout kLayout{.offset = {0, 6, 6, 13}, .modality = {0, 0, 0, kPadding, 0, 0, 0, 0, 0, 0, 0, 0, 0}};

TEST(AttentionRank, AMapIsWhatAttentionTakesOfItsValues) {
  const auto encoder = make_encoder(1);
  const auto& attention = encoder.blocks[0].attention.inner;
  const auto x = test::random_matrix<float>({13, 8}, 2);
  const TokenLayout layout = kLayout.view();
  Tensor<float, 2> y({13, 8});
  Context ctx;
  ctx.layout = &layout;
  const auto scope = ctx.workspace.scope();
  const auto kept = attention.forward(x, y, ctx);
  const auto attended = kept.out.x;  // [R, H d]
  for (Index b = 0; b < 3; ++b)
    for (Index head = 0; head < 4; ++head) {
      const auto map = attention_map<float>(kept.projected, kept.plan, b, head);
      const Index n = map.extent(0);
      for (Index i = 0; i < n; ++i) {
        const auto row = [&](Index t) { return kept.plan.row[kept.plan.offset[b] + t]; };
        for (Index c = 0; c < 2; ++c) {
          double sum = 0;
          for (Index j = 0; j < n; ++j)
            sum += map.data()[i * n + j] * static_cast<double>(kept.projected(row(j), 12 + head / 2 * 2 + c));
          EXPECT_NEAR(attended(row(i), head * 2 + c), sum, 1e-5);
        }
      }
    }
}

TEST(AttentionRank, CountsSamplesAndDoesNotDependOnThreads) {
  const auto encoder = make_encoder(3);
  const TokenLayout layout = kLayout.view();
  std::vector<AttentionRanks> all;
  for (const int threads : {1, 2, 7}) {
    AttentionRanks ranks({.tolerance = 1e-2});
    Context ctx;
    ctx.parallel_for = test::threads(threads);
    for (std::uint64_t seed : {2, 3}) {
      const auto x = test::random_matrix<float>({13, 8}, seed);
      Tensor<float, 2> y({13, 8});
      ctx.layout = &layout;
      const auto scope = ctx.workspace.scope();
      ranks.add(encoder, encoder.forward(x, y, ctx), ctx);
    }
    EXPECT_EQ(ranks.num_samples(), 6);
    all.push_back(ranks);
  }
  for (const auto& ranks : all) {
    EXPECT_EQ(ranks.by_layer(), all[0].by_layer());
    for (Index l = 0; l < 3; ++l) {
      const auto heads = ranks.by_head(l);
      EXPECT_NEAR(std::accumulate(heads.begin(), heads.end(), 0.0) / 4, ranks.by_layer()[static_cast<std::size_t>(l)],
                  1e-12);
    }
  }
}

TEST(AttentionRank, RefusesWhatHasNoMaps) {
  auto encoder = make_encoder(2);
  encoder.recompute = true;
  const auto x = test::random_matrix<float>({5, 8}, 2);
  Tensor<float, 2> y({5, 8});
  Context ctx;
  const auto scope = ctx.workspace.scope();
  AttentionRanks ranks;
  EXPECT_THROW(ranks.add(encoder, encoder.forward(x, y, ctx), ctx), OptionError);
  encoder.recompute = false;
  ranks.add(encoder, encoder.forward(x, y, ctx), ctx);
  const auto other = make_encoder(3);
  EXPECT_THROW(ranks.add(other, other.forward(x, y, ctx), ctx), ShapeError);
}

TEST(AttentionRank, LooksThroughBlocksThatMaySkipAndRefusesThoseThatDo) {
  using Layer = OneOf<Block, MixtureOfDepths<Block>>;
  const auto plain = make_encoder(2);
  Encoder<Layer> dense({.width = 8}, 2, [&](Index i) { return Layer(plain.blocks[static_cast<std::size_t>(i)]); });
  const auto x = test::random_matrix<float>({5, 8}, 2);
  Tensor<float, 2> y({5, 8});
  Context ctx;
  const auto scope = ctx.workspace.scope();
  AttentionRanks a, b;
  a.add(plain, plain.forward(x, y, ctx), ctx);
  b.add(dense, dense.forward(x, y, ctx), ctx);
  EXPECT_EQ(a.by_layer(), b.by_layer());
  dense.blocks[1] = Layer(MixtureOfDepths({.width = 8}, plain.blocks[1]));
  EXPECT_THROW(b.add(dense, dense.forward(x, y, ctx), ctx), OptionError);
}

TEST(AttentionRank, NaNHasNoRank) {
  Tensor<double, 2> map({2, 2});
  map.data()[1] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(numerical_rank(map), 0);
  EXPECT_EQ(numerical_rank(Tensor<double, 2>({0, 0})), 0);
}

TEST(Spearman, TakesTiesAtTheirMean) {
  EXPECT_NEAR(spearman({1, 2, 3, 4}, {10, 20, 30, 40}), 1, 1e-12);
  EXPECT_NEAR(spearman({1, 2, 3, 4}, {4, 3, 2, 1}), -1, 1e-12);
  EXPECT_NEAR(spearman({1, 2, 2, 3}, {1, 3, 2, 4}), 0.9486832980505138, 1e-12);  // SciPy's spearmanr
  EXPECT_TRUE(std::isnan(spearman({1, 1}, {1, 2})));
}

TEST(LayersToSkip, AreThoseOfLowRank) {
  const std::vector<double> ranks{65, 67, 64, 67, 60};
  EXPECT_THAT(layers_to_skip(ranks, 2), ::testing::ElementsAre(0, 2, 4));
  EXPECT_THAT(layers_to_skip(ranks, 1), ::testing::ElementsAre(0, 2, 3, 4));
  EXPECT_THAT(layers_to_skip(ranks, 5), ::testing::IsEmpty());
  EXPECT_THAT(layers_below(ranks, 65), ::testing::ElementsAre(2, 4));
  EXPECT_THROW(layers_to_skip(ranks, 6), OptionError);
}

}  // namespace
}  // namespace gatefold::attention_rank_test
