// refused: same_as|is_same
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

using namespace gatefold;

#ifdef GATEFOLD_OFFEND
using Scalar = double;
#else
using Scalar = float;
#endif

void forward(const SparseMlp<TopKRouter<Scalar>, Mlp<float>>& layer, Rows<const float> x, Rows<float> y, Context& ctx) {
  (void)layer.forward(x, y, ctx);
}
