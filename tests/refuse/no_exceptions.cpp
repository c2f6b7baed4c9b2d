// refused: gatefold reports errors by exceptions: compile without -fno-exceptions
// flags: -fno-exceptions
#include "gatefold/gatefold.hpp"
