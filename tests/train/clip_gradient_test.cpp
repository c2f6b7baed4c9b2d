#include "gatefold/train/clip_gradient.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/refused.hpp"
#include "tests/train/optimizer_model.hpp"

namespace gatefold {
namespace {

using test::scatter;
using test::Toy;

struct Triangle {
  using Scalar = float;
  Tensor<float, 2> a{{1, 2}};
  Tensor<float, 1> b{Shape<1>{1}};
  static void visit(auto& v, auto&... self) {
    v("a", self.a...);
    v("b", self.b...);
  }
};

Triangle box() {  // a diagonal of sqrt(4 + 9 + 36) = 7
  Triangle t;
  t.a.flat()[0] = 2;
  t.a.flat()[1] = -3;
  t.b.flat()[0] = 6;
  return t;
}

TEST(ClipGradient, ScalesToTheNorm) {
  Context ctx;
  Triangle grad = box();
  EXPECT_DOUBLE_EQ(clip_gradient(grad, {.max_norm = 3.5}, ctx), 7);
  EXPECT_EQ(grad.a.flat()[0], 1);
  EXPECT_EQ(grad.a.flat()[1], -1.5f);
  EXPECT_EQ(grad.b.flat()[0], 3);
  EXPECT_DOUBLE_EQ(gradient_norm(grad, ctx), 3.5);
}

TEST(ClipGradient, LeavesASmallOneToTheBit) {
  Context ctx;
  Triangle grad = box();
  EXPECT_DOUBLE_EQ(clip_gradient(grad, {.max_norm = 7}, ctx), 7);
  EXPECT_TRUE(test::same_bits(grad, box()));
}

TEST(ClipGradient, ReportsWhatIsNotFiniteAndTouchesNothing) {
  Context ctx;
  Triangle grad = box();
  grad.b.flat()[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(clip_gradient(grad, {}, ctx)));
  EXPECT_EQ(grad.a.flat()[0], 2);
  grad.b.flat()[0] = -std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isinf(clip_gradient(grad, {}, ctx)));
  EXPECT_EQ(grad.a.flat()[0], 2);
  EXPECT_EQ(clip_scale(std::numeric_limits<double>::infinity()), 1);
}

TEST(ClipGradient, SquaresDoNotOverflow) {
  Context ctx;
  Triangle grad = box();
  for (auto& x : grad.a.flat()) x *= 1e30f;
  EXPECT_NEAR(gradient_norm(grad, ctx), std::sqrt(13.0) * 1e30, 1e23 * std::sqrt(13.0));
}

TEST(ClipGradient, FrozenNeitherCountsNorIsScaled) {
  Context ctx;
  Triangle grad = box();
  EXPECT_DOUBLE_EQ(clip_gradient(grad, {.max_norm = 3, .trainable = Trainable::all_but({"a"})}, ctx), 6);
  EXPECT_EQ(grad.a.flat()[0], 2);
  EXPECT_EQ(grad.b.flat()[0], 3);
}

TEST(ClipGradient, ThreadsChangeNoBitAndTheNormIsTheNaiveOne) {
  Toy<float> grad;
  scatter(grad, 1);
  Context ctx;
  ctx.parallel_for = ParallelFor();
  const double serial = gradient_norm(grad, ctx);
  std::ranges::fill(grad.packed.flat(), std::int8_t{0});  // packed integers have no gradient
  EXPECT_NEAR(serial, norm(grad), 1e-12 * serial);        // 1e4 additions in double
  for (const Index count : {2, 7}) {
    ctx.parallel_for = test::threads(count);
    EXPECT_EQ(gradient_norm(grad, ctx), serial);
  }
}

TEST(ClipGradient, RefusesANormThatIsNone) {
  for (const double norm : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()})
    test::expect_option_error([&] { (void)clip_scale(2, {.max_norm = norm}); }, "max_norm is ");
}

}  // namespace
}  // namespace gatefold
