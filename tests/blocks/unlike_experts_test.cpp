// A mixture whose experts have hidden layers of different widths (Wang et al. 2024, «HMoE», arXiv 2408.10681).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/io/checkpoint.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/blocks/exact_gradient.hpp"
#include "tests/io/temporary_folder.hpp"
#include "tests/support/refused.hpp"
#include "tests/support/threads.hpp"

namespace gatefold {
namespace {

/// As many experts as hidden widths.
template <class E>
SparseMlp<TopKRouter<typename E::Scalar>, E> unlike(Index width, const std::vector<Index>& hidden) {
  using T = typename E::Scalar;
  std::vector<E> experts;
  for (const Index h : hidden) experts.emplace_back(typename E::Options{.width = width, .hidden = h});
  return {TopKRouter<T>({.width = width, .num_experts = std::ssize(hidden), .num_selected = 2}), std::move(experts)};
}

/// W x + b in double, by plain loops.
std::vector<double> affine(const Linear<float>& layer, const std::vector<double>& x) {
  std::vector<double> y;
  for (Index o = 0; o < layer.out(); ++o) {
    double sum = layer.bias.size() ? double(layer.bias.data()[o]) : 0;
    for (Index i = 0; i < layer.in(); ++i) sum += double(layer.weight.view()(o, i)) * x[static_cast<std::size_t>(i)];
    y.push_back(sum);
  }
  return y;
}
std::vector<double> by_hand(const Mlp<float, GeluErf>& net, const std::vector<double>& x) {
  auto hidden = affine(net.up, x);
  for (double& h : hidden) h = h * 0.5 * std::erfc(-h / std::sqrt(2.0));
  return affine(net.down, hidden);
}
std::vector<double> by_hand(const GatedMlp<float, Silu>& net, const std::vector<double>& x) {
  auto hidden = affine(net.up, x);
  const auto gate = affine(net.gate, x);
  for (std::size_t i = 0; i < hidden.size(); ++i) hidden[i] *= gate[i] / (1 + std::exp(-gate[i]));
  return affine(net.down, hidden);
}

/// sum over the seats of weight * expert(x), the seats and weights taken from the pass.
template <class Layer>
void expect_the_definition(const Layer& layer, Index rows, std::uint64_t seed) {
  const Index width = layer.router.options.width;
  const auto x = random_tensor<float>(Shape<2>{rows, width}, seed);
  Tensor<float, 2> y({rows, width});
  for (const Isa isa : {Isa::portable, Isa::simd})
    for (const Index workers : {1, 2, 7}) {
      Context ctx;
      ctx.isa = isa;
      ctx.parallel_for = test::threads(workers);
      const auto saved = layer.forward(x, y, ctx);
      const auto& plan = saved.routing.plan;
      for (Index t = 0; t < rows; ++t) {
        const auto row = x.view()[t];
        std::vector<double> wanted(static_cast<std::size_t>(width));
        const auto slots = plan.slots_of_token(t);
        for (Index i = 0; i < slots.extent(0); ++i) {
          const auto out = by_hand(layer.experts[static_cast<std::size_t>(plan.expert[slots[i]])],
                                   std::vector<double>(row.data(), row.data() + width));
          for (std::size_t d = 0; d < wanted.size(); ++d) wanted[d] += double(saved.routing.weight[slots[i]]) * out[d];
        }
        for (Index d = 0; d < width; ++d)
          ASSERT_NEAR(y.view()(t, d), wanted[static_cast<std::size_t>(d)], 2e-5) << t << " " << d;
      }
    }
}

TEST(UnlikeExperts, AreTheirDefinition) {
  for (const auto& hidden : {std::vector<Index>{64, 16}, {16, 64}, {1, 130, 7, 64}}) {
    auto plain = unlike<Mlp<float, GeluErf>>(32, hidden);
    disturb_params(plain, 1, 0.2);
    expect_the_definition(plain, 90, 2);
    auto gated = unlike<GatedMlp<float, Silu>>(32, hidden);
    disturb_params(gated, 3, 0.2);
    expect_the_definition(gated, 90, 4);
  }
}

template <template <class> class E>
void expect_exact() {
  auto layer = unlike<E<double>>(4, {5, 1, 7});
  auto lifted = unlike<E<Dual>>(4, {5, 1, 7});
  disturb_params(layer, 5);
  expect_exact_gradient(layer, lifted, random_tensor<double>(Shape<2>{9, 4}, 6));
}
template <class T>
using PlainNet = Mlp<T>;
template <class T>
using GatedNet = GatedMlp<T>;

TEST(UnlikeExperts, HaveExactGradients) {
  expect_exact<PlainNet>();
  expect_exact<GatedNet>();
}

template <class F, class Layer>
void expect_packed_as_one_by_one(const Layer& layer, Index rows) {
  const auto packed = pack<F>(layer);
  const Index width = layer.router.options.width;
  const auto x = random_tensor<float>(Shape<2>{rows, width}, 7);
  Tensor<float, 2> y({rows, width}), alone({1, width});
  for (const Isa isa : isas_here())
    for (const Index workers : {1, 7}) {  // 7: fewer blocks of rows than workers, which share out the hidden units
      Context ctx;
      ctx.isa = isa;
      ctx.parallel_for = test::threads(workers);
      const auto scope = ctx.workspace.scope();
      const auto saved = packed.forward(x, y, ctx);
      for (Index n = 0; n < saved.routing.plan.num_slots(); ++n) {
        const Index token = saved.routing.plan.token[n], e = saved.routing.plan.expert[n];
        infer(packed.experts[static_cast<std::size_t>(e)], x.view().rows(token, token + 1), alone.view(), ctx);
        for (Index d = 0; d < width; ++d) ASSERT_EQ(saved.ys(n, d), alone.data()[d]) << n << " " << d;
      }
    }
}

TEST(UnlikeExperts, MayBePacked) {
  auto plain = unlike<Mlp<float>>(48, {600, 40, 96, 17});
  disturb_params(plain, 8, 0.1);
  auto gated = unlike<GatedMlp<float>>(48, {40, 600, 17});
  disturb_params(gated, 9, 0.1);
  for (const Index rows : {3, 40}) {
    expect_packed_as_one_by_one<float>(plain, rows);
    expect_packed_as_one_by_one<bf16>(gated, rows);
    expect_packed_as_one_by_one<int8>(plain, rows);
    expect_packed_as_one_by_one<int4>(plain, rows);
    expect_packed_as_one_by_one<mxfp4>(gated, rows);
    expect_packed_as_one_by_one<fp8>(plain, rows);
  }
}

TEST(UnlikeExperts, ComeBackFromACheckpoint) {
  const testing::TemporaryFolder folder;
  auto layer = unlike<Mlp<float>>(8, {16, 4});
  disturb_params(layer, 10);
  save(layer, folder / "layer.safetensors");
  auto other = unlike<Mlp<float>>(8, {16, 4}), turned = unlike<Mlp<float>>(8, {4, 16});
  load(folder / "layer.safetensors", other);
  for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, layer, other);
  test::expect_error<CheckpointError>([&] { load(folder / "layer.safetensors", turned); },
                                      "misshapen: 'experts.1.up.weight' came [4, 8], wanted [16, 8]");
  const auto x = random_tensor<float>(Shape<2>{5, 8}, 11);
  const auto packed_comes_back = [&]<class F>(std::type_identity<F>) {
    const auto packed = pack<F>(layer);
    save(packed, folder / "packed.safetensors");
    auto read = pack<F>(unlike<Mlp<float>>(8, {16, 4}));
    load(folder / "packed.safetensors", read);
    Tensor<float, 2> y({5, 8}), z({5, 8});
    Context ctx;
    infer(packed, x, y, ctx);
    infer(read, x, z, ctx);
    EXPECT_EQ(y, z);
  };
  packed_comes_back(std::type_identity<int8>{});
  packed_comes_back(std::type_identity<mxfp4>{});
  packed_comes_back(std::type_identity<fp8>{});
}

TEST(UnlikeExperts, MayBeAssigned) {
  auto layer = unlike<Mlp<float, GeluErf>>(32, {16, 16});
  layer.experts[1] = Mlp<float, GeluErf>({.width = 32, .hidden = 50});
  disturb_params(layer, 12, 0.2);
  expect_the_definition(layer, 40, 13);
}

TEST(UnlikeExperts, OfAnotherWidthAreRefusedByName) {
  using Net = Mlp<float>;
  const auto net = [](Index width, Index hidden) { return Net({.width = width, .hidden = hidden}); };
  const TopKRouter<float> router({.width = 8, .num_experts = 2});
  const std::string_view text = "experts[1].up.weight has shape [4, 6], expected [4, 8]";
  test::expect_shape_error([&] { SparseMlp layer(router, std::vector{net(8, 16), net(6, 4)}); }, text);

  SparseMlp layer(router, net(8, 16));
  auto grad = zeros_like(layer);
  Tensor<float, 2> x({5, 8}), y({5, 8}), dx({5, 8});
  Context ctx;
  layer.experts[1] = net(6, 4);
  test::expect_shape_error([&] { (void)layer.forward(x, y, ctx); }, text);
  test::expect_shape_error([&] { (void)pack<bf16>(layer); }, text);
  layer.experts[1] = net(8, 20);
  const auto saved = layer.forward(x, y, ctx);
  test::expect_shape_error([&] { layer.backward(saved, y, dx, grad, ctx); },
                           "the gradient of experts[1].up.weight has shape [16, 8], expected [20, 8]");
  layer.experts.pop_back();
  test::expect_option_error([&] { (void)layer.forward(x, y, ctx); }, "there are 1 experts, expected 2");
}

}  // namespace
}  // namespace gatefold
