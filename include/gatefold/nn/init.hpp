#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "gatefold/core/context.hpp"
#include "gatefold/core/error.hpp"
#include "gatefold/module/module.hpp"
#include "gatefold/module/path_pattern.hpp"

/// First values for the weights of any module: tensors of rank 2 and more are drawn, the last two axes being [out, in];
/// those of rank 1 stay as the layers made them (biases zero, scales of norms one).
///
/// A call takes one stream from the rng, so two calls never draw the same; within it each tensor has its own stream,
/// keyed by its path, and each element its own place in that. So a layer that is added or removed changes nothing
/// elsewhere, and the number of threads changes nothing at all.
namespace gatefold::init {

namespace detail {

/// FNV-1a over the path, started from the call's stream; the last lines (SplitMix64) spread it over all 64 bits.
[[gnu::noinline]] inline std::uint64_t stream_of(std::string_view path, std::uint64_t call) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ (call * 0x9e3779b97f4a7c15u);
  for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
  return hash ^ (hash >> 31);
}

struct Fan {
  double in, out;
};

/// weight[i] = draw(stream, i, size, fan).
template <class T, class Draw>
[[gnu::noinline]] void draw_tensor(T* weight, Index size, Rng::State stream, Fan fan, const ParallelFor& parallel_for,
                                   const Draw& draw) {
  constexpr Index kBlock = 4096;  // some 0.1 ms of drawing: worth a thread
  parallel_for((size + kBlock - 1) / kBlock, [&](Index first, Index last, Index) {
    const Index end = std::min(size, last * kBlock);
    for (Index i = first * kBlock; i < end; ++i) weight[i] = T(draw(stream, i, size, fan));
  });
}

/// weight[i] = draw(rng of the tensor, i, number of elements, fan) for every tensor of rank 2 and more.
template <Module M, class Draw>
void draw_weights(M& module, Rng& rng, const ParallelFor& parallel_for, Draw&& draw) {
  const Rng::State call = rng.next_stream().state();
  for_each_param(
      [&](std::string_view path, auto& t) {
        using Field = std::remove_cvref_t<decltype(t)>;
        using T = typename Field::Scalar;
        if constexpr (Field::kRank >= 2 && Real<T> && !std::integral<T> && !is_shared_tensor<Field>) {
          const Fan fan{.in = static_cast<double>(t.extent(Field::kRank - 1)),
                        .out = static_cast<double>(t.extent(Field::kRank - 2))};
          draw_tensor(t.data(), t.size(), {call.seed, stream_of(path, call.stream), 0}, fan, parallel_for, draw);
        }
      },
      module);
}

/// A standard normal, drawn again (at positions of its own) while it is beyond two: 4.6 % of all.
inline double truncated(Rng::State stream, Index i, Index size) {
  const Rng rng(stream);
  for (;; i += size)
    if (const double z = rng.normal_at(i); std::abs(z) <= 2) return z;
}

/// fn(tensor) for each parameter that the pattern names. Throws OptionError if that is none.
template <Module M, class Fn>
void for_each_matching(M& module, const PathPattern& pattern, Fn&& fn) {
  bool found = false;
  for_each_param(
      [&](std::string_view path, auto& t) {
        using T = typename std::remove_cvref_t<decltype(t)>::Scalar;
        if (!pattern.matches(path)) return;
        found = true;
        if constexpr (Real<T>) fn(t);
      },
      module);
  expect_option(found, "init: the pattern \"" + pattern.text() + "\" matches no parameter");
}

template <Module M>
void fill(M& module, const PathPattern& pattern, double value) {
  for_each_matching(module, pattern, [&](auto& t) {
    using T = typename std::remove_cvref_t<decltype(t)>::Scalar;
    std::ranges::fill(t.flat(), T(value));
  });
}

}  // namespace detail

/// Normal with the given standard deviation, cut at two of them (which leaves 0.88 of it), as ViT and V-MoE begin.
template <Module M>
void truncated_normal(M& module, Rng& rng, double stddev, Context& ctx) {
  detail::draw_weights(module, rng, ctx.parallel_for, [stddev](Rng::State stream, Index i, Index size, detail::Fan) {
    return stddev * detail::truncated(stream, i, size);
  });
}
template <Module M>
void truncated_normal(M& module, Rng& rng, double stddev = 0.02) {
  Context ctx;
  truncated_normal(module, rng, stddev, ctx);
}

/// Variance 1 / fan_in (LeCun et al. 1998), cut at two standard deviations and widened so that the variance holds.
template <Module M>
void lecun_normal(M& module, Rng& rng, Context& ctx) {
  // The standard deviation of a standard normal cut at +-2: sqrt(1 - 4 pdf(2) / (2 cdf(2) - 1)).
  constexpr double kTruncated = 0.87962566103423978;
  detail::draw_weights(module, rng, ctx.parallel_for, [](Rng::State stream, Index i, Index size, detail::Fan fan) {
    return detail::truncated(stream, i, size) / (kTruncated * std::sqrt(fan.in));
  });
}
template <Module M>
void lecun_normal(M& module, Rng& rng) {
  Context ctx;
  lecun_normal(module, rng, ctx);
}

/// Uniform within +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010).
template <Module M>
void xavier_uniform(M& module, Rng& rng, Context& ctx) {
  detail::draw_weights(module, rng, ctx.parallel_for, [](Rng::State stream, Index i, Index, detail::Fan fan) {
    const double limit = std::sqrt(6 / (fan.in + fan.out));
    stream.position = 2 * static_cast<std::uint64_t>(i);  // a uniform takes two words
    return Rng(stream).uniform(-limit, limit);
  });
}
template <Module M>
void xavier_uniform(M& module, Rng& rng) {
  Context ctx;
  xavier_uniform(module, rng, ctx);
}

/// Multiplies what the pattern names. Throws OptionError if that is nothing.
template <Module M>
void scale(M& module, const std::string& pattern, double factor) {
  detail::for_each_matching(module, PathPattern(pattern), [&](auto& t) {
    using T = typename std::remove_cvref_t<decltype(t)>::Scalar;
    for (auto& x : t.flat()) x = x * T(factor);
  });
}

/// Sets what the pattern names, of any rank. Throws OptionError if that is nothing.
template <Module M>
void zeros(M& module, const std::string& pattern) {
  detail::fill(module, PathPattern(pattern), 0);
}
template <Module M>
void ones(M& module, const std::string& pattern) {
  detail::fill(module, PathPattern(pattern), 1);
}

}  // namespace gatefold::init
