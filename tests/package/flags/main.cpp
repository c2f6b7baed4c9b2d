// Uses kernels here and, in another object, there.
#include "gatefold/core/tensor.hpp"
#include "gatefold/simd/map.hpp"

void add_one(gatefold::Rows<float> x, gatefold::Context& ctx);

int main() {
  gatefold::Context ctx;
  gatefold::Tensor<float, 2> x({3, 50}), y({3, 50});
  add_one(x, ctx);
  gatefold::kernels::add_rows<float>(x, y, ctx);
  return y.view()(2, 49) == 1 ? 0 : 1;
}
