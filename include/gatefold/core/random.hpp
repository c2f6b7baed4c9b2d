#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "gatefold/core/shape.hpp"

namespace gatefold {

/// Philox4x32-10 (Salmon et al., SC 2011, «Parallel random numbers: as easy as 1, 2, 3»): four random words as a pure
/// function of counter and key. Written out here because the core needs the standard library only; the tests hold it,
/// word for word, to the authors' Random123.
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

/// A stream of random numbers addressed by (seed, stream, position): the same three give the same number on any thread,
/// in any order. The distributions are our own, since those of <random> differ between standard libraries.
class Rng {
 public:
  /// All there is to save and restore.
  struct State {
    std::uint64_t seed = 0, stream = 0, position = 0;
    bool operator==(const State&) const = default;
  };

  explicit constexpr Rng(std::uint64_t seed, std::uint64_t stream = 0) : state_{seed, stream, 0} {}
  explicit constexpr Rng(State state) : state_(state) {}

  constexpr State state() const { return state_; }

  /// The next stream of the same seed: one for each layer, step or sample that draws on its own. An Rng either draws or
  /// hands out streams: it stands on the stream it gave last, and what it drew itself would be drawn twice.
  constexpr Rng next_stream() { return Rng(state_.seed, ++state_.stream); }

  /// 32 uniform bits; `position` counts these words.
  constexpr std::uint32_t bits() {
    const auto word = words(state_.position / 4)[state_.position % 4];
    ++state_.position;
    return word;
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  constexpr double uniform() {
    const std::uint32_t high = bits();
    return unit(high, bits());
  }
  constexpr double uniform(double begin, double end) { return begin + (end - begin) * uniform(); }
  /// The `index`-th of this stream, wherever the stream stands: each takes two words.
  constexpr double uniform_at(Index index, double begin, double end) const {
    return Rng(State{state_.seed, state_.stream, 2 * static_cast<std::uint64_t>(index)}).uniform(begin, end);
  }

  /// Uniform in 0..n-1, without bias (Lemire 2019, with rejection); n must be in 1..2^32-1.
  constexpr Index below(Index n) {
    const auto range = static_cast<std::uint32_t>(n);
    for (;;) {
      const std::uint64_t product = std::uint64_t{bits()} * range;
      if (static_cast<std::uint32_t>(product) >= (0u - range) % range) return static_cast<Index>(product >> 32);
    }
  }

  /// Standard normal (Box-Muller, both uniforms fresh, so that one call always takes four words).
  double normal() {
    const double first = uniform();
    return box_muller(first, uniform());
  }

  /// The `index`-th standard normal of this stream, wherever the stream stands.
  double normal_at(Index index) const {
    const auto word = words(static_cast<std::uint64_t>(index));
    return box_muller(unit(word[0], word[1]), unit(word[2], word[3]));
  }

 private:
  static constexpr double unit(std::uint32_t high, std::uint32_t low) {
    return static_cast<double>((std::uint64_t{high} >> 5) * 67108864 + (low >> 6)) / 9007199254740992.0;
  }
  static double box_muller(double first, double second) {
    return std::sqrt(-2.0 * std::log(1.0 - first)) * std::cos(2.0 * std::numbers::pi * second);
  }
  constexpr std::array<std::uint32_t, 4> words(std::uint64_t block) const {
    return philox({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                   static_cast<std::uint32_t>(state_.stream), static_cast<std::uint32_t>(state_.stream >> 32)},
                  {static_cast<std::uint32_t>(state_.seed), static_cast<std::uint32_t>(state_.seed >> 32)});
  }
  State state_;
};

}  // namespace gatefold
