// refused: gatefold needs C\+\+20: -std=c\+\+20
// flags: -std=c++17
// errors: 2
#include "gatefold/gatefold.hpp"  // one in words, one that stops the compiler
