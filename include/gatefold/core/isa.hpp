#pragma once
#include <cstdlib>
#include <iosfwd>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "gatefold/core/compiled_for.hpp"

namespace gatefold {

/// Which kernels run, each on top of those before it: plain loops; the vector unit that the program was compiled for;
/// with AVX-512 dot products (VNNI and, where fast, BF16) for packed weights; with AMX tiles for them. The last two
/// need no -m flags.
enum class Isa { portable, simd, avx512, amx };
inline constexpr Isa kIsas[] = {Isa::portable, Isa::simd, Isa::avx512, Isa::amx};

constexpr std::string_view name(Isa isa) {
  constexpr std::string_view kNames[] = {"portable", "simd", "avx512", "amx"};
  return kNames[static_cast<std::size_t>(isa)];
}
template <class Traits>  // a template, so that only its user needs <ostream>
std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& out, Isa isa) {
  return out << name(isa);
}

/// Those that a CPU runs, in their order; the last is the best.
constexpr std::span<const Isa> isas_on(CpuFeatures here) {
  constexpr CpuFeatures kAvx512 = kX86V4 + CpuFeatures{CpuFeature::avx512_vnni};
  constexpr CpuFeatures kAmx =
      kAvx512 + CpuFeatures{CpuFeature::avx512_bf16, CpuFeature::amx_tile, CpuFeature::amx_int8, CpuFeature::amx_bf16};
  return std::span(kIsas).first(here.has(kAmx) ? 4u : here.has(kAvx512) ? 3u : 2u);
}
/// Those that run here: what tests go through.
inline std::span<const Isa> isas_here() { return isas_on(cpu().features); }

/// The best that the CPU runs, or the one of the name `forced` if that is not empty.
/// Throws std::invalid_argument if the name is unknown or not for this CPU.
[[gnu::cold]] inline Isa choose_isa(std::string_view forced, CpuFeatures here) {
  const auto runs = isas_on(here);
  if (forced.empty()) return runs.back();
  std::string names;
  for (const Isa isa : runs) {
    if (name(isa) == forced) return isa;
    names += (names.empty() ? "" : isa == runs.back() ? " or " : ", ") + std::string(name(isa));
  }
  std::string why = "is unknown";
  for (const Isa isa : kIsas)
    if (name(isa) == forced) why = "does not run on this CPU";
  throw std::invalid_argument("GATEFOLD_ISA: «" + std::string(forced) + "» " + why + ", expected " + names);
}

/// The best that the CPU runs, unless the environment variable GATEFOLD_ISA names another. Chosen once.
inline Isa default_isa() {
  static const Isa chosen = [] {
    const char* const forced = std::getenv("GATEFOLD_ISA");
    return choose_isa(forced ? forced : "", cpu().features);
  }();
  return chosen;
}

}  // namespace gatefold
