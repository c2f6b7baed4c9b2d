// An object of a program that links gatefold::compiled.
#include "gatefold/compiled.hpp"
#include "gatefold/core/tensor.hpp"

#ifndef GATEFOLD_COMPILED
#error "say how gatefold::compiled is made"
#endif

int main() {
  gatefold::Context ctx;
  gatefold::Tensor<float, 2> x({3, 50}), y({3, 50});
  x.flat()[149] = 1;
  gatefold::kernels::add_rows<float>(x, y, ctx);
  return y.view()(2, 49) == 1 ? 0 : 1;
}
