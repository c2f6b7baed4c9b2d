#pragma once
#include <memory>
#include <stdexcept>

#include "gatefold/core/tensor.hpp"

namespace gatefold {

/// A tensor that is never written: copies share the memory, which may also be somebody else's (a mapped file). What
/// packed weights are made of. Born with a shape but no memory, until it is assigned; moved from, it has the shape
/// [0, ...].
template <class T, std::size_t Rank>
class SharedTensor {
 public:
  using Scalar = T;
  static constexpr std::size_t kRank = Rank;

  SharedTensor() = default;
  explicit SharedTensor(Shape<Rank> shape) : shape_(shape) {}
  explicit SharedTensor(Tensor<T, Rank> tensor) : shape_(tensor.shape()) {
    const auto owner = std::make_shared<const Tensor<T, Rank>>(std::move(tensor));
    data_ = std::shared_ptr<const T>(owner, owner->data());
  }
  /// Elements that live as long as `owner`; aligned for T.
  SharedTensor(Shape<Rank> shape, const T* data, const std::shared_ptr<const void>& owner)
      : shape_(shape), data_(owner, data) {}

  View<const T, Rank> view() const { return {data(), *shape_}; }
  std::span<const T> flat() const { return {data(), static_cast<std::size_t>(size())}; }
  /// Throws std::logic_error while there are no elements behind the shape.
  const T* data() const {
    if (!data_ && size() != 0) refuse();
    return data_.get();
  }
  const Shape<Rank>& shape() const { return *shape_; }
  Index extent(std::size_t axis) const { return (*shape_)[axis]; }
  Index size() const { return element_count(*shape_); }

 private:
  [[noreturn]] void refuse() const {
    throw std::logic_error("SharedTensor: of the shape " + to_string<Rank>(*shape_) +
                           " there are no elements yet, expected packed weights or a checkpoint");
  }

  detail::EmptiedByMove<Shape<Rank>> shape_;
  std::shared_ptr<const T> data_;
};

template <class T>
inline constexpr bool is_shared_tensor = false;
template <class T, std::size_t Rank>
inline constexpr bool is_shared_tensor<SharedTensor<T, Rank>> = true;

}  // namespace gatefold
