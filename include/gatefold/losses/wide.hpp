#pragma once
#include <concepts>
#include <type_traits>

#include "gatefold/core/scalar.hpp"

namespace gatefold {

/// What sums of T are taken in: double for float, so that the mean over many thousand tokens keeps float's precision;
/// T itself otherwise.
template <Real T>
using Wide = std::conditional_t<std::same_as<T, float>, double, T>;

}  // namespace gatefold
