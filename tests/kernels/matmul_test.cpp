#include "gatefold/kernels/matmul.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels {
namespace {

template <class T>
inline constexpr double kRoundoff = std::numeric_limits<T>::epsilon() / 2;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

#if GATEFOLD_HAS_SIMD
constexpr Index kTileRows = TileF32<simd::DefaultArch>::kMaxRows, kTileCols = TileF32<simd::DefaultArch>::kCols;
#else
constexpr Index kTileRows = 14, kTileCols = 32;
#endif

struct Size {
  Index m, n, k;
};
struct Form {
  bool transpose_a, transpose_b;
  Store store;
  bool bias;
};
constexpr Form kForms[] = {{false, true, Store::overwrite, true},  {false, false, Store::overwrite, false},
                           {true, false, Store::add, false},       {false, true, Store::add, false},
                           {true, true, Store::overwrite, true},   {true, true, Store::add, false},
                           {false, false, Store::overwrite, true}, {true, false, Store::overwrite, false}};

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
  void fill(std::mt19937& random) {
    std::uniform_real_distribution<float> draw(-1, 1);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) at(i, j) = T(draw(random));
  }
  bool intact() const {
    std::size_t numbers = 0;
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) numbers += !std::isnan(at(i, j));
    const auto all = static_cast<std::size_t>(std::ranges::count_if(data, [](T v) { return !std::isnan(v); }));
    return numbers == static_cast<std::size_t>(rows * cols) && all == numbers;
  }
};

/// c (+)= a b + bias against sums in a wider type, within the classic bound (k + 2) u (|a| |b| + |c| + |bias|).
template <class T>
void check(Size size, Form form, Isa isa, std::mt19937& random) {
  using Wide = std::conditional_t<std::is_same_v<T, float>, double, long double>;
  const auto [m, n, k] = size;
  const Index gap = static_cast<Index>(random() % 4);
  Guarded<T> a(form.transpose_a ? k : m, form.transpose_a ? m : k, gap),
      b(form.transpose_b ? n : k, form.transpose_b ? k : n, gap + 1), c(m, n, gap + 2), bias(1, n, 0);
  a.fill(random), b.fill(random), bias.fill(random);
  if (form.store == Store::add) c.fill(random);
  const auto before = c;
  Context ctx;
  ctx.parallel_for = ParallelFor();
  ctx.isa = isa;
  Operand<T> left(a.view()), right(b.view());
  if (form.transpose_a) left = transpose(left);
  if (form.transpose_b) right = transpose(right);
  multiply<T>(left, right, c.view(), form.store, ctx, form.bias ? bias.data.data() + 3 : nullptr);

  ASSERT_TRUE(c.intact()) << m << " " << n << " " << k;
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      Wide sum = form.store == Store::add ? Wide(before.at(i, j)) : Wide(0);
      if (form.bias) sum += Wide(bias.at(0, j));
      Wide size_of_terms = std::abs(sum);
      for (Index l = 0; l < k; ++l) {
        const Wide term =
            Wide(form.transpose_a ? a.at(l, i) : a.at(i, l)) * Wide(form.transpose_b ? b.at(j, l) : b.at(l, j));
        sum += term;
        size_of_terms += std::abs(term);
      }
      const Wide bound = static_cast<Wide>(k + 2) * static_cast<Wide>(kRoundoff<T>) * size_of_terms * Wide(1.01);
      ASSERT_LE(std::abs(Wide(c.at(i, j)) - sum), bound) << m << " x " << n << " x " << k << " at " << i << " " << j;
    }
}

TEST(Matmul, EverySizeAroundTheTileEdges) {
  std::mt19937 random(1);
  std::size_t turn = 0;
  for (Index m = 0; m <= 2 * kTileRows + 1; ++m)
    for (Index n = 0; n <= 2 * kTileCols + 1; ++n) {
      const Form form = kForms[turn++ % std::size(kForms)];
      check<float>({m, n, static_cast<Index>(random() % 9)}, form, Isa::simd, random);
      if (HasFatalFailure()) return;
    }
}

TEST(Matmul, EveryFormAtEveryDepth) {
  std::mt19937 random(2);
  for (const Form form : kForms) {
    for (Index k = 0; k <= 35; ++k)
      for (const Isa isa : {Isa::simd, Isa::portable}) {
        const Size size{kTileRows + 1, kTileCols + 3, k};
        check<float>(size, form, isa, random);
        check<double>(size, form, isa, random);
        if (HasFatalFailure()) return;
      }
    for (const Index k : {511, 512, 513, 1024, 1027})  // around the depth of one pass
      check<float>({3, kTileCols + 1, k}, form, Isa::simd, random);
    if (HasFatalFailure()) return;
  }
}

TEST(Matmul, ManyRows) {
  std::mt19937 random(3);
  for (const Index m : {63, 64, 65, 129, 64 * static_cast<int>(kTileRows) - 1, 64 * static_cast<int>(kTileRows) + 5})
    for (const Form form : kForms) {
      check<float>({m, 5, 3}, form, Isa::simd, random);
      check<double>({m, 5, 3}, form, Isa::simd, random);
    }
}

TEST(Matmul, SerialProductsStayWithinTheirScratch) {
  std::mt19937 random(4);
  for (const Index k : {0, 1, 7, 33, 513})
    for (const Index n : {1, 4, 31, 33, 65})
      for (const bool transposed : {false, true}) {
        const Index m = 15;
        Guarded<float> a(transposed ? k : m, transposed ? m : k, 1), b(n, k, 2), c(m, n, 3), expected(m, n, 3);
        a.fill(random), b.fill(random);
        Operand<float> left(a.view());
        if (transposed) left = transpose(left);
        const auto size = static_cast<std::size_t>(serial_scratch<float>(n, k));
        std::vector<float> scratch(size + 64, 77.0f);
        multiply_serial<float>(left, transpose(Operand<float>(b.view())), c.view(), Store::overwrite, Isa::simd,
                               scratch.data());
        EXPECT_TRUE(std::all_of(scratch.begin() + static_cast<std::ptrdiff_t>(size), scratch.end(),
                                [](float v) { return v == 77.0f; }));
        Context ctx;
        multiply<float>(left, transpose(Operand<float>(b.view())), expected.view(), Store::overwrite, ctx);
        ASSERT_TRUE(c.intact());
        for (Index i = 0; i < m; ++i)
          for (Index j = 0; j < n; ++j) ASSERT_EQ(c.at(i, j), expected.at(i, j));
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
    Tensor<T, 1> db({2});
    db.data()[0] = db.data()[1] = T(50.0f);
    const T bias[] = {T(10.0f), T(20.0f)};
    Context ctx;
    ctx.isa = isa;
    matmul<T>(x, w, y, ctx, bias);
    matmul_grad_input<T>(dy, w, dx, ctx);
    add_matmul_grad_weight<T>(dy, x, dw, ctx);
    add_column_sums<T>(dy, db, ctx);
    EXPECT_EQ(y, tensor({2, 2}, {10 - 2, 20 + 4, 10 - 2, 20 + 13}));
    EXPECT_EQ(dx, tensor({2, 3}, {5, 2, -1, 11, 4, -3}));
    EXPECT_EQ(dw, tensor({2, 3}, {113, 117, 121, 118, 124, 130}));
    EXPECT_EQ(db.data()[0], T(54.0f));
    EXPECT_EQ(db.data()[1], T(56.0f));
  };
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    run(float{}, isa);
    run(double{}, isa);
    run(Dual{}, isa);
  }
}

template <class T>
void expect_same_bits_for_any_threads() {
  std::mt19937 random(5);
  for (const Form form : kForms) {
    const Index m = 301, n = 70, k = 531;
    Guarded<T> a(form.transpose_a ? k : m, form.transpose_a ? m : k, 1),
        b(form.transpose_b ? n : k, form.transpose_b ? k : n, 0), start(m, n, 0), bias(1, n, 0);
    a.fill(random), b.fill(random), bias.fill(random), start.fill(random);
    Operand<T> left(a.view()), right(b.view());
    if (form.transpose_a) left = transpose(left);
    if (form.transpose_b) right = transpose(right);
    const auto run = [&](ParallelFor parallel_for) {
      auto c = start;
      Context ctx;
      ctx.parallel_for = std::move(parallel_for);
      multiply<T>(left, right, c.view(), form.store, ctx, form.bias ? bias.data.data() + 3 : nullptr);
      return std::vector<T>(c.data.begin() + 3, c.data.end());
    };
    const auto serial = run(ParallelFor());
    EXPECT_EQ(run(test::threads(2)), serial);
    EXPECT_EQ(run(test::threads(7)), serial);
  }
}
TEST(Matmul, SameBitsForAnyNumberOfThreads) {
  expect_same_bits_for_any_threads<float>();
  expect_same_bits_for_any_threads<double>();
}

TEST(Matmul, EmptyProducts) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    Context ctx;
    ctx.isa = isa;
    const Tensor<float, 2> x({3, 0}), w({2, 0});
    const float bias[] = {5, 6};
    Tensor<float, 2> y({3, 2});
    std::ranges::fill(y.flat(), kNan);
    matmul<float>(x, w, y, ctx);  // a sum of nothing
    EXPECT_THAT(y.flat(), testing::Each(0));
    matmul<float>(x, w, y, ctx, bias);
    EXPECT_THAT(y.flat(), testing::ElementsAre(5, 6, 5, 6, 5, 6));

    const Tensor<float, 2> none({0, 4}), dy({0, 2});
    Tensor<float, 2> dw({2, 4});
    std::ranges::fill(dw.flat(), 3.0f);
    add_matmul_grad_weight<float>(dy, none, dw, ctx);
    EXPECT_THAT(dw.flat(), testing::Each(3));
    matmul<float>(none, dw, Rows<float>(nullptr, {0, 2}), ctx, bias);
  }
}

TEST(Matmul, NanAndInfinityStayInTheirRowAndColumn) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    const auto ones = [](Index rows, Index columns) {
      Tensor<float, 2> t({rows, columns});
      std::ranges::fill(t.flat(), 1.0f);
      return t;
    };
    auto x = ones(37, 5), w = ones(41, 5);
    x.view()(30, 4) = kNan, x.view()(7, 0) = -kInf;
    w.view()(40, 1) = kNan, w.view()(3, 2) = kInf;
    Tensor<float, 2> y({37, 41});
    Context ctx;
    ctx.isa = isa;
    matmul<float>(x, w, y, ctx);
    for (Index i = 0; i < 37; ++i)
      for (Index j = 0; j < 41; ++j) {
        const float v = y.view()(i, j);
        if (i == 30 || j == 40 || (i == 7 && j == 3))
          EXPECT_TRUE(std::isnan(v)) << i << " " << j;  // the last is inf - inf
        else
          EXPECT_EQ(v, i == 7 ? -kInf : j == 3 ? kInf : 5) << i << " " << j;
      }
  }
}

TEST(Matmul, SubnormalsAreNotFlushed) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    Tensor<float, 2> x({9, 2}), w({33, 2}), y({9, 33});
    std::ranges::fill(x.flat(), tiny);
    std::ranges::fill(w.flat(), 3.0f);
    Context ctx;
    ctx.isa = isa;
    matmul<float>(x, w, y, ctx);
    EXPECT_THAT(y.flat(), testing::Each(6 * tiny));
  }
}

}  // namespace
}  // namespace gatefold::kernels
