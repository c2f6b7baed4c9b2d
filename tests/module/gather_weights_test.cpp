#include "gatefold/module/gather_weights.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace gatefold {
namespace {

SharedTensor<float, 1> numbers(Index count, float first) {
  Tensor<float, 1> tensor({count});
  std::iota(tensor.data(), tensor.data() + count, first);
  return SharedTensor<float, 1>(std::move(tensor));
}

/// A model with weights of both kinds.
struct Model {
  std::vector<SharedTensor<float, 1>> weights;
  SharedTensor<std::uint8_t, 2> bytes;
  Tensor<float, 1> trained;

  static void visit(auto& v, auto&... self) {
    v("weights", self.weights...);
    v("bytes", self.bytes...);
    v("trained", self.trained...);
  }
};

Model model() {
  Tensor<std::uint8_t, 2> bytes({3, 5});
  std::iota(bytes.data(), bytes.data() + bytes.size(), std::uint8_t{7});
  return {{numbers(17, 1), numbers(16, 100), numbers(1, -4)},
          SharedTensor<std::uint8_t, 2>(std::move(bytes)),
          Tensor<float, 1>({4})};
}

void expect_same(const Model& a, const Model& b) {
  for (std::size_t i = 0; i < a.weights.size(); ++i) {
    EXPECT_EQ(a.weights[i].shape(), b.weights[i].shape());
    EXPECT_THAT(a.weights[i].flat(), testing::ElementsAreArray(b.weights[i].flat()));
  }
  EXPECT_EQ(a.bytes.shape(), b.bytes.shape());
  EXPECT_THAT(a.bytes.flat(), testing::ElementsAreArray(b.bytes.flat()));
}

TEST(GatherWeights, OneBehindTheOtherInTheOrderOfTheFields) {
  auto gathered = model();
  const float* const trained = gathered.trained.data();
  gather_weights(gathered);
  expect_same(gathered, model());
  EXPECT_EQ(gathered.trained.data(), trained) << "what is trained stays where it is";

  const auto address = [](const auto& tensor) { return reinterpret_cast<std::uintptr_t>(tensor.data()); };
  const auto first = address(gathered.weights[0]);
  EXPECT_EQ(first % kAlignment, 0u);
  EXPECT_EQ(address(gathered.weights[1]), first + 2 * 64);  // 68 bytes
  EXPECT_EQ(address(gathered.weights[2]), first + 3 * 64);  // 64 bytes
  EXPECT_EQ(address(gathered.bytes), first + 4 * 64);
}

TEST(GatherWeights, LeavesCopiesAndOutlivesTheModel) {
  auto gathered = model();
  const auto copy = gathered;
  const float* const before = copy.weights[0].data();
  gather_weights(gathered);
  EXPECT_EQ(copy.weights[0].data(), before);
  expect_same(copy, gathered);

  const auto weight = gathered.weights[1];  // holds the block
  gathered = model();
  EXPECT_EQ(weight.flat().back(), 115);
}

TEST(GatherWeights, GivesUpTheOldMemoryTensorByTensor) {
  const auto owner = std::make_shared<int>();
  const std::vector<float> values{1, 2, 3};
  Model gathered = model();
  gathered.weights[1] = SharedTensor<float, 1>({3}, values.data(), owner);
  EXPECT_EQ(owner.use_count(), 2);
  gather_weights(gathered);
  EXPECT_EQ(owner.use_count(), 1);
  EXPECT_THAT(gathered.weights[1].flat(), testing::ElementsAre(1, 2, 3));
}

TEST(GatherWeights, OfNothingIsNothing) {
  Model empty{{}, SharedTensor<std::uint8_t, 2>(Shape<2>{0, 5}), Tensor<float, 1>({4})};
  gather_weights(empty);
  EXPECT_EQ(empty.bytes.size(), 0);
}

TEST(GatherWeights, RefusesWeightsThatAreNotThereYet) {
  Model unfilled = model();
  unfilled.weights[2] = SharedTensor<float, 1>(Shape<1>{2});
  EXPECT_THROW(gather_weights(unfilled), std::logic_error);
  EXPECT_THAT(unfilled.weights[0].flat(), testing::SizeIs(17)) << "nothing was moved";
}

}  // namespace
}  // namespace gatefold
