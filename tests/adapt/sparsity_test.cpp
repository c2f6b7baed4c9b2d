#include "gatefold/adapt/sparsity.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

TEST(Sparsity, AsText) {
  for (const char* text : {"2:4", "4:8", "70%", "12.5%"}) EXPECT_EQ(to_text(sparsity_of(text)), text);
  EXPECT_EQ(sparsity_of("0.7"), Sparsity(Unstructured{.share = 0.7}));
  for (const char* text : {"", "2", "4:4", "2:17", "100%", "2:4:8", "x", "0.5x", "-1%", "nan"})
    EXPECT_THROW((void)sparsity_of(text), OptionError) << text;
  EXPECT_EQ(share_of(0.29, 100), 29);
}

}  // namespace
}  // namespace gatefold
