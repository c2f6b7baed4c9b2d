#include "gatefold/products/panel_bf16.hpp"

#include <gtest/gtest.h>

#include "tests/support/panel.hpp"

namespace gatefold::kernels::panel_bf16_test {
namespace {

using namespace test;

struct Bf16Format {
  using Type = bf16;
  class Storage {
   public:
    Storage(Index n, Index k) : k_(k), w_(static_cast<std::size_t>(num_panels(n) * panel_values<bf16>(k))) {}
    void pack(Index p, Rows<const float> w) { pack_panel_bf16(w, w_.data() + p * panel_values<bf16>(k_)); }
    PanelView<bf16> panel(Index p) const { return {w_.data() + p * panel_values<bf16>(k_), k_}; }
    const void* next(Index p) const { return panel(p + 1).w; }

   private:
    Index k_;
    std::vector<bf16> w_;
  };
};
using Bf16Weights = Weights<Bf16Format>;

/// Every way for activations to meet the weights that this CPU can go, whether it is the fastest or not.
struct Way {
  Isa isa;
  Bf16Activations form;
};
std::vector<Way> ways() {
  std::vector<Way> all;
  for (const Isa isa : isas_here()) all.push_back({isa, bf16_activations(isa)});
#if defined(__x86_64__)
  if (std::ranges::count(isas_here(), Isa::avx512)) {
    all.push_back({Isa::avx512, Bf16Activations::padded});
    if (cpu().has(CpuFeatures{CpuFeature::avx512_bf16})) all.push_back({Isa::avx512, Bf16Activations::rounded});
  }
#endif
  return all;
}
bool rounds(Way way) { return way.form == Bf16Activations::rounded || way.form == Bf16Activations::tiles; }

auto preparer(Way way) {
  return [way](const float* const* x, Index rows, Index k, std::vector<std::byte>& scratch) {
    const Index bytes = detail::prepared_bytes_bf16(way.form, rows, k);
    if (way.form == bf16_activations(way.isa)) {
      EXPECT_EQ(prepared_bytes<bf16>(way.isa, rows, k), bytes);
    }
    return detail::prepare_bf16(way.form, x, rows, k, aligned(scratch, bytes));
  };
}

/// Against sums in double of the numbers that the kernel multiplies: (k + 3) roundings of at most 2^-23 each (the dot
/// instructions round to odd or flush in between), and denormals that count as zero.
void expect_close(const Bf16Weights& w, const GuardedRows& x, Way way, Call call, const Result& before,
                  const Result& after) {
  const Index k1 = call.k1 < 0 ? w.k : call.k1;
  for (Index i = 0; i < after.rows; ++i)
    for (Index j = 0; j < w.n; ++j) {
      double exact = 0, size = 0;
      for (Index k = call.k0; k < k1; ++k) {
        const float a = rounds(way) ? static_cast<float>(bf16(x.at(i, k))) : x.at(i, k);
        exact += double(a) * w.at(j, k);
        size += std::abs(double(a) * w.at(j, k));
      }
      if (call.bias) exact += double(call.bias[j]), size += std::abs(double(call.bias[j]));
      if (call.store == Store::add) exact += double(before.at(i, j)), size += std::abs(double(before.at(i, j)));
      const double bound = double(k1 - call.k0 + 3) * (size * 0x1p-23 + 0x1p-120);
      ASSERT_NEAR(after.at(i, j), exact, bound) << "row " << i << ", column " << j;
    }
}

TEST(PanelBf16, PacksWhatFitsExactly) {
  std::mt19937 random(1);
  for (const Index k : {0, 1, 2, 63, 64, 65, 200})
    for (const Index n : {1, 31, 32, 33, 70}) {
      const auto values = random_values(n * k, random);
      const Bf16Weights w(values, n, k);
      for (std::size_t i = 0; i < values.size(); ++i)
        ASSERT_NEAR(w.value[i], double(values[i]), std::abs(double(values[i])) * 0x1p-8);
    }
}

TEST(PanelBf16, PaddingIsZero) {
  std::vector<float> ones(5 * 3, 1.0f);
  std::vector<bf16> panel(static_cast<std::size_t>(panel_values<bf16>(3)), bf16(kNan));
  pack_panel_bf16(Rows<const float>(ones.data(), {5, 3}), panel.data());
  EXPECT_EQ(std::ranges::count(panel, bf16(1.0f)), 15);
  EXPECT_EQ(std::ranges::count(panel, bf16(0.0f)), 64 * 32 - 15);
  // The order that vdpbf16ps and AMX read: pair of k, output, k within the pair.
  EXPECT_EQ(panel[2 * 4 + 1], bf16(1.0f));
  EXPECT_EQ(panel[64 + 2 * 4], bf16(1.0f));
  EXPECT_EQ(panel[64 + 2 * 4 + 1], bf16(0.0f));
}

TEST(PanelBf16, EveryPathAgreesWithSumsInDouble) {
  std::mt19937 random(2);
  for_sizes([&](Size s) {
    const Bf16Weights w(random_values(s.columns * s.k, random), s.columns, s.k);
    GuardedRows x(s.rows, s.k);
    x.fill(random);
    const auto bias = random_values(s.columns, random), old = random_values(s.rows * s.columns, random);
    for (const Way way : ways())
      for (const Call call :
           {Call{}, Call{Store::add, bias.data()}, Call{Store::overwrite, bias.data()}, Call{Store::add}}) {
        SCOPED_TRACE(testing::Message() << name(way.isa) << " form " << int(way.form) << ", " << s.rows << " x "
                                        << s.columns << " x " << s.k);
        Result c(s.rows, s.columns);
        for (Index i = 0; i < s.rows && call.store == Store::add; ++i)
          for (Index j = 0; j < s.columns; ++j) c.at(i, j) = old[static_cast<std::size_t>(i * s.columns + j)];
        const Result before = c;
        multiply(w, x.pointers(), s.rows, way.isa, preparer(way), call, c);
        expect_close(w, x, way, call, before, c);
        c.expect_guard();
      }
  });
}

TEST(PanelBf16, PartsOfTheDepthAddUp) {
  std::mt19937 random(3);
  const Index n = 40, k = 300, rows = 19;
  const Bf16Weights w(random_values(n * k, random), n, k);
  GuardedRows x(rows, k);
  x.fill(random);
  for (const Way way : ways()) {
    Result c(rows, n);
    for (const Call call : {Call{Store::overwrite, nullptr, 0, 64}, Call{Store::add, nullptr, 64, 192},
                            Call{Store::add, nullptr, 192, 300}}) {
      const Result before = c;
      multiply(w, x.pointers(), rows, way.isa, preparer(way), call, c);
      expect_close(w, x, way, call, before, c);
    }
  }
}

TEST(PanelBf16, ARowDoesNotDependOnItsNeighbours) {
  std::mt19937 random(4);
  const Index n = 40, k = 333, most = 67;
  const Bf16Weights w(random_values(n * k, random), n, k);
  GuardedRows x(most, k);
  x.fill(random);
  for (const Way way : ways()) {
    Result all(most, n);
    multiply(w, x.pointers(), most, way.isa, preparer(way), {}, all);
    for (Index rows = 1; rows < most; ++rows) {
      const Index first = (most - rows) / 2;
      Result some(rows, n);
      multiply(w, x.pointers() + first, rows, way.isa, preparer(way), {}, some);
      for (Index i = 0; i < rows; ++i) ASSERT_TRUE(some.row_equals(i, all, first + i)) << name(way.isa) << rows;
    }
  }
}

TEST(PanelBf16, NotANumberStaysInItsRow) {
  std::mt19937 random(5);
  const Index n = 33, k = 70, rows = 18;
  const Bf16Weights w(random_values(n * k, random), n, k);
  for (const float bad : {kNan, kInf, -kInf})
    for (const Way way : ways())
      for (const Index row : {0, 3, 16}) {
        GuardedRows x(rows, k);
        x.fill(random);
        Result clean(rows, n), c(rows, n);
        multiply(w, x.pointers(), rows, way.isa, preparer(way), {}, clean);
        x.at(row, k - 1) = bad;
        multiply(w, x.pointers(), rows, way.isa, preparer(way), {}, c);
        for (Index i = 0; i < rows; ++i) {
          if (i != row) {
            ASSERT_TRUE(c.row_equals(i, clean, i)) << name(way.isa) << " row " << i;
            continue;
          }
          for (Index j = 0; j < n; ++j) {
            const double factor = w.at(j, k - 1);
            if (std::isnan(bad))
              ASSERT_TRUE(std::isnan(c.at(i, j))) << name(way.isa);
            else
              ASSERT_EQ(c.at(i, j), factor > 0 ? bad : -bad) << name(way.isa);
          }
        }
      }
}

TEST(PanelBf16, DenormalsAreZeroOrExact) {
  const Index n = 5, k = 9;
  const Bf16Weights w(std::vector<float>(static_cast<std::size_t>(n * k), 1.0f), n, k);
  GuardedRows x(3, k);
  for (Index i = 0; i < 3; ++i)
    for (Index at = 0; at < k; ++at) x.at(i, at) = 0x1p-140f;
  for (const Way way : ways()) {
    Result c(3, n);
    multiply(w, x.pointers(), 3, way.isa, preparer(way), {}, c);
    for (Index j = 0; j < n; ++j) EXPECT_TRUE(c.at(1, j) == 0 || c.at(1, j) == 9 * 0x1p-140f) << name(way.isa);
  }
}

}  // namespace
}  // namespace gatefold::kernels::panel_bf16_test
