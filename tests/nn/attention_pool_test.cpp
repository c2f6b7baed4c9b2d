#include "gatefold/nn/attention_pool.hpp"

#include "tests/support/layer_contract.hpp"

namespace gatefold::attention_pool_test {
namespace {

using test::OwnedLayout;
using test::random_matrix;

const OwnedLayout kRagged{.offset = {0, 3, 4, 4, 8, 10},
                          .modality = {0, kPadding, 1, 0, 1, 0, 1, kPadding, kPadding, kPadding}};
constexpr Index kRows = 10, kSequences = 5, kWidth = 4, kHeads = 2;

template <class T>
AttentionPool<T> make() {
  return AttentionPool<T>({.width = kWidth, .num_heads = kHeads, .hidden = 3});
}

TEST(AttentionPool, ListsItsParameters) {
  auto layer = make<float>();
  std::vector<std::string> paths;
  for_each_param([&](std::string_view path, auto&) { paths.emplace_back(path); }, layer);
  EXPECT_THAT(paths, testing::ElementsAre("probe", "query.weight", "query.bias", "key_value.weight", "key_value.bias",
                                          "out.weight", "out.bias", "norm.gain", "norm.bias", "mlp.up.weight",
                                          "mlp.up.bias", "mlp.down.weight", "mlp.down.bias"));
}

TEST(AttentionPool, GradientsByDualNumbers) {
  auto layer = make<double>();
  test::disturb(layer, 1);
  auto lifted = make<Dual>();
  const TokenLayout layout = kRagged.view();
  test::check_gradients(layer, lifted, random_matrix<double>({kRows, kWidth}, 2),
                        random_matrix<double>({kSequences, kWidth}, 3), &layout);
}

double dot(const Tensor<double, 2>& weight, Index row, const std::vector<double>& x) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += weight.view()(row, static_cast<Index>(i)) * x[i];
  return sum;
}
std::vector<double> project(const Linear<double>& linear, const std::vector<double>& x) {
  std::vector<double> y;
  for (Index row = 0; row < linear.out(); ++row)
    y.push_back(dot(linear.weight, row, x) + linear.bias.flat()[static_cast<std::size_t>(row)]);
  return y;
}

/// From the definition: the probe attends, then y + mlp(norm(y)).
std::vector<double> definition(const AttentionPool<double>& layer, const std::vector<std::vector<double>>& tokens) {
  const auto q = project(layer.query, {layer.probe.flat().begin(), layer.probe.flat().end()});
  const std::size_t width = kWidth, d = kWidth / kHeads;
  std::vector<double> attended(width);
  for (std::size_t h = 0; h < kHeads; ++h) {
    double total = 0;
    std::vector<double> mixed(d);
    for (const auto& token : tokens) {
      const auto kv = project(layer.key_value, token);
      double score = 0;
      for (std::size_t i = h * d; i < (h + 1) * d; ++i) score += q[i] * kv[i];
      const double weight = std::exp(score / std::sqrt(static_cast<double>(d)));
      total += weight;
      for (std::size_t i = 0; i < d; ++i) mixed[i] += weight * kv[width + h * d + i];
    }
    for (std::size_t i = 0; i < d && total > 0; ++i) attended[h * d + i] = mixed[i] / total;
  }
  auto y = project(layer.out, attended);
  double mean = 0, variance = 0;
  for (const double v : y) mean += v / 4;
  for (const double v : y) variance += (v - mean) * (v - mean) / 4;
  std::vector<double> normed(width);
  for (std::size_t i = 0; i < width; ++i)
    normed[i] = (y[i] - mean) / std::sqrt(variance + 1e-5) * layer.norm.gain.flat()[i] + layer.norm.bias.flat()[i];
  auto hidden = project(layer.mlp.up, normed);
  for (double& v : hidden) v = 0.5 * v * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v)));
  const auto more = project(layer.mlp.down, hidden);
  for (std::size_t i = 0; i < width; ++i) y[i] += more[i];
  return y;
}

TEST(AttentionPool, AgainstTheDefinition) {
  auto layer = make<double>();
  test::disturb(layer, 5);
  const auto x = random_matrix<double>({kRows, kWidth}, 6);
  Tensor<double, 2> y({kSequences, kWidth});
  const TokenLayout layout = kRagged.view();
  Context ctx;
  ctx.layout = &layout;
  (void)layer.forward(x, y, ctx);
  for (Index b = 0; b < kSequences; ++b) {
    std::vector<std::vector<double>> tokens;
    for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i)
      if (layout.modality[i] != kPadding) tokens.emplace_back(&x.view()(i, 0), &x.view()(i, 0) + kWidth);
    EXPECT_THAT(std::vector<double>(&y.view()(b, 0), &y.view()(b, 0) + kWidth),
                testing::Pointwise(testing::DoubleNear(1e-13), definition(layer, tokens)))
        << b;
  }
}

TEST(AttentionPool, PaddingNeitherLeaksForwardNorBackward) {
  auto layer = make<float>();
  test::disturb(layer, 1);
  const auto clean = random_matrix<float>({kRows, kWidth}, 2), dy = random_matrix<float>({kSequences, kWidth}, 3);
  auto dirty = clean;
  for (Index i = 0; i < kRows; ++i)
    if (kRagged.modality[static_cast<std::size_t>(i)] == kPadding)
      for (Index j = 0; j < kWidth; ++j) dirty.view()(i, j) = std::numeric_limits<float>::quiet_NaN();
  const TokenLayout layout = kRagged.view();
  Context ctx;
  ctx.layout = &layout;
  const auto pass = test::run_pass(layer, clean, dy, ctx);
  test::expect_same_bits(pass, test::run_pass(layer, dirty, dy, ctx));
  for (Index i = 0; i < kRows; ++i)
    if (kRagged.modality[static_cast<std::size_t>(i)] == kPadding) {
      for (Index j = 0; j < kWidth; ++j) EXPECT_EQ(pass.dx.view()(i, j), 0);
    }
}

TEST(AttentionPool, FloatThreadsAndMemory) {
  auto layer = make<float>();
  auto exact = make<double>();
  test::disturb(layer, 1);
  convert(layer, exact);
  const auto many = kRagged.repeated(300);
  const TokenLayout layout = many.view();
  const Index rows = 300 * kRows, sequences = 300 * kSequences;
  const auto x = random_matrix<float>({rows, kWidth}, 2), dy = random_matrix<float>({sequences, kWidth}, 3);
  const auto with = [&](ParallelFor parallel_for) {
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    ctx.layout = &layout;
    return test::run_pass(layer, x, dy, ctx);
  };
  const auto serial = with(ParallelFor());
  test::expect_same_bits(with(test::threads(2)), serial);
  test::expect_same_bits(with(test::threads(7)), serial);
  Context ctx;
  ctx.layout = &layout;
  ctx.parallel_for = ParallelFor();
  test::expect_near(serial,
                    test::run_pass(exact, random_matrix<double>({rows, kWidth}, 2),
                                   random_matrix<double>({sequences, kWidth}, 3), ctx),
                    static_cast<double>(rows));  // the weights' gradients sum over all rows

  auto pass = test::run_pass(layer, x, dy, ctx);
  const auto blocks = ctx.workspace.allocations();
  const test::AllocGuard guard;
  {
    const auto scope = ctx.workspace.scope();
    layer.backward(layer.forward(x, pass.y, ctx), dy, pass.dx, pass.grad, ctx);
  }
  EXPECT_EQ(guard.count(), 0);
  EXPECT_EQ(ctx.workspace.allocations(), blocks);
}

TEST(AttentionPool, PackedGivesTheSame) {
  AttentionPool<float> layer({.width = 32, .num_heads = 2, .hidden = 64});
  test::disturb(layer, 1, 0.2);
  const auto packed = pack<float>(layer);
  const TokenLayout layout = kRagged.view();
  Context ctx;
  ctx.layout = &layout;
  const auto x = test::random_matrix<float>({kRows, 32}, 2);
  Tensor<float, 2> y({kSequences, 32}), z({kSequences, 32});
  infer(layer, x, y, ctx);
  infer(packed, x, z, ctx);
  test::expect_near<float, float>(z.flat(), y.flat(), 200, "y");
}

TEST(AttentionPool, RefusesWhatDoesNotFit) {
  EXPECT_THROW(AttentionPool<float>({.width = 6, .num_heads = 4, .hidden = 1}), OptionError);
  const auto layer = make<float>();
  const TokenLayout layout = kRagged.view();
  Context ctx;
  Tensor<float, 2> y({kSequences, kWidth}), short_y({kSequences - 1, kWidth});
  EXPECT_THROW((void)layer.forward(Tensor<float, 2>({kRows, kWidth}), y, ctx), ShapeError) << "one sequence, without a layout";
  ctx.layout = &layout;
  test::expect_refusal([&] { (void)layer.forward(Tensor<float, 2>({kRows, kWidth + 1}), y, ctx); }, "a wide x");
  test::expect_refusal([&] { (void)layer.forward(Tensor<float, 2>({kRows, kWidth}), short_y, ctx); }, "a short y");
  EXPECT_THROW((void)layer.forward(Tensor<float, 2>({kRows - 1, kWidth}), y, ctx), ShapeError) << "a short x";
}

TEST(AttentionPool, WithoutALayoutAllRowsAreOneSequence) {
  auto layer = make<float>();
  test::disturb(layer, 1);
  const auto x = random_matrix<float>({7, kWidth}, 2), dy = random_matrix<float>({1, kWidth}, 3);
  const OwnedLayout one{.offset = {0, 7}, .modality = std::vector<std::uint8_t>(7)};
  const TokenLayout layout = one.view();
  Context with, without;
  with.layout = &layout;
  test::expect_same_bits(test::run_pass(layer, x, dy, without), test::run_pass(layer, x, dy, with));
}

}  // namespace
}  // namespace gatefold::attention_pool_test
