#pragma once
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
/// A file or text that does not say what it should.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// The machine has not enough memory for something that may well be sound; says for what.
struct MemoryError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws ShapeError «Layer::forward: x has shape [7, 5], expected [7, 6]».
template <class T, std::size_t Rank>
void expect_shape(const View<T, Rank>& view, const std::type_identity_t<Shape<Rank>>& wanted, std::string_view what) {
  if (view.shape() != wanted)
    throw ShapeError(std::string(what) + " has shape " + to_string<Rank>(view.shape()) + ", expected " +
                     to_string<Rank>(wanted));
}

/// Throws OptionError «TopKRouter: num_selected is 9, expected 1..8» unless `holds`.
inline void expect_option(bool holds, const std::string& message) {
  if (!holds) throw OptionError(message);
}

}  // namespace gatefold
