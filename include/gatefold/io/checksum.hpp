#pragma once
// Compiled in, so that nothing is to be linked; other uses of the library in the same unit are not disturbed.
#define XXH_INLINE_ALL
// It brings g++ 12's own AVX-512 headers along, whose deliberately undefined registers that takes for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <xxhash.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "gatefold/core/language.hpp"

namespace gatefold {

/// XXH3 (64 bits, https://xxhash.com) of bytes that may come in pieces: the value is that of all of them as one. As
/// fast as memory. It notices damage, not malice: who changes a file on purpose can make its sum good again.
class Checksum {
 public:
  Checksum() {
    XXH3_INITSTATE(&state_);
    (void)XXH3_64bits_reset(&state_);
  }
  void add(std::span<const std::byte> bytes) { (void)XXH3_64bits_update(&state_, bytes.data(), bytes.size()); }
  std::uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

/// 16 digits, small letters.
inline std::string to_hex(std::uint64_t value) {
  std::string digits(16, '0');
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, value >>= 4)
    *digit = "0123456789abcdef"[value & 15];
  return digits;
}

}  // namespace gatefold
