#include "gatefold/kernels/claims.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "gatefold/core/random.hpp"

namespace gatefold::kernels::claims_test {
namespace {

/// Counting backwards by looking at every earlier claim.
std::vector<std::uint32_t> seats(const Claims& claims, const std::vector<std::uint32_t>& before) {
  std::vector<std::uint32_t> seat;
  for (Index i = 0; i < claims.count; ++i) {
    const Index e = claims.expert[i * claims.stride];
    std::uint32_t earlier = before[static_cast<std::size_t>(e)];
    for (Index j = 0; j < i; ++j) earlier += claims.expert[j * claims.stride] == e;
    seat.push_back(earlier);
  }
  return seat;
}

TEST(CountClaims, OfEveryLengthNumberOfExpertsAndStride) {
  Rng rng(1);
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (const Index experts : {1, 2, 3, 7, 8, 9, 33})
      for (const Index stride : {1, 2, 3})
        for (Index count = 0; count <= 70; ++count) {
          // Exactly as long as it must be, so that a sanitizer sees a read behind it.
          std::vector<Index> expert(count ? static_cast<std::size_t>((count - 1) * stride + 1) : 0);
          for (Index& e : expert)
            e = count % 3 ? static_cast<Index>(rng.below(static_cast<std::uint64_t>(experts))) : experts - 1;
          std::vector<std::uint32_t> claimed(static_cast<std::size_t>(experts));
          for (auto& c : claimed) c = static_cast<std::uint32_t>(rng.below(1000));
          const Claims claims{expert.data(), stride, count};
          const auto wanted = seats(claims, claimed);
          auto all = claimed;
          for (Index i = 0; i < count; ++i)
            ++all[static_cast<std::size_t>(expert[static_cast<std::size_t>(i * stride)])];
          std::vector<std::uint32_t> seat(static_cast<std::size_t>(count));
          count_claims(isa, claims, experts, claimed.data(), seat.data());
          ASSERT_EQ(seat, wanted) << experts << " " << stride << " " << count;
          ASSERT_EQ(claimed, all) << experts << " " << stride << " " << count;
        }
}

}  // namespace
}  // namespace gatefold::kernels::claims_test
