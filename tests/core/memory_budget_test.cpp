#include "gatefold/core/memory_budget.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace gatefold {
namespace {

/// Threads that each take so many bytes a hundred times. Returns the most that were out at once.
std::size_t most_at_once(MemoryBudget& budget, const std::vector<std::size_t>& wanted) {
  std::atomic<std::size_t> out = 0, most = 0;
  std::vector<std::thread> threads;
  for (const auto bytes : wanted)
    threads.emplace_back([&, bytes] {
      for (int i = 0; i < 100; ++i) {
        MemoryBudget::Lease lease;
        lease = budget.take(bytes);
        const auto now = out.fetch_add(bytes) + bytes;
        for (auto seen = most.load(); seen < now && !most.compare_exchange_weak(seen, now);) {
        }
        std::this_thread::yield();
        out -= bytes;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(out, 0u);
  return most;
}

TEST(MemoryBudget, IsNeverOverdrawn) {
  MemoryBudget budget(100);
  EXPECT_LE(most_at_once(budget, {30, 40, 50, 60, 10, 100}), 100u);
}

TEST(MemoryBudget, LetsInAloneWhatIsLargerThanAllOfIt) {
  MemoryBudget budget(100);
  EXPECT_LE(most_at_once(budget, {250, 90, 20, 300}), 300u);
  const auto huge = budget.take(static_cast<std::size_t>(-1));
}

TEST(MemoryBudget, GetsBackWhatIsLeftByAnException) {
  MemoryBudget budget(100);
  for (int i = 0; i < 3; ++i) {
    try {
      const auto lease = budget.take(100);
      throw 1;
    } catch (int) {
    }
  }
  auto first = budget.take(100);
  const auto second = std::move(first);  // one lease, which moves
}

}  // namespace
}  // namespace gatefold
