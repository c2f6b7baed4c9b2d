#pragma once
#include "gatefold/core/context.hpp"
#include "zero_shot/arguments.hpp"

namespace zero_shot {

/// zero_shot with a CLIP. Returns the exit status: 1 when a photograph or a folder could not be read, which is
/// named on standard error while the others are answered.
int run_clip(const Arguments& a, gatefold::Context& ctx);

}  // namespace zero_shot
