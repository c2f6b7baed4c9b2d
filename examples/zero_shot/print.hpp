#pragma once
#include <ostream>

#include "zero_shot/reading.hpp"
#include "zero_shot/terminal.hpp"

namespace zero_shot {

struct PrintOptions {
  Terminal terminal{};
  Index top = 5;  ///< Labels of each picture; the right one is shown in any case.
};

/// The reading for people.
void print(std::ostream& out, const Reading& reading, const PrintOptions& options);

}  // namespace zero_shot
