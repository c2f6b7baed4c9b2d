#include "gatefold/losses/relu_sparsity.hpp"

#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace test;

/// On the logits of any case.
struct OfRelu {
  ReluSparsity loss{};
  template <class T>
  T value(RouterScores<T> scores, Context& ctx) const {
    scores.score = RouterScore::relu;
    return loss.value(scores, ctx);
  }
  template <class T>
  void add_gradient(RouterScores<T> scores, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    scores.score = RouterScore::relu;
    loss.add_gradient(scores, scale, dlogits, ctx);
  }
};

TEST(ReluSparsity, ValueAndGradientByHand) {
  // Experts are used by 2, 0 and 1 of 2 tokens with scores of 4, 0 and 2 together; 3 / (2 * 2 * 2) of that counts.
  const auto c = from_logits({{1, -1, 2}, {3, -2, 0}});
  const OfRelu loss{{.wanted = 2}};
  EXPECT_NEAR(value_of<double>(loss, c), .375 * (2 * 4 + 1 * 2), 1e-14);
  expect_rows(gradient_of(loss, c), {{.75, 0, .375}, {.75, 0, 0}}, 1e-14);
}

TEST(ReluSparsity, ATokenWithoutAnExpertCounts) {
  EXPECT_NEAR(value_of<double>(OfRelu{}, from_logits({{4, -1}, {-3, -2}})), 2. / 4 * 4, 1e-14);
}

TEST(ReluSparsity, ObeysTheLawsOfRouterLosses) {
  expect_router_loss_laws_of_values(OfRelu{{.wanted = 3}});
}

TEST(ReluSparsity, RefusesScoresThatAreNeverZero) {
  Context ctx;
  Scored<double> s;
  look_at(from_logits({{1, 2}}), s);
  EXPECT_THROW((void)ReluSparsity{}.value(s.scores, ctx), OptionError);
  s.scores.score = RouterScore::relu;
  EXPECT_THROW((void)ReluSparsity{.wanted = 0}.value(s.scores, ctx), OptionError);
  Tensor<double, 2> d({1, 3});
  EXPECT_THROW(ReluSparsity{}.add_gradient(s.scores, 1, d, ctx), ShapeError);
}

}  // namespace
}  // namespace gatefold
