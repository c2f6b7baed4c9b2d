#pragma once
#include <cmath>
#include <concepts>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

#include "gatefold/core/view.hpp"

namespace gatefold {

/// An argument has another shape than the layer was made for.
struct ShapeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
/// Options that contradict each other or the mathematics (K > E, K = 1 with renormalised gates).
struct OptionError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
/// Weights that do not obey the pattern by which they are to be packed.
struct PatternError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
/// What a cache of keys and values has no room for.
struct CacheError : std::length_error {
  using std::length_error::length_error;
};
/// A file or text that does not say what it should.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// The machine has not enough memory for something that may well be sound; says for what.
struct MemoryError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {
[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_shape(std::string_view what, std::span<const Index> came,
                                                                std::span<const Index> wanted) {
  throw ShapeError(std::string(what) + " has shape " + shape_text(came) + ", expected " + shape_text(wanted));
}

template <class V>
[[noreturn, gnu::cold, gnu::noinline]] void refuse_option(std::string_view who, std::string_view field, V value,
                                                          std::string_view wanted) {
  std::string came;
  if constexpr (std::integral<V>) {
    came = std::to_string(value);
  } else {
    char text[32];
    came.assign(text, static_cast<std::size_t>(std::snprintf(text, sizeof text, "%g", double(value))));
  }
  std::string message(who);
  message.append(": ").append(field).append(" is ").append(came).append(", expected ").append(wanted);
  throw OptionError(message);
}
}  // namespace detail

/// Throws ShapeError «Layer::forward: x has shape [7, 5], expected [7, 6]».
template <class T, std::size_t Rank>
void expect_shape(const View<T, Rank>& view, const std::type_identity_t<Shape<Rank>>& wanted, std::string_view what) {
  if (view.shape() != wanted) detail::refuse_shape(what, view.shape(), wanted);
}

/// Throws OptionError «TopKRouter: num_selected is 9, expected 1..8» unless `holds`.
inline void expect_option(bool holds, const std::string& message) {
  if (!holds) throw OptionError(message);
}

/// Throws OptionError «AdamW: beta1 is 1.5, expected a number in [0, 1)» unless `holds`. Puts the message together only
/// then, so it may stand in a pass; NaN fails whatever is compared.
template <class V>
requires std::integral<V> || std::floating_point<V>
void expect_option(bool holds, std::string_view who, std::string_view field, V value, std::string_view wanted) {
  if (!holds) detail::refuse_option(who, field, value, wanted);
}
/// A size: throws OptionError «Mlp: hidden is 0, expected at least 1» unless it is one.
inline void expect_size(std::string_view who, std::string_view field, Index value) {
  expect_option(value >= 1, who, field, value, "at least 1");
}
/// A rate, a weight, an epsilon: throws OptionError unless it is finite and not negative.
inline void expect_rate(std::string_view who, std::string_view field, double value) {
  expect_option(value >= 0 && std::isfinite(value), who, field, value, "a finite number of at least 0");
}

}  // namespace gatefold
