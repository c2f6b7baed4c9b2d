#pragma once
#include <string>

#include "zero_shot/reading.hpp"

namespace zero_shot {

/// The part of a page that says what each expert took: its share, in words, and by the patches and words themselves.
std::string experts_section(const Reading& reading, Index patch);

}  // namespace zero_shot
