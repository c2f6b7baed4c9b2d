#include "gatefold/core/isa.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace gatefold {
namespace {

using testing::ElementsAre;

constexpr CpuFeatures kCascadeLake = kX86V4 + CpuFeatures{CpuFeature::avx512_vnni};
constexpr CpuFeatures kSapphireRapids =
    kCascadeLake + CpuFeatures{CpuFeature::avx512_bf16, CpuFeature::avx512_fp16, CpuFeature::amx_tile,
                               CpuFeature::amx_int8, CpuFeature::amx_bf16};

std::string refusal(std::string_view forced, CpuFeatures here) {
  try {
    (void)choose_isa(forced, here);
    return "";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

TEST(IsaName, CanBePrinted) {
  std::ostringstream out;
  for (const Isa isa : kIsas) out << isa << " ";
  EXPECT_EQ(out.str(), "portable simd avx512 amx ");
  EXPECT_EQ(name(Isa::avx512), "avx512");
}

TEST(IsaName, EachStandsOnTheOneBefore) {
  EXPECT_LT(Isa::portable, Isa::simd);
  EXPECT_LT(Isa::simd, Isa::avx512);
  EXPECT_LT(Isa::avx512, Isa::amx);
}

TEST(IsaChoice, IsTheBestThatTheCpuRuns) {
  EXPECT_THAT(isas_on({}), ElementsAre(Isa::portable, Isa::simd));
  EXPECT_THAT(isas_on(kX86V3), ElementsAre(Isa::portable, Isa::simd));
  EXPECT_THAT(isas_on(kX86V4), ElementsAre(Isa::portable, Isa::simd));  // Skylake: no dot products
  EXPECT_THAT(isas_on(kCascadeLake), ElementsAre(Isa::portable, Isa::simd, Isa::avx512));
  EXPECT_THAT(isas_on(kSapphireRapids), ElementsAre(Isa::portable, Isa::simd, Isa::avx512, Isa::amx));
  for (const CpuFeatures here : {CpuFeatures(), kX86V3, kX86V4, kCascadeLake, kSapphireRapids})
    EXPECT_EQ(choose_isa("", here), isas_on(here).back());
}

TEST(IsaChoice, AmxNeedsAllOfIt) {
  for (const CpuFeature part :
       {CpuFeature::avx512_bf16, CpuFeature::amx_tile, CpuFeature::amx_int8, CpuFeature::amx_bf16})
    EXPECT_EQ(choose_isa("", kSapphireRapids - CpuFeatures{part}), Isa::avx512);
}

TEST(IsaChoice, CanBeForcedToALowerOne) {
  for (const CpuFeatures here : {CpuFeatures(), kX86V3, kCascadeLake, kSapphireRapids})
    for (const Isa isa : isas_on(here)) EXPECT_EQ(choose_isa(name(isa), here), isa);
}

TEST(IsaChoice, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(refusal("avx9000", kX86V3), "GATEFOLD_ISA: «avx9000» is unknown, expected portable or simd");
  EXPECT_EQ(refusal("SIMD", kSapphireRapids),
            "GATEFOLD_ISA: «SIMD» is unknown, expected portable, simd, avx512 or amx");
}

TEST(IsaChoice, RefusesWhatTheCpuLacks) {
  EXPECT_EQ(refusal("amx", kCascadeLake),
            "GATEFOLD_ISA: «amx» does not run on this CPU, expected portable, simd or avx512");
  EXPECT_EQ(refusal("avx512", kX86V4), "GATEFOLD_ISA: «avx512» does not run on this CPU, expected portable or simd");
}

TEST(IsaChoice, IsTheSameForTheWholeProcess) {
  const char* const forced = std::getenv("GATEFOLD_ISA");
  EXPECT_EQ(default_isa(), choose_isa(forced ? forced : "", cpu().features));
  EXPECT_EQ(isas_here().data(), isas_on(cpu().features).data());
  EXPECT_EQ(isas_here().size(), isas_on(cpu().features).size());
}

}  // namespace
}  // namespace gatefold
