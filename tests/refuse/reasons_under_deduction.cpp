// refused: an expert is a layer.*layer\.forward\(x, y, ctx\)
// refused: num_experts
// refused: add_gradient
// refused: expert is a layer that can be trained
// refused: Residual is around a layer
// refused: one of two layers
// refused: feed-forward net is a layer
// refused: moves the parameters of a module
#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/blocks/soft_moe.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "gatefold/train/adamw.hpp"

using namespace gatefold;

// Where arguments of a template are deduced, both compilers still say what a type lacks.
struct NoConstForward : LayerNorm<float> {
  using LayerNorm::LayerNorm;
  Saved forward(Rows<const float> x, Rows<float> y, Context& ctx) { return LayerNorm::forward(x, y, ctx); }
};
struct NoNumExperts : TopKRouter<float> {
  Index num_experts() const = delete;
};
struct NoGradient {
  float value(const RouterScores<float>&, Context&) const { return 0; }
};
struct NoLayer {
  using Scalar = float;
};

void deduce(const TopKRouter<float>& router, const Mlp<float>& mlp) {
  SparseMlp sparse(router, mlp, NoAux{});
  EncoderBlock block({.width = 8, .num_heads = 2}, sparse);
  AdamW optimizer(block);
#ifdef GATEFOLD_OFFEND
  SparseMlp a(router, NoConstForward({.width = 8}));
  SparseMlp b(NoNumExperts{router}, mlp);
  SparseMlp c(router, mlp, NoGradient{});
  SoftMoe d({.width = 8, .num_experts = 2}, NoLayer{});
  Residual e({.width = 8}, NoLayer{});
  OneOf<Mlp<float>, NoLayer> f(mlp);
  EncoderBlock g({.width = 8, .num_heads = 2}, NoLayer{});
  AdamW h(NoLayer{});
#endif
}
