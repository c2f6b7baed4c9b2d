#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdio>
#include <vector>

#include "gatefold/core/language.hpp"

namespace gatefold::detail {

/// Tells a loop that gives nothing back to its workspace: all that lies there is then one pass after the other, the
/// same blocks in the same order. A model of equal layers is no such loop, since what stands before and after them is
/// not repeated. Blocks are alike if neither is more than twice the other, for routing seats somewhat fewer or more
/// each time; a pass of another number of blocks (an expert without a token that runs by itself) goes unnoticed.
class GrowthWatch {
 public:
  struct Block {
    std::size_t memory, offset, bytes;  // in which piece of memory, and where in it
  };

  /// A block is taken. True, once, if it is to be told. `used_of(memory)` is how much of a piece of memory was taken so
  /// far: from it we know by ourselves what was given back meanwhile.
  template <class UsedOf>
  bool takes(const Block& block, UsedOf&& used_of) {
    while (!live_.empty() && live_.back().offset >= used_of(live_.back().memory)) live_.pop_back();
    live_.push_back(block);
    const std::size_t count = live_.size();
    // Looked at now and then, so that it costs next to nothing: a block that stays passes each power of two once.
    if (told_ || count < kFirstLook || !std::has_single_bit(count)) return false;
    for (std::size_t period = 1; period <= count / kPasses && !told_; ++period)
      if (std::equal(live_.begin() + static_cast<std::ptrdiff_t>(period), live_.end(), live_.begin(), alike)) {
        told_ = true;
        passes_ = count / period;
      }
    return told_;
  }

  void tell(std::size_t bytes) const {
    std::fprintf(stderr,
                 "gatefold: a workspace has grown to %zu MiB over %zu passes of equal shapes, none of which gave back "
                 "what it took; begin each pass with\n  const auto scope = ctx.workspace.scope();\n",
                 bytes >> 20, passes_);
  }

 private:
  static bool alike(const Block& a, const Block& b) { return a.bytes <= 2 * b.bytes && b.bytes <= 2 * a.bytes; }

  static constexpr std::size_t kFirstLook = 512;  // blocks
  static constexpr std::size_t kPasses = 64;      // more than a model has layers that somebody calls by hand

  std::vector<Block> live_;
  std::size_t passes_ = 0;
  bool told_ = false;
};

}  // namespace gatefold::detail
