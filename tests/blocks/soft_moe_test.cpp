#include "gatefold/blocks/soft_moe.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/nn/mlp.hpp"
#include "tests/blocks/exact_gradient.hpp"
#include "tests/support/threads.hpp"

namespace gatefold {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;
using testing::Property;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class T, std::size_t Rank>
std::vector<std::remove_const_t<T>> list(View<T, Rank> v) {
  return {v.data(), v.data() + v.size()};
}

/// y = factor x
struct Scaled {
  using Scalar = double;
  struct Saved {
    Rows<const double> x;
  };
  Tensor<double, 1> factor{{1}};
  static void visit(auto& v, auto&... self) { v("factor", self.factor...); }
  Saved forward(Rows<const double> x, Rows<double> y, Context&) const {
    for (Index i = 0; i < x.extent(0); ++i)
      for (Index d = 0; d < x.extent(1); ++d) y(i, d) = factor.data()[0] * x(i, d);
    return {x};
  }
  void backward(const Saved& saved, Rows<const double> dy, Rows<double> dx, Scaled& grad, Context&) const {
    for (Index i = 0; i < dy.extent(0); ++i)
      for (Index d = 0; d < dy.extent(1); ++d) {
        grad.factor.data()[0] += dy(i, d) * saved.x(i, d);
        dx(i, d) = factor.data()[0] * dy(i, d);
      }
  }
};

static_assert(Layer<SoftMoe<Scaled>> && Layer<SoftMoe<Mlp<float>>>);

TEST(SoftMoe, TwoSlotsThreeTokensByHand) {
  SoftMoe<Scaled> layer({.width = 2, .num_experts = 2}, Scaled{});
  std::ranges::copy(std::array{1., 1., 0., 1.}, layer.mu.data());
  layer.experts[0].factor.data()[0] = 2;
  layer.experts[1].factor.data()[0] = -1;
  Tensor<double, 2> x({3, 2}), y({3, 2});
  std::ranges::copy(std::array{1., 0., 0., 2., 3., 4.}, x.data());
  Context ctx;
  const auto saved = layer.forward(x, y, ctx);
  const auto near = [](auto... v) { return Pointwise(DoubleNear(1e-8), {v...}); };  // the oracle has eight places
  EXPECT_THAT(list(saved.cosine), near(.70710625, 0., .70710652, .99999938, .98994923, .79999958));
  EXPECT_THAT(list(saved.dispatch), near(.30058039, .16824197, .30058047, .45732880, .39883915, .37442923));
  EXPECT_THAT(list(saved.combine), near(.66976143, .33023857, .42729580, .57270420, .54734514, .45265486));
  EXPECT_THAT(list(saved.ys), near(2 * 1.49709783, 2 * 2.19651753, -1.29152966, -2.41237453));
  EXPECT_THAT(list(y.view()), near(1.57888387, 2.14562634, .53974275, .49554837, 1.05424127, 1.31253334));
}

const std::array<std::uint8_t, 10> kModality{0, kPadding, 0, 0, 1, kPadding, kPadding, 0, 0, kPadding};
const std::array<Index, 5> kOffset{0, 4, 5, 7, 10};  // the third sequence is nothing but padding
const TokenLayout kLayout{.offset = {kOffset.data(), {5}}, .modality = {kModality.data(), {10}}, .num_modalities = 2};

template <class T>
SoftMoe<Mlp<T>> soft_moe(Index slots_per_expert) {
  SoftMoe<Mlp<T>> layer({.width = 4, .num_experts = 3, .slots_per_expert = slots_per_expert},
                        Mlp<T>({.width = 4, .hidden = 5}));
  disturb_params(layer, 1);
  return layer;
}

TEST(SoftMoe, SequencesAreIndependentAndPaddingIsInvisible) {
  const auto layer = soft_moe<double>(2);
  auto x = random_tensor<double>(Shape<2>{10, 4}, 2);
  for (Index row = 0; row < 10; ++row)
    if (kModality[static_cast<std::size_t>(row)] == kPadding) std::fill_n(x.view()[row].data(), 4, kNan);
  Tensor<double, 2> y({10, 4});
  Context ctx;
  ctx.layout = &kLayout;
  (void)layer.forward(x, y, ctx);
  ctx.layout = nullptr;
  for (Index b = 0; b < 4; ++b) {
    std::vector<Index> rows;
    for (Index row = kOffset[static_cast<std::size_t>(b)]; row < kOffset[static_cast<std::size_t>(b) + 1]; ++row)
      if (kModality[static_cast<std::size_t>(row)] == kPadding)
        EXPECT_THAT(list(y.view()[row]), Each(0.0));
      else
        rows.push_back(row);
    Tensor<double, 2> alone({static_cast<Index>(rows.size()), 4}), alone_y(alone.shape());
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::copy_n(x.view()[rows[i]].data(), 4, alone.view()[static_cast<Index>(i)].data());
    (void)layer.forward(alone, alone_y, ctx);
    for (std::size_t i = 0; i < rows.size(); ++i)
      EXPECT_THAT(list(y.view()[rows[i]]), Pointwise(DoubleNear(1e-13), list(alone_y.view()[static_cast<Index>(i)])));
  }
}

TEST(SoftMoe, MixesAreConvex) {
  const auto layer = soft_moe<double>(2);
  const auto x = random_tensor<double>(Shape<2>{10, 4}, 3);
  Tensor<double, 2> y({10, 4});
  Context ctx;
  ctx.layout = &kLayout;
  const auto saved = layer.forward(x, y, ctx);
  for (Index row = 0; row < 10; ++row) {
    double sum = 0;
    for (Index n = 0; n < 6; ++n) sum += saved.combine(row, n);
    EXPECT_NEAR(sum, kModality[static_cast<std::size_t>(row)] == kPadding ? 0 : 1, 1e-15);
  }
  for (Index b = 0; b < 4; ++b)
    for (Index n = 0; n < 6; ++n) {
      double sum = 0;
      for (Index row = kOffset[static_cast<std::size_t>(b)]; row < kOffset[static_cast<std::size_t>(b) + 1]; ++row)
        sum += saved.dispatch(row, n);
      EXPECT_NEAR(sum, b == 2 ? 0 : 1, 1e-15);
    }
}

TEST(SoftMoe, ANanTokenStaysInItsSequence) {
  const auto layer = soft_moe<float>(1);
  auto x = random_tensor<float>(Shape<2>{10, 4}, 4);
  Tensor<float, 2> clean({10, 4}), y({10, 4});
  Context ctx;
  ctx.layout = &kLayout;
  (void)layer.forward(x, clean, ctx);
  x.view()(2, 1) = std::numeric_limits<float>::quiet_NaN();
  (void)layer.forward(x, y, ctx);
  for (Index row = 4; row < 10; ++row) EXPECT_EQ(list(y.view()[row]), list(clean.view()[row]));
  EXPECT_THAT(list(y.view()[2]), Each(testing::IsNan()));
}

TEST(SoftMoe, GradientIsExact) {
  const auto x = random_tensor<double>(Shape<2>{10, 4}, 5);
  for (const Index slots : {1, 2, 7}) {  // 7 * 3 columns are more than one strip
    const auto layer = soft_moe<double>(slots);
    auto lifted = soft_moe<Dual>(slots);
    expect_exact_gradient(layer, lifted, x);
    expect_exact_gradient(layer, lifted, x, {.layout = &kLayout});
  }
}

TEST(SoftMoe, GradientIsExactAtScaleZero) {
  auto layer = soft_moe<double>(1);
  layer.scale.data()[0] = 0;
  auto lifted = soft_moe<Dual>(1);
  expect_exact_gradient(layer, lifted, random_tensor<double>(Shape<2>{6, 4}, 6));
}

TEST(SoftMoe, ResultsDoNotDependOnThreadsAndMemorySettles) {
  SoftMoe<Mlp<float>> layer({.width = 24, .num_experts = 5, .slots_per_expert = 4},
                            Mlp<float>({.width = 24, .hidden = 40}));
  disturb_params(layer, 2);
  const auto x = random_tensor<float>(Shape<2>{700, 24}, 7);
  const std::array<Index, 4> offset{0, 100, 333, 700};
  std::vector<std::uint8_t> modality(700, 0);
  modality[50] = modality[699] = kPadding;
  const TokenLayout layout{.offset = {offset.data(), {4}}, .modality = {modality.data(), {700}}};
  std::vector<float> first;
  for (const Index workers : {1, 2, 7}) {
    Context ctx;
    ctx.parallel_for = test::threads(workers);
    ctx.layout = &layout;
    std::size_t blocks = 0;
    for (int pass = 0; pass < 3; ++pass) {
      const auto scope = ctx.workspace.scope();
      Tensor<float, 2> y({700, 24}), dx({700, 24});
      auto grad = zeros_like(layer);
      layer.backward(layer.forward(x, y, ctx), y, dx, grad, ctx);
      std::vector<float> all = list(y.view());
      all.insert(all.end(), dx.flat().begin(), dx.flat().end());
      for_each_param([&](std::string_view, const auto& g) { all.insert(all.end(), g.flat().begin(), g.flat().end()); },
                     std::as_const(grad));
      if (first.empty()) first = all;
      EXPECT_EQ(all, first) << workers << " threads, pass " << pass;
      if (pass == 0) blocks = ctx.workspace.allocations();
    }
    EXPECT_EQ(ctx.workspace.allocations(), blocks);
  }
}

TEST(SoftMoe, NoTokens) {
  const auto layer = soft_moe<double>(1);
  Tensor<double, 2> none({0, 4});
  auto grad = zeros_like(layer);
  Context ctx;
  layer.backward(layer.forward(none, none, ctx), none, none, grad, ctx);
  EXPECT_EQ(norm(grad), 0);
}

TEST(SoftMoe, NamesItsParametersAndRefusesWrongSizes) {
  SoftMoe<Scaled> layer({.width = 2, .num_experts = 2, .slots_per_expert = 3}, Scaled{});
  std::vector<std::string> paths;
  for_each_param([&](std::string_view path, const auto&) { paths.emplace_back(path); }, layer);
  EXPECT_THAT(paths, ElementsAre("mu", "scale", "experts.0.factor", "experts.1.factor"));
  EXPECT_EQ(layer.mu.shape(), (Shape<2>{6, 2}));
  EXPECT_EQ(layer.scale.data()[0], 1);

  EXPECT_THAT([] { SoftMoe<Scaled>({.width = 2, .num_experts = 0}, Scaled{}); },
              testing::Throws<OptionError>(Property(&OptionError::what, HasSubstr("expected at least 1"))));
  Context ctx;
  Tensor<double, 2> x({3, 5}), y({3, 2}), fits({3, 2});
  EXPECT_THAT([&] { (void)layer.forward(x, y, ctx); },
              testing::Throws<ShapeError>(
                  Property(&ShapeError::what, HasSubstr("SoftMoe::forward: x has shape [3, 5], expected [3, 2]"))));
  const std::array<Index, 2> offset{0, 2};
  const std::array<std::uint8_t, 3> modality{};
  const TokenLayout layout{.offset = {offset.data(), {2}}, .modality = {modality.data(), {3}}};
  ctx.layout = &layout;
  EXPECT_THAT(
      [&] { (void)layer.forward(fits, y, ctx); },
      testing::Throws<ShapeError>(Property(&ShapeError::what, HasSubstr("own the rows [0, 2), expected [0, 3)"))));
}

}  // namespace
}  // namespace gatefold
