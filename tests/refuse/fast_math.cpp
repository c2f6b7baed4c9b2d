// refused: gatefold computes with infinities and NaN: compile without -ffast-math
// flags: -ffast-math
#include "gatefold/gatefold.hpp"
