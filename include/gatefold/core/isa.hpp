#pragma once
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace gatefold {

/// Which kernels run: plain loops, or the vector unit that the program was compiled for.
enum class Isa { portable, simd };

inline std::string_view name(Isa isa) { return isa == Isa::portable ? "portable" : "simd"; }

/// The fastest one, unless the environment variable GATEFOLD_ISA names another.
inline Isa default_isa() {
  const char* forced = std::getenv("GATEFOLD_ISA");
  if (!forced || std::string_view(forced).empty()) return Isa::simd;
  for (const Isa isa : {Isa::portable, Isa::simd})
    if (name(isa) == forced) return isa;
  throw std::invalid_argument("GATEFOLD_ISA is «" + std::string(forced) + "», expected portable or simd");
}

}  // namespace gatefold
