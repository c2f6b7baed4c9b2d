#include "layer.hpp"

int main() {
  using namespace gatefold;
  static_assert(GATEFOLD_VERSION > 0 && sizeof(GATEFOLD_VERSION_STRING) >= sizeof("0.1.0"));
  const Tensor<float, 2> x = embed("\u00C4");
  Tensor<float, 2> y(x.shape());
  Context ctx;
  kernels::softmax_rows<float>(x, y, ctx);
  return std::abs(y.flat()[0] + y.flat()[1] - 1) < 1e-6f ? 0 : 1;
}
