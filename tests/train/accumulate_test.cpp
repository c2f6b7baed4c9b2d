#include "gatefold/train/accumulate.hpp"

#include <gtest/gtest.h>

#include "gatefold/module/ops.hpp"
#include "tests/support/dual.hpp"

namespace gatefold {
namespace {

constexpr Index kBatch = 7, kIn = 4, kOut = 3;  // B, features of an example, P

/// Two towers: e = tanh(a w_a), tanh(b w_b), side by side in a row [2 P].
template <class T>
struct Towers {
  using Scalar = T;
  Tensor<T, 2> image{{kOut, kIn}}, text{{kOut, kIn}};
  static void visit(auto& v, auto&... self) {
    v("image", self.image...);
    v("text", self.text...);
  }

  Tensor<T, 2> encode(Rows<const double> x) const {  // [r, 2 in] -> [r, 2 P]
    using std::tanh;
    Tensor<T, 2> e({x.extent(0), 2 * kOut});
    for (Index r = 0; r < x.extent(0); ++r)
      for (Index p = 0; p < 2 * kOut; ++p) {
        const bool is_text = p >= kOut;
        const auto w = (is_text ? text : image).view()[p % kOut];
        T sum{};
        for (Index d = 0; d < kIn; ++d) sum += w[d] * T(x(r, d + (is_text ? kIn : 0)));
        e.view()(r, p) = tanh(sum);
      }
    return e;
  }
};

/// The softmax loss of image r against all texts; generic, so that dual numbers can differentiate it.
template <class T>
T contrastive(Rows<const T> e) {
  using std::exp;
  using std::log;
  T loss{};
  for (Index r = 0; r < e.extent(0); ++r) {
    T sum{}, own{};
    for (Index s = 0; s < e.extent(0); ++s) {
      T dot{};
      for (Index p = 0; p < kOut; ++p) dot += e(r, p) * e(s, kOut + p);
      sum += exp(dot);
      if (r == s) own = dot;
    }
    loss += log(sum) - own;
  }
  return loss;
}

/// d loss / d e by one dual pass for each coordinate.
double loss_and_gradient(Rows<const double> e, Rows<double> de) {
  Tensor<Dual, 2> dual(e.shape());
  for (Index r = 0; r < e.extent(0); ++r)
    for (Index p = 0; p < e.extent(1); ++p) dual.view()(r, p) = Dual(e(r, p));
  for (Index r = 0; r < e.extent(0); ++r)
    for (Index p = 0; p < e.extent(1); ++p) {
      dual.view()(r, p).d = 1;
      de(r, p) = contrastive<Dual>(dual).d;
      dual.view()(r, p).d = 0;
    }
  return contrastive(e);
}

void add_gradient(const Towers<double>& model, Rows<const double> x, Rows<const double> de, Towers<double>& grad) {
  const auto e = model.encode(x);
  for (Index r = 0; r < x.extent(0); ++r)
    for (Index p = 0; p < 2 * kOut; ++p) {
      const bool is_text = p >= kOut;
      const double slope = 1 - e.view()(r, p) * e.view()(r, p);
      for (Index d = 0; d < kIn; ++d)
        (is_text ? grad.text : grad.image).view()(p % kOut, d) += de(r, p) * slope * x(r, d + (is_text ? kIn : 0));
    }
}

struct Fixture {
  Towers<double> model;
  Tensor<double, 2> x{{kBatch, 2 * kIn}};
  Fixture() {
    Rng rng(5);
    for (auto* t : {&model.image, &model.text, &x})
      for (auto& v : t->flat()) v = rng.normal();
  }
};

using Range = std::pair<Index, Index>;

TEST(AccumulateContrastive, EqualsTheExactGradientOfTheWholeBatch) {
  const Fixture f;
  Context ctx;
  for (const std::vector<Range>& chunks : {std::vector<Range>{{0, 7}},
                                           {{0, 3}, {3, 6}, {6, 7}},
                                           {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}, {6, 7}}}) {
    auto grad = zeros_like(f.model);
    const double loss = accumulate_contrastive<double>(
        chunks, [&](const Range& c) { return f.model.encode(f.x.view().rows(c.first, c.second)); }, loss_and_gradient,
        [&](const Range& c, Rows<const double> de) {
          EXPECT_EQ(de.extent(0), c.second - c.first);
          add_gradient(f.model, f.x.view().rows(c.first, c.second), de, grad);
        },
        ctx);
    // The oracle differentiates the one-shot program, parameter by parameter.
    Towers<Dual> dual;
    convert(f.model, dual);
    EXPECT_NEAR(loss, contrastive<Dual>(dual.encode(f.x)).v, 1e-12);
    for_each_param(
        [&](std::string_view path, auto& w, const auto& g) {
          for (std::size_t i = 0; i < w.flat().size(); ++i) {
            w.flat()[i].d = 1;
            EXPECT_NEAR(g.flat()[i], contrastive<Dual>(dual.encode(f.x)).d, 1e-12) << path;
            w.flat()[i].d = 0;
          }
        },
        dual, grad);
  }
}

TEST(AccumulateContrastive, RepeatsTheNoiseAndGivesScratchBack) {
  Rng rng(3);
  Context ctx;
  ctx.rng = &rng;
  std::vector<double> first, second;
  const std::vector<int> chunks{0, 1, 2};
  const void* base = ctx.workspace.take<double>(1).data();
  std::vector<const void*> scratch;
  accumulate_contrastive<double>(
      chunks,
      [&](int) {
        first.push_back(ctx.rng->normal());
        auto e = ctx.workspace.take<double>(2, 1);
        scratch.push_back(e.data());
        std::fill_n(e.data(), 2, 1.0);
        return e;  // a view into the workspace is as good as a tensor
      },
      [](Rows<const double> e, Rows<double>) {
        for (Index i = 0; i < 6; ++i) EXPECT_EQ(e(i, 0), 1);
        return e.extent(0);
      },
      [&](int, Rows<const double>) { second.push_back(ctx.rng->normal()); }, ctx);
  EXPECT_EQ(first, second);
  EXPECT_NE(first[0], first[1]);
  EXPECT_NE(base, scratch[0]);
  EXPECT_EQ(scratch[0], scratch[2]);
  Rng once(3);
  for (int i = 0; i < 3; ++i) once.normal();
  EXPECT_EQ(rng.state(), once.state());  // as if there had been one pass
}

TEST(AccumulateContrastive, ChunksOfDifferentWidthAreRefused) {
  Context ctx;
  const std::vector<Index> widths{3, 4};
  EXPECT_THROW(accumulate_contrastive<float>(
                   widths,
                   [](Index p) {
                     return Tensor<float, 2>({2, p});
                   },
                   [](Rows<const float>, Rows<float>) { return 0.0; }, [](Index, Rows<const float>) {}, ctx),
               ShapeError);
}

}  // namespace
}  // namespace gatefold
