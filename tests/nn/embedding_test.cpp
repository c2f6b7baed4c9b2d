#include "gatefold/nn/embedding.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

Embedding<float> counting() {
  Embedding<float> embedding({.vocabulary = 4, .width = 3});
  for (std::size_t i = 0; i < 12; ++i) embedding.table.flat()[i] = static_cast<float>(i);
  return embedding;
}
View<const Index, 1> view(const std::vector<Index>& ids) { return {ids.data(), {std::ssize(ids)}}; }

TEST(Embedding, LooksUp) {
  const auto embedding = counting();
  const std::vector<Index> ids{3, 0, 3};
  Tensor<float, 2> y({3, 5});
  std::ranges::fill(y.flat(), -1.0f);
  Context ctx;
  (void)embedding.forward(view(ids), y.view().columns(1, 4), ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAre(-1, 9, 10, 11, -1, -1, 0, 1, 2, -1, -1, 9, 10, 11, -1));
}

TEST(Embedding, GradientsOfTheSameIdMeet) {
  const auto embedding = counting();
  auto grad = zeros_like(embedding);
  std::ranges::fill(grad.table.flat(), 100.0f);
  const std::vector<Index> ids{2, 0, 2, 2};
  Tensor<float, 2> y({4, 3}), dy({4, 3});
  for (std::size_t i = 0; i < 12; ++i) dy.flat()[i] = static_cast<float>(i);
  Context ctx;
  const auto saved = embedding.forward(view(ids), y, ctx);
  embedding.backward(saved, dy, grad, ctx);
  // Row 0: dy[1]; row 2: dy[0] + dy[2] + dy[3]; the others untouched.
  EXPECT_THAT(grad.table.flat(), testing::ElementsAre(103, 104, 105, 100, 100, 100, 115, 118, 121, 100, 100, 100));
}

TEST(Embedding, RefusesWhatIsNoId) {
  const auto embedding = counting();
  Tensor<float, 2> y({2, 3});
  Context ctx;
  for (const Index bad : {-1, 4, 1000000}) {
    const std::vector<Index> ids{1, bad};
    try {
      (void)embedding.forward(view(ids), y, ctx);
      FAIL();
    } catch (const ShapeError& error) {
      EXPECT_EQ(error.what(), "Embedding::forward: ids[1] is " + std::to_string(bad) + ", expected 0..3");
    }
  }
  const std::vector<Index> three{0, 1, 2};
  test::expect_refusal([&] { (void)embedding.forward(view(three), y, ctx); }, "a short y");
  const std::vector<Index> two{0, 1};
  const auto saved = embedding.forward(view(two), y, ctx);
  auto grad = zeros_like(embedding);
  test::expect_refusal([&] { embedding.backward(saved, Tensor<float, 2>({2, 4}), grad, ctx); }, "a wide dy");
}

TEST(Embedding, NoIds) {
  const auto embedding = counting();
  Context ctx;
  auto grad = zeros_like(embedding);
  const auto saved = embedding.forward({}, Rows<float>(nullptr, {0, 3}), ctx);
  embedding.backward(saved, Rows<const float>(nullptr, {0, 3}), grad, ctx);
  EXPECT_THAT(grad.table.flat(), testing::Each(0));
}

}  // namespace
}  // namespace gatefold
