#pragma once
#include <gtest/gtest.h>

#include <optional>

#include "gatefold/core/random.hpp"
#include "gatefold/losses/similarity.hpp"
#include "tests/support/dual.hpp"

/// Embeddings to test contrastive losses with.
namespace gatefold::test {

struct PairShape {
  Index batch = 4, extra = 0, width = 3;  // B, X, P
};

/// Two sides of embeddings and two scalars, numbered through as one list of inputs for derivatives.
template <class T>
struct Pairs {
  Tensor<T, 2> a, b;
  T log_scale{}, bias{};

  Index num_inputs() const { return a.size() + b.size() + 2; }
  T& input(Index i) {
    if (i < a.size()) return a.flat()[static_cast<std::size_t>(i)];
    if (i < a.size() + b.size()) return b.flat()[static_cast<std::size_t>(i - a.size())];
    return i == a.size() + b.size() ? log_scale : bias;
  }
  const T& input(Index i) const { return const_cast<Pairs&>(*this).input(i); }
};

/// Floats in all scalars, so that each sees the same numbers.
inline Pairs<double> random_pairs(PairShape shape, std::uint64_t seed) {
  Rng rng(seed);
  Pairs<double> p{.a = Tensor<double, 2>({shape.batch, shape.width}),
                  .b = Tensor<double, 2>({shape.batch + shape.extra, shape.width}),
                  .log_scale = .75,
                  .bias = -.5};
  for (auto& x : p.a.flat()) x = static_cast<float>(2 * rng.normal());
  for (auto& x : p.b.flat()) x = static_cast<float>(.5 * rng.normal());
  return p;
}

template <class T>
Pairs<T> convert_pairs(const Pairs<double>& p) {
  Pairs<T> q{.a = Tensor<T, 2>(p.a.shape()), .b = Tensor<T, 2>(p.b.shape())};
  for (Index i = 0; i < p.num_inputs(); ++i) q.input(i) = T(p.input(i));
  return q;
}

inline Pairs<double> zero_pairs(Index batch, double log_scale, double bias) {
  return {.a = Tensor<double, 2>({batch, 2}), .b = Tensor<double, 2>({batch, 2}), .log_scale = log_scale, .bias = bias};
}

/// The hand-computed case: U = [[1, 0], [.6, .8]], V = [[.8, .6], [0, 1]], scale 2.
inline Pairs<double> hand_pairs() {
  Pairs<double> p{
      .a = Tensor<double, 2>({2, 2}), .b = Tensor<double, 2>({2, 2}), .log_scale = std::log(2.), .bias = -1};
  std::ranges::copy(std::array{1., 0., .6, .8}, p.a.data());
  std::ranges::copy(std::array{.8, .6, 0., 1.}, p.b.data());
  return p;
}

inline std::vector<PairShape> pair_shapes() {
  return {{.batch = 1, .width = 3},
          {.batch = 1, .extra = 2, .width = 1},
          {.batch = 4, .width = 5},
          {.batch = 5, .extra = 4, .width = 2}};
}

/// A split of the work that no real pool would choose: backwards, in blocks of two.
inline ParallelFor backwards() {
  return ParallelFor({.workers = 3, .run = [](Index n, ParallelFor::Body body) {
                        for (Index end = n; end > 0; end -= 2) body(std::max<Index>(0, end - 2), end, end % 3);
                      }});
}

}  // namespace gatefold::test
