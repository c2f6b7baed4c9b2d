#include "gatefold/nn/attention.hpp"

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

using Mask = Attention<double>::Mask;
using test::OwnedLayout;
using test::random_matrix;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Sequences of 3, 1, 0, 4 and 2 rows with padding within, at the end, and one of nothing but padding.
const OwnedLayout kRagged{.offset = {0, 3, 4, 4, 8, 10},
                          .modality = {0, kPadding, 1, 0, 1, 0, 1, kPadding, kPadding, kPadding}};
const OwnedLayout kPlain{.offset = {0, 3, 4, 8}, .modality = {0, 0, 0, 1, 1, 1, 0, 0}};

const std::vector<std::string> kPaths{"qkv.weight", "qkv.bias", "out.weight", "out.bias"};

template <Mask kMask>
constexpr auto kMake = [](auto type) {
  using L = Attention<typename decltype(type)::type>;
  return L({.width = 4, .num_heads = 2, .mask = static_cast<typename L::Mask>(kMask)});
};

TEST(Attention, KeepsTheContractOfALayer) {
  test::check_layer(kMake<Mask::none>,
                    {.in = 4, .out = 4, .rows = 10, .paths = kPaths, .layout = &kRagged, .copies = 200});
  test::check_layer(kMake<Mask::causal>,
                    {.in = 4, .out = 4, .rows = 8, .paths = kPaths, .layout = &kPlain, .copies = 200});
  test::check_layer(kMake<Mask::none>, {.in = 4, .out = 4, .rows = 5, .paths = kPaths, .copies = 40});  // no layout
}

struct Case {
  Index width, heads;
  Mask mask;
};

/// Straight from the definition, one query at a time, padding left out rather than masked.
Tensor<double, 2> definition(const Attention<double>& layer, const Case& c, const Tensor<double, 2>& x,
                             const OwnedLayout& layout) {
  const Index d = c.width / c.heads;
  const auto project = [&](Index row, Index column) {
    double sum = layer.qkv.bias.flat()[static_cast<std::size_t>(column)];
    for (Index i = 0; i < c.width; ++i) sum += layer.qkv.weight.view()(column, i) * x.view()(row, i);
    return sum;
  };
  Tensor<double, 2> y(x.shape());
  for (std::size_t b = 0; b + 1 < layout.offset.size(); ++b)
    for (Index row = layout.offset[b]; row < layout.offset[b + 1]; ++row) {
      std::vector<double> attended(static_cast<std::size_t>(c.width));
      if (layout.modality[static_cast<std::size_t>(row)] != kPadding)
        for (Index h = 0; h < c.heads; ++h) {
          double total = 0;
          std::vector<double> mixed(static_cast<std::size_t>(d));
          for (Index other = layout.offset[b]; other < layout.offset[b + 1]; ++other) {
            if (layout.modality[static_cast<std::size_t>(other)] == kPadding) continue;
            if (c.mask == Mask::causal && other > row) continue;
            double score = 0;
            for (Index i = 0; i < d; ++i) score += project(row, h * d + i) * project(other, c.width + h * d + i);
            const double weight = std::exp(score / std::sqrt(static_cast<double>(d)));
            total += weight;
            for (Index i = 0; i < d; ++i)
              mixed[static_cast<std::size_t>(i)] += weight * project(other, 2 * c.width + h * d + i);
          }
          for (Index i = 0; i < d; ++i)
            attended[static_cast<std::size_t>(h * d + i)] = mixed[static_cast<std::size_t>(i)] / total;
        }
      for (Index j = 0; j < c.width; ++j) {
        double sum = layer.out.bias.flat()[static_cast<std::size_t>(j)];
        for (Index i = 0; i < c.width; ++i)
          sum += layer.out.weight.view()(j, i) * attended[static_cast<std::size_t>(i)];
        y.view()(row, j) = sum;
      }
    }
  return y;
}

TEST(Attention, AgainstTheDefinition) {
  for (const Case c :
       {Case{4, 1, Mask::none}, Case{6, 3, Mask::none}, Case{6, 2, Mask::causal}, Case{5, 5, Mask::causal}}) {
    Attention<double> layer({.width = c.width, .num_heads = c.heads, .mask = c.mask});
    Attention<float> single(
        {.width = c.width, .num_heads = c.heads, .mask = static_cast<Attention<float>::Mask>(c.mask)});
    test::disturb(layer, 3);
    convert(layer, single);
    const auto x = random_matrix<double>({10, c.width}, 4);
    const auto x_single = random_matrix<float>({10, c.width}, 4);
    const auto wanted = definition(layer, c, x, kRagged);
    const TokenLayout layout = kRagged.view();
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      Context ctx;
      ctx.isa = isa;
      ctx.layout = &layout;
      Tensor<double, 2> y(x.shape());
      infer<Attention<double>>(layer, x, y, ctx);
      EXPECT_THAT(y.flat(), testing::Pointwise(testing::DoubleNear(1e-13), wanted.flat()));
      Tensor<float, 2> y_single(x.shape());
      infer<Attention<float>>(single, x_single, y_single, ctx);
      test::expect_near<float, double>(y_single.flat(), wanted.flat(), 100, "y in float");
    }
  }
}

TEST(Attention, PaddingNeitherLeaksForwardNorBackward) {
  // Rows of padding may hold anything; what comes out must not tell.
  auto layer = kMake<Mask::none>(std::type_identity<float>{});
  test::disturb(layer, 1);
  const auto clean = random_matrix<float>({10, 4}, 2), dy = random_matrix<float>({10, 4}, 3);
  auto dirty = clean;
  for (Index i = 0; i < 10; ++i)
    if (kRagged.modality[static_cast<std::size_t>(i)] == kPadding)
      for (Index j = 0; j < 4; ++j) dirty.view()(i, j) = j % 2 ? static_cast<float>(kNan) : 1e30f;
  const TokenLayout layout = kRagged.view();
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    Context ctx;
    ctx.isa = isa;
    ctx.layout = &layout;
    test::expect_same_bits(test::run_pass(layer, clean, dy, ctx), test::run_pass(layer, dirty, dy, ctx));
  }
}

TEST(Attention, PaddingGetsTheBiasOfTheOutputAndNoGradient) {
  auto layer = kMake<Mask::none>(std::type_identity<float>{});
  test::disturb(layer, 1);
  const TokenLayout layout = kRagged.view();
  Context ctx;
  ctx.layout = &layout;
  const auto pass = test::run_pass(layer, random_matrix<float>({10, 4}, 2), random_matrix<float>({10, 4}, 3), ctx);
  for (Index i = 0; i < 10; ++i)
    if (kRagged.modality[static_cast<std::size_t>(i)] == kPadding) {
      for (Index j = 0; j < 4; ++j) {
        EXPECT_EQ(pass.y.view()(i, j), layer.out.bias.flat()[static_cast<std::size_t>(j)]);
        EXPECT_EQ(pass.dx.view()(i, j), 0);
      }
    }
}

TEST(Attention, NanStaysInItsSequence) {
  auto layer = kMake<Mask::none>(std::type_identity<float>{});
  test::disturb(layer, 1);
  auto x = random_matrix<float>({8, 4}, 2);
  x.view()(5, 1) = static_cast<float>(kNan);  // in the last sequence
  const TokenLayout layout = kPlain.view();
  Context ctx;
  ctx.layout = &layout;
  Tensor<float, 2> y({8, 4});
  infer<Attention<float>>(layer, x, y, ctx);
  for (Index i = 0; i < 8; ++i) EXPECT_EQ(std::isnan(y.view()(i, 0)), i >= 4) << i;
}

TEST(Attention, CausalRowsDoNotSeeWhatComesAfter) {
  auto layer = kMake<Mask::causal>(std::type_identity<float>{});
  test::disturb(layer, 1);
  const auto x = random_matrix<float>({9, 4}, 2);
  Context ctx;
  Tensor<float, 2> y({9, 4});
  infer<Attention<float>>(layer, x, y, ctx);
  for (const float other : {5.0f, static_cast<float>(kNan)}) {
    auto changed = x;
    for (Index j = 0; j < 4; ++j) changed.view()(6, j) = other;
    Tensor<float, 2> z({9, 4});
    infer<Attention<float>>(layer, changed, z, ctx);
    for (Index i = 0; i < 9; ++i)
      for (Index j = 0; j < 4; ++j)
        EXPECT_EQ(z.view()(i, j) == y.view()(i, j), i < 6) << i << " " << j << " with " << other;
  }
}

TEST(Attention, OrderDoesNotMatterWithoutAMask) {
  auto layer = kMake<Mask::none>(std::type_identity<double>{});
  test::disturb(layer, 1);
  const auto x = random_matrix<double>({6, 4}, 2);
  auto turned = x;
  for (Index i = 0; i < 6; ++i) std::copy_n(&x.view()(i, 0), 4, &turned.view()((i + 2) % 6, 0));
  Tensor<double, 2> y({6, 4}), z({6, 4});
  Context ctx;
  infer<Attention<double>>(layer, x, y, ctx);
  infer<Attention<double>>(layer, turned, z, ctx);
  for (Index i = 0; i < 6; ++i)
    for (Index j = 0; j < 4; ++j) EXPECT_NEAR(z.view()((i + 2) % 6, j), y.view()(i, j), 1e-14);
}

TEST(Attention, LongSequences) {
  // Longer than one tile, and head widths that are no multiple of one.
  const OwnedLayout layout{.offset = {0, 70, 71, 110}, .modality = std::vector<std::uint8_t>(110)};
  const TokenLayout view = layout.view();
  const Case c{33, 3, Mask::none};
  Attention<double> layer({.width = c.width, .num_heads = c.heads});
  Attention<float> single({.width = c.width, .num_heads = c.heads});
  test::disturb(layer, 3, 0.1);
  convert(layer, single);
  Context ctx;
  ctx.layout = &view;
  const auto x = random_matrix<double>({110, 33}, 4), dy = random_matrix<double>({110, 33}, 5);
  const auto pass = test::run_pass(layer, x, dy, ctx);
  const auto wanted = definition(layer, c, x, layout);
  EXPECT_THAT(pass.y.flat(), testing::Pointwise(testing::DoubleNear(1e-12), wanted.flat()));
  test::expect_near(test::run_pass(single, random_matrix<float>({110, 33}, 4), random_matrix<float>({110, 33}, 5), ctx),
                    pass, 300);
}

// Weights packed as float are the same numbers, multiplied in another order.
TEST(Attention, PackedKeepsNothingAndGivesTheSame) {
  for (const Mask mask : {Mask::none, Mask::causal}) {
    Attention<float> layer({.width = 32, .num_heads = 2, .mask = mask});
    test::disturb(layer, 3, 0.2);
    const auto packed = pack<float>(layer);
    const auto x = random_matrix<float>({10, 32}, 4);
    const TokenLayout layout = kRagged.view();
    Context ctx;
    ctx.layout = &layout;
    Tensor<float, 2> y({10, 32}), z({10, 32});
    infer(layer, x, y, ctx);
    float* const before = ctx.workspace.take<float>(1).data();
    (void)packed.forward(x, z, ctx);
    float* const after = ctx.workspace.take<float>(1).data();
    EXPECT_EQ(after - before, static_cast<Index>(kAlignment / sizeof(float)));  // neighbours
    test::expect_near<float, float>(z.flat(), y.flat(), 100, "y");
  }
}

TEST(Attention, OneTokenOfEachSequenceGetsWhatForwardGivesIt) {
  const OwnedLayout ragged{.offset = {0, 3, 4, 8}, .modality = {0, kPadding, 1, 0, 1, 0, kPadding, 1}};
  const TokenLayout layout = ragged.view();
  const std::vector<Index> row{2, 3, 5};
  for (const Mask mask : {Mask::none, Mask::causal}) {
    Attention<float> layer({.width = 32, .num_heads = 2, .mask = mask});
    test::disturb(layer, 3, 0.2);
    const auto x = random_matrix<float>({8, 32}, 4);
    Tensor<float, 2> all({8, 32}), chosen({3, 32}), wanted({3, 32});
    Context ctx;
    ctx.layout = &layout;
    infer(layer, x, all, ctx);
    layer.infer_at(x, {row.data(), {3}}, chosen, ctx);
    pool_at<float>(all, {row.data(), {3}}, wanted, ctx);
    test::expect_near<float, float>(chosen.flat(), wanted.flat(), 100, "y");
  }
}

TEST(Attention, RefusesWhatDoesNotFit) {
  EXPECT_THROW(Attention<float>({.width = 6, .num_heads = 4}), OptionError);
  EXPECT_THROW(Attention<float>({.width = 6, .num_heads = 0}), OptionError);
  const auto layer = kMake<Mask::none>(std::type_identity<float>{});
  const Tensor<float, 2> x({7, 4});
  Tensor<float, 2> y({7, 4});
  const OwnedLayout short_modality{.offset = {0, 7}, .modality = {0, 0}},
      long_modality{.offset = {0, 7}, .modality = std::vector<std::uint8_t>(9, kPadding)},
      late{.offset = {2, 7}, .modality = std::vector<std::uint8_t>(7)};
  for (const OwnedLayout* wrong : {&kPlain, &short_modality, &long_modality, &late}) {
    const TokenLayout layout = wrong->view();
    Context ctx;
    ctx.layout = &layout;
    EXPECT_THROW((void)layer.forward(x, y, ctx), ShapeError);
  }
  const OwnedLayout padded{.offset = {0, 3, 7}, .modality = {0, 0, kPadding, 0, 0, 0, 0}};
  const TokenLayout layout = padded.view();
  Context ctx;
  ctx.layout = &layout;
  for (const std::vector<Index>& rows : {std::vector<Index>{0}, {0, 1}, {2, 3}, {0, 7}, {-1, 3}}) {
    Tensor<float, 2> few({std::ssize(rows), 4});
    EXPECT_THROW(layer.infer_at(x, {rows.data(), {std::ssize(rows)}}, few, ctx), ShapeError);
  }
}

}  // namespace
}  // namespace gatefold
