#include "gatefold/products/panel_f32.hpp"

#include <gtest/gtest.h>

#include "tests/support/panel.hpp"

namespace gatefold::kernels::panel_f32_test {
namespace {

using namespace test;

struct F32Format {
  using Type = float;
  class Storage {
   public:
    Storage(Index n, Index k) : k_(k), w_(static_cast<std::size_t>(num_panels(n) * panel_values<float>(k)), kNan) {}
    void pack(Index p, Rows<const float> w) {
      pack_panel_f32(transpose(Operand<float>(w)), 0, k_, 0, w_.data() + p * panel_values<float>(k_));
    }
    PanelView<float> panel(Index p) const { return {w_.data() + p * panel_values<float>(k_), k_}; }
    const void* next(Index p) const { return panel(p + 1).w; }

   private:
    Index k_;
    std::vector<float> w_;
  };
};
using FloatWeights = Weights<F32Format>;

auto preparer(Isa isa) {
  return [isa](const float* const* x, Index rows, Index k, std::vector<std::byte>& scratch) {
    return prepare_rows<float>(isa, x, rows, k, aligned(scratch, prepared_bytes<float>(isa, rows, k)));
  };
}

/// Against sums in double, within the classic bound (k + 2) u (|x| |w| + |c| + |bias|).
void expect_close(const FloatWeights& w, const GuardedRows& x, Call call, const Result& before, const Result& after) {
  const Index k1 = call.k1 < 0 ? w.k : call.k1;
  for (Index i = 0; i < after.rows; ++i)
    for (Index j = 0; j < w.n; ++j) {
      double exact = 0, size = 0;
      const auto add = [&](double term) { exact += term, size += std::abs(term); };
      for (Index k = call.k0; k < k1; ++k) add(double(x.at(i, k)) * w.at(j, k));
      if (call.bias) add(double(call.bias[j]));
      if (call.store == Store::add) add(double(before.at(i, j)));
      ASSERT_NEAR(after.at(i, j), exact, double(k1 - call.k0 + 2) * 0x1p-24 * size * 1.01) << i << ", " << j;
    }
}

auto contract() {
  const auto prepare = [](Isa isa) { return preparer(isa); };
  const auto close = [](const auto&... arguments) { expect_close(arguments...); };
  return PanelContract<F32Format, decltype(prepare), decltype(close)>{std::vector<Isa>{Isa::portable, Isa::simd},
                                                                      prepare, close};
}

TEST(PanelF32, PacksEveryPartOfEveryOperandAndZerosBesideIt) {
  std::mt19937 random(1);
  const Index k = 37, n = 70;
  const auto values = random_values(k * n, random);
  std::vector<Index> index(static_cast<std::size_t>(k));
  for (Index& i : index) i = static_cast<Index>(random() % 37);
  const Operand<float> rows(Rows<const float>(values.data(), {k, n}));
  const Operand<float> columns = transpose(Operand<float>(Rows<const float>(values.data(), {n, k})));
  const Operand<float> gathered(Rows<const float>(values.data(), {k, n}), View<const Index, 1>(index.data(), {k}));
  for (const auto& b : {rows, columns, gathered})
    for (const Index j0 : {0, 32, 64})
      for (const Index k0 : {0, 1, 16})
        for (Index depth = 0; depth <= k - k0; ++depth) {
          std::vector<float> panel(static_cast<std::size_t>((depth + 1) * kPanel), kNan);
          pack_panel_f32(b, k0, depth, j0, panel.data());
          for (Index i = 0; i < depth; ++i)
            for (Index j = 0; j < kPanel; ++j)
              ASSERT_EQ(panel[static_cast<std::size_t>(i * kPanel + j)],
                        j0 + j < n ? b.row(k0 + i)[(j0 + j) * b.col_stride] : 0.0f)
                  << i << " " << j;
          for (Index j = 0; j < kPanel; ++j)
            ASSERT_TRUE(std::isnan(panel[static_cast<std::size_t>(depth * kPanel + j)])) << "written behind the panel";
        }
}

TEST(PanelF32, EveryPathAgreesWithSumsInDouble) { contract().every_path_agrees_with_sums_in_double(); }

TEST(PanelF32, PartsOfTheDepthAddUp) { contract().parts_of_the_depth_add_up(); }

TEST(PanelF32, ARowDoesNotDependOnItsNeighbours) { contract().a_row_does_not_depend_on_its_neighbours(); }

TEST(PanelF32, NotANumberFillsItsRowAndNoOther) {
  std::mt19937 random(5);
  const Index n = 33, k = 70, rows = 18;
  const FloatWeights w(random_values(n * k, random), n, k);
  for (const Isa isa : {Isa::portable, Isa::simd})
    for (const Index row : {0, 3, 16}) {
      GuardedRows x(rows, k);
      x.fill(random);
      Result clean(rows, n), c(rows, n);
      multiply(w, x.pointers(), rows, isa, preparer(isa), {}, clean);
      x.at(row, k - 1) = kNan;
      multiply(w, x.pointers(), rows, isa, preparer(isa), {}, c);
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < n; ++j)
          ASSERT_TRUE(i == row ? std::isnan(c.at(i, j)) : c.at(i, j) == clean.at(i, j)) << name(isa) << " row " << i;
    }
}

// Rows of whole pages are multiplied from copies, where there are many.
TEST(PanelF32, RowsOfWholePagesGiveTheSameTogetherAsAlone) {
  std::mt19937 random(6);
  const Index n = 33, k = 1024, rows = 20;
  const FloatWeights w(random_values(n * k, random), n, k);
  GuardedRows x(rows, k);
  x.fill(random);
  for (const Isa isa : {Isa::portable, Isa::simd}) {
    Result together(rows, n);
    multiply(w, x.pointers(), rows, isa, preparer(isa), {}, together);
    for (Index i = 0; i < rows; ++i) {
      Result alone(1, n);
      multiply(w, x.pointers() + i, 1, isa, preparer(isa), {}, alone);
      for (Index j = 0; j < n; ++j) ASSERT_EQ(together.at(i, j), alone.at(0, j)) << name(isa) << " row " << i;
    }
  }
}

TEST(PanelF32, DenormalsAreNotFlushed) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const FloatWeights w(std::vector<float>(35 * 2, 3.0f), 35, 2);
  GuardedRows x(9, 2);
  for (Index i = 0; i < 9; ++i) x.at(i, 0) = x.at(i, 1) = tiny;
  for (const Isa isa : {Isa::portable, Isa::simd}) {
    Result c(9, 35);
    multiply(w, x.pointers(), 9, isa, preparer(isa), {}, c);
    for (Index i = 0; i < 9; ++i)
      for (Index j = 0; j < 35; ++j) ASSERT_EQ(c.at(i, j), 6 * tiny);
  }
}

}  // namespace
}  // namespace gatefold::kernels::panel_f32_test
