// refused: backward
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

using namespace gatefold;

// Can be run, but not trained.
struct InferenceOnly {
  using Scalar = float;
  struct Saved {};
  static void visit(auto&, auto&...) {}
  Saved forward(Rows<const float>, Rows<float>, Context&) const { return {}; }
};
static_assert(ForwardLayer<InferenceOnly>);
#ifdef GATEFOLD_OFFEND
using MyExpert = InferenceOnly;
#else
using MyExpert = Mlp<float>;
#endif

void train(const SparseMlp<TopKRouter<float>, MyExpert>& layer, SparseMlp<TopKRouter<float>, MyExpert>& grad,
           Rows<const float> x, Rows<float> y, Context& ctx) {
  const auto saved = layer.forward(x, y, ctx);
  layer.backward(saved, y, y, grad, ctx);
}
