#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gatefold/products/panel.hpp"

/// What the tests of the packed formats share. A format gives `pack`, `unpack` and a bound of its error.
namespace gatefold::kernels::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInf = std::numeric_limits<float>::infinity();

struct Size {
  Index rows, columns, k;
};

/// Rows at odd addresses between NaN that nobody may read.
class GuardedRows {
 public:
  GuardedRows(Index rows, Index k) : k_(k), data_(std::size_t(3 + rows * (k + 5)), kNan) {
    for (Index i = 0; i < rows; ++i) pointers_.push_back(data_.data() + 3 + i * (k + 5));
  }
  GuardedRows(const GuardedRows&) = delete;
  float& at(Index i, Index k) { return data_[std::size_t(pointers_[std::size_t(i)] - data_.data() + k)]; }
  float at(Index i, Index k) const { return pointers_[std::size_t(i)][k]; }
  const float* const* pointers() const { return pointers_.data(); }
  Index rows() const { return static_cast<Index>(pointers_.size()); }
  void fill(std::mt19937& random) {
    std::normal_distribution<float> draw;
    for (Index i = 0; i < rows(); ++i)
      for (Index k = 0; k < k_; ++k) at(i, k) = draw(random);
  }

 private:
  Index k_;
  std::vector<float> data_;
  std::vector<const float*> pointers_;
};

inline std::vector<float> random_values(Index n, std::mt19937& random) {
  std::normal_distribution<float> draw;
  std::vector<float> v(static_cast<std::size_t>(n));
  for (float& x : v) x = draw(random);
  return v;
}

/// A packed matrix, panel after panel, and what it stands for.
template <class Format>
struct Weights {
  using View = PanelView<typename Format::Type>;
  Index n, k;
  typename Format::Storage storage;
  std::vector<double> value;  // [n, k] what the packed numbers mean

  Weights(const std::vector<float>& w, Index outputs, Index depth) : n(outputs), k(depth), storage(outputs, depth) {
    for (Index p = 0; p < num_panels(n); ++p) {
      const Index j0 = p * kPanel, count = std::min(kPanel, n - j0);
      storage.pack(p, Rows<const float>(w.data() + j0 * k, {count, k}));
      std::vector<float> back(static_cast<std::size_t>(count * k));
      unpack_panel(storage.panel(p), Rows<float>(back.data(), {count, k}));
      value.insert(value.end(), back.begin(), back.end());
    }
  }
  double at(Index j, Index i) const { return value[static_cast<std::size_t>(j * k + i)]; }
};

/// c, surrounded by a value that must survive.
struct Result {
  static constexpr float kGuard = 12345.0f;
  Index rows, columns, stride;
  std::vector<float> c;

  Result(Index r, Index n) : rows(r), columns(n), stride(n + 3), c(static_cast<std::size_t>(2 + r * stride), kGuard) {}
  float& at(Index i, Index j) { return c[static_cast<std::size_t>(2 + i * stride + j)]; }
  float at(Index i, Index j) const { return c[static_cast<std::size_t>(2 + i * stride + j)]; }
  bool row_equals(Index i, const Result& other, Index other_row) const {
    return columns == 0 || std::memcmp(&c[static_cast<std::size_t>(2 + i * stride)],
                                       &other.c[static_cast<std::size_t>(2 + other_row * other.stride)],
                                       static_cast<std::size_t>(columns) * sizeof(float)) == 0;
  }
  void expect_guard() const {
    for (std::size_t at = 0; at < c.size(); ++at) {
      const Index j = (static_cast<Index>(at) - 2) % stride;
      if (at < 2 || j >= columns) {
        ASSERT_EQ(c[at], kGuard) << "written beside the result, at " << at;
      }
    }
  }
};

struct Call {
  Store store = Store::overwrite;
  const float* bias = nullptr;
  Index k0 = 0, k1 = -1;  // all of k
};

/// x times the packed weights into `result`, panel by panel; `prepare` turns rows into what the format's kernels read.
template <class Format, class Prepare>
void multiply(const Weights<Format>& w, const float* const* x, Index rows, Isa isa, Prepare&& prepare, Call call,
              Result& result) {
  if (call.k1 < 0) call.k1 = w.k;
  std::vector<const float*> from;
  for (Index i = 0; i < rows; ++i) from.push_back(x[i] + call.k0);
  std::vector<std::byte> scratch;
  const auto a = prepare(from.data(), rows, call.k1 - call.k0, scratch);
  for (Index p = 0; p < num_panels(w.n); ++p) {
    const Index j0 = p * kPanel;
    const auto view = w.storage.panel(p).depth(call.k0, call.k1);
    multiply_panel(isa, a, view, result.c.data() + 2 + j0, result.stride, std::min(kPanel, w.n - j0), call.store,
                   call.bias ? call.bias + j0 : nullptr, p + 1 < num_panels(w.n) ? w.storage.next(p) : nullptr);
  }
}

/// 64-byte aligned memory of at least `bytes` inside `scratch`, filled with rubbish.
inline std::byte* aligned(std::vector<std::byte>& scratch, Index bytes) {
  scratch.assign(static_cast<std::size_t>(bytes + 64), std::byte{0xA5});
  const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
  return scratch.data() + (64 - address % 64) % 64;
}

/// Rows 0..40, columns 1..70, k 1..200, each through its whole range beside changing others, and a few big ones.
template <class Check>
void for_sizes(Check&& check) {
  for (Index rows = 0; rows <= 40; ++rows) check({rows, 1 + rows * 7 % 70, 1 + rows * 31 % 200});
  for (Index columns = 1; columns <= 70; ++columns) check({1 + columns % 17, columns, 1 + columns * 13 % 200});
  for (Index k = 0; k <= 200; ++k) check({1 + k % 5, 1 + k % 34, k});
  for (const Size s : {Size{33, 96, 768}, {64, 33, 1030}, {1, 64, 3072}, {100, 32, 64}}) check(s);
}

/// What every format promises, on each of some Isas. preparer(isa) says how rows are prepared, expect_close(weights,
/// rows, call, before, after) how near a product must be.
template <class Format, class Preparer, class ExpectClose>
struct PanelContract {
  using W = Weights<Format>;
  std::vector<Isa> isas;
  Preparer preparer;
  ExpectClose expect_close;

  void every_path_agrees_with_sums_in_double() const {
    std::mt19937 random(2);
    for_sizes([&](Size s) {
      const W w(random_values(s.columns * s.k, random), s.columns, s.k);
      GuardedRows x(s.rows, s.k);
      x.fill(random);
      const auto bias = random_values(s.columns, random), old = random_values(s.rows * s.columns, random);
      for (const Isa isa : isas)
        for (const Call call :
             {Call{}, Call{Store::add, bias.data()}, Call{Store::overwrite, bias.data()}, Call{Store::add}}) {
          SCOPED_TRACE(testing::Message() << name(isa) << ", " << s.rows << " x " << s.columns << " x " << s.k);
          Result c(s.rows, s.columns);
          for (Index i = 0; i < s.rows && call.store == Store::add; ++i)
            for (Index j = 0; j < s.columns; ++j) c.at(i, j) = old[static_cast<std::size_t>(i * s.columns + j)];
          const Result before = c;
          multiply(w, x.pointers(), s.rows, isa, preparer(isa), call, c);
          expect_close(w, x, call, before, c);
          c.expect_guard();
        }
    });
  }

  void parts_of_the_depth_add_up() const {
    std::mt19937 random(3);
    const Index n = 40, k = 300, rows = 19;
    const W w(random_values(n * k, random), n, k);
    GuardedRows x(rows, k);
    x.fill(random);
    for (const Isa isa : isas) {
      Result c(rows, n);
      for (const Call call : {Call{Store::overwrite, nullptr, 0, 64}, Call{Store::add, nullptr, 64, 192},
                              Call{Store::add, nullptr, 192, 300}}) {
        const Result before = c;
        multiply(w, x.pointers(), rows, isa, preparer(isa), call, c);
        expect_close(w, x, call, before, c);
      }
    }
  }

  void a_row_does_not_depend_on_its_neighbours() const {
    std::mt19937 random(4);
    const Index n = 40, k = 333, most = 67;
    const W w(random_values(n * k, random), n, k);
    GuardedRows x(most, k);
    x.fill(random);
    const auto bias = random_values(n, random);
    for (const Isa isa : isas) {
      Result all(most, n);
      multiply(w, x.pointers(), most, isa, preparer(isa), {Store::overwrite, bias.data()}, all);
      for (Index rows = 1; rows < most; ++rows) {
        const Index first = (most - rows) / 2;
        Result some(rows, n);
        multiply(w, x.pointers() + first, rows, isa, preparer(isa), {Store::overwrite, bias.data()}, some);
        for (Index i = 0; i < rows; ++i) ASSERT_TRUE(some.row_equals(i, all, first + i)) << name(isa) << rows;
      }
    }
  }

  /// One bad value at the end of a row leaves all other rows as they were; expect_spoiled(isa, bad, weights, column,
  /// value) is asked about each output of its own.
  template <class ExpectSpoiled>
  void not_a_number_stays_in_its_row(ExpectSpoiled&& expect_spoiled) const {
    std::mt19937 random(5);
    const Index n = 33, k = 70, rows = 18;
    const W w(random_values(n * k, random), n, k);
    for (const float bad : {kNan, kInf, -kInf})
      for (const Isa isa : isas)
        for (const Index row : {0, 3, 16}) {
          GuardedRows x(rows, k);
          x.fill(random);
          Result clean(rows, n), c(rows, n);
          multiply(w, x.pointers(), rows, isa, preparer(isa), {}, clean);
          x.at(row, k - 1) = bad;
          multiply(w, x.pointers(), rows, isa, preparer(isa), {}, c);
          for (Index i = 0; i < rows; ++i) {
            if (i != row) {
              ASSERT_TRUE(c.row_equals(i, clean, i)) << name(isa) << " row " << i;
            } else {
              for (Index j = 0; j < n; ++j) expect_spoiled(isa, bad, w, j, c.at(i, j));
            }
          }
        }
  }
  /// For formats that round activations by their largest magnitude: one bad value spoils the row.
  void not_a_number_fills_its_row_and_no_other() const {
    not_a_number_stays_in_its_row(
        [](Isa isa, float, const W&, Index, float c) { ASSERT_TRUE(std::isnan(c)) << name(isa); });
  }

  /// The same formats again.
  void zeros_and_denormals_give_zero_and_huge_rows_stay_finite() const {
    const Index n = 5, k = 9;
    const W w(std::vector<float>(static_cast<std::size_t>(n * k), 1.0f), n, k);
    GuardedRows x(4, k);
    constexpr float kValues[] = {0.0f, 0x1p-140f, -0x1p-140f, 0x1p+120f};
    for (Index i = 0; i < 4; ++i)
      for (Index at = 0; at < k; ++at) x.at(i, at) = kValues[i];
    for (const Isa isa : isas) {
      Result c(4, n);
      multiply(w, x.pointers(), 4, isa, preparer(isa), {}, c);
      for (Index j = 0; j < n; ++j) {
        for (Index i = 0; i < 3; ++i) EXPECT_EQ(c.at(i, j), 0.0f) << name(isa);
        EXPECT_NEAR(c.at(3, j), 9 * 0x1p+120, 9 * 0x1p+120 * 1e-6) << name(isa);
      }
    }
  }
};

}  // namespace gatefold::kernels::test
