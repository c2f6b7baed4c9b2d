#pragma once
#include <cstdint>

namespace gatefold {

/// A row of an embedding table.
using TokenId = std::int32_t;

}  // namespace gatefold
