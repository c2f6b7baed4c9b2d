// refused: gatefold computes with infinities and NaN: compile without -ffast-math
// flags: -O2 -ffinite-math-only
#include "gatefold/core/tensor.hpp"
