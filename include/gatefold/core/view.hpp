#pragma once
#include <cassert>
#include <concepts>
#include <type_traits>

#include "gatefold/core/shape.hpp"

namespace gatefold {

/// A borrowed block of rows: pointer, shape and the stride of each outer axis; the last axis is contiguous. Copying a
/// view copies no element. Indices are asserted, shapes are checked once, at the door of each layer (`expect_shape`).
template <class T, std::size_t Rank>
class View {
  static_assert(Rank >= 1);

 public:
  using Scalar = std::remove_const_t<T>;
  using Strides = std::array<Index, Rank - 1>;  ///< In elements, for all axes but the last.

  constexpr View() = default;
  constexpr View(T* data, Shape<Rank> shape) : data_(data), shape_(shape) {
    Index pitch = shape[Rank - 1];
    for (std::size_t axis = Rank - 1; axis-- > 0;) {
      stride_[axis] = pitch;
      pitch *= shape[axis];
    }
  }
  constexpr View(T* data, Shape<Rank> shape, Strides stride) : data_(data), shape_(shape), stride_(stride) {}
  constexpr operator View<const T, Rank>() const requires(!std::is_const_v<T>) { return {data_, shape_, stride_}; }

  constexpr T* data() const { return data_; }
  constexpr const Shape<Rank>& shape() const { return shape_; }
  constexpr Index extent(std::size_t axis) const { return shape_[axis]; }
  constexpr Index stride(std::size_t axis) const { return axis + 1 < Rank ? stride_[axis] : 1; }
  constexpr Index size() const { return element_count(shape_); }
  constexpr bool contiguous() const {
    Index pitch = shape_[Rank - 1];
    for (std::size_t axis = Rank - 1; axis-- > 0; pitch *= shape_[axis])
      if (shape_[axis] > 1 && stride_[axis] != pitch) return false;
    return true;
  }

  /// The element (rank 1) or the sub-view (higher ranks) at `i` of the first axis.
  constexpr decltype(auto) operator[](Index i) const {
    assert(0 <= i && i < shape_[0]);
    if constexpr (Rank == 1) {
      return static_cast<T&>(data_[i]);
    } else {
      Shape<Rank - 1> shape{};
      typename View<T, Rank - 1>::Strides stride{};
      for (std::size_t axis = 1; axis < Rank; ++axis) shape[axis - 1] = shape_[axis];
      for (std::size_t axis = 1; axis + 1 < Rank; ++axis) stride[axis - 1] = stride_[axis];
      return View<T, Rank - 1>(data_ + i * stride_[0], shape, stride);
    }
  }
  template <std::convertible_to<Index>... I>
  requires(sizeof...(I) == Rank) constexpr T& operator()(I... i) const {
    Index at = 0;
    std::size_t axis = 0;
    ((assert(0 <= static_cast<Index>(i) && static_cast<Index>(i) < shape_[axis]),
      at += static_cast<Index>(i) * stride(axis), ++axis),
     ...);
    return data_[at];
  }

  /// Rows [begin, end) of the first axis.
  constexpr View rows(Index begin, Index end) const {
    assert(0 <= begin && begin <= end && end <= shape_[0]);
    auto shape = shape_;
    shape[0] = end - begin;
    return {begin == end ? data_ : data_ + begin * stride(0), shape, stride_};
  }
  /// Columns [begin, end) of the last axis.
  constexpr View columns(Index begin, Index end) const requires(Rank >= 2) {
    assert(0 <= begin && begin <= end && end <= shape_[Rank - 1]);
    auto shape = shape_;
    shape[Rank - 1] = end - begin;
    return {data_ + begin, shape, stride_};
  }

 private:
  T* data_ = nullptr;
  Shape<Rank> shape_{};
  Strides stride_{};
};

template <class T>
using Rows = View<T, 2>;

}  // namespace gatefold
