#include "gatefold/nn/attention.hpp"

#include <complex>

#include "tests/support/layer_contract.hpp"

namespace gatefold::attention_test {
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

// Language models' attention: shared keys, a head width of its own, a window, turned and normalised queries and keys.
template <class T>
typename Attention<T>::Options modern(Mask mask, const Rotary& rotary, QueryKeyNorm norm) {
  return {.width = 5,
          .num_heads = 4,
          .mask = static_cast<typename Attention<T>::Mask>(mask),
          .num_key_heads = 2,
          .head_width = 6,
          .window = 2,
          .bias = Bias::none,
          .rotary = rotary,
          .norm = norm,
          .norm_epsilon = 0.1};
}
constexpr Rotary kHalves{.width = 6, .base = 100},
    kNeighbours{.width = 4, .base = 50, .pairs = Rotary::Pairs::neighbours};

TEST(Attention, KeepsTheContractWithAllOptions) {
  const auto check = [](const Rotary& rotary, QueryKeyNorm norm, Mask mask) {
    test::check_layer(
        [=](auto type) {
          using T = typename decltype(type)::type;
          return Attention<T>(modern<T>(mask, rotary, norm));
        },
        {.in = 5,
         .out = 5,
         .rows = 10,
         .paths = {"qkv.weight", "out.weight", "query_norm.gain", "key_norm.gain"},
         .layout = &kRagged,
         .copies = 150});
  };
  check(kHalves, QueryKeyNorm::head, Mask::causal);
  check(kNeighbours, QueryKeyNorm::whole, Mask::none);
}

TEST(Attention, KeepsTheContractWithSinksAndScaling) {
  const auto check = [](const auto& scaling, Mask mask) {
    test::check_layer(
        [=](auto type) {
          using T = typename decltype(type)::type;
          auto o = modern<T>(mask, kHalves, QueryKeyNorm::none);
          o.rotary.scaling = scaling;
          o.scale = 0.3;
          o.sinks = Sinks::learnt;
          return Attention<T>(o);
        },
        {.in = 5,
         .out = 5,
         .rows = 10,
         .paths = {"qkv.weight", "out.weight", "sink"},
         .layout = &kRagged,
         .copies = 150});
  };
  check(YarnScaling{.factor = 4, .original_length = 32, .fast = 8}, Mask::causal);
  check(Llama3Scaling{.factor = 4, .original_length = 32}, Mask::none);
  check(LinearScaling{.factor = 3}, Mask::causal);
}

struct Case {
  Index width, heads;
  Mask mask;
};

/// One head of one row, normalised and turned, straight from the definition.
void norm_and_turn(std::vector<double>& all, const std::optional<RmsNorm<double>>& norm, const Rotary& rotary, Index d,
                   Index place) {
  if (norm)
    for (Index i = 0, width = norm->gain.extent(0); i < std::ssize(all); i += width) {
      double squares = 0;
      for (Index j = i; j < i + width; ++j) squares += std::pow(all[static_cast<std::size_t>(j)], 2);
      for (Index j = 0; j < width; ++j)
        all[static_cast<std::size_t>(i + j)] *= norm->gain.flat()[static_cast<std::size_t>(j)] /
                                                std::sqrt(squares / static_cast<double>(width) + norm->epsilon);
    }
  for (Index i = 0; i < std::ssize(all); i += d)
    for (Index j = 0; j < rotary.width / 2; ++j) {
      const bool halves = rotary.pairs == Rotary::Pairs::halves;
      double& a = all[static_cast<std::size_t>(i + (halves ? j : 2 * j))];
      double& b = all[static_cast<std::size_t>(i + (halves ? j + rotary.width / 2 : 2 * j + 1))];
      const std::complex<double> turned =
          std::complex(a, b) *
          std::polar(1.0, double(place) * std::pow(rotary.base, -2.0 * double(j) / double(rotary.width)));
      a = turned.real(), b = turned.imag();
    }
}

/// Straight from the definition, one query at a time, padding left out rather than masked.
Tensor<double, 2> definition(const Attention<double>& layer, const Tensor<double, 2>& x, const OwnedLayout& layout) {
  const auto& o = layer.options;
  const Index d = o.head_width, queries = o.num_heads * d, keys = o.num_key_heads * d;
  const auto project = [&](Index row, Index begin, Index count) {
    std::vector<double> part;
    for (Index column = begin; column < begin + count; ++column) {
      double sum = o.bias == Bias::none ? 0 : layer.qkv.bias.flat()[static_cast<std::size_t>(column)];
      for (Index i = 0; i < o.width; ++i) sum += layer.qkv.weight.view()(column, i) * x.view()(row, i);
      part.push_back(sum);
    }
    return part;
  };
  Tensor<double, 2> y(x.shape());
  for (std::size_t b = 0; b + 1 < layout.offset.size(); ++b) {
    std::vector<Index> tokens;
    std::vector<std::vector<double>> q, k, v;
    for (Index row = layout.offset[b]; row < layout.offset[b + 1]; ++row) {
      if (layout.modality[static_cast<std::size_t>(row)] != kPadding) {
        q.push_back(project(row, 0, queries));
        k.push_back(project(row, queries, keys));
        v.push_back(project(row, queries + keys, keys));
        norm_and_turn(q.back(), layer.query_norm, o.rotary, d, std::ssize(tokens));
        norm_and_turn(k.back(), layer.key_norm, o.rotary, d, std::ssize(tokens));
        tokens.push_back(row);
      }
      for (Index j = 0; j < o.width; ++j)
        y.view()(row, j) = o.bias == Bias::none ? 0 : layer.out.bias.flat()[static_cast<std::size_t>(j)];
    }
    for (std::size_t t = 0; t < tokens.size(); ++t)
      for (Index h = 0; h < o.num_heads; ++h) {
        const Index of_key = h / (o.num_heads / o.num_key_heads);
        double total = 0;
        std::vector<double> mixed(static_cast<std::size_t>(d));
        for (std::size_t u = 0; u < tokens.size(); ++u) {
          if (o.mask == Mask::causal && u > t) continue;
          if (o.window && std::max(u, t) - std::min(u, t) >= static_cast<std::size_t>(o.window)) continue;
          double score = 0;
          for (Index i = 0; i < d; ++i)
            score += q[t][static_cast<std::size_t>(h * d + i)] * k[u][static_cast<std::size_t>(of_key * d + i)];
          const double weight = std::exp(score / std::sqrt(static_cast<double>(d)));
          total += weight;
          for (Index i = 0; i < d; ++i)
            mixed[static_cast<std::size_t>(i)] += weight * v[u][static_cast<std::size_t>(of_key * d + i)];
        }
        for (Index j = 0; j < o.width; ++j)
          for (Index i = 0; i < d; ++i)
            y.view()(tokens[t], j) +=
                layer.out.weight.view()(j, h * d + i) * mixed[static_cast<std::size_t>(i)] / total;
      }
  }
  return y;
}

template <class T>
typename Attention<T>::Options plain(const Case& c) {
  return {.width = c.width, .num_heads = c.heads, .mask = static_cast<typename Attention<T>::Mask>(c.mask)};
}

void expect_as_defined(Attention<double> layer, Attention<float> single) {
  test::disturb(layer, 3);
  convert(layer, single);
  const auto x = random_matrix<double>({10, layer.width()}, 4);
  const auto x_single = random_matrix<float>({10, layer.width()}, 4);
  const auto wanted = definition(layer, x, kRagged);
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

TEST(Attention, AgainstTheDefinition) {
  for (const Case c :
       {Case{4, 1, Mask::none}, Case{6, 3, Mask::none}, Case{6, 2, Mask::causal}, Case{5, 5, Mask::causal}})
    expect_as_defined(Attention<double>(plain<double>(c)), Attention<float>(plain<float>(c)));
  for (const auto norm : {QueryKeyNorm::none, QueryKeyNorm::head, QueryKeyNorm::whole})
    for (const auto mask : {Mask::none, Mask::causal})
      for (const auto& rotary : {kHalves, kNeighbours})
        expect_as_defined(Attention<double>(modern<double>(mask, rotary, norm)),
                          Attention<float>(modern<float>(mask, rotary, norm)));
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
  Attention<double> layer({.width = 33, .num_heads = 3});
  Attention<float> single({.width = 33, .num_heads = 3});
  test::disturb(layer, 3, 0.1);
  convert(layer, single);
  Context ctx;
  ctx.layout = &view;
  const auto x = random_matrix<double>({110, 33}, 4), dy = random_matrix<double>({110, 33}, 5);
  const auto pass = test::run_pass(layer, x, dy, ctx);
  const auto wanted = definition(layer, x, layout);
  EXPECT_THAT(pass.y.flat(), testing::Pointwise(testing::DoubleNear(1e-12), wanted.flat()));
  test::expect_near(test::run_pass(single, random_matrix<float>({110, 33}, 4), random_matrix<float>({110, 33}, 5), ctx),
                    pass, 300);
}

// Weights packed as float are the same numbers, multiplied in another order.
TEST(Attention, PackedKeepsNothingAndGivesTheSame) {
  for (const Mask mask : {Mask::none, Mask::causal}) {
    Attention<float> layer({.width = 32,
                            .num_heads = 4,
                            .mask = mask,
                            .num_key_heads = 2,
                            .window = 3,
                            .rotary = {.width = 8},
                            .norm = QueryKeyNorm::head});
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
  EXPECT_THROW(Attention<float>({.width = 6, .num_heads = 6, .num_key_heads = 4}), OptionError);
  EXPECT_THROW(Attention<float>({.width = 6, .num_heads = 2, .window = -1}), OptionError);
  EXPECT_THROW(Attention<float>({.width = 6, .num_heads = 2, .rotary = {.width = 3}}), OptionError);
  EXPECT_THROW(Attention<float>({.width = 6, .num_heads = 2, .rotary = {.width = 4}}), OptionError);
  EXPECT_THROW(Attention<float>({.width = 6, .num_heads = 2, .scale = -1}), OptionError);
  using Scaling = decltype(Rotary::scaling);
  for (const Scaling& wrong :
       {Scaling(LinearScaling{.factor = 0}), Scaling(Llama3Scaling{.factor = 2, .original_length = 0}),
        Scaling(Llama3Scaling{.factor = 2, .original_length = 9, .slow = 4}),
        Scaling(YarnScaling{.factor = 2, .original_length = 9, .attention_factor = -1})})
    EXPECT_THROW(Attention<float>({.width = 6, .num_heads = 1, .rotary = {.width = 4, .scaling = wrong}}), OptionError);
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
}  // namespace gatefold::attention_test
