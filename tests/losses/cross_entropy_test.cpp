#include "gatefold/losses/cross_entropy.hpp"

#include <gmock/gmock.h>

#include "tests/support/dual.hpp"
#include "tests/support/refused.hpp"

namespace gatefold {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

template <class T>
Tensor<T, 2> logits_of(const std::vector<std::vector<double>>& rows) {
  Tensor<T, 2> logits({std::ssize(rows), std::ssize(rows[0])});
  for (Index i = 0; i < logits.extent(0); ++i)
    for (Index n = 0; n < logits.extent(1); ++n)
      logits.view()(i, n) = T(rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(n)]);
  return logits;
}
View<const Index, 1> view(const std::vector<Index>& label) { return {label.data(), {std::ssize(label)}}; }

TEST(CrossEntropy, AHandComputedLoss) {
  // Softmax (1/6, 2/6, 3/6) and (1/2, 1/4, 1/4); the row between them is ignored, whatever it holds.
  const auto logits = logits_of<float>({{0, std::log(2), std::log(3)}, {kInf, std::nan(""), 0}, {std::log(2), 0, 0}});
  const std::vector<Index> label{1, -100, 0};
  Context ctx;
  const auto saved = CrossEntropy{}.forward<float>(logits, view(label), ctx);
  EXPECT_NEAR(saved.loss, (std::log(3) + std::log(2)) / 2, 1e-6);
  EXPECT_EQ(saved.num_labels, 2);
  EXPECT_EQ(saved.num_correct, 1);
  Tensor<float, 2> d(logits.shape());
  std::ranges::fill(d.flat(), 99.0f);
  CrossEntropy{}.backward(saved, 2.0f, d, ctx);
  const std::vector<float> wanted{1 / 6.f, -4 / 6.f, 3 / 6.f, 0, 0, 0, -1 / 2.f, 1 / 4.f, 1 / 4.f};
  EXPECT_THAT(d.flat(), testing::Pointwise(testing::FloatNear(1e-6f), wanted));

  // Smoothed by 0.3: 0.7 of the own term and 0.1 of each of three.
  const auto smooth = CrossEntropy{.label_smoothing = 0.3}.forward<float>(logits, view(label), ctx);
  const double first = .7 * std::log(3) + .1 * (std::log(6) + std::log(3) + std::log(2));
  const double second = .7 * std::log(2) + .1 * (std::log(2) + 2 * std::log(4));
  EXPECT_NEAR(smooth.loss, (first + second) / 2, 1e-6);
}

TEST(CrossEntropy, GradientsByDualNumbers) {
  const std::vector<std::vector<double>> rows{{.3, -1, 2, .5, 0}, {1, 1, 1, 1, 1}, {-2, 3, .1, 0, 4}, {5, 0, 0, -5, 2}};
  const std::vector<Index> label{2, 4, -1, 0};
  Context ctx;
  for (const double smoothing : {0.0, 0.1, 1.0}) {
    const CrossEntropy loss{.label_smoothing = smoothing};
    const auto logits = logits_of<double>(rows);
    Tensor<double, 2> d(logits.shape());
    loss.backward(loss.forward<double>(logits, view(label), ctx), 1.5, d, ctx);
    auto lifted = logits_of<Dual>(rows);
    for (std::size_t i = 0; i < d.flat().size(); ++i) {
      lifted.flat()[i].d = 1;
      EXPECT_NEAR(d.flat()[i], 1.5 * loss.forward<Dual>(lifted, view(label), ctx).loss.d, 1e-14) << i;
      lifted.flat()[i].d = 0;
    }
  }
}

TEST(CrossEntropy, WhatIsShutOrAbsentGivesNumbers) {
  Context ctx;
  const std::vector<Index> label{0, -1}, none{-1, -1};
  const auto logits = logits_of<float>({{1, -kInf}, {0, 0}});
  const auto saved = CrossEntropy{}.forward<float>(logits, view(label), ctx);
  EXPECT_EQ(saved.loss, 0);
  EXPECT_EQ(saved.num_correct, 1);
  Tensor<float, 2> d(logits.shape());
  CrossEntropy{}.backward(saved, 1.0f, d, ctx);
  EXPECT_THAT(d.flat(), testing::Each(0.0f));
  EXPECT_EQ(CrossEntropy{}.forward<float>(logits, view(none), ctx).loss, 0);
  const auto tie = logits_of<float>({{1, 1}, {0, 0}});
  EXPECT_EQ(CrossEntropy{}.forward<float>(tie, view(label), ctx).num_correct, 0) << "a tie is no answer";
}

TEST(CrossEntropy, RefusesWhatDoesNotFit) {
  Context ctx;
  const auto logits = logits_of<float>({{0, 0}, {0, 0}});
  const std::vector<Index> beyond{0, 2}, few{0};
  test::expect_shape_error([&] { (void)CrossEntropy{}.forward<float>(logits, view(beyond), ctx); },
                           "CrossEntropy::forward: label[1] is 2, expected less than 2");
  test::expect_shape_error([&] { (void)CrossEntropy{}.forward<float>(logits, view(few), ctx); },
                           "CrossEntropy::forward: label has shape [1], expected [2]");
  const CrossEntropy wrong{.label_smoothing = 1.5};
  const std::vector<Index> right{0, 1};
  test::expect_option_error([&] { (void)wrong.forward<float>(logits, view(right), ctx); },
                            "CrossEntropy: label_smoothing is 1.5");
}

}  // namespace
}  // namespace gatefold
