// refused: weight\.multiply\(x, y, ctx, bias\)
#include "gatefold/nn/attention.hpp"
#include "gatefold/nn/attention_pool.hpp"
#include "gatefold/nn/gated_mlp.hpp"

using namespace gatefold;

// A storage that cannot multiply is refused where a layer is made of it.
struct Silent {
  explicit Silent(Shape<2>) {}
  static void visit(auto&, auto&...) {}
  Index extent(std::size_t) const { return 0; }
#ifndef GATEFOLD_OFFEND
  void multiply(Rows<const float>, Rows<float>, Context&, const float*) const {}
#endif
};

void take(const Linear<float, Silent>&, const Mlp<float, Gelu, Silent>&, const GatedMlp<float, Silu, Silent>&,
          const Attention<float, Silent>&, const AttentionPool<float, Silent>&);
