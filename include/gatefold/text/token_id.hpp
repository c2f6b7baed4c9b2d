#pragma once
#include <cstdint>

#include "gatefold/core/language.hpp"

namespace gatefold {

/// A row of an embedding table.
using TokenId = std::int32_t;

}  // namespace gatefold
