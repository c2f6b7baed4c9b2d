#pragma once
#include "zero_shot/limoe_reader.hpp"
#include "zero_shot/page.hpp"

namespace zero_shot {

/// What a page says of a LIMoE. `file` is its name.
PageModel page_model(const Reader& reader, const std::string& file);

}  // namespace zero_shot
