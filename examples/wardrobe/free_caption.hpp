#pragma once
#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wardrobe/caption.hpp"
#include "wardrobe/scene.hpp"

namespace wardrobe {

/// Whether training may have shown what a caption says.
enum class Seen : std::uint8_t { yes, no, not_a_combination };

/// Answers for a caption that a person typed, such as «A striped red dress!»: could training have shown that class in
/// that colour and pattern (or those two objects in one scene)? What is not said may be anything, and backgrounds do
/// not matter. `not_a_combination` where a word is unknown, no class is named, or more is said of an object than the
/// world knows.
Seen seen_in_training(std::string_view caption);

}  // namespace wardrobe
