#include "gatefold/losses/distillation.hpp"

#include "tests/support/layer_contract.hpp"

namespace gatefold::distillation_test {
namespace {

constexpr double kScale = 7;

template <class T>
struct Sides {
  Tensor<T, 2> a, b;
};
template <class T>
Sides<T> sides(std::uint64_t seed, Index rows = 4, Index columns = 5) {
  return {test::random_matrix<T>({rows, 3}, seed), test::random_matrix<T>({columns, 3}, seed + 1)};
}

template <class T>
struct Result {
  T loss{};
  Sides<T> d;
};
template <class T>
Result<T> similar(const Sides<T>& z, const Sides<T>& teacher, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  Result<T> r{.d = {Tensor<T, 2>(z.a.shape()), Tensor<T, 2>(z.b.shape())}};
  const auto saved = SimilarityDistillation::forward<T>(z.a, z.b, teacher.a, teacher.b, kScale, ctx);
  SimilarityDistillation::backward<T>(saved, T(1.0), r.d.a, r.d.b, ctx);
  r.loss = saved.loss;
  return r;
}
template <class T>
Result<T> embedded(const Sides<T>& z, const Sides<T>& teacher, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  Result<T> r{.d = {Tensor<T, 2>(z.a.shape()), Tensor<T, 2>(z.b.shape())}};
  const auto a = EmbeddingDistillation::forward<T>(z.a, teacher.a, ctx);
  const auto b = EmbeddingDistillation::forward<T>(z.b, teacher.b, ctx);
  EmbeddingDistillation::backward<T>(a, T(1.0), r.d.a, ctx);
  EmbeddingDistillation::backward<T>(b, T(1.0), r.d.b, ctx);
  r.loss = a.loss + b.loss;
  return r;
}

template <class Run>
void expect_exact_gradient(Run&& run) {
  Context ctx;
  const auto z = sides<double>(1), teacher = sides<double>(3);
  const auto exact = run(z, teacher, ctx);
  auto dual = sides<Dual>(1);
  const auto dual_teacher = sides<Dual>(3);
  const auto check = [&](Tensor<Dual, 2>& of, const Tensor<double, 2>& got) {
    for (std::size_t i = 0; i < got.flat().size(); ++i) {
      of.flat()[i].d = 1;
      EXPECT_NEAR(got.flat()[i], run(dual, dual_teacher, ctx).loss.d, 1e-12) << i;
      of.flat()[i].d = 0;
    }
  };
  check(dual.a, exact.d.a);
  check(dual.b, exact.d.b);
}

TEST(Distillation, GradientsAreExact) {
  expect_exact_gradient([](const auto& z, const auto& t, Context& ctx) { return similar(z, t, ctx); });
  expect_exact_gradient([](const auto& z, const auto& t, Context& ctx) { return embedded(z, t, ctx); });
}

TEST(SimilarityDistillation, IsTheDivergenceOfTheDefinition) {
  Context ctx;
  const auto z = sides<double>(1), teacher = sides<double>(3);
  const auto softmax = [&](const Sides<double>& s, bool rows) {  // [5] of each row, or [4] of each column
    std::vector<std::vector<double>> p;
    for (Index i = 0; i < (rows ? 4 : 5); ++i) {
      p.emplace_back();
      double sum = 0;
      for (Index j = 0; j < (rows ? 5 : 4); ++j) {
        const auto u = s.a.view()[rows ? i : j], v = s.b.view()[rows ? j : i];
        double dot = 0, uu = 0, vv = 0;
        for (Index k = 0; k < 3; ++k) dot += u[k] * v[k], uu += u[k] * u[k], vv += v[k] * v[k];
        p.back().push_back(std::exp(kScale * dot / std::sqrt(uu * vv)));
        sum += p.back().back();
      }
      for (double& v : p.back()) v /= sum;
    }
    return p;
  };
  double wanted = 0;
  for (const bool rows : {true, false}) {
    const auto p = softmax(teacher, rows), q = softmax(z, rows);
    for (std::size_t i = 0; i < p.size(); ++i)
      for (std::size_t j = 0; j < p[i].size(); ++j)
        wanted += p[i][j] * std::log(p[i][j] / q[i][j]) / (2 * static_cast<double>(p.size()));
  }
  EXPECT_NEAR(similar(z, teacher, ctx).loss, wanted, 1e-6 * wanted);  // lengths have 1e-8 added
}

TEST(Distillation, IsZeroForTheTeacherItselfAndForAnyLength) {
  Context ctx;
  const auto teacher = sides<double>(3);
  auto longer = teacher;
  for (double& v : longer.a.flat()) v *= 3;
  for (const auto& r : {similar(longer, teacher, ctx), embedded(longer, teacher, ctx)}) {
    EXPECT_NEAR(r.loss, 0, 1e-7);
    for (const double d : r.d.a.flat()) EXPECT_NEAR(d, 0, 1e-7);
  }
  auto zero = teacher;
  std::fill_n(zero.a.data(), 3, 0.0);
  const auto r = embedded(zero, teacher, ctx);
  EXPECT_NEAR(r.loss, 0.25, 1e-12);  // one of four rows
  for (Index k = 0; k < 3; ++k) EXPECT_EQ(r.d.a.view()(0, k), 0);
}

TEST(Distillation, TheSameBitsForAnyThreads) {
  const auto z = sides<float>(1, 90, 130), teacher = sides<float>(3, 90, 130);
  Context serial;
  serial.parallel_for = ParallelFor();
  const auto wanted = similar(z, teacher, serial), wanted_each = embedded(z, teacher, serial);
  for (const Index workers : {2, 7}) {
    Context ctx;
    ctx.parallel_for = test::threads(workers);
    const auto got = similar(z, teacher, ctx), each = embedded(z, teacher, ctx);
    EXPECT_EQ(got.loss, wanted.loss);
    EXPECT_EQ(each.loss, wanted_each.loss);
    EXPECT_TRUE(test::same_bits<float>(got.d.a.flat(), wanted.d.a.flat()));
    EXPECT_TRUE(test::same_bits<float>(got.d.b.flat(), wanted.d.b.flat()));
    EXPECT_TRUE(test::same_bits<float>(each.d.a.flat(), wanted_each.d.a.flat()));
  }
}

TEST(Distillation, SaysWhatDoesNotFit) {
  Context ctx;
  const auto z = sides<float>(1), other = sides<float>(3, 5, 5);
  EXPECT_THROW((void)similar(z, other, ctx), ShapeError);
  EXPECT_THROW((void)embedded(z, other, ctx), ShapeError);
  EXPECT_THROW((void)SimilarityDistillation::forward<float>(z.a, z.b, z.a, z.b, 0, ctx), OptionError);
}

}  // namespace
}  // namespace gatefold::distillation_test
