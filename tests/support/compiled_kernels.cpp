#define GATEFOLD_TEST_COMPILED template
#include "tests/support/compiled_kernels.hpp"
