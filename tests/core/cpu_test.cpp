#include "gatefold/core/cpu.hpp"

#include <gtest/gtest.h>

#include <iterator>

namespace gatefold {
namespace {

using enum CpuFeature;

TEST(CpuFeatures, AreASet) {
  constexpr CpuFeatures some{avx2, fma}, more{avx2, amx_bf16};
  static_assert(some.has(avx2) && !some.has(amx_bf16));
  static_assert((some + more).has(some) && (some + more).has(more) && !some.has(more));
  static_assert((some - more) == CpuFeatures{fma} && (some - some) == CpuFeatures());
  static_assert(kX86V4.has(kX86V3) && kX86V3.has(kX86V2) && !kX86V3.has(kX86V4));
  static_assert(some.bits() == (1u << static_cast<int>(avx2) | 1u << static_cast<int>(fma)));
}

TEST(CpuFeatures, HaveTheNamesOfGccsFlags) {
  EXPECT_EQ(name(sse4_2), "sse4.2");
  EXPECT_EQ(name(movbe), "movbe");
  EXPECT_EQ(name(avx512vl), "avx512vl");
  EXPECT_EQ(name(avx_vnni), "avxvnni");
  EXPECT_EQ(name(amx_bf16), "amx-bf16");
  static_assert(std::size(kCpuFeatureNames) == static_cast<std::size_t>(amx_bf16) + 1);
}

TEST(Cpu, IsLookedAtOnce) { EXPECT_EQ(&cpu(), &cpu()); }

#if defined(__x86_64__)
// The compiler's run-time library reads CPUID for itself.
TEST(Cpu, HasWhatTheCompilersLibrarySays) {
  __builtin_cpu_init();
  const auto expect = [](CpuFeature feature, int has) {
    EXPECT_EQ(cpu().features.has(feature), has != 0) << name(feature);
  };
  expect(sse3, __builtin_cpu_supports("sse3"));
  expect(ssse3, __builtin_cpu_supports("ssse3"));
  expect(sse4_1, __builtin_cpu_supports("sse4.1"));
  expect(sse4_2, __builtin_cpu_supports("sse4.2"));
  expect(popcnt, __builtin_cpu_supports("popcnt"));
  expect(avx, __builtin_cpu_supports("avx"));
  expect(avx2, __builtin_cpu_supports("avx2"));
  expect(fma, __builtin_cpu_supports("fma"));
  expect(bmi, __builtin_cpu_supports("bmi"));
  expect(bmi2, __builtin_cpu_supports("bmi2"));
  expect(avx512f, __builtin_cpu_supports("avx512f"));
  expect(avx512cd, __builtin_cpu_supports("avx512cd"));
  expect(avx512dq, __builtin_cpu_supports("avx512dq"));
  expect(avx512bw, __builtin_cpu_supports("avx512bw"));
  expect(avx512vl, __builtin_cpu_supports("avx512vl"));
  expect(avx512_vnni, __builtin_cpu_supports("avx512vnni"));
  expect(avx512_bf16, __builtin_cpu_supports("avx512bf16"));
  expect(avx512_vbmi, __builtin_cpu_supports("avx512vbmi"));
  expect(avx512_vbmi2, __builtin_cpu_supports("avx512vbmi2"));
  expect(avx512_bitalg, __builtin_cpu_supports("avx512bitalg"));
  expect(avx512_vpopcntdq, __builtin_cpu_supports("avx512vpopcntdq"));
#if defined(__GNUC__) && !defined(__clang__)
  EXPECT_EQ(cpu().has(kX86V2), __builtin_cpu_supports("x86-64-v2") != 0);
  EXPECT_EQ(cpu().has(kX86V3), __builtin_cpu_supports("x86-64-v3") != 0);  // with f16c, lzcnt and movbe
  EXPECT_EQ(cpu().has(kX86V4), __builtin_cpu_supports("x86-64-v4") != 0);
#endif
  EXPECT_EQ(cpu().fast_bf16_dot, __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512bf16"));
  EXPECT_EQ(cpu().prefetches_streams, __builtin_cpu_is("amdfam19h") != 0);
}
#endif

}  // namespace
}  // namespace gatefold
