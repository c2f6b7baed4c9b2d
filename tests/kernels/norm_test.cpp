#include "gatefold/kernels/norm.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels::norm_test {
namespace {

template <class T>
Tensor<T, 2> random_rows(Shape<2> shape, std::uint64_t seed, double mean = 0) {
  Rng rng(seed);
  Tensor<T, 2> t(shape);
  for (T& v : t.flat()) v = T(static_cast<double>(static_cast<float>(mean + rng.normal())));
  return t;
}
template <class T>
View<const T, 1> first_row(const Tensor<T, 2>& t) {
  return t.view()[0];
}

TEST(Norm, EveryWidthAgainstTheDefinition) {
  for (Index d = 1; d <= 50; ++d)
    for (const Isa isa : {Isa::simd, Isa::portable})
      for (const double mean : {0.0, 100.0}) {
        const auto x = random_rows<float>({3, d}, 1, mean), gain = random_rows<float>({1, d}, 2),
                   bias = random_rows<float>({1, d}, 3);
        Tensor<float, 2> y({3, d}), stats({3, 2});
        Context ctx;
        ctx.isa = isa;
        const double eps = 1e-3;
        layer_norm<float>(x, first_row(gain), first_row(bias), static_cast<float>(eps), y, stats, ctx);
        for (Index i = 0; i < 3; ++i) {
          double m = 0, var = 0, largest = 0;
          for (Index j = 0; j < d; ++j) m += x.view()(i, j);
          m /= static_cast<double>(d);
          for (Index j = 0; j < d; ++j) var += std::pow(x.view()(i, j) - m, 2);
          var /= static_cast<double>(d);
          for (Index j = 0; j < d; ++j) largest = std::max(largest, std::abs<double>(x.view()(i, j)));
          const double rstd = 1 / std::sqrt(var + static_cast<float>(eps)), unit = static_cast<double>(d + 8) * 0x1p-24;
          // The mean is off by up to unit * largest, which rstd makes unit * largest * rstd of the normalised value;
          // the squares of that shift and of the rounding of the deviations go into the variance.
          const double shift = unit * largest * rstd;
          EXPECT_NEAR(stats.view()(i, 0), m, unit * largest);
          EXPECT_NEAR(stats.view()(i, 1), rstd, rstd * (2 * unit + shift));
          for (Index j = 0; j < d; ++j) {
            const double xhat = (x.view()(i, j) - m) * rstd, g = first_row(gain)[j], b = first_row(bias)[j];
            ASSERT_NEAR(y.view()(i, j), xhat * g + b,
                        std::abs(g) * (std::abs(xhat) * (2 * unit + shift) + shift) + 4 * unit * (std::abs(b) + 1e-3))
                << d << " " << i << " " << j;
          }
        }
      }
}

TEST(Norm, RowsAreStandardised) {
  const auto x = random_rows<double>({5, 33}, 1, -20);
  Tensor<double, 2> ones({1, 33}), zeros({1, 33}), y({5, 33}), stats({5, 2});
  std::ranges::fill(ones.flat(), 1.0);
  Context ctx;
  layer_norm<double>(x, first_row(ones), first_row(zeros), 0.0, y, stats, ctx);
  for (Index i = 0; i < 5; ++i) {
    double sum = 0, squares = 0;
    for (Index j = 0; j < 33; ++j) sum += y.view()(i, j), squares += y.view()(i, j) * y.view()(i, j);
    EXPECT_NEAR(sum, 0, 1e-12);
    EXPECT_NEAR(squares, 33, 1e-12);
  }
}

TEST(Norm, ConstantAndHugeRowsStayFinite) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    Tensor<float, 2> x({2, 20}), y({2, 20}), stats({2, 2}), ones({1, 20}), zeros({1, 20});
    std::ranges::fill(ones.flat(), 1.0f);
    std::ranges::fill(x.view()[0].data() + 0, x.view()[0].data() + 20, 5.0f);
    for (Index j = 0; j < 20; ++j) x.view()(1, j) = j % 2 ? 1e15f : -1e15f;
    Context ctx;
    ctx.isa = isa;
    layer_norm<float>(x, first_row(ones), first_row(zeros), 1e-5f, y, stats, ctx);
    for (Index j = 0; j < 20; ++j) {
      EXPECT_EQ(y.view()(0, j), 0);
      EXPECT_NEAR(y.view()(1, j), j % 2 ? 1 : -1, 1e-6);
    }
  }
}

TEST(Norm, NanStaysInItsRow) {
  auto x = random_rows<float>({3, 20}, 1);
  x.view()(1, 7) = std::numeric_limits<float>::quiet_NaN();
  const auto gain = random_rows<float>({1, 20}, 2);
  Tensor<float, 2> y({3, 20}), stats({3, 2});
  Context ctx;
  layer_norm<float>(x, first_row(gain), first_row(gain), 1e-5f, y, stats, ctx);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 20; ++j) EXPECT_EQ(std::isnan(y.view()(i, j)), i == 1);
}

TEST(Norm, GradientsByDualNumbers) {
  const Shape<2> shape{3, 7};
  const auto x = random_rows<double>(shape, 1), gain = random_rows<double>({1, 7}, 2),
             bias = random_rows<double>({1, 7}, 3), dy = random_rows<double>(shape, 4);
  Tensor<double, 2> y(shape), stats({3, 2}), dx(dy), dgain({1, 7}), dbias({1, 7});
  Context ctx;
  layer_norm<double>(x, first_row(gain), first_row(bias), 0.1, y, stats, ctx);
  add_layer_norm_grad_params<double>(x, stats, dy, dgain.view()[0], dbias.view()[0], ctx);
  layer_norm_grad<double>(x, first_row(gain), stats, dx, dx, ctx);  // in place
  const auto lift = [](const Tensor<double, 2>& t) {
    Tensor<Dual, 2> lifted(t.shape());
    std::ranges::transform(t.flat(), lifted.flat().begin(), [](double v) { return Dual(v); });
    return lifted;
  };
  auto lifted_x = lift(x), lifted_gain = lift(gain), lifted_bias = lift(bias);
  Tensor<Dual, 2> out(shape), lifted_stats({3, 2});
  const auto derivative = [&](Dual& variable) {
    variable.d = 1;
    layer_norm<Dual>(lifted_x, first_row(lifted_gain), first_row(lifted_bias), Dual(0.1), out, lifted_stats, ctx);
    variable.d = 0;
    double sum = 0;
    for (std::size_t i = 0; i < dy.flat().size(); ++i) sum += dy.flat()[i] * out.flat()[i].d;
    return sum;
  };
  for (std::size_t i = 0; i < dx.flat().size(); ++i) EXPECT_NEAR(dx.flat()[i], derivative(lifted_x.flat()[i]), 1e-13);
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_NEAR(dgain.flat()[i], derivative(lifted_gain.flat()[i]), 1e-13);
    EXPECT_NEAR(dbias.flat()[i], derivative(lifted_bias.flat()[i]), 1e-13);
  }
}

TEST(Norm, SameBitsForAnyNumberOfThreads) {
  const auto x = random_rows<float>({900, 130}, 1), dy = random_rows<float>({900, 130}, 2),
             gain = random_rows<float>({1, 130}, 3);
  const auto run = [&](ParallelFor parallel_for) {
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    std::vector<Tensor<float, 2>> out{Tensor<float, 2>({900, 130}), Tensor<float, 2>({900, 2}),
                                      Tensor<float, 2>({900, 130}), Tensor<float, 2>({2, 130})};
    layer_norm<float>(x, first_row(gain), first_row(gain), 1e-5f, out[0], out[1], ctx);
    layer_norm_grad<float>(x, first_row(gain), out[1], dy, out[2], ctx);
    add_layer_norm_grad_params<float>(x, out[1], dy, out[3].view()[0], out[3].view()[1], ctx);
    return out;
  };
  const auto serial = run(ParallelFor());
  EXPECT_EQ(run(test::threads(2)), serial);
  EXPECT_EQ(run(test::threads(7)), serial);
}

}  // namespace
}  // namespace gatefold::kernels::norm_test
