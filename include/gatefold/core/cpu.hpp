#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "gatefold/core/language.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

/// What the CPU can do, found at run time and without -m flags. On machines other than x86-64 that is «nothing
/// special»: there the vector unit that every CPU has is all we use.
namespace gatefold {

/// Instructions that not every x86-64 has, and that compilers use unasked or our kernels ask for.
// clang-format off
enum class CpuFeature : unsigned char {
  sse3, ssse3, sse4_1, sse4_2, popcnt,                 // x86-64-v2 has these
  avx, avx2, fma, f16c, bmi, bmi2, lzcnt, movbe,       // x86-64-v3
  avx512f, avx512cd, avx512dq, avx512bw, avx512vl,     // x86-64-v4
  avx512_vnni, avx512_bf16, avx512_vbmi, avx512_vbmi2, avx512_bitalg, avx512_vpopcntdq, avx512_fp16, avx_vnni,
  amx_tile, amx_int8, amx_bf16,
};
inline constexpr const char* kCpuFeatureNames[] = {
  "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt",
  "avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe",
  "avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl",
  "avx512vnni", "avx512bf16", "avx512vbmi", "avx512vbmi2", "avx512bitalg", "avx512vpopcntdq", "avx512fp16", "avxvnni",
  "amx-tile", "amx-int8", "amx-bf16",
};
// clang-format on

constexpr std::string_view name(CpuFeature f) { return kCpuFeatureNames[static_cast<std::size_t>(f)]; }

class CpuFeatures {
 public:
  constexpr CpuFeatures() = default;
  constexpr CpuFeatures(std::initializer_list<CpuFeature> features) {
    for (const CpuFeature f : features) bits_ |= std::uint64_t(1) << static_cast<unsigned>(f);
  }
  /// Bit i stands for the feature of value i.
  constexpr explicit CpuFeatures(std::uint64_t bits) : bits_(bits) {}

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr bool has(CpuFeatures all) const { return (all.bits_ & ~bits_) == 0; }
  constexpr bool has(CpuFeature f) const { return has(CpuFeatures{f}); }
  friend constexpr CpuFeatures operator+(CpuFeatures a, CpuFeatures b) { return CpuFeatures(a.bits_ | b.bits_); }
  friend constexpr CpuFeatures operator-(CpuFeatures a, CpuFeatures b) { return CpuFeatures(a.bits_ & ~b.bits_); }
  friend constexpr bool operator==(CpuFeatures, CpuFeatures) = default;

 private:
  std::uint64_t bits_ = 0;
};

/// The levels of the x86-64 psABI, for -march.
inline constexpr CpuFeatures kX86V2{CpuFeature::sse3, CpuFeature::ssse3, CpuFeature::sse4_1, CpuFeature::sse4_2,
                                    CpuFeature::popcnt};
inline constexpr CpuFeatures kX86V3 =
    kX86V2 + CpuFeatures{CpuFeature::avx, CpuFeature::avx2, CpuFeature::fma,   CpuFeature::f16c,
                         CpuFeature::bmi, CpuFeature::bmi2, CpuFeature::lzcnt, CpuFeature::movbe};
inline constexpr CpuFeatures kX86V4 =
    kX86V3 + CpuFeatures{CpuFeature::avx512f, CpuFeature::avx512cd, CpuFeature::avx512dq, CpuFeature::avx512bw,
                         CpuFeature::avx512vl};

struct Cpu {
  CpuFeatures features;  ///< What the CPU has and the operating system lets us use.
  /// vdpbf16ps multiplies faster than fp32 FMA on widened weights: on AMD since Zen 4 twice as fast; on Intel (Sapphire
  /// Rapids) it is slower.
  bool fast_bf16_dot = false;
  /// Prefetches several streams from memory by itself while a tile multiplies what has come, and asking it to is
  /// slower: AMD Zen 4. Zen 5 and Intel (Sapphire Rapids) do not.
  bool prefetches_streams = false;

  bool has(CpuFeatures all) const { return features.has(all); }
};

namespace detail {

#if defined(__x86_64__)
/// What CPUID tells and the operating system saves the registers of. Compiled for the first x86-64, whatever the
/// program is compiled for, so that every CPU can run it: plain arithmetic, no library.
[[gnu::target("arch=x86-64,no-avx,no-bmi,no-bmi2"), gnu::noinline]] inline std::uint64_t find_cpu_features() {
  enum Word : unsigned char { k1c, k80000001c, k7b, k7c, k7d, k7_1a };  // leaf (and subleaf), register
  unsigned word[6] = {}, a = 0, b = 0, c = 0, d = 0;
  __cpuid(0, a, b, c, d);
  const unsigned last = a;
  __cpuid(1, a, b, c, d);
  word[k1c] = c;
  unsigned saved = 0;
  if (c >> 27 & 1) asm volatile("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
  if (last >= 7) {
    __cpuid_count(7, 0, a, b, c, d);
    word[k7b] = b, word[k7c] = c, word[k7d] = d;
    if (a >= 1) {
      __cpuid_count(7, 1, a, b, c, d);
      word[k7_1a] = a;
    }
  }
  __cpuid(0x80000000, a, b, c, d);
  if (a >= 0x80000001) {
    __cpuid(0x80000001, a, b, c, d);
    word[k80000001c] = c;
  }

  struct Place {
    CpuFeature feature;
    Word word;
    unsigned bit;
    unsigned saved;  // bits of XCR0: the registers that the operating system has to save
  };
  constexpr unsigned kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;
  using enum CpuFeature;
  static constexpr Place kPlaces[] = {
      {sse3, k1c, 0, 0},
      {ssse3, k1c, 9, 0},
      {sse4_1, k1c, 19, 0},
      {sse4_2, k1c, 20, 0},
      {movbe, k1c, 22, 0},
      {popcnt, k1c, 23, 0},
      {lzcnt, k80000001c, 5, 0},
      {bmi, k7b, 3, 0},
      {bmi2, k7b, 8, 0},
      {fma, k1c, 12, kYmm},
      {avx, k1c, 28, kYmm},
      {f16c, k1c, 29, kYmm},
      {avx2, k7b, 5, kYmm},
      {avx_vnni, k7_1a, 4, kYmm},
      {avx512f, k7b, 16, kZmm},
      {avx512dq, k7b, 17, kZmm},
      {avx512cd, k7b, 28, kZmm},
      {avx512bw, k7b, 30, kZmm},
      {avx512vl, k7b, 31, kZmm},
      {avx512_vbmi, k7c, 1, kZmm},
      {avx512_vbmi2, k7c, 6, kZmm},
      {avx512_vnni, k7c, 11, kZmm},
      {avx512_bitalg, k7c, 12, kZmm},
      {avx512_vpopcntdq, k7c, 14, kZmm},
      {avx512_fp16, k7d, 23, kZmm},
      {avx512_bf16, k7_1a, 5, kZmm},
      {amx_bf16, k7d, 22, kTiles},
      {amx_tile, k7d, 24, kTiles},
      {amx_int8, k7d, 25, kTiles},
  };
  std::uint64_t features = 0;
  for (const Place& place : kPlaces)
    if ((saved & place.saved) == place.saved && (word[place.word] >> place.bit & 1))
      features |= std::uint64_t(1) << static_cast<unsigned>(place.feature);
  return features;
}

/// Linux gives AMX registers to processes that ask, since each of their threads then has 8 KiB more to save.
inline bool ask_for_amx() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

inline Cpu find_cpu() {
  constexpr CpuFeatures kAmx{CpuFeature::amx_tile, CpuFeature::amx_int8, CpuFeature::amx_bf16};
  CpuFeatures features(find_cpu_features());
  if (features.has(CpuFeature::amx_tile) && !ask_for_amx()) features = features - kAmx;
  unsigned a = 0, b = 0, c = 0, d = 0;
  __cpuid(0, a, b, c, d);
  const bool amd = c == signature_AMD_ecx;
  __cpuid(1, a, b, c, d);
  const unsigned family = (a >> 8 & 15) + (a >> 20 & 255);  // as AMD counts it
  return {.features = features,
          .fast_bf16_dot = amd && features.has(CpuFeature::avx512_bf16),
          .prefetches_streams = amd && family == 0x19};
}
#else
inline Cpu find_cpu() { return {}; }
#endif

}  // namespace detail

/// The CPU that runs this process; looked at once. Asks Linux for AMX.
inline const Cpu& cpu() {
  static const Cpu found = detail::find_cpu();
  return found;
}

}  // namespace gatefold
