#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "gatefold/module/grouped_expert.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/module/pack.hpp"
#include "tests/support/alloc_guard.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/mortal_layout.hpp"
#include "tests/support/threads.hpp"

/// What every layer promises, in one call:
///   check_layer([](auto type) { return Mlp<typename decltype(type)::type>({.width = 3, .hidden = 5}); },
///               {.in = 3, .out = 3, .paths = {"up.weight", "up.bias", "down.weight", "down.bias"}});
namespace gatefold::test {

/// A TokenLayout that owns its memory.
struct OwnedLayout {
  std::vector<Index> offset{0};
  std::vector<std::uint8_t> modality;

  TokenLayout view() const {
    return {.offset = {offset.data(), {std::ssize(offset)}},
            .modality = {modality.data(), {std::ssize(modality)}},
            .num_modalities = 2};
  }
  OwnedLayout repeated(Index times) const {
    OwnedLayout all;
    for (Index i = 0; i < times; ++i) {
      for (std::size_t b = 1; b < offset.size(); ++b) all.offset.push_back(offset[b] + i * offset.back());
      all.modality.insert(all.modality.end(), modality.begin(), modality.end());
    }
    return all;
  }
};

struct LayerCase {
  Index in, out, rows = 5;
  std::vector<std::string> paths;       // golden list of the parameters
  const OwnedLayout* layout = nullptr;  // of `rows` rows
  Index copies = 500;                   // of the rows, for the test of threads: more than one task of every kernel
};

template <class T>
using Matrix = Tensor<T, 2>;

/// for_each_param, but for what is frozen: a gradient has none of its own there.
template <class Fn, class First, class... Rest>
void for_each_trained(Fn&& fn, First& first, Rest&... rest) {
  for_each_param(
      [&](std::string_view path, auto& one, auto&... more) {
        if constexpr (!is_shared_tensor<std::remove_cvref_t<decltype(one)>>) fn(path, one, more...);
      },
      first, rest...);
}

/// N(0, 1), rounded to float so that every scalar starts from the same numbers.
template <class T>
Matrix<T> random_matrix(Shape<2> shape, std::uint64_t seed) {
  Rng rng(seed);
  Matrix<T> m(shape);
  for (T& v : m.flat()) v = T(static_cast<double>(static_cast<float>(rng.normal())));
  return m;
}

/// Moves every parameter by N(0, std^2), in float: neither zeros nor symmetry may hide a gradient.
template <Module M>
void disturb(M& module, std::uint64_t seed, double std = 0.5) {
  Rng rng(seed);
  for_each_trained(
      [&](std::string_view, auto& t) {
        using T = typename std::remove_cvref_t<decltype(t)>::Scalar;
        for (T& v : t.flat()) v = v + T(static_cast<double>(static_cast<float>(std * rng.normal())));
      },
      module);
}

template <class M>
struct Pass {
  using T = typename M::Scalar;
  Matrix<T> y, dx;
  M grad;
};

template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
  // Two results full of NaN are no proof of anything.
  return std::ranges::all_of(a, [](T v) { return std::isfinite(v); }) && a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}
template <class M>
void expect_same_bits(const Pass<M>& a, const Pass<M>& b) {
  using T = typename M::Scalar;
  EXPECT_TRUE(same_bits<T>(a.y.flat(), b.y.flat())) << "y differs";
  EXPECT_TRUE(same_bits<T>(a.dx.flat(), b.dx.flat())) << "dx differs";
  for_each_trained([](std::string_view path, const auto& s,
                      const auto& t) { EXPECT_TRUE(same_bits<T>(s.flat(), t.flat())) << path << " differs"; },
                   a.grad, b.grad);
}

/// |a - b| <= steps * epsilon * the largest of b: each element is a chain of sums and products over at most `steps`
/// terms, whose rounding errors are relative to the terms; the largest element tells of their size.
template <class A, class B>
void expect_near(std::span<const A> a, std::span<const B> b, double steps, std::string_view what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  double largest = 0;
  for (const B& v : b) largest = std::max(largest, std::abs(to_double(v)));
  const double tolerance = steps * 6e-8 * largest;
  for (std::size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(to_double(a[i]), to_double(b[i]), tolerance) << what << " " << i;
}
template <class M, class N>
void expect_near(const Pass<M>& a, const Pass<N>& b, double steps) {
  using T = typename M::Scalar;
  using U = typename N::Scalar;
  expect_near<T, U>(a.y.flat(), b.y.flat(), steps, "y");
  expect_near<T, U>(a.dx.flat(), b.dx.flat(), steps, "dx");
  for_each_trained(
      [&](std::string_view path, const auto& s, const auto& t) { expect_near<T, U>(s.flat(), t.flat(), steps, path); },
      a.grad, b.grad);
}

/// One forward and backward into buffers full of NaN, so that what is not overwritten shows.
template <class M, class Prepare>
Pass<M> run_pass(const M& layer, const Matrix<typename M::Scalar>& x, const Matrix<typename M::Scalar>& dy,
                 Context& ctx, Prepare&& prepare) {
  using T = typename M::Scalar;
  Pass<M> pass{Matrix<T>(dy.shape()), Matrix<T>(x.shape()), zeros_like(layer)};
  std::ranges::fill(pass.y.flat(), std::numeric_limits<T>::quiet_NaN());
  std::ranges::fill(pass.dx.flat(), std::numeric_limits<T>::quiet_NaN());
  prepare(pass);
  const auto scope = ctx.workspace.scope();
  const TokenLayout* const layout = ctx.layout;
  const auto saved = forward_under_mortal_layout(ctx, [&] { return layer.forward(x, pass.y, ctx); });
  layer.backward(saved, dy, pass.dx, pass.grad, ctx);
  ctx.layout = layout;
  return pass;
}
template <class M>
Pass<M> run_pass(const M& layer, const Matrix<typename M::Scalar>& x, const Matrix<typename M::Scalar>& dy,
                 Context& ctx) {
  return run_pass(layer, x, dy, ctx, [](auto&) {});
}

/// backward in double against the derivative that dual numbers carry through forward, every parameter and input. Both
/// are exact but for the rounding of double, which 1e-10 leaves far behind.
template <class M, class Lifted>
void check_gradients(const M& layer, Lifted& lifted, const Matrix<double>& x, const Matrix<double>& dy,
                     const TokenLayout* layout) {
  Context ctx;
  ctx.layout = layout;
  const auto pass = run_pass(layer, x, dy, ctx);
  convert(layer, lifted);
  Matrix<Dual> dual_x(x.shape()), dual_y(dy.shape());
  std::ranges::transform(x.flat(), dual_x.flat().begin(), [](double v) { return Dual(v); });
  const auto derivative = [&](Dual& variable) {
    const auto scope = ctx.workspace.scope();
    variable.d = 1;
    (void)lifted.forward(dual_x, dual_y, ctx);
    variable.d = 0;
    double sum = 0;
    for (std::size_t i = 0; i < dy.flat().size(); ++i) sum += dy.flat()[i] * dual_y.flat()[i].d;
    return sum;
  };
  const auto compare = [&](double got, Dual& variable, std::string_view what, std::size_t i) {
    const double wanted = derivative(variable);
    ASSERT_NEAR(got, wanted, 1e-10 * (1 + std::abs(wanted))) << "gradient of " << what << " " << i;
  };
  for_each_trained(
      [&](std::string_view path, const auto& g, auto& variables) {
        for (std::size_t i = 0; i < g.flat().size(); ++i) compare(g.flat()[i], variables.flat()[i], path, i);
      },
      pass.grad, lifted);
  for (std::size_t i = 0; i < x.flat().size(); ++i) compare(pass.dx.flat()[i], dual_x.flat()[i], "x", i);
}

template <class M>
void check_threads(const M& layer, const LayerCase& c) {
  using T = typename M::Scalar;
  const Index rows = c.rows * c.copies;
  const auto x = random_matrix<T>({rows, c.in}, 11), dy = random_matrix<T>({rows, c.out}, 12);
  const OwnedLayout many = c.layout ? c.layout->repeated(c.copies) : OwnedLayout{};
  const TokenLayout layout = many.view();
  const auto with = [&](ParallelFor parallel_for) {
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    if (c.layout) ctx.layout = &layout;
    return run_pass(layer, x, dy, ctx);
  };
  const auto serial = with(ParallelFor());
  for (const Index workers : {2, 7}) {
    SCOPED_TRACE(std::to_string(workers) + " threads");
    expect_same_bits(serial, with(threads(workers)));
  }
}

/// Rows within a wider matrix, for all four arguments, give the same bits and leave their neighbours alone.
template <class M>
void check_strides(const M& layer, const Matrix<float>& x, const Matrix<float>& dy, Context& ctx) {
  const auto expected = run_pass(layer, x, dy, ctx);
  const auto widen = [](const Matrix<float>& m, Index left, Index right) {
    Matrix<float> wide({m.extent(0), left + m.extent(1) + right});
    std::ranges::fill(wide.flat(), 1234.0f);
    for (Index i = 0; i < m.extent(0); ++i)
      for (Index j = 0; j < m.extent(1); ++j) wide.view()(i, left + j) = m.view()(i, j);
    return wide;
  };
  const auto middle = [](Matrix<float>& wide, Index left, Index width) {
    return wide.view().columns(left, left + width);
  };
  Matrix<float> wide_x = widen(x, 3, 2), wide_dy = widen(dy, 1, 4), wide_y = widen(expected.y, 5, 1),
                wide_dx = widen(expected.dx, 2, 3);
  const auto wanted_y = wide_y, wanted_dx = wide_dx;
  const Index in = x.extent(1), out = dy.extent(1);
  for (Index i = 0; i < x.extent(0); ++i) {
    std::fill_n(&wide_y.view()(i, 5), out, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(&wide_dx.view()(i, 2), in, std::numeric_limits<float>::quiet_NaN());
  }
  auto grad = zeros_like(layer);
  const auto scope = ctx.workspace.scope();
  const auto saved = layer.forward(middle(wide_x, 3, in), middle(wide_y, 5, out), ctx);
  layer.backward(saved, middle(wide_dy, 1, out), middle(wide_dx, 2, in), grad, ctx);
  expect_same_bits(Pass<M>{wanted_y, wanted_dx, expected.grad}, Pass<M>{wide_y, wide_dx, grad});
}

/// What the refusal says: place, what came, what was wanted.
template <class F>
void expect_refusal(F&& call, std::string_view what) {
  try {
    call();
    ADD_FAILURE() << what << " was not refused";
  } catch (const ShapeError& error) {
    EXPECT_THAT(error.what(), ::testing::MatchesRegex("[A-Za-z]+::(forward|backward): .+ \\[[0-9, ]+\\], expected .+"))
        << what;
  }
}

template <class M>
void check_refusals(const M& layer, const LayerCase& c, Context& ctx) {
  const Matrix<float> x({c.rows, c.in}), dy({c.rows, c.out}), narrow_dy({c.rows, c.out + 1}),
      long_dy({c.rows + 1, c.out}), wide_x({c.rows, c.in + 1});
  Matrix<float> y({c.rows, c.out}), dx({c.rows, c.in}), wide_y({c.rows, c.out + 1}), long_y({c.rows + 1, c.out}),
      wide_dx({c.rows, c.in + 1}), long_dx({c.rows + 1, c.in});
  auto grad = zeros_like(layer);
  const auto scope = ctx.workspace.scope();
  expect_refusal([&] { (void)layer.forward(wide_x, y, ctx); }, "forward: a wide x");
  expect_refusal([&] { (void)layer.forward(x, wide_y, ctx); }, "forward: a wide y");
  expect_refusal([&] { (void)layer.forward(x, long_y, ctx); }, "forward: a long y");
  const auto saved = layer.forward(x, y, ctx);
  expect_refusal([&] { layer.backward(saved, narrow_dy, dx, grad, ctx); }, "backward: a wide dy");
  expect_refusal([&] { layer.backward(saved, long_dy, dx, grad, ctx); }, "backward: a long dy");
  expect_refusal([&] { layer.backward(saved, dy, wide_dx, grad, ctx); }, "backward: a wide dx");
  expect_refusal([&] { layer.backward(saved, dy, long_dx, grad, ctx); }, "backward: a long dx");
}

template <class Make>
void check_layer(Make&& make, const LayerCase& c) {
  auto f = make(std::type_identity<float>{});
  auto d = make(std::type_identity<double>{});
  auto dual = make(std::type_identity<Dual>{});
  disturb(f, 1);
  convert(f, d);
  const auto x = random_matrix<float>({c.rows, c.in}, 2), dy = random_matrix<float>({c.rows, c.out}, 3);
  const auto x_double = random_matrix<double>({c.rows, c.in}, 2), dy_double = random_matrix<double>({c.rows, c.out}, 3);
  const TokenLayout layout = c.layout ? c.layout->view() : TokenLayout{};
  const auto context = [&](Isa isa) {
    Context ctx;
    ctx.parallel_for = ParallelFor();
    ctx.isa = isa;
    if (c.layout) ctx.layout = &layout;
    return ctx;
  };

  {
    SCOPED_TRACE("paths");
    std::vector<std::string> paths;
    for_each_param([&](std::string_view path, const auto&) { paths.emplace_back(path); }, f);
    EXPECT_THAT(paths, ::testing::ElementsAreArray(c.paths));
  }
  {
    SCOPED_TRACE("exact gradients");
    check_gradients(d, dual, x_double, dy_double, c.layout ? &layout : nullptr);
  }

  auto ctx = context(Isa::simd), portable = context(Isa::portable);
  const auto pass = run_pass(f, x, dy, ctx);
  // The longest chain: through every weight of the layer, each a sum over its width or over the rows.
  double steps = static_cast<double>(c.rows + c.in + c.out);
  for_each_trained([&](std::string_view, const auto& t) { steps += static_cast<double>(t.shape().back()); }, f);
  {
    SCOPED_TRACE("float against double");
    const auto exact = run_pass(d, x_double, dy_double, ctx);
    expect_near(pass, exact, steps);
    SCOPED_TRACE("portable");
    expect_near(run_pass(f, x, dy, portable), exact, steps);
  }
  {
    SCOPED_TRACE("simd against portable");
    expect_near(pass, run_pass(f, x, dy, portable), steps);
    expect_near(run_pass(d, x_double, dy_double, ctx), run_pass(d, x_double, dy_double, portable), 1e-6 * steps);
  }
  {
    SCOPED_TRACE("y and dx are overwritten, gradients added to");
    const auto again = run_pass(f, x, dy, ctx, [&](auto& p) {
      std::ranges::fill(p.y.flat(), 7.0f);
      std::ranges::fill(p.dx.flat(), 7.0f);
      p.grad = pass.grad;
    });
    EXPECT_TRUE(same_bits<float>(again.y.flat(), pass.y.flat()));
    EXPECT_TRUE(same_bits<float>(again.dx.flat(), pass.dx.flat()));
    auto twice = pass.grad;
    for_each_trained(
        [](std::string_view, auto& t) {
          for (auto& v : t.flat()) v *= 2;
        },
        twice);
    for_each_trained([&](std::string_view path, const auto& a,
                         const auto& b) { expect_near<float, float>(a.flat(), b.flat(), steps, path); },
                     again.grad, twice);
  }
  {
    SCOPED_TRACE("no allocation after warm-up");
    auto y = pass.y, dx = pass.dx;
    auto grad = pass.grad;
    const std::size_t blocks = ctx.workspace.allocations();
    const AllocGuard guard;
    {
      const auto scope = ctx.workspace.scope();
      const auto saved = f.forward(x, y, ctx);
      f.backward(saved, dy, dx, grad, ctx);
    }
    EXPECT_EQ(guard.count(), 0);
    EXPECT_EQ(ctx.workspace.allocations(), blocks);
  }
  {
    SCOPED_TRACE("threads");
    check_threads(f, c);
    check_threads(d, c);
  }
  {
    SCOPED_TRACE("strided rows");
    check_strides(f, x, dy, ctx);
  }
  {
    SCOPED_TRACE("refusals");
    check_refusals(f, c, ctx);
  }
  {
    SCOPED_TRACE("no rows");
    const OwnedLayout none;
    const TokenLayout empty = none.view();
    auto here = context(Isa::simd);
    if (c.layout) here.layout = &empty;
    const auto nothing = run_pass(f, Matrix<float>({0, c.in}), Matrix<float>({0, c.out}), here);
    for_each_trained([](std::string_view path, const auto& t) { EXPECT_THAT(t.flat(), ::testing::Each(0.0f)) << path; },
                     nothing.grad);
  }
}

/// A layer over packed weights, which has no way back.
struct PackedCase {
  Index in, out, rows = 37;
  double products = 1;                  // of packed weights on the way from x to y
  const OwnedLayout* layout = nullptr;  // of `rows` rows
};

/// How far off y may be, as a share of its Euclidean norm, for each product on the way: about what rounding weights and
/// activations of a normal distribution costs (int8: steps of 1/127 of the largest value, some 3 deviations; int4:
/// 16 steps over 64 values), doubled.
template <class F>
constexpr double kPackedError = std::same_as<F, float>  ? 1e-5
                                : std::same_as<F, bf16> ? 0x1p-7
                                : std::same_as<F, int8> ? 0.03
                                                        : 0.25;

template <class F, class L>
void check_packed_as(const L& layer, const PackedCase& c) {
  const auto packed = pack<F>(layer);
  const auto x = random_matrix<float>({c.rows, c.in}, 5);
  const TokenLayout layout = c.layout ? c.layout->view() : TokenLayout{};
  const auto run = [&](const auto& any, Rows<const float> from, Rows<float> y, Isa isa, ParallelFor parallel_for) {
    Context ctx;
    ctx.isa = isa;
    ctx.parallel_for = std::move(parallel_for);
    if (c.layout) ctx.layout = &layout;
    infer(any, from, y, ctx);
  };
  Matrix<float> dense({c.rows, c.out}), y(dense.shape());
  for (const Isa isa : isas_here()) {
    SCOPED_TRACE(std::string(name(isa)));
    run(layer, x, dense, isa, ParallelFor());
    std::ranges::fill(y.flat(), std::numeric_limits<float>::quiet_NaN());
    run(packed, x, y, isa, ParallelFor());
    double error = 0, size = 0;
    for (std::size_t i = 0; i < y.flat().size(); ++i) {
      error += std::pow(double(y.flat()[i]) - double(dense.flat()[i]), 2);
      size += std::pow(double(dense.flat()[i]), 2);
    }
    EXPECT_LE(std::sqrt(error / size), kPackedError<F> * c.products);
    if (!std::same_as<F, float>) {
      EXPECT_GT(error, 0) << "as if nothing had been packed";
    }

    for (const Index workers : {2, 3, 7}) {
      Matrix<float> other(y.shape());
      run(packed, x, other, isa, threads(workers));
      EXPECT_TRUE(same_bits<float>(y.flat(), other.flat())) << workers << " threads";
    }

    Matrix<float> wide_x({c.rows, c.in + 5}), wide_y({c.rows, c.out + 4});
    std::ranges::fill(wide_x.flat(), std::numeric_limits<float>::quiet_NaN());
    std::ranges::fill(wide_y.flat(), 1234.0f);
    for (Index i = 0; i < c.rows; ++i) std::copy_n(&x.view()(i, 0), c.in, &wide_x.view()(i, 3));
    run(packed, std::as_const(wide_x).view().columns(3, 3 + c.in), wide_y.view().columns(1, 1 + c.out), isa,
        ParallelFor());
    for (Index i = 0; i < c.rows; ++i)
      for (Index j = 0; j < c.out + 4; ++j)
        ASSERT_EQ(wide_y.view()(i, j), j < 1 || j > c.out ? 1234.0f : y.view()(i, j - 1)) << "strided rows";

    Context ctx;
    ctx.isa = isa;
    ctx.parallel_for = ParallelFor();
    if (c.layout) ctx.layout = &layout;
    infer(packed, x, y, ctx);
    const auto blocks = ctx.workspace.allocations();
    const AllocGuard guard;
    infer(packed, x, y, ctx);
    EXPECT_EQ(guard.count(), 0);
    EXPECT_EQ(ctx.workspace.allocations(), blocks);
  }

  Context ctx;
  const OwnedLayout none;
  const TokenLayout empty = none.view();
  if (c.layout) ctx.layout = &empty;
  Matrix<float> nothing({0, c.in}), gone({0, c.out});
  infer(packed, nothing, gone, ctx);
  Matrix<float> wide_x({c.rows, c.in + 1}), long_y({c.rows + 1, c.out});
  if (c.layout) ctx.layout = &layout;
  expect_refusal([&] { infer(packed, wide_x, y, ctx); }, "forward: a wide x");
  expect_refusal([&] { infer(packed, x, long_y, ctx); }, "forward: a long y");
}

/// What every layer of packed weights promises, in each format: about the same results as unpacked, the same bits
/// for any threads and strides, no allocation.
template <class L>
void check_packed(const L& layer, const PackedCase& c) {
  const auto as = [&]<class F>(std::type_identity<F>, const char* format) {
    SCOPED_TRACE(format);
    check_packed_as<F>(layer, c);
  };
  as(std::type_identity<float>{}, "float");
  as(std::type_identity<bf16>{}, "bf16");
  as(std::type_identity<int8>{}, "int8");
  as(std::type_identity<int4>{}, "int4");
}

/// What an expert promises that runs all experts in one go (GroupedLayer): the same as one call for each on the rows
/// gathered for it; nothing for an expert without rows; the same bits for any threads.
/// `make(type, e)` makes expert e, `make(type)` any.
struct GroupedCase {
  Index width;
  std::vector<Index> counts;  // rows of each expert
  Index tokens = 0;           // that slots draw from; 0: slot n reads row n
};

template <class E>
struct GroupedPass {
  using T = typename E::Scalar;
  Matrix<T> ys, dxs;
  std::vector<E> grads;
};

template <class T, class Make>
auto make_expert(Make&& make, std::size_t e) {
  if constexpr (std::is_invocable_v<Make&, std::type_identity<T>, std::size_t>)
    return make(std::type_identity<T>{}, e);
  else
    return make(std::type_identity<T>{});
}

template <class E>
struct GroupedRun {
  using T = typename E::Scalar;
  std::vector<E> experts, grads;  // grads: what is added to
  Matrix<T> x, dys;
  std::vector<Index> offset{0}, token;

  template <class Make>
  GroupedRun(Make&& make, const GroupedCase& c) {
    for (const Index n : c.counts) {
      offset.push_back(offset.back() + n);
      experts.push_back(make_expert<T>(make, experts.size()));
      disturb(experts.back(), experts.size());
      grads.push_back(make_expert<T>(make, grads.size()));
      disturb(grads.back(), experts.size() + 100);
    }
    x = random_matrix<T>({c.tokens ? c.tokens : offset.back(), c.width}, 21);
    dys = random_matrix<T>({offset.back(), c.width}, 22);
    Rng rng(23);
    for (Index n = 0; n < offset.back() && c.tokens; ++n) token.push_back(rng.below(c.tokens));
  }
  SlotRows slots() const {
    SlotRows rows{{offset.data(), {std::ssize(offset)}}, {}};
    if (!token.empty()) rows.token = {token.data(), {std::ssize(token)}};
    return rows;
  }
  Index row(Index slot) const { return token.empty() ? slot : token[static_cast<std::size_t>(slot)]; }
  GroupedPass<E> unset() const {
    GroupedPass<E> pass{Matrix<T>(dys.shape()), Matrix<T>(dys.shape()), grads};
    std::ranges::fill(pass.ys.flat(), std::numeric_limits<T>::quiet_NaN());
    std::ranges::fill(pass.dxs.flat(), std::numeric_limits<T>::quiet_NaN());
    return pass;
  }
  void run(GroupedPass<E>& pass, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const auto saved = E::forward_grouped(experts, x, slots(), pass.ys, ctx);
    E::backward_grouped(experts, saved, dys, pass.dxs, pass.grads, ctx);
  }
  void run_one_by_one(GroupedPass<E>& pass, Context& ctx) const {
    for (std::size_t e = 0; e < experts.size(); ++e) {
      const Index begin = offset[e], end = offset[e + 1];
      if (begin == end) continue;
      Matrix<T> xs({end - begin, x.extent(1)});
      for (Index n = begin; n < end; ++n) std::copy_n(&x.view()(row(n), 0), x.extent(1), &xs.view()(n - begin, 0));
      const auto scope = ctx.workspace.scope();
      const auto saved = experts[e].forward(xs, pass.ys.view().rows(begin, end), ctx);
      experts[e].backward(saved, dys.view().rows(begin, end), pass.dxs.view().rows(begin, end), pass.grads[e], ctx);
    }
  }
};

/// fn(what, elements of one, elements of the other)
template <class E, class Fn>
void for_each_result(const GroupedPass<E>& a, const GroupedPass<E>& b, Fn&& fn) {
  using T = typename E::Scalar;
  fn("ys", std::span<const T>(a.ys.flat()), std::span<const T>(b.ys.flat()));
  fn("dxs", std::span<const T>(a.dxs.flat()), std::span<const T>(b.dxs.flat()));
  for (std::size_t e = 0; e < a.grads.size(); ++e)
    for_each_trained([&](std::string_view path, const auto& s,
                         const auto& t) { fn(std::to_string(e) + "." + std::string(path), s.flat(), t.flat()); },
                     a.grads[e], b.grads[e]);
}

template <class Make>
void check_grouped(Make&& make, const GroupedCase& c) {
  using E = decltype(make_expert<float>(make, 0));
  using D = decltype(make_expert<double>(make, 0));
  using Lifted = decltype(make_expert<Dual>(make, 0));
  const auto context = [](Isa isa, ParallelFor parallel_for) {
    Context ctx;
    ctx.isa = isa;
    ctx.parallel_for = std::move(parallel_for);
    return ctx;
  };
  const auto expect_equal = [](const auto& what, auto a, auto b) {
    EXPECT_TRUE((same_bits<typename decltype(a)::value_type>(a, b))) << what;
  };
  const GroupedRun<E> f(make, c);
  const GroupedRun<D> d(make, c);
  for (const Isa isa : {Isa::portable, Isa::simd}) {
    SCOPED_TRACE(std::string(name(isa)));
    auto ctx = context(isa, ParallelFor());
    auto grouped = f.unset(), single = f.unset();
    f.run(grouped, ctx), f.run_one_by_one(single, ctx);
    for_each_result(grouped, single, expect_equal);
    const auto blocks = ctx.workspace.allocations();
    {
      auto again = f.unset();
      const AllocGuard guard;
      f.run(again, ctx);
      EXPECT_EQ(guard.count(), 0);
      EXPECT_EQ(ctx.workspace.allocations(), blocks);
    }
    for (std::size_t e = 0; e < c.counts.size(); ++e)
      if (c.counts[e] == 0)
        for_each_trained([&](std::string_view path, const auto& got,
                             const auto& before) { EXPECT_EQ(got, before) << path << " of an idle expert"; },
                         grouped.grads[e], f.grads[e]);

    // In double, Eigen's sums may be in another order.
    auto grouped_double = d.unset(), single_double = d.unset();
    d.run(grouped_double, ctx), d.run_one_by_one(single_double, ctx);
    for_each_result(grouped_double, single_double, [](const auto& what, auto a, auto b) {
      double largest = 0;
      for (const double v : b) largest = std::max(largest, std::abs(v));
      for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-13 * largest) << what << " " << i;
    });
    for (const Index workers : {2, 3, 7}) {
      auto parallel = context(isa, threads(workers));
      auto other = f.unset();
      f.run(other, parallel);
      for_each_result(other, grouped, expect_equal);
      auto other_double = d.unset();
      d.run(other_double, parallel);
      for_each_result(other_double, grouped_double, expect_equal);
    }
  }

  // The derivative that dual numbers carry through forward_grouped, of some of many variables.
  GroupedRun<Lifted> lifted(make, c);
  for (std::size_t e = 0; e < d.experts.size(); ++e) convert(d.experts[e], lifted.experts[e]);
  auto ctx = context(Isa::simd, ParallelFor());
  auto pass = d.unset();
  d.run(pass, ctx);
  Matrix<Dual> ys(lifted.dys.shape());
  const auto derivative = [&](Dual& variable) {
    const auto scope = ctx.workspace.scope();
    variable.d = 1;
    (void)Lifted::forward_grouped(lifted.experts, lifted.x, lifted.slots(), ys, ctx);
    variable.d = 0;
    double sum = 0;
    for (std::size_t i = 0; i < ys.flat().size(); ++i) sum += d.dys.flat()[i] * ys.flat()[i].d;
    return sum;
  };
  const auto expect = [](double got, double wanted, const std::string& what) {
    ASSERT_NEAR(got, wanted, 1e-10 * (1 + std::abs(wanted))) << what;
  };
  for (std::size_t e = 0; e < d.experts.size(); ++e)
    for_each_trained(
        [&](std::string_view path, const auto& got, const auto& before, auto& variables) {
          for (std::size_t i = 0; i < got.flat().size(); i += 1 + got.flat().size() / 5)
            expect(got.flat()[i] - before.flat()[i], derivative(variables.flat()[i]), std::string(path));
        },
        pass.grads[e], d.grads[e], lifted.experts[e]);
  for (std::size_t i = 0; i < d.x.flat().size(); i += 1 + d.x.flat().size() / 20) {
    const Index token = static_cast<Index>(i) / c.width, column = static_cast<Index>(i) % c.width;
    double got = 0;  // of all slots that read the token
    for (Index n = 0; n < d.offset.back(); ++n)
      if (d.row(n) == token) got += pass.dxs.view()(n, column);
    expect(got, derivative(lifted.x.flat()[i]), "x");
  }
}

}  // namespace gatefold::test
