#include "gatefold/core/compiled_for.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

using enum CpuFeature;

TEST(CompiledFor, ThisCpu) {
  EXPECT_EQ(cpu_refusal(compiled_features(), cpu().features), "");
#ifdef __AVX2__
  EXPECT_TRUE(compiled_features().has({avx2, avx, sse4_2}));
#elif defined(__x86_64__)
  EXPECT_FALSE(compiled_features().has(avx2));
#else
  EXPECT_EQ(compiled_features(), CpuFeatures());
#endif
}

TEST(CompiledFor, ACpuThatHasItAll) {
  EXPECT_EQ(cpu_refusal({}, {}), "");
  EXPECT_EQ(cpu_refusal({}, kX86V4), "");
  EXPECT_EQ(cpu_refusal(kX86V3, kX86V4), "");
  EXPECT_EQ(cpu_refusal(kX86V4, kX86V4), "");
}

TEST(CompiledFor, ACpuThatHasLessIsToldWhatItLacksAndWhatToDo) {
  EXPECT_EQ(cpu_refusal(kX86V4 + CpuFeatures{avx512_vnni}, kX86V3),
            "gatefold: the program was compiled for avx512f, avx512cd, avx512dq, avx512bw, avx512vl, avx512vnni, which "
            "this CPU has not; compile it with -march=x86-64-v3");
  EXPECT_EQ(cpu_refusal(kX86V4 + CpuFeatures{avx512_fp16}, kX86V4),
            "gatefold: the program was compiled for avx512fp16, which this CPU has not; compile it "
            "with -march=x86-64-v4");
  EXPECT_EQ(cpu_refusal({fma}, kX86V2),
            "gatefold: the program was compiled for fma, which this CPU has not; compile it "
            "with -march=x86-64-v2");
  EXPECT_EQ(cpu_refusal({sse3}, {}),
            "gatefold: the program was compiled for sse3, which this CPU has not; compile it with -march=x86-64");
}

}  // namespace
}  // namespace gatefold
