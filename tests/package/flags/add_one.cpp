// One object of a program; main.cpp is the other.
#include "gatefold/simd/map.hpp"

void add_one(gatefold::Rows<float> x, gatefold::Context& ctx) {
  gatefold::kernels::map_rows<float>(
      x, ctx, [](auto v) { return v + 1; }, x);
}
