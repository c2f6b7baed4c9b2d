#include "gatefold/kernels/dispatch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/threads.hpp"

namespace gatefold::kernels::dispatch_test {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;
using testing::FloatEq;
using testing::Pointwise;

View<const Index, 1> view(const std::vector<Index>& v) { return {v.data(), {static_cast<Index>(v.size())}}; }
template <class T>
View<const T, 1> view(const std::vector<T>& v) {
  return {v.data(), {static_cast<Index>(v.size())}};
}

/// Rows (v, v, v, v).
Tensor<float, 2> constant_rows(const std::vector<float>& values) {
  Tensor<float, 2> x({static_cast<Index>(values.size()), 4});
  for (std::size_t i = 0; i < values.size(); ++i) std::fill_n(&x.view()(static_cast<Index>(i), 0), 4, values[i]);
  return x;
}

struct Oracle {
  std::vector<Index> token, offset, slot;
  std::vector<float> weight, gathered;
};

TEST(Dispatch, T1OfVMoe) {
  // Slots by expert, in it by group: (expert, group, seat). Two experts of two seats, then four of one; E and G seats
  // in V-MoE's buffers agree with this order here.
  const Oracle two{.token = {1, 2, 3, 4, 0, 2, 5, 3},
                   .offset = {0, 1, 2, 4, 6, 7, 8},
                   .slot = {4, 0, 5, 1, 2, 7, 3, 6},
                   .weight = {.7f, .3f, .7f, .7f, .7f, .7f, .3f, .3f},
                   .gathered = {2, 3, 4, 5, 1, 3, 6, 4}};
  const Oracle four{.token = {1, 3, 0, 5, 2, 3, 2, 4},
                    .offset = {0, 1, 2, 4, 6, 7, 8},
                    .slot = {2, 0, 4, 6, 1, 5, 7, 3},
                    .weight = {.7f, .7f, .7f, .3f, .7f, .3f, .3f, .7f},
                    .gathered = {2, 4, 1, 6, 3, 4, 3, 5}};
  const auto x = constant_rows({1, 2, 3, 4, 5, 6});
  for (const auto& o : {two, four}) {
    Context ctx;
    Tensor<float, 2> xs({8, 4}), y({6, 4});
    gather_rows<float>(x, view(o.token), xs, ctx);
    EXPECT_EQ(xs, constant_rows(o.gathered));
    combine_rows<float>(xs, view(o.weight), {view(o.offset), view(o.slot)}, y, ctx);
    EXPECT_THAT(y.flat(), Pointwise(FloatEq(), constant_rows({.7f, 1.4f, 3.0f, 4.0f, 3.5f, 1.8f}).flat()));
  }
}

TEST(Dispatch, AnEmptyListGivesZeroWhateverTheOthersHold) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const auto from = constant_rows({kNan, 1});
  const std::vector<Index> offset{0, 0, 1, 2}, slot{0, 1};
  auto y = constant_rows({kNan, kNan, kNan});
  Context ctx;
  combine_rows<float>(from, view(std::vector<float>{0, 2}), {view(offset), view(slot)}, y, ctx);
  EXPECT_THAT(std::span(y.data(), 4), Each(0.0f));
  EXPECT_THAT(std::span(y.data() + 4, 4), Each(testing::IsNan()));
  EXPECT_THAT(std::span(y.data() + 8, 4), Each(2.0f));
}

// <combine(ys, w), dy> is linear in ys and in w, and gather is linear too: their backward passes are the adjoints.
TEST(Dispatch, BackwardIsTheAdjoint) {
  const std::vector<Index> token{2, 0, 2, 1, 0}, offset{0, 2, 3, 5, 5}, slot{1, 4, 3, 0, 2};
  const RowLists lists{view(offset), view(slot)};
  Rng rng(1);
  const auto random = [&](Index rows, Index width) {
    Tensor<double, 2> t({rows, width});
    for (double& v : t.flat()) v = rng.normal();
    return t;
  };
  const auto dot = [](const auto& a, const auto& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.flat().size(); ++i) sum += a.flat()[i] * b.flat()[i];
    return sum;
  };
  Context ctx;
  for (const Index width : {1, 3, 37}) {
    const auto ys = random(5, width), other = random(5, width), dy = random(4, width), x = random(4, width);
    Tensor<double, 1> weight({5}), dweight({5});
    for (double& w : weight.flat()) w = rng.normal();
    Tensor<double, 2> y({4, width}), y_other({4, width}), dys({5, width}), xs({5, width});
    combine_rows<double>(ys, weight, lists, y, ctx);
    combine_rows<double>(other, weight, lists, y_other, ctx);
    combine_rows_grad<double>(ys, weight, view(token), dy, dys, dweight, ctx);
    // 200 products of magnitude 1: rounding stays far below 1e-12.
    EXPECT_NEAR(dot(dys, ys), dot(dy, y), 1e-12);
    EXPECT_NEAR(dot(dys, other), dot(dy, y_other), 1e-12);
    EXPECT_NEAR(dot(dweight, weight), dot(dy, y), 1e-12);
    gather_rows<double>(x, view(token), xs, ctx);
    auto dx = dy;
    add_gather_rows_grad<double>(ys, lists, dx, ctx);
    EXPECT_NEAR(dot(dx, x) - dot(dy, x), dot(ys, xs), 1e-12) << "it adds";
  }
}

/// Lists of 0 to 11 rows, so that every number left over from fours comes up.
struct ManyLists {
  std::vector<Index> offset{0}, row;
  Index num_rows = 0;
  RowLists lists() const { return {view(offset), view(row)}; }
};
ManyLists many_lists(Rng& rng) {
  ManyLists l;
  for (Index s = 0; s < 40; ++s) {
    for (Index i = s % 12; i > 0; --i) l.row.push_back(l.num_rows++);
    l.offset.push_back(l.num_rows);
  }
  for (std::size_t i = l.row.size(); i > 1; --i)
    std::swap(l.row[i - 1], l.row[static_cast<std::size_t>(rng.below(static_cast<Index>(i)))]);
  return l;
}

TEST(Dispatch, SumsOfAnyLengthAgainstDoubleOnEveryPathAndThread) {
  Rng rng(2);
  const auto l = many_lists(rng);
  std::vector<Index> back(static_cast<std::size_t>(l.num_rows));  // the list of each row
  for (std::size_t s = 0; s + 1 < l.offset.size(); ++s)
    for (Index i = l.offset[s]; i < l.offset[s + 1]; ++i)
      back[static_cast<std::size_t>(l.row[static_cast<std::size_t>(i)])] = static_cast<Index>(s);
  for (const Index width : {1, 7, 16, 33, 100}) {
    Tensor<float, 2> from({l.num_rows, width}), dto({40, width});
    Tensor<float, 1> weight({l.num_rows});
    for (float& v : from.flat()) v = static_cast<float>(rng.normal());
    for (float& v : dto.flat()) v = static_cast<float>(rng.normal());
    for (float& v : weight.flat()) v = static_cast<float>(rng.normal());
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      std::vector<Tensor<float, 2>> first;
      for (const Index workers : {1, 2, 3, 7}) {
        Context ctx;
        ctx.isa = isa;
        ctx.parallel_for = test::threads(workers);
        Tensor<float, 2> to({40, width}), sum = dto, dfrom({l.num_rows, width}), dweight({1, l.num_rows});
        combine_rows<float>(from, weight, l.lists(), to, ctx);
        add_gather_rows_grad<float>(from, l.lists(), sum, ctx);
        combine_rows_grad<float>(from, weight, view(back), dto, dfrom, {dweight.data(), {l.num_rows}}, ctx);
        const std::vector<Tensor<float, 2>> got{to, sum, dfrom, dweight};
        if (first.empty()) first = got;
        ASSERT_EQ(got, first) << width << " " << workers;
      }
      for (Index s = 0; s < 40; ++s)
        for (Index d = 0; d < width; ++d) {
          double combined = 0, added = dto.view()(s, d), size = std::abs(added);
          for (Index i = l.offset[static_cast<std::size_t>(s)]; i < l.offset[static_cast<std::size_t>(s) + 1]; ++i) {
            const Index n = l.row[static_cast<std::size_t>(i)];
            const double x = from.view()(n, d), w = weight.view()[n];
            combined += x * w, added += x, size += std::abs(x) * (1 + std::abs(w));
          }
          // Up to 12 sums and products, each rounded at no more than the sum of the sizes.
          ASSERT_NEAR(first[0].view()(s, d), combined, 13 * size * 0x1p-24);
          ASSERT_NEAR(first[1].view()(s, d), added, 13 * size * 0x1p-24);
        }
      for (Index n = 0; n < l.num_rows; ++n) {
        const Index s = back[static_cast<std::size_t>(n)];
        double dot = 0, size = 0;
        for (Index d = 0; d < width; ++d) {
          ASSERT_EQ(first[2].view()(n, d), weight.view()[n] * dto.view()(s, d));
          const double product = static_cast<double>(from.view()(n, d)) * dto.view()(s, d);
          dot += product, size += std::abs(product);
        }
        ASSERT_NEAR(first[3].view()(0, n), dot, static_cast<double>(width + 1) * size * 0x1p-24);
      }
    }
  }
}

TEST(Dispatch, NothingToMove) {
  Context ctx;
  Tensor<float, 2> none({0, 4});
  auto y = constant_rows({5, 5});
  gather_rows<float>(y, {}, none, ctx);
  const std::vector<Index> offset{0, 0, 0};
  combine_rows<float>(none, {}, {view(offset), {}}, y, ctx);
  EXPECT_THAT(y.flat(), Each(0.0f));
}

}  // namespace
}  // namespace gatefold::kernels::dispatch_test
