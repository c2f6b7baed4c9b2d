#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>

#include "gatefold/core/cpu.hpp"

/// What the program was compiled for, by -march and other -m flags. Templates and inline functions exist once in a
/// program, whichever object they come from, so all objects that use gatefold need the same of these flags:
/// - objects with other ones do not link (at least where the linker knows ELF): «undefined reference to
///   gatefold_compiled_for_avx512», since only the first object's word for it is kept;
/// - the name is also part of every symbol that mentions a Context, so that shared libraries do not mix kernels either;
/// - a CPU that has less is refused in words before main.
// The steps are those at which kernels change: the widths of xsimd, and the dot products that compilers use by
// themselves.
#if defined(__AVX512FP16__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx512_fp16
#elif defined(__AVX512BF16__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx512_bf16
#elif defined(__AVX512VNNI__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx512_vnni
#elif defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx512
#elif defined(__AVX512F__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx512f
#elif defined(__AVX2__) && defined(__FMA__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx2_fma
#elif defined(__AVX2__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx2
#elif defined(__AVX__) && defined(__FMA__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx_fma
#elif defined(__AVX__)
#define GATEFOLD_COMPILED_FOR compiled_for_avx
#elif defined(__SSE4_2__)
#define GATEFOLD_COMPILED_FOR compiled_for_sse4_2
#elif defined(__SSE4_1__)
#define GATEFOLD_COMPILED_FOR compiled_for_sse4_1
#elif defined(__SSSE3__)
#define GATEFOLD_COMPILED_FOR compiled_for_ssse3
#elif defined(__SSE3__)
#define GATEFOLD_COMPILED_FOR compiled_for_sse3
#elif defined(__SSE2__)
#define GATEFOLD_COMPILED_FOR compiled_for_sse2
#elif defined(__ARM_FEATURE_SVE)
#define GATEFOLD_COMPILED_FOR compiled_for_sve
#elif defined(__ARM_NEON)
#define GATEFOLD_COMPILED_FOR compiled_for_neon
#else
#define GATEFOLD_COMPILED_FOR compiled_for_any_cpu
#endif

#ifdef __ELF__
// Every object brings the same inline variable under a second name that tells its flags, and asks for that name. The
// linker keeps the variable, with its names, of the first object only. A section of its own asks (R: even if the linker
// drops what nobody calls), rather than C++, where clang would put the variable's own name.
#define GATEFOLD_STRING_OF(x) #x
#define GATEFOLD_STRING(x) GATEFOLD_STRING_OF(x)
extern "C" {
[[gnu::used, gnu::visibility("hidden")]] inline const char gatefold_one_set_of_m_flags_per_program = 0;
[[gnu::used, gnu::visibility("hidden")]] extern const char gatefold_compiled_for_this  //
    __asm__("gatefold_" GATEFOLD_STRING(GATEFOLD_COMPILED_FOR))
        __attribute__((alias("gatefold_one_set_of_m_flags_per_program")));
}
asm(".pushsection .gatefold_compiled_for,\"awR\",%progbits\n"
    ".dc.a gatefold_" GATEFOLD_STRING(GATEFOLD_COMPILED_FOR) "\n"
    ".popsection");
#undef GATEFOLD_STRING
#undef GATEFOLD_STRING_OF
#endif

namespace gatefold {

/// What the compiler was allowed to use, by -march and other -m flags.
constexpr CpuFeatures compiled_features() {
  CpuFeatures all;
  using enum CpuFeature;
  [[maybe_unused]] const auto add = [&all](CpuFeature f) { all = all + CpuFeatures{f}; };
#ifdef __SSE3__
  add(sse3);
#endif
#ifdef __SSSE3__
  add(ssse3);
#endif
#ifdef __SSE4_1__
  add(sse4_1);
#endif
#ifdef __SSE4_2__
  add(sse4_2);
#endif
#ifdef __POPCNT__
  add(popcnt);
#endif
#ifdef __AVX__
  add(avx);
#endif
#ifdef __AVX2__
  add(avx2);
#endif
#ifdef __FMA__
  add(fma);
#endif
#ifdef __F16C__
  add(f16c);
#endif
#ifdef __BMI__
  add(bmi);
#endif
#ifdef __BMI2__
  add(bmi2);
#endif
#ifdef __LZCNT__
  add(lzcnt);
#endif
#ifdef __MOVBE__
  add(movbe);
#endif
#ifdef __AVX512F__
  add(avx512f);
#endif
#ifdef __AVX512CD__
  add(avx512cd);
#endif
#ifdef __AVX512DQ__
  add(avx512dq);
#endif
#ifdef __AVX512BW__
  add(avx512bw);
#endif
#ifdef __AVX512VL__
  add(avx512vl);
#endif
#ifdef __AVX512VNNI__
  add(avx512_vnni);
#endif
#ifdef __AVX512BF16__
  add(avx512_bf16);
#endif
#ifdef __AVX512VBMI__
  add(avx512_vbmi);
#endif
#ifdef __AVX512VBMI2__
  add(avx512_vbmi2);
#endif
#ifdef __AVX512BITALG__
  add(avx512_bitalg);
#endif
#ifdef __AVX512VPOPCNTDQ__
  add(avx512_vpopcntdq);
#endif
#ifdef __AVX512FP16__
  add(avx512_fp16);
#endif
#ifdef __AVXVNNI__
  add(avx_vnni);
#endif
  return all;
}

namespace detail {

/// Copies `words`, and ends them; returns the end.
#if defined(__x86_64__)
[[gnu::target("arch=x86-64,no-avx,no-bmi,no-bmi2"), gnu::noinline]]
#endif
inline char*
add_words(char* to, const char* words) {
  while ((*to = *words)) ++to, ++words;
  return to;
}

/// Writes to `text` (at least 512 characters) «gatefold: the program was compiled for avx512f, ..., which this CPU has
/// not; compile it with -march=x86-64-v3», or nothing if `here` has all that is in `compiled`. Runs on every CPU, as
/// find_cpu_features does.
#if defined(__x86_64__)
[[gnu::target("arch=x86-64,no-avx,no-bmi,no-bmi2"), gnu::noinline]]
#endif
inline void
refuse_cpu(std::uint64_t compiled, std::uint64_t here, char* text) {
  *text = 0;
  const std::uint64_t missing = compiled & ~here;
  if (!missing) return;
  constexpr std::uint64_t kV2 = kX86V2.bits(), kV3 = kX86V3.bits(), kV4 = kX86V4.bits();
  char* end = add_words(text, "gatefold: the program was compiled for ");
  const char* between = "";
  for (unsigned i = 0; i < sizeof(kCpuFeatureNames) / sizeof(*kCpuFeatureNames); ++i)
    if (missing >> i & 1) {
      end = add_words(add_words(end, between), kCpuFeatureNames[i]);
      between = ", ";
    }
  end = add_words(end, ", which this CPU has not; compile it with -march=x86-64");
  add_words(end, !(kV4 & ~here) ? "-v4" : !(kV3 & ~here) ? "-v3" : !(kV2 & ~here) ? "-v2" : "");
}

#if defined(__x86_64__)
/// Ends a program that this CPU cannot run, with words: before main, since every function of it may use the
/// instructions that the CPU lacks (g++ clears 16 bytes with AVX-512 where it may).
[[gnu::constructor(101), gnu::used, gnu::target("arch=x86-64,no-avx,no-bmi,no-bmi2"), gnu::noinline]] inline void
expect_cpu() {
  constexpr std::uint64_t kCompiled = compiled_features().bits();
  char text[512];
  refuse_cpu(kCompiled, find_cpu_features(), text);
  if (!*text) return;
  add_words(text + __builtin_strlen(text), "\n");
  std::fputs(text, stderr);
  std::_Exit(EXIT_FAILURE);
}
#endif

}  // namespace detail

/// What the program would say on a CPU that has no more than `here`; empty if it would run.
inline std::string cpu_refusal(CpuFeatures compiled, CpuFeatures here) {
  char text[512];
  detail::refuse_cpu(compiled.bits(), here.bits(), text);
  return text;
}

}  // namespace gatefold
