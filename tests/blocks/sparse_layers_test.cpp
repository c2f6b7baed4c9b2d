#include "gatefold/blocks/sparse_layers.hpp"

#include <gmock/gmock.h>

#include "gatefold/blocks/encoder.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/losses/balance.hpp"
#include "gatefold/nn/gated.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/nn/sequence.hpp"
#include "gatefold/nn/sum.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/blocks/exact_gradient.hpp"

namespace gatefold {
namespace {

using Net = Mlp<float>;
using Sparse = SparseMlp<TopKRouter<float>, Net, AuxLosses<Balance>>;

/// Dense, then a mixture beside a gated net, then two mixtures one after the other, then dense.
auto make() {
  using Beside = Sum<Sparse, Gated<Net>>;
  using Twice = Sequence<Sparse, Sparse>;
  using Ffn = OneOf<Net, OneOf<Beside, Twice>>;
  using Block = EncoderBlock<Ffn, Attention<float>, LayerNorm<float>, PostNorm>;
  const Net net({.width = 8, .hidden = 3});
  const Sparse sparse(TopKRouter<float>({.width = 8, .num_experts = 4, .num_selected = 2}), net);
  Encoder<Block> encoder({.width = 8}, 4, [&](Index layer) {
    using Either = OneOf<Beside, Twice>;
    const Ffn ffn = layer == 1   ? Ffn(Either(Beside(sparse, Gated({.width = 8}, net))))
                    : layer == 2 ? Ffn(Either(Twice(sparse, sparse)))
                                 : Ffn(net);
    return Block({.width = 8, .num_heads = 2}, ffn);
  });
  disturb_params(encoder, 1);
  return encoder;
}

TEST(SparseLayers, AreFoundWhereverTheyAreUnderThePathsOfTheirParameters) {
  auto model = make();
  const std::vector<std::string> wanted{"blocks.1.ffn.inner.a", "blocks.2.ffn.inner.0", "blocks.2.ffn.inner.1"};
  std::vector<std::string> paths;
  for_each_sparse(model, [&](std::string_view path, Sparse& sparse) {
    paths.emplace_back(path);
    sparse.router.options.capacity = {.factor = 2};  // it may be changed
  });
  EXPECT_EQ(paths, wanted);
  EXPECT_EQ(std::get<0>(std::get<1>(model.blocks[1].ffn.inner.layer).layer).a.router.options.capacity.factor, 2);
  std::vector<std::string> of_routers;
  for_each_param(
      [&](std::string_view path, const auto&) {
        if (path.ends_with(".router.weight")) of_routers.emplace_back(path.substr(0, path.size() - 14));
      },
      model);
  EXPECT_EQ(of_routers, wanted);
}

TEST(SparseLayers, SumTheirPenaltiesOfAPass) {
  const auto model = make();
  const auto x = random_tensor<float>(Shape<2>{9, 8}, 2);
  Tensor<float, 2> y({9, 8});
  Context ctx;
  RoutingReport report;
  ctx.report = &report;
  const auto scope = ctx.workspace.scope();
  const auto saved = model.forward(x, y, ctx);
  float sum = 0;
  Index layers = 0;
  for_each_sparse(model, saved, [&](std::string_view, const Sparse& sparse, const Sparse::Saved& kept) {
    EXPECT_EQ(kept.routing.plan.num_tokens(), 9);
    EXPECT_GT(sparse.aux_loss(kept, ctx), 0);
    sum += sparse.aux_loss(kept, ctx);
    ++layers;
  });
  EXPECT_EQ(layers, 3);
  EXPECT_EQ(aux_loss(model, saved, ctx), sum);
}

}  // namespace
}  // namespace gatefold
