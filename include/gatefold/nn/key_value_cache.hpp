#pragma once
#include <vector>

#include "gatefold/kernels/key_value.hpp"
#include "gatefold/module/decode.hpp"

namespace gatefold {

/// The keys and values of all tokens that an attention layer has seen of each of several sequences, and so a value: a
/// copy is a second conversation that begins as the first did, and `length` set back to less takes tokens back. F is T
/// or, for half of the memory and of the time to read it, bf16.
template <Real T, class F = T>
struct KeyValueCache {
  static_assert(std::same_as<F, T> || (std::same_as<T, float> && std::same_as<F, bf16>),
                "KeyValueCache: numbers are kept as they are or, of float, as bf16");
  using Size = typename kernels::KeyValues<F>::Size;

  Size size;
  Tensor<F, 2> key, value;    // [B G, positions * columns], as kernels::KeyValues has them
  std::vector<Index> length;  // [B] tokens of each sequence

  /// Throws OptionError for a size below 1.
  explicit KeyValueCache(const Size& s)
      : size(checked(s)),
        key({s.sequences * s.heads, s.keys_of_head()}),
        value({s.sequences * s.heads, s.values_of_head()}),
        length(static_cast<std::size_t>(s.sequences)) {}

  /// Throws ShapeError for another number of sequences than the cache has, CacheError where one of them has no room for
  /// its new tokens. // offset [B+1] of the new tokens
  void expect_room(View<const Index, 1> offset) const {
    detail::expect_room("KeyValueCache", size.capacity, length, offset);
  }

  /// For the kernels.
  kernels::KeyValues<F> view() { return {size, key.data(), value.data(), {length.data(), {size.sequences}}}; }
  /// What was appended from now on belongs to the sequences. // offset [B+1] of the new tokens
  void grow(View<const Index, 1> offset) {
    for (Index b = 0; b < size.sequences; ++b) length[static_cast<std::size_t>(b)] += offset[b + 1] - offset[b];
  }

 private:
  static const Size& checked(const Size& s) {
    const std::string_view who = "KeyValueCache";
    expect_size(who, "sequences", s.sequences);
    expect_size(who, "heads", s.heads);
    expect_size(who, "capacity", s.capacity);
    expect_size(who, "key_width", s.key_width);
    expect_size(who, "value_width", s.value_width);
    return s;
  }
};

}  // namespace gatefold
