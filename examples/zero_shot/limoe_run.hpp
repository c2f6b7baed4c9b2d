#pragma once
#include "gatefold/core/context.hpp"
#include "zero_shot/arguments.hpp"

namespace zero_shot {

/// zero_shot with a LIMoE. Returns the exit status, 1 when a picture or a folder could not be read.
int run_limoe(const Arguments& a, gatefold::Context& ctx);

}  // namespace zero_shot
