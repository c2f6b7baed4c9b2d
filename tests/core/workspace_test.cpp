#include "gatefold/core/workspace.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/alloc_guard.hpp"
#include "tests/support/dual.hpp"

namespace gatefold {
namespace {

TEST(Workspace, GivesAlignedBlocksThatDoNotOverlap) {
  Workspace workspace;
  std::vector<std::pair<const std::byte*, const std::byte*>> taken;
  const auto note = [&](const auto& view) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data()) % 64, 0u);
    const auto* begin = reinterpret_cast<const std::byte*>(view.data());
    taken.emplace_back(begin, begin + static_cast<std::size_t>(view.size()) * sizeof(*view.data()));
  };
  for (const Index n : {1, 15, 16, 17, 1000, 300000, 3, 600000, 5}) {
    note(workspace.take<float>(n));
    note(workspace.take<char>(3));
    note(workspace.take<double>(n, 2));
  }
  std::ranges::sort(taken);
  for (std::size_t i = 1; i < taken.size(); ++i) EXPECT_LE(taken[i - 1].second, taken[i].first);
}

TEST(Workspace, AScopeGivesBackWhatWasTakenInIt) {
  Workspace workspace;
  const auto kept = workspace.take_zeroed<int>(10);
  const int* inner = nullptr;
  {
    const auto scope = workspace.scope();
    inner = workspace.take<int>(10).data();
    {
      const auto nested = workspace.scope();
      EXPECT_NE(workspace.take<int>(1).data(), inner);
    }
  }
  EXPECT_EQ(workspace.take<int>(5).data(), inner);
  EXPECT_THAT(std::vector<int>(kept.data(), kept.data() + 10), testing::Each(0));
}

TEST(Workspace, NothingMovesWhenItGrows) {
  Workspace workspace;
  const auto first = workspace.take<int>(4);
  std::fill_n(first.data(), 4, 42);
  {
    const auto scope = workspace.scope();
    for (int i = 0; i < 20; ++i) {
      const auto more = workspace.take<int>(1 << 18);
      std::fill_n(more.data(), 1 << 18, -1);
    }
  }
  for (Index i = 0; i < 4; ++i) EXPECT_EQ(first[i], 42);
  const auto next = workspace.take<int>(4);
  EXPECT_EQ(next.data(), first.data() + 16);  // the very next cache line again
}

TEST(Workspace, AsksForMemoryOnlyInTheFirstPass) {
  Workspace workspace;
  const auto pass = [&] {
    const auto scope = workspace.scope();
    (void)workspace.take<float>(100000);
    {
      const auto inner = workspace.scope();
      (void)workspace.take<double>(400000);
      (void)workspace.take<float>(10);
    }
    (void)workspace.take<float>(700000);
    (void)workspace.take<char>(1);
  };
  pass();
  const auto after_one = workspace.allocations();
  EXPECT_GE(after_one, 2u);
  const test::AllocGuard guard;
  for (int i = 0; i < 5; ++i) pass();
  EXPECT_EQ(workspace.allocations(), after_one);
  EXPECT_EQ(guard.count(), 0);
}

TEST(Workspace, TheAllocGuardCounts) {
  const test::AllocGuard guard;
  const Tensor<float, 1> aligned({100});
  const std::vector<int> plain(100);
  EXPECT_EQ(guard.count(), 2);
}

TEST(Workspace, DebugBuildsFillWithWhatShows) {
#ifdef NDEBUG
  GTEST_SKIP() << "this is no debug build";
#endif
  Workspace workspace;
  const auto view = workspace.take<float>(3, 5);
  for (Index i = 0; i < 15; ++i) EXPECT_TRUE(std::isnan(view.data()[i]));
  EXPECT_NE(workspace.take<Index>(1)[0], 0);
}

TEST(Workspace, TakesWhatHasAConstructor) {
  Workspace workspace;
  const auto duals = workspace.take<Dual>(7);
  for (Index i = 0; i < 7; ++i) EXPECT_EQ(duals[i].v, 0);
  const auto views = workspace.take<View<float, 2>>(3);
  EXPECT_EQ(views[2].data(), nullptr);
}

TEST(Workspace, TakesNothing) {
  Workspace workspace;
  EXPECT_EQ(workspace.take<float>(0, 7).size(), 0);
  EXPECT_EQ(workspace.take_zeroed<float>(0).size(), 0);
}

TEST(Workspace, MovedFromMayBeUsedAgain) {
  Workspace first;
  (void)first.take<float>(1 << 20);
  (void)first.take<float>(1 << 20);
  (void)first.take<float>(1 << 22);
  EXPECT_GE(first.allocations(), 2u);
  {
    const auto scope = first.scope();
    const auto kept = first.take_zeroed<int>(3);
    const Workspace second = std::move(first);
    EXPECT_EQ(first.allocations(), 0u);
    EXPECT_EQ(kept[2], 0) << "what was taken lives where it lay";
    EXPECT_EQ(first.take_zeroed<int>(100)[99], 0);
  }
  const auto after = first.take<int>(1).data();
  {
    const auto scope = first.scope();
    (void)first.take<int>(5);
  }
  EXPECT_EQ(first.allocations(), 1u);
  EXPECT_EQ(first.take<int>(1).data(), after + 16);
}

/// What a debug build says while `pass(i)` runs `times`.
template <class Pass>
std::string said(int times, Pass&& pass) {
  testing::internal::CaptureStderr();
  for (int i = 0; i < times; ++i) pass(i);
  return testing::internal::GetCapturedStderr();
}
/// A pass of 20 blocks of different sizes; some differ from pass to pass, as the seats of experts do.
void some_pass(Workspace& workspace, int i) {
  for (Index n = 1; n <= 20; ++n) {
    (void)workspace.take<char>(10 * n * n + 5 * (i % 3));
    const auto scratch = workspace.scope();
    (void)workspace.take<char>(7 * n);
  }
}

TEST(Workspace, DebugBuildsTellOfPassesThatGiveNothingBack) {
#ifdef NDEBUG
  GTEST_SKIP() << "this is no debug build";
#endif
  const auto advice = testing::HasSubstr("const auto scope = ctx.workspace.scope();");
  Workspace open;
  EXPECT_THAT(said(60, [&](int i) { some_pass(open, i); }), testing::IsEmpty()) << "it may still be one deep model";
  EXPECT_THAT(said(60, [&](int i) { some_pass(open, i); }), advice);
  EXPECT_THAT(said(1000, [&](int i) { some_pass(open, i); }), testing::IsEmpty()) << "once is enough";

  Workspace outside;  // a scope around the loop is none around the pass
  EXPECT_THAT(said(1,
                   [&](int) {
                     const auto scope = outside.scope();
                     for (int i = 0; i < 1000; ++i) some_pass(outside, i);
                   }),
              advice);

  Workspace scoped;
  EXPECT_THAT(said(1000,
                   [&](int i) {
                     const auto scope = scoped.scope();
                     some_pass(scoped, i);
                   }),
              testing::IsEmpty());

  Workspace deep;  // equal layers between other things
  EXPECT_THAT(said(3,
                   [&](int i) {
                     const auto scope = deep.scope();
                     (void)deep.take<char>(1 << 20);
                     for (int layer = 0; layer < 200; ++layer) some_pass(deep, i);
                   }),
              testing::IsEmpty());
}

}  // namespace
}  // namespace gatefold
