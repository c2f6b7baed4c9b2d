#include "gatefold/adapt/freeze_policy.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

// The paths of a CLIP of dense blocks and mixtures; models/clip_test.cpp counts what they name of one.
TEST(FreezePolicy, NamesWhatTheRecipesTrain) {
  const std::vector<std::string> paths{"vision.class_token.token",
                                       "vision.encoder.blocks.0.attention.inner.qkv.weight",
                                       "vision.encoder.blocks.0.ffn.norm.gain",
                                       "vision.encoder.blocks.0.ffn.inner.up.weight",
                                       "text.encoder.blocks.11.ffn.inner.router.weight",
                                       "text.encoder.blocks.11.ffn.inner.experts.3.down.bias",
                                       "text.projection.weight",
                                       "logit_scale"};
  const auto trained = [&](const Trainable& policy) {
    std::string which;
    for (const auto& path : paths) which += policy(path) ? '1' : '0';
    return which;
  };
  EXPECT_EQ(trained(feed_forward_only()), "00011100");
  EXPECT_EQ(trained(routers_only()), "00001000");
  EXPECT_EQ(trained(routers_and_experts()), "00001100");
  EXPECT_EQ(trained(locked_image_tower()), "00001111");
}

}  // namespace
}  // namespace gatefold
