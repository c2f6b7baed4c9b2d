#pragma once
#include <span>
#include <utility>
#include <vector>

#include "gatefold/core/aligned_memory.hpp"
#include "gatefold/core/view.hpp"

namespace gatefold {

namespace detail {
/// A member that goes back to T{} when it is moved from, as the memory does that it describes: the default would leave
/// a copy behind.
template <class T>
class EmptiedByMove {
 public:
  EmptiedByMove() = default;
  EmptiedByMove(const T& value) : value_(value) {}
  EmptiedByMove(const EmptiedByMove&) = default;
  EmptiedByMove& operator=(const EmptiedByMove&) = default;
  EmptiedByMove(EmptiedByMove&& other) noexcept : value_(std::exchange(other.value_, T{})) {}
  EmptiedByMove& operator=(EmptiedByMove&& other) noexcept {
    const T value = std::exchange(other.value_, T{});
    value_ = this == &other ? T{} : value;  // a vector moved to itself is empty too
    return *this;
  }

  const T& operator*() const { return value_; }
  bool operator==(const EmptiedByMove&) const = default;

 private:
  T value_{};
};
}  // namespace detail

/// An owned, contiguous, row-major block: what parameters are made of. A value: copies are deep, equality is by
/// element. size() is always that of the shape; moved from, a tensor has no elements and the shape [0, ...].
template <class T, std::size_t Rank>
class Tensor {
 public:
  using Scalar = T;
  static constexpr std::size_t kRank = Rank;

  Tensor() = default;
  explicit Tensor(Shape<Rank> shape) : shape_(shape), data_(static_cast<std::size_t>(element_count(shape))) {}

  operator View<T, Rank>() { return view(); }
  operator View<const T, Rank>() const { return view(); }
  View<T, Rank> view() { return {data_.data(), *shape_}; }
  View<const T, Rank> view() const { return {data_.data(), *shape_}; }

  std::span<T> flat() { return data_; }
  std::span<const T> flat() const { return data_; }
  T* data() { return data_.data(); }
  const T* data() const { return data_.data(); }
  const Shape<Rank>& shape() const { return *shape_; }
  Index extent(std::size_t axis) const { return (*shape_)[axis]; }
  Index size() const { return static_cast<Index>(data_.size()); }

  bool operator==(const Tensor&) const = default;

 private:
  detail::EmptiedByMove<Shape<Rank>> shape_;
  std::vector<T, detail::AlignedAllocator<T>> data_;
};

/// A tensor that belongs to a model but is not learnt by gradients: saved and restored with the parameters, as the type
/// that it is, while optimisers and weight decay leave it alone.
template <class T, std::size_t Rank>
class Buffer : public Tensor<T, Rank> {
 public:
  using Tensor<T, Rank>::Tensor;
};

template <class T>
inline constexpr bool is_tensor = false;
template <class T, std::size_t Rank>
inline constexpr bool is_tensor<Tensor<T, Rank>> = true;
template <class T, std::size_t Rank>
inline constexpr bool is_tensor<Buffer<T, Rank>> = true;

template <class T>
inline constexpr bool is_buffer = false;
template <class T, std::size_t Rank>
inline constexpr bool is_buffer<Buffer<T, Rank>> = true;

}  // namespace gatefold
