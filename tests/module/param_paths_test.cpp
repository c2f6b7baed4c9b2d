#include "gatefold/module/param_paths.hpp"

#include <gtest/gtest.h>

#include "gatefold/nn/mlp.hpp"

namespace gatefold {
namespace {

TEST(ParamPaths, KnowsAParameterByWhereItLies) {
  const Mlp<float> mlp({.width = 3, .hidden = 5});
  const ParamPaths paths(mlp);
  EXPECT_EQ(paths(&mlp.up.weight), "up.weight");
  EXPECT_EQ(paths(&mlp.down.bias), "down.bias");
  const auto packed = pack<bf16>(mlp);
  EXPECT_EQ(ParamPaths(packed)(&packed.down.weight.values), "down.weight.values");
  const auto copy = mlp;
  EXPECT_THROW((void)paths(&copy.up.weight), std::invalid_argument);
}

}  // namespace
}  // namespace gatefold
