#include "gatefold/products/matmul.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <list>
#include <random>

#include "tests/support/alloc_guard.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels::matmul_test {
namespace {

template <class T>
inline constexpr double kRoundoff = std::numeric_limits<T>::epsilon() / 2;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

#if GATEFOLD_HAS_SIMD
constexpr Index kTileRows = TileF32<simd::DefaultArch>::kMaxRows, kTileCols = TileF32<simd::DefaultArch>::kCols;
#else
constexpr Index kTileRows = 14, kTileCols = 32, kDepth = 512, kTaskColumns = 256, kTaskRows = 512, kDotRows = 16;
constexpr Index kTilesAtOnce = 8;
#endif

/// How an operand lies in memory: row by row, column by column, or as some rows of a larger matrix.
enum class Lie { rows, columns, gathered };
struct Size {
  Index m, n, k;
};
struct Form {
  Lie a, b;
  Store store;
  bool bias;
};
/// All that forward and backward need, and the rest.
constexpr Form kForms[] = {{Lie::rows, Lie::columns, Store::overwrite, true},
                           {Lie::rows, Lie::rows, Store::overwrite, false},
                           {Lie::columns, Lie::rows, Store::add, false},
                           {Lie::gathered, Lie::columns, Store::overwrite, true},
                           {Lie::columns, Lie::gathered, Store::add, false},
                           {Lie::rows, Lie::columns, Store::add, false},
                           {Lie::columns, Lie::columns, Store::overwrite, true},
                           {Lie::columns, Lie::columns, Store::add, true},
                           {Lie::rows, Lie::rows, Store::overwrite, true},
                           {Lie::columns, Lie::rows, Store::overwrite, false},
                           {Lie::rows, Lie::rows, Store::add, true},
                           {Lie::gathered, Lie::rows, Store::add, false},
                           {Lie::gathered, Lie::gathered, Store::overwrite, false},
                           {Lie::rows, Lie::gathered, Store::overwrite, true},
                           {Lie::rows, Lie::columns, Store::overwrite, false}};

/// A matrix inside a wider one, surrounded by NaN that nobody may read and whose bits nobody may change.
template <class T>
struct Guarded {
  Index rows, cols, pitch;
  std::vector<T> data;

  Guarded(Index r, Index c, Index gap)
      : rows(r),
        cols(c),
        pitch(c + gap),
        data(static_cast<std::size_t>(3 + r * (c + gap)), std::numeric_limits<T>::quiet_NaN()) {}
  T& at(Index i, Index j) { return data[static_cast<std::size_t>(3 + i * pitch + j)]; }
  const T& at(Index i, Index j) const { return data[static_cast<std::size_t>(3 + i * pitch + j)]; }
  Rows<T> view() { return {data.data() + 3, {rows, cols}, {pitch}}; }
  const T* row() const { return data.data() + 3; }
  void fill_row(Index i, std::mt19937& random) {
    std::uniform_real_distribution<float> draw(-1, 1);
    for (Index j = 0; j < cols; ++j) at(i, j) = T(draw(random));
  }
  void fill(std::mt19937& random) {
    for (Index i = 0; i < rows; ++i) fill_row(i, random);
  }
  bool intact() const {
    std::size_t numbers = 0;
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) numbers += !std::isnan(at(i, j));
    const auto all = static_cast<std::size_t>(std::ranges::count_if(data, [](T v) { return !std::isnan(v); }));
    return numbers == static_cast<std::size_t>(rows * cols) && all == numbers;
  }
};

/// An operand and its memory; of a gathered one, rows that are not chosen are NaN, and some are chosen twice.
template <class T>
struct Source {
  Lie lie;
  Guarded<T> memory;
  std::vector<Index> index;

  Source(Lie how, Index rows, Index cols, Index gap, std::mt19937& random)
      : lie(how),
        memory(how == Lie::columns    ? cols
               : how == Lie::gathered ? 2 * rows + 1
                                      : rows,
               how == Lie::columns ? rows : cols, gap) {
    if (lie != Lie::gathered) memory.fill(random);
    for (Index i = 0; i < rows && lie == Lie::gathered; ++i) {
      index.push_back(static_cast<Index>(random() % static_cast<std::size_t>(memory.rows)));
      memory.fill_row(index.back(), random);
    }
  }
  T at(Index i, Index j) const {
    if (lie == Lie::columns) return memory.at(j, i);
    return memory.at(lie == Lie::gathered ? index[static_cast<std::size_t>(i)] : i, j);
  }
  Operand<T> operand() {
    if (lie == Lie::gathered) return {memory.view(), View<const Index, 1>(index.data(), {std::ssize(index)})};
    const Operand<T> plain(memory.view());
    return lie == Lie::columns ? transpose(plain) : plain;
  }
};

/// A product of random numbers with all its memory.
template <class T>
struct Case {
  Size size;
  Form form;
  Source<T> a, b;
  Guarded<T> c, bias, before;

  Case(Size s, Form f, std::mt19937& random)
      : size(s),
        form(f),
        a(f.a, s.m, s.k, static_cast<Index>(random() % 4), random),
        b(f.b, s.k, s.n, static_cast<Index>(random() % 4), random),
        c(s.m, s.n, static_cast<Index>(random() % 4)),
        bias(1, s.n, 0),
        before(c) {
    bias.fill(random);
    if (form.store == Store::add) c.fill(random);
    before = c;
  }
  Product<T> product() {
    return {.a = a.operand(),
            .b = b.operand(),
            .c = c.view(),
            .store = form.store,
            .bias = form.bias ? bias.row() : nullptr};
  }
  /// Against sums in a wider type, within the classic bound (k + 2) u (|a| |b| + |c| + |bias|).
  void expect_close() const {
    using Wide = std::conditional_t<std::is_same_v<T, float>, double, long double>;
    const auto [m, n, k] = size;
    ASSERT_TRUE(c.intact()) << m << " x " << n << " x " << k;
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) {
        Wide sum = 0, size_of_terms = 0;
        const auto add = [&](Wide term) { sum += term, size_of_terms += std::abs(term); };
        if (form.store == Store::add) add(Wide(before.at(i, j)));
        if (form.bias) add(Wide(bias.at(0, j)));
        for (Index l = 0; l < k; ++l) add(Wide(a.at(i, l)) * Wide(b.at(l, j)));
        const Wide bound = static_cast<Wide>(k + 2) * static_cast<Wide>(kRoundoff<T>) * size_of_terms * Wide(1.01);
        ASSERT_LE(std::abs(Wide(c.at(i, j)) - sum), bound)
            << m << " x " << n << " x " << k << " at " << i << " " << j << ", form " << static_cast<int>(form.a)
            << static_cast<int>(form.b);
      }
  }
};

Context context(Isa isa, ParallelFor parallel_for = ParallelFor()) {
  Context ctx;
  ctx.parallel_for = std::move(parallel_for);
  ctx.isa = isa;
  return ctx;
}

/// One product, against the oracle.
template <class T>
void check(Size size, Form form, Isa isa, std::mt19937& random) {
  Case<T> one(size, form, random);
  auto ctx = context(isa);
  multiply<T>(one.product(), ctx);
  one.expect_close();
}

TEST(Matmul, EverySizeAroundTheTileEdges) {
  std::mt19937 random(1);
  std::size_t turn = 0;
  for (Index m = 0; m <= 2 * kTileRows + 1; ++m)
    for (Index n = 0; n <= 2 * kPanel + 1; ++n) {
      const Form form = kForms[turn++ % std::size(kForms)];
      check<float>({m, n, static_cast<Index>(random() % 9)}, form, Isa::simd, random);
      if (HasFatalFailure()) return;
    }
}

TEST(Matmul, EveryFormAtEveryDepth) {
  std::mt19937 random(2);
  for (const Form form : kForms) {
    for (Index k = 0; k <= 35; ++k)
      for (const Isa isa : {Isa::simd, Isa::portable})
        for (const Index m : {kDotRows - 1, kTileRows + 1}) {
          const Size size{m, kTileCols + 3, k};
          check<float>(size, form, isa, random);
          check<double>(size, form, isa, random);
          if (HasFatalFailure()) return;
        }
    for (const Index k : {kDepth - 1, kDepth, kDepth + 1, 2 * kDepth, 2 * kDepth + 3})
      for (const Index m : {Index{3}, kDotRows, kDotRows + 1})
        check<float>({m, kPanel + 1, k}, form, Isa::simd, random);
    if (HasFatalFailure()) return;
  }
}

TEST(Matmul, EveryFormAroundTheSizeOfATask) {
  std::mt19937 random(3);
  for (const Form form : kForms) {
    for (const Index m :
         {Index{32}, Index{33}, Index{64}, Index{129}, kTaskRows - 1, kTaskRows, kTaskRows + 1, 2 * kTaskRows + 5}) {
      check<float>({m, 5, 3}, form, Isa::simd, random);
      check<double>({m, 5, 3}, form, Isa::simd, random);
    }
    for (const Index n : {kTaskColumns - 1, kTaskColumns, kTaskColumns + 1, 2 * kTaskColumns + 33})
      for (const Index m : {Index{2}, kDotRows, 2 * kTileRows}) check<float>({m, n, 17}, form, Isa::simd, random);
    check<float>({kTaskRows + 1, kTaskColumns + 1, 5}, form, Isa::simd, random);
    if (HasFatalFailure()) return;
  }
}

/// Of rows that do not lie along k, several tiles are packed together.
TEST(Matmul, RowsAroundTheTilesThatArePackedTogether) {
  std::mt19937 random(6);
  const Index together = kTilesAtOnce * kTileRows;
  for (const Form form : kForms)
    if (form.a == Lie::columns)
      for (const Index m : {together - 1, together, together + 1, 2 * together + 3})
        for (const Index k : {Index{3}, kDepth + 2}) {
          check<float>({m, kPanel + 3, k}, form, Isa::simd, random);
          if (HasFatalFailure()) return;
        }
}

/// Rows that all fall into one set of L1 are copied apart.
TEST(Matmul, RowsAMultipleOf4KibApart) {
  std::mt19937 random(7);
  for (const Form form : kForms)
    for (const Size size : {Size{kTileRows, kPanel, 1000}, {2 * kTileRows + 9, 5, 1024}, {kDotRows + 1, 40, 1}}) {
      if (form.a == Lie::columns) continue;
      Case<float> one(size, form, random);
      one.a.memory = Guarded<float>(one.a.memory.rows, one.a.memory.cols, 1024 - one.a.memory.cols);
      one.a.memory.fill(random);
      auto ctx = context(Isa::simd);
      multiply<float>(one.product(), ctx);
      one.expect_close();
      if (HasFatalFailure()) return;
    }
}

TEST(Matmul, RowsThatAreToBeAlikeAreTheSameAmongAnyOthers) {
  std::mt19937 random(8);
  std::normal_distribution<float> draw;
  for (const Index k : {Index{1}, Index{37}, Index{300}, Index{2880}})
    for (const Index n : {Index{5}, Index{40}}) {
      const Index most = 257;
      std::vector<float> x(static_cast<std::size_t>(most * k)), w(static_cast<std::size_t>(n * k));
      for (auto* values : {&x, &w})
        for (float& v : *values) v = draw(random);
      const auto run = [&](Isa isa, Index rows) {
        Tensor<float, 2> y({rows, n});
        auto ctx = context(isa);
        matmul<float>(Rows<const float>(x.data(), {rows, k}), Rows<const float>(w.data(), {n, k}), y.view(), ctx,
                      nullptr, SumOrder::alike);
        return y;
      };
      for (const Isa isa : {Isa::portable, Isa::simd}) {
        const auto all = run(isa, most);
        for (const Index rows : {1, 2, 3, 4, 5, 7, 8, 9, 14, 15, 33, 64})
          ASSERT_EQ(std::memcmp(run(isa, rows).data(), all.data(), static_cast<std::size_t>(rows * n) * sizeof(float)),
                    0)
              << name(isa) << ", " << rows << " x " << n << " x " << k;
      }
    }
}

TEST(Matmul, FewRowsAreDotProductsOfEveryLength) {
  std::mt19937 random(4);
  for (Index m = 1; m <= kDotRows + 1; ++m)
    for (Index k = 0; k <= 67; ++k) {
      check<float>({m, 1 + (m + k) % 15, k}, kForms[k % 2 ? 0 : 5], Isa::simd, random);
      check<float>({m, 1 + (m + k) % 15, k}, kForms[3], Isa::simd, random);
      if (HasFatalFailure()) return;
    }
}

/// c [k, n] of one column or row may look transposed by its strides alone.
TEST(Matmul, MatricesOfOneRowOrColumnWithUnitStrides) {
  std::mt19937 random(5);
  for (const Form form : kForms)
    for (const Size size : {Size{1, 1, 1},
                            {1, 1, 20},
                            {1, 20, 1},
                            {20, 1, 1},
                            {20, 1, 20},
                            {1, 20, 20},
                            {20, 20, 1},
                            {1, 40, 40},
                            {40, 1, 40}}) {
      Case<float> one(size, form, random);
      one.a.memory = Guarded<float>(one.a.memory.rows, one.a.memory.cols, 0);
      one.b.memory = Guarded<float>(one.b.memory.rows, one.b.memory.cols, 0);
      one.a.memory.fill(random), one.b.memory.fill(random);
      auto ctx = context(Isa::simd);
      multiply<float>(one.product(), ctx);
      one.expect_close();
      if (HasFatalFailure()) return;
    }
}

TEST(Matmul, TheThreeProductsOfALinearLayer) {
  // x [2, 3], w [2, 3], dy [2, 2]; small whole numbers, so exact in every scalar.
  const auto run = [](auto scalar, Isa isa) {
    using T = decltype(scalar);
    const auto tensor = [](Shape<2> shape, std::vector<int> values) {
      Tensor<T, 2> t(shape);
      std::ranges::transform(values, t.flat().begin(), [](int v) { return T(static_cast<float>(v)); });
      return t;
    };
    const auto x = tensor({2, 3}, {1, 2, 3, 4, 5, 6}), w = tensor({2, 3}, {1, 0, -1, 2, 1, 0}),
               dy = tensor({2, 2}, {1, 2, 3, 4});
    auto y = tensor({2, 2}, {9, 9, 9, 9}), dx = tensor({2, 3}, {9, 9, 9, 9, 9, 9}),
         dw = tensor({2, 3}, {100, 100, 100, 100, 100, 100});
    const T bias[] = {T(10.0f), T(20.0f)};
    auto ctx = context(isa);
    matmul<T>(x, w, y, ctx, bias);
    matmul_grad_input<T>(dy, w, dx, ctx);
    add_matmul_grad_weight<T>(dy, x, dw, ctx);
    EXPECT_EQ(y, tensor({2, 2}, {10 - 2, 20 + 4, 10 - 2, 20 + 13}));
    EXPECT_EQ(dx, tensor({2, 3}, {5, 2, -1, 11, 4, -3}));
    EXPECT_EQ(dw, tensor({2, 3}, {113, 117, 121, 118, 124, 130}));
    multiply<T>(product_grad_input<T>(dy, w, dx, Store::add), ctx);
    EXPECT_EQ(dx, tensor({2, 3}, {10, 4, -2, 22, 8, -6}));

    const Index chosen[] = {1, 0};  // the rows of x the other way round
    const Operand<T> turned(x.view(), View<const Index, 1>(chosen, {2}));
    multiply<T>(product<T>(turned, w, y), ctx);
    EXPECT_EQ(y, tensor({2, 2}, {-2, 13, -2, 4}));
    std::ranges::fill(dw.flat(), T(0.0f));
    multiply<T>(product_grad_weight<T>(dy, turned, dw), ctx);
    EXPECT_EQ(dw, tensor({2, 3}, {7, 11, 15, 12, 18, 24}));
  };
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    run(float{}, isa);
    run(double{}, isa);
    run(Dual{}, isa);
  }
}

template <class T>
void expect_same_bits_for_any_threads() {
  std::mt19937 random(8);
  for (const Form form : kForms)
    for (const Size size : {Size{301, 70, 531}, {5, 400, 33}, {kTaskRows + 70, 33, 3}, {1, 1, 1}}) {
      const Case<T> start(size, form, random);
      const auto run = [&](ParallelFor parallel_for) {
        auto one = start;
        auto ctx = context(Isa::simd, std::move(parallel_for));
        multiply<T>(one.product(), ctx);
        EXPECT_TRUE(one.c.intact());
        std::vector<T> values;
        for (Index i = 0; i < size.m; ++i)
          for (Index j = 0; j < size.n; ++j) values.push_back(one.c.at(i, j));
        return values;
      };
      const auto serial = run(ParallelFor());
      for (const Index workers : {2, 3, 7})
        EXPECT_EQ(run(gatefold::test::threads(workers)), serial) << workers << " threads";
    }
}
TEST(Matmul, SameBitsForAnyNumberOfThreads) {
  expect_same_bits_for_any_threads<float>();
  expect_same_bits_for_any_threads<double>();
}

/// Uneven products, some with nothing in them. Each block is negated as soon as it is said to be complete: the result
/// is the negative product everywhere only if blocks cover c exactly once and are touched no more.
template <class T>
void check_lists(Isa isa) {
  std::mt19937 random(9);
  const Size kSizes[] = {{0, 0, 0}, {3, 40, 9}, {0, 5, 5},    {600, 33, 20},
                         {9, 0, 4}, {1, 1, 1},  {17, 300, 0}, {60, 129, 515}};
  for (const Index workers : {1, 2, 3, 7})
    for (std::size_t shift = 0; shift < std::size(kForms); shift += 2) {
      std::list<Case<T>> cases, alone;
      std::vector<Product<T>> products;
      std::size_t turn = shift;
      auto ctx = context(isa, workers == 1 ? ParallelFor() : gatefold::test::threads(workers)), serial = context(isa);
      for (const Size size : kSizes) {
        cases.emplace_back(size, kForms[turn++ % std::size(kForms)], random);
        alone.push_back(cases.back());
        products.push_back(cases.back().product());
        multiply<T>(alone.back().product(), serial);
      }
      std::atomic<Index> blocks = 0;
      multiply_all<T>(products, ctx, [&](const ProductBlock& block) {
        ++blocks;
        ASSERT_LT(block.product, products.size());
        const Rows<T> part = block_of(products[block.product].c, block);
        ASSERT_GT(part.size(), 0);
        for (Index i = 0; i < part.extent(0); ++i)
          for (Index j = 0; j < part.extent(1); ++j) part(i, j) = -part(i, j);
      });
      EXPECT_GE(blocks, 5);  // of the products that are not empty
      auto expected = alone.begin();
      for (const auto& one : cases) {
        ASSERT_TRUE(one.c.intact());
        for (Index i = 0; i < one.size.m; ++i)
          for (Index j = 0; j < one.size.n; ++j)
            ASSERT_EQ(one.c.at(i, j), -expected->c.at(i, j)) << one.size.m << " x " << one.size.n << ", " << workers;
        ++expected;
      }
    }
}
TEST(Matmul, AListIsTheSameProductsAndItsEpilogueSeesEachBlockOnce) {
  check_lists<float>(Isa::simd);
  check_lists<float>(Isa::portable);
  check_lists<double>(Isa::simd);
}

TEST(Matmul, AnEmptyListDoesNothing) {
  auto ctx = context(Isa::simd);
  multiply_all<float>({}, ctx, [](const ProductBlock&) { FAIL(); });
  multiply_all<double>({}, ctx, [](const ProductBlock&) { FAIL(); });
}

TEST(Matmul, NoAllocationAfterWarmUp) {
  std::mt19937 random(10);
  const auto check = [&](auto scalar) {
    using T = decltype(scalar);
    std::list<Case<T>> cases;
    std::vector<Product<T>> products;
    for (const Form form : kForms) products.push_back(cases.emplace_back(Size{70, 150, 600}, form, random).product());
    auto ctx = context(Isa::simd);
    multiply_all<T>(products, ctx, [](const ProductBlock&) {});
    const auto blocks = ctx.workspace.allocations();
    const gatefold::test::AllocGuard guard;
    multiply_all<T>(products, ctx, [](const ProductBlock&) {});
    for (const auto& product : products) multiply<T>(product, ctx);
    EXPECT_EQ(ctx.workspace.allocations(), blocks);
    if constexpr (std::is_same_v<T, float>) {
      EXPECT_EQ(guard.count(), 0);  // Eigen has a buffer of its own
    }
  };
  check(0.0f);
  check(0.0);
}

TEST(Matmul, EmptyProducts) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    auto ctx = context(isa);
    const Tensor<float, 2> x({3, 0}), w({2, 0});
    const float bias[] = {5, 6};
    Tensor<float, 2> y({3, 2});
    std::ranges::fill(y.flat(), kNan);
    matmul<float>(x, w, y, ctx);  // a sum of nothing
    EXPECT_THAT(y.flat(), testing::Each(0));
    matmul<float>(x, w, y, ctx, bias);
    EXPECT_THAT(y.flat(), testing::ElementsAre(5, 6, 5, 6, 5, 6));
    auto adding = product<float>(x.view(), w, y, bias);
    adding.store = Store::add;
    multiply<float>(adding, ctx);
    EXPECT_THAT(y.flat(), testing::ElementsAre(10, 12, 10, 12, 10, 12));

    const Tensor<float, 2> none({0, 4}), dy({0, 2});
    Tensor<float, 2> dw({2, 4});
    std::ranges::fill(dw.flat(), 3.0f);
    add_matmul_grad_weight<float>(dy, none, dw, ctx);
    EXPECT_THAT(dw.flat(), testing::Each(3));
    matmul<float>(none, dw, Rows<float>(nullptr, {0, 2}), ctx, bias);
  }
}

TEST(Matmul, NanAndInfinityStayInTheirRowAndColumn) {
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (const Index m : {Index{5}, kDotRows, Index{37}})
      for (const Lie lie : {Lie::rows, Lie::columns}) {
        // x [m, 5] is all 1, w [41, 5] too but for what follows.
        Tensor<float, 2> memory(lie == Lie::rows ? Shape<2>{m, 5} : Shape<2>{5, m}), w({41, 5}), y({m, 41});
        std::ranges::fill(memory.flat(), 1.0f);
        std::ranges::fill(w.flat(), 1.0f);
        const auto x = [&](Index i, Index k) -> float& {
          return lie == Lie::rows ? memory.view()(i, k) : memory.view()(k, i);
        };
        const Operand<float> plain(memory.view());
        x(m - 1, 4) = kNan, x(2, 0) = -kInf;
        w.view()(40, 1) = kNan, w.view()(3, 2) = kInf;
        auto ctx = context(isa);
        multiply<float>({.a = lie == Lie::rows ? plain : transpose(plain),
                         .b = transpose(Operand<float>(w.view())),
                         .c = y,
                         .store = Store::overwrite},
                        ctx);
        for (Index i = 0; i < m; ++i)
          for (Index j = 0; j < 41; ++j) {
            const float v = y.view()(i, j);
            if (i == m - 1 || j == 40 || (i == 2 && j == 3))
              EXPECT_TRUE(std::isnan(v)) << i << " " << j;  // the last is inf - inf
            else
              EXPECT_EQ(v, i == 2 ? -kInf : j == 3 ? kInf : 5) << i << " " << j;
          }
      }
}

TEST(Matmul, SubnormalsAreNotFlushed) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (const Index rows : {Index{3}, kDotRows + 1}) {
      Tensor<float, 2> x({rows, 2}), w({33, 2}), y({rows, 33});
      std::ranges::fill(x.flat(), tiny);
      std::ranges::fill(w.flat(), 3.0f);
      auto ctx = context(isa);
      matmul<float>(x, w, y, ctx);
      EXPECT_THAT(y.flat(), testing::Each(6 * tiny));
    }
}

}  // namespace
}  // namespace gatefold::kernels::matmul_test
