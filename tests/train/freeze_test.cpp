#include "gatefold/train/freeze.hpp"

#include <gtest/gtest.h>

#include "tests/train/optimizer_model.hpp"

namespace gatefold {
namespace {

using test::Toy;

TEST(Trainable, ByDefaultEverything) {
  EXPECT_TRUE(Trainable()("any.path"));
  const Toy<float> model;
  EXPECT_EQ(count_trained(model, {}), count_params(model));
}

TEST(Trainable, OnlyAndAllBut) {
  const auto experts = Trainable::only({"experts.*", "*.experts.*"});
  EXPECT_TRUE(experts("experts.0.weight"));
  EXPECT_TRUE(experts("layers.3.mlp.experts.11.up.weight"));
  EXPECT_FALSE(experts("router.weight"));
  const auto rest = Trainable::all_but({"router*"});
  EXPECT_TRUE(rest("experts.0.weight"));
  EXPECT_FALSE(rest("router.weight"));
  EXPECT_FALSE(Trainable::only({})("w"));
}

TEST(Trainable, Counts) {
  const Toy<float> model;
  EXPECT_EQ(count_trained(model, Trainable::only({"experts.*"})), 3 * (5 * 7 + 5));
  EXPECT_EQ(count_trained(model, Trainable::only({"*.bias"})), 4 * 5);
}

TEST(Trainable, ATypingErrorIsRefused) {
  const Toy<float> model;
  EXPECT_NO_THROW(Trainable::all_but({"router*", "experts.?.bias"}).expect_known(model));
  try {
    Trainable::all_but({"router*", "expert.*"}).expect_known(model);
    FAIL() << "not refused";
  } catch (const OptionError& error) {
    EXPECT_STREQ(error.what(), "Trainable: the pattern \"expert.*\" matches no parameter");
  }
}

}  // namespace
}  // namespace gatefold
