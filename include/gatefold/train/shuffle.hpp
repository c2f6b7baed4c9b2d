#pragma once
#include <algorithm>
#include <bit>
#include <utility>

#include "gatefold/core/error.hpp"
#include "gatefold/core/random.hpp"

namespace gatefold {

/// An endless order of samples: each pass through all of them is a permutation of its own, and which sample stands
/// where is a function of the seed, so that a run that goes on at any step needs no state:
///   const Shuffle order{.size = 60000, .seed = 1};
///   for (Index i = 0; i < batch; ++i) use(order(step * batch + i));
/// A Feistel network over the smallest even number of bits that holds the size, walked until it lands below the size
/// (Black & Rogaway 2002, «Ciphers with arbitrary finite domains»). O(1), no memory.
struct Shuffle {
  Index size;  ///< At most 2^32.
  std::uint64_t seed = 0;

  /// Throws OptionError for a negative position, or a size that is not in 1..2^32.
  Index operator()(Index position) const {
    expect_option(1 <= size && size <= Index{1} << 32, "Shuffle", "size", size, "1 to 2^32");
    expect_option(position >= 0, "Shuffle", "position", position, "at least 0");
    const auto pass = static_cast<std::uint64_t>(position / size);
    auto at = static_cast<std::uint64_t>(position % size);
    do at = exchange(at, pass);
    while (at >= static_cast<std::uint64_t>(size));
    return static_cast<Index>(at);
  }

 private:
  /// A permutation of 0..4^half - 1, of at most 4 size numbers.
  std::uint64_t exchange(std::uint64_t at, std::uint64_t pass) const {
    const int bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(size - 1)));
    const int half = std::max(1, (bits + 1) / 2);
    const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
    auto left = static_cast<std::uint32_t>(at >> half), right = static_cast<std::uint32_t>(at & mask);
    for (std::uint32_t round = 0; round < 8; ++round) {  // 4 are a random permutation; small halves want a few more
      const auto word = philox({right, round, static_cast<std::uint32_t>(pass), static_cast<std::uint32_t>(pass >> 32)},
                               {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)})[0];
      left = std::exchange(right, left ^ static_cast<std::uint32_t>(word & mask));
    }
    return std::uint64_t{left} << half | right;
  }
};

}  // namespace gatefold
