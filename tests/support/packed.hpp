#pragma once
#include <cmath>
#include <span>
#include <vector>

#include "gatefold/products/packed.hpp"

/// How far a product of packed weights may be from sums in double over the unpacked ones: the activations are rounded
/// as the format wants, and the sums as fp32 is.
namespace gatefold::test {

/// How far rounding moves values of at most these magnitudes, which are prepared as one run.
template <PackedFormat F>
std::vector<double> rounding_error(std::span<const double> magnitude) {
  const auto n = magnitude.size();
  std::vector<double> error(n, 0.0);
  if constexpr (std::same_as<F, bf16>) {
    // 8 digits, and denormals count as 0.
    for (std::size_t k = 0; k < n; ++k) error[k] = magnitude[k] * 0x1.01p-8 + 0x1p-126;
  } else if constexpr (std::same_as<F, mxfp4>) {
    // Whole multiples of a unit that is at most 2^-21 of the largest of 32, or 2^-121.
    for (std::size_t k0 = 0; k0 < n; k0 += 32) {
      const auto run = magnitude.subspan(k0, std::min<std::size_t>(32, n - k0));
      std::fill_n(error.begin() + static_cast<std::ptrdiff_t>(k0), run.size(),
                  0.5 * std::max(std::ranges::max(run) * 0x1p-21, 0x1p-121));
    }
  } else if constexpr (std::same_as<F, int8> || std::same_as<F, int4>) {
    const std::size_t group = std::same_as<F, int4> ? static_cast<std::size_t>(kernels::kDepthGroup) : n;
    for (std::size_t k0 = 0; k0 < n; k0 += group) {
      const auto run = magnitude.subspan(k0, std::min(group, n - k0));
      const double most = *std::ranges::max_element(run);
      std::fill_n(error.begin() + static_cast<std::ptrdiff_t>(k0), run.size(), 0.5001 * most / 127 + 1e-30);
    }
  }
  return error;
}

/// A value and how far off it may be.
struct Uncertain {
  double value = 0, error = 0;
};

/// x · w + bias, where x may be off already. // x, w [K]
template <PackedFormat F, class Weight>
Uncertain packed_dot(std::span<const Uncertain> x, std::span<const double> rounding, Weight&& w, double bias = 0) {
  Uncertain sum{bias, 0};
  double size = std::abs(bias);
  for (std::size_t k = 0; k < x.size(); ++k) {
    const double weight = w(static_cast<Index>(k)), off = x[k].error + rounding[k];
    sum.value += x[k].value * weight;
    sum.error += off * std::abs(weight);
    size += (std::abs(x[k].value) + off) * std::abs(weight);
  }
  sum.error += static_cast<double>(x.size() + 8) * 0x1p-23 * size;
  return sum;
}

template <PackedFormat F>
std::vector<double> rounding_error(std::span<const Uncertain> x) {
  std::vector<double> magnitude;
  for (const auto& v : x) magnitude.push_back(std::abs(v.value) + v.error);
  return rounding_error<F>(std::span<const double>(magnitude));
}

inline Tensor<float, 2> unpacked(const auto& packed) {
  Tensor<float, 2> w(packed.shape());
  packed.unpack(w.view());
  return w;
}

}  // namespace gatefold::test
