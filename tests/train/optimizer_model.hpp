#pragma once
#include <array>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "gatefold/core/context.hpp"
#include "gatefold/module/ops.hpp"

namespace gatefold::test {

template <class T>
struct Block {
  using Scalar = T;
  Tensor<T, 2> weight{{5, 7}};
  Tensor<T, 1> bias{Shape<1>{5}};
  static void visit(auto& v, auto&... self) {
    v("weight", self.weight...);
    v("bias", self.bias...);
  }
};

/// Every rank, names to freeze by, a tensor of several parallel blocks, and packed integers that no step may move.
template <class T>
struct Toy {
  using Scalar = T;
  Block<T> router;
  std::vector<Block<T>> experts = std::vector<Block<T>>(3);
  Tensor<T, 2> wide{{90, 101}};
  Tensor<T, 3> stack{{3, 9, 8}};
  Tensor<std::int8_t, 2> packed{{2, 2}};
  static void visit(auto& v, auto&... self) {
    v("router", self.router...);
    v("experts", self.experts...);
    v("wide", self.wide...);
    v("stack", self.stack...);
    v("packed", self.packed...);
  }
};

/// Reproducible values around zero, another set for each seed.
template <class M>
void scatter(M& module, std::uint64_t seed, double scale = 1) {
  Rng rng(seed);
  for_each_param(
      [&](std::string_view, auto& t) {
        using T = typename std::remove_cvref_t<decltype(t)>::Scalar;
        for (auto& x : t.flat()) x = std::is_integral_v<T> ? T(rng.below(100)) : T(scale * rng.normal());
      },
      module);
}

template <class M>
std::vector<double> values(const M& module) {
  std::vector<double> all;
  for_each_param(
      [&](std::string_view, const auto& t) {
        for (const auto& x : t.flat()) all.push_back(static_cast<double>(x));
      },
      module);
  return all;
}

template <class M>
bool same_bits(const M& a, const M& b) {
  bool same = true;
  for_each_param(
      [&](std::string_view, const auto& s, const auto& t) {
        same = same && s.shape() == t.shape() &&
               (s.size() == 0 || std::memcmp(s.data(), t.data(), s.flat().size_bytes()) == 0);
      },
      a, b);
  return same;
}

/// Real threads that take the ranges in turns of uneven length.
inline ParallelFor threads(Index count) {
  return ParallelFor({.workers = count, .run = [count](Index n, ParallelFor::Body body) {
                        std::vector<std::jthread> pool;
                        for (Index w = 0; w < count; ++w)
                          pool.emplace_back([=] { body(n * w / count, n * (w + 1) / count, w); });
                      }});
}

/// Runs `steps` updates of a new optimiser at each thread count and compares model and state to the serial ones.
template <class Make>
void for_thread_counts(Make&& make, auto&& check) {
  const auto run = [&](Index count) {
    Toy<float> model, grad;
    scatter(model, 1);
    auto optimizer = make(model);
    Context ctx;
    ctx.parallel_for = threads(count);
    for (std::uint64_t s = 0; s < 3; ++s) {
      scatter(grad, 10 + s);
      optimizer.step(model, grad, {.learning_rate = 0.01}, ctx);
    }
    return std::pair(model, optimizer);
  };
  const auto [model, optimizer] = run(1);
  for (const Index count : {2, 7}) {
    const auto [other_model, other] = run(count);
    check(same_bits(model, other_model) && same_bits(optimizer, other), count);
  }
}

/// Six updates in one go against three, a copy of the state through its visited tensors into a fresh optimiser, and
/// three more.
template <class Make>
bool resumes_bitwise(Make&& make) {
  Toy<float> model, grad;
  scatter(model, 2);
  auto optimizer = make(model);
  const auto steps = [&](auto& o, Toy<float>& m, std::uint64_t begin, std::uint64_t end) {
    for (std::uint64_t s = begin; s < end; ++s) {
      scatter(grad, 100 + s);
      o.step(m, grad);
    }
  };
  steps(optimizer, model, 0, 3);
  Toy<float> resumed_model;
  auto resumed = make(resumed_model);
  convert(model, resumed_model);
  convert(optimizer, resumed);
  steps(optimizer, model, 3, 6);
  steps(resumed, resumed_model, 3, 6);
  return same_bits(model, resumed_model) && same_bits(optimizer, resumed);
}

}  // namespace gatefold::test
