#include "gatefold/core/shared_tensor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>

namespace gatefold {
namespace {

Tensor<int, 2> counted(Shape<2> shape) {
  Tensor<int, 2> t(shape);
  int next = 0;
  for (int& v : t.flat()) v = next++;
  return t;
}

TEST(SharedTensor, TakesATensorOverWithoutACopy) {
  auto tensor = counted({2, 3});
  const int* const data = tensor.data();
  const SharedTensor<int, 2> shared(std::move(tensor));
  EXPECT_EQ(shared.data(), data);
  EXPECT_EQ(shared.shape(), (Shape<2>{2, 3}));
  EXPECT_EQ(shared.extent(1), 3);
  EXPECT_EQ(shared.size(), 6);
  EXPECT_THAT(shared.flat(), testing::ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(shared.view()(1, 2), 5);
}

TEST(SharedTensor, CopiesShareTheMemoryAndKeepItAlive) {
  SharedTensor<int, 2> last;
  const int* data = nullptr;
  {
    const SharedTensor<int, 2> first(counted({4, 1}));
    data = first.data();
    const auto copy = first;
    last = copy;
  }
  EXPECT_EQ(last.data(), data);
  EXPECT_THAT(last.flat(), testing::ElementsAre(0, 1, 2, 3));
}

TEST(SharedTensor, BorrowsMemoryForAsLongAsItLives) {
  auto owner = std::make_shared<std::vector<int>>(std::vector<int>{7, 8, 9});
  const std::weak_ptr<std::vector<int>> watch = owner;
  {
    SharedTensor<int, 1> shared({2}, owner->data() + 1, owner);
    owner.reset();
    EXPECT_FALSE(watch.expired());
    EXPECT_THAT(shared.flat(), testing::ElementsAre(8, 9));
    const auto copy = shared;
    shared = SharedTensor<int, 1>(Shape<1>{0});
    EXPECT_FALSE(watch.expired());
    EXPECT_EQ(copy.view()[1], 9);
  }
  EXPECT_TRUE(watch.expired());
}

TEST(SharedTensor, IsBornWithAShapeAlone) {
  const SharedTensor<float, 2> none, unset(Shape<2>{5, 7}), empty(Shape<2>{3, 0});
  EXPECT_EQ(none.size(), 0);
  EXPECT_EQ(none.data(), nullptr);
  EXPECT_EQ(unset.shape(), (Shape<2>{5, 7}));
  EXPECT_EQ(unset.size(), 35);
  EXPECT_TRUE(empty.flat().empty());
}

TEST(SharedTensor, CannotBeWrittenAndIsToldFromOtherTypes) {
  static_assert(std::same_as<decltype(std::declval<SharedTensor<int, 2>&>().data()), const int*>);
  static_assert(is_shared_tensor<SharedTensor<float, 1>> && !is_shared_tensor<Tensor<float, 1>>);
  static_assert(!is_tensor<SharedTensor<float, 1>>);
}

TEST(SharedTensor, LargeOnesBeginOnACacheLineToo) {
  for (const Index n : {1, 1000, 5 << 20}) {  // the last may lie on huge pages
    const Tensor<std::uint8_t, 1> tensor({n});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data()) % kAlignment, 0u);
    EXPECT_THAT(tensor.data()[n - 1], 0);
  }
}

TEST(SharedTensor, MovedFromHasNoShapeOfElementsThatAreGone) {
  SharedTensor<int, 2> a(counted({2, 3})), b = std::move(a);
  EXPECT_EQ(a.shape(), (Shape<2>{0, 0}));
  EXPECT_EQ(a.size(), 0);
  EXPECT_TRUE(a.flat().empty());
  a = std::move(b);
  EXPECT_EQ(b.size(), 0);
  EXPECT_THAT(a.flat(), testing::ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(SharedTensor, WithoutElementsIsRefusedAndNotRead) {
  const SharedTensor<float, 2> unset(Shape<2>{5, 7});
  const auto refused = testing::ThrowsMessage<std::logic_error>(testing::HasSubstr("of the shape [5, 7]"));
  EXPECT_THAT([&] { (void)unset.data(); }, refused);
  EXPECT_THAT([&] { (void)unset.flat(); }, refused);
  EXPECT_THAT([&] { (void)unset.view(); }, refused);
}

}  // namespace
}  // namespace gatefold
