#pragma once
#include <iostream>
#include <string>

#include "program.hpp"
#include "zero_shot/clip_photos.hpp"

namespace zero_shot {

/// On standard error, behind what standard output has had so far.
inline void tell(const std::string& what) {
  std::cout.flush();
  std::cerr << gatefold::message("zero_shot: " + what);
}
/// What a search for photographs did not hand out.
inline void tell(const LeftOut& left) {
  for (const auto& folder : left.closed) tell("folder " + folder);
  if (const auto others = left.of_other_kinds(); !others.empty()) tell("note: " + others);
}

}  // namespace zero_shot
