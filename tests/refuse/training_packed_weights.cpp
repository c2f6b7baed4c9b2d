// refused: backward
#include "gatefold/nn/mlp.hpp"

using namespace gatefold;

// Packed weights are for inference.
#ifdef GATEFOLD_OFFEND
using Net = Mlp<float, Gelu, Packed<int8>>;
#else
using Net = Mlp<float>;
#endif

void train(const Net& net, Net& grad, Rows<const float> x, Rows<float> y, Context& ctx) {
  const auto saved = net.forward(x, y, ctx);
  net.backward(saved, y, y, grad, ctx);
}
