#include "gatefold/core/isa.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

namespace gatefold {
namespace {

/// Sets GATEFOLD_ISA for one test.
class Forced {
 public:
  explicit Forced(const char* value) {
    if (const char* before = std::getenv("GATEFOLD_ISA")) before_ = before, had_ = true;
    value ? ::setenv("GATEFOLD_ISA", value, 1) : ::unsetenv("GATEFOLD_ISA");
  }
  ~Forced() { had_ ? ::setenv("GATEFOLD_ISA", before_.c_str(), 1) : ::unsetenv("GATEFOLD_ISA"); }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;

 private:
  std::string before_;
  bool had_ = false;
};

TEST(IsaName, CanBePrinted) {
  EXPECT_EQ(name(Isa::portable), "portable");
  EXPECT_EQ(name(Isa::simd), "simd");
}

TEST(IsaName, IsForcedByTheEnvironment) {
  for (const Isa isa : {Isa::portable, Isa::simd}) {
    const Forced forced(std::string(name(isa)).c_str());
    EXPECT_EQ(default_isa(), isa);
  }
  for (const char* unset : {static_cast<const char*>(nullptr), ""}) {
    const Forced forced(unset);
    EXPECT_EQ(default_isa(), Isa::simd);
  }
}

TEST(IsaName, AnUnknownOneIsRefused) {
  const Forced forced("avx9000");
  try {
    (void)default_isa();
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "GATEFOLD_ISA is «avx9000», expected portable or simd");
  }
}

}  // namespace
}  // namespace gatefold
