#include "gatefold/core/parallel.hpp"

#ifndef _OPENMP
#error "the package was asked for OpenMP"
#endif
int main() { return 0; }
