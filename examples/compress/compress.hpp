#pragma once
#include "compress/arguments.hpp"

namespace compress {

/// A model of train_limoe, on the world that it was trained in. Throws FormatError, std::system_error.
void compress_limoe(const Arguments& args);

/// A CLIP, on photographs and captions; the new one has the names of the old. Throws FormatError, UsageError.
void compress_clip(const Arguments& args);

}  // namespace compress
