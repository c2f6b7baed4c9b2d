// What gatefold::compiled is made of, with flags of its own.
#define GATEFOLD_COMPILED template
#include "gatefold/compiled.hpp"
