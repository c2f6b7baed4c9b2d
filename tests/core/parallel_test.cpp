#include "gatefold/core/parallel.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "tests/support/alloc_guard.hpp"
#include "tests/support/threads.hpp"

namespace gatefold {
namespace {

std::vector<ParallelFor> all() {
  std::vector<ParallelFor> pools{ParallelFor(), default_parallel_for(), test::threads(2), test::threads(7)};
#ifdef _OPENMP
  pools.push_back(openmp(3));
#endif
  return pools;
}

TEST(Parallel, CoversEveryItemOnce) {
  for (const auto& parallel_for : all())
    for (const Index n : {0, 1, 2, 100, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
      parallel_for(n, [&](Index begin, Index end, Index worker) {
        EXPECT_LE(0, begin);
        EXPECT_LT(begin, end);
        EXPECT_LE(end, n);
        EXPECT_TRUE(0 <= worker && worker < parallel_for.workers());
        for (Index i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      for (const auto& count : seen) EXPECT_EQ(count, 1);
    }
}

TEST(Parallel, AWorkerBelongsToOneThreadAtATime) {
  for (const auto& parallel_for : all()) {
    std::vector<std::atomic<int>> inside(static_cast<std::size_t>(parallel_for.workers()));
    parallel_for(500, [&](Index, Index, Index worker) {
      auto& count = inside[static_cast<std::size_t>(worker)];
      EXPECT_EQ(++count, 1);
      std::this_thread::yield();
      --count;
    });
  }
}

TEST(Parallel, DoesNothingForNothing) {
  for (const auto& parallel_for : all())
    for (const Index n : {0, -3}) parallel_for(n, [](Index, Index, Index) { FAIL(); });
}

TEST(Parallel, AnExceptionReachesTheCaller) {
  for (const auto& parallel_for : all()) {
    EXPECT_THROW(parallel_for(50,
                              [](Index begin, Index end, Index) {
                                for (Index i = begin; i < end; ++i)
                                  if (i % 20 == 3) throw std::domain_error("of a body");
                              }),
                 std::domain_error);
    std::atomic<Index> count = 0;  // and it still works
    parallel_for(50, [&](Index begin, Index end, Index) { count += end - begin; });
    EXPECT_EQ(count, 50);
  }
}

TEST(Parallel, SerialRunsInOneGo) {
  const ParallelFor serial;
  EXPECT_EQ(serial.workers(), 1);
  int calls = 0;
  const test::AllocGuard guard;
  serial(1000, [&](Index begin, Index end, Index worker) {
    ++calls;
    EXPECT_EQ(begin, 0);
    EXPECT_EQ(end, 1000);
    EXPECT_EQ(worker, 0);
  });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(guard.count(), 0);
}

TEST(Parallel, OneItemNeedsNoPool) {
  const ParallelFor pool({.workers = 4, .run = [](Index, ParallelFor::Body) { FAIL(); }});
  int calls = 0;
  pool(1, [&](Index, Index, Index) { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST(Parallel, FunctionRefBorrowsLambdasWithState) {
  int total = 0;
  auto add = [&total, step = 1](int n) mutable { return total += n * step++; };
  const FunctionRef<int(int)> ref = add;
  const auto copy = ref;
  EXPECT_EQ(ref(10), 10);
  EXPECT_EQ(copy(10), 30);  // the same object
}

TEST(Parallel, RefusesLessThanOneWorker) {
  for (const Index workers : {0, -3}) EXPECT_THROW(ParallelFor({.workers = workers, .run = {}}), OptionError);
}

}  // namespace
}  // namespace gatefold
