#pragma once
#include <algorithm>
#include <cmath>

#include "bench/peers/peer.hpp"
#include "gatefold/core/context.hpp"
#include "gatefold/core/scalar.hpp"
#include "gatefold/core/tensor.hpp"
#include "gatefold/module/visit.hpp"

namespace gatefold::bench {

inline std::string name(Format format) {
  constexpr const char* kNames[] = {"fp32", "bf16", "int8", "int4", "mxfp4", "fp8"};
  return kNames[static_cast<std::size_t>(format)];
}

/// What a weight costs to read; int4 has a float for each 64 weights beside it, mxfp4 a byte for each 32, fp8 a float
/// for 32 times 64.
inline double bytes_per_weight(Format format) {
  constexpr double kBytes[] = {4, 2, 1, 0.5 + 4.0 / 64, 0.5 + 1.0 / 32, 1 + 4.0 / 2048};
  return kBytes[static_cast<std::size_t>(format)];
}

/// make.operator()<F>() for the type that stands for a format in pack<F>.
template <class Make>
auto with_format(Format format, Make&& make) {
  switch (format) {
    case Format::bf16:
      return make.template operator()<bf16>();
    case Format::int8:
      return make.template operator()<int8>();
    case Format::int4:
      return make.template operator()<int4>();
    case Format::mxfp4:
      return make.template operator()<mxfp4>();
    case Format::fp8:
      return make.template operator()<fp8>();
    default:
      return make.template operator()<float>();
  }
}
inline constexpr Format kFormats[] = {Format::fp32, Format::bf16,  Format::int8,
                                      Format::int4, Format::mxfp4, Format::fp8};
/// What zero_shot packs its models as; the last two are what others publish mixtures in.
inline constexpr Format kModelFormats[] = {Format::fp32, Format::bf16, Format::int8, Format::int4};

/// Uniform within ± scale from a generator that keeps up with memory: a case may have hundreds of millions of weights.
inline void fill(std::span<float> values, float scale, std::uint64_t seed) {
  std::uint64_t x = 88172645463325252u + seed * 7919;
  for (float& value : values) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    value = scale * (static_cast<float>(x & 0xffff) / 32768.0f - 1.0f);
  }
}

inline Tensor<float, 2> random_rows(Index rows, Index columns, std::uint64_t seed) {
  Tensor<float, 2> t({rows, columns});
  fill(t.flat(), 1, seed);
  return t;
}

/// Weights as large as trained ones, so that activations stay of order one.
template <class M>
M filled(M module, std::uint64_t seed = 7) {
  for_each_param(
      [&seed](std::string_view, auto& t) {
        if (t.shape().size() == 2)
          fill(t.flat(), 1 / std::sqrt(static_cast<float>(t.extent(t.shape().size() - 1))), seed++);
      },
      module);
  return module;
}

/// Logits whose top-k draw experts without replacement by Zipf's law (Gumbel's trick); exponent 0 draws uniformly.
/// // [tokens, experts]
inline Tensor<float, 2> routing_logits(Index tokens, Index experts, double zipf) {
  Tensor<float, 2> logits({tokens, experts});
  const Rng rng(11);
  for (Index t = 0; t < tokens; ++t)
    for (Index e = 0; e < experts; ++e) {
      const double u = 0.5 * (1 + std::erf(rng.normal_at(t * experts + e) / std::sqrt(2.0)));
      const double gumbel = -std::log(-std::log(std::clamp(u, 1e-12, 1 - 1e-12)));
      logits.view()(t, e) = static_cast<float>(gumbel - zipf * std::log(static_cast<double>(e + 1)));
    }
  return logits;
}

/// Tokens whose first columns are their routing logits: a router with ones on its diagonal reads them there.
inline Tensor<float, 2> routed_tokens(const MoeCase& c) {
  auto x = random_rows(c.tokens, c.width, 2);
  const auto logits = routing_logits(c.tokens, c.experts, c.zipf);
  for (Index t = 0; t < c.tokens; ++t) std::copy_n(&logits.view()(t, 0), c.experts, &x.view()(t, 0));
  return x;
}

/// A context with this many threads.
inline Context with_threads(Index threads) {
  return {.parallel_for = threads > 1 ? default_parallel_for(static_cast<int>(threads)) : ParallelFor()};
}

}  // namespace gatefold::bench
