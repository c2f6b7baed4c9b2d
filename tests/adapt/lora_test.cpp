#include "gatefold/adapt/lora.hpp"

#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/io/checkpoint.hpp"
#include "gatefold/nn/attention.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "gatefold/train/adamw.hpp"
#include "gatefold/train/clip_gradient.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

static_assert(TrainableStorage<Lora<float>, float> && DerivedStorage<Lora<float, Packed<int4>>, float>);
static_assert(WeightStorage<SharedWeight<float>, float> && !TrainableStorage<SharedWeight<float>, float>);
static_assert(PackedAs<SharedWeight<float>, float>);

/// Every third weight goes.
Masks some_masks(const auto& model) {
  Masks masks;
  for_each_param(
      [&](std::string_view path, const auto& t) {
        if constexpr (std::remove_cvref_t<decltype(t)>::kRank == 2) {
          if (!path.ends_with("weight") || path.find("router") != path.npos) return;
          Tensor<std::uint8_t, 2> mask(t.shape());
          for (std::size_t i = 0; i < mask.flat().size(); ++i) mask.flat()[i] = i % 3 != 1;
          masks.of.emplace(path, Mask(std::move(mask)));
        }
      },
      model);
  return masks;
}

/// A layer with adapters of rank 2 through a mask; what `make` gives has random weights.
auto adapted(auto layer, const std::vector<LoraRule>& rules = {{.weights = "*", .rank = 2, .alpha = 3}}) {
  test::disturb(layer, 4);
  Rng rng(7);
  return add_lora(layer, rules, some_masks(layer), rng);
}
TEST(Lora, KeepsTheContractInALinearLayer) {
  test::check_layer([](auto type) { return adapted(Linear<typename decltype(type)::type>({.in = 6, .out = 5})); },
                    {.in = 6,
                     .out = 5,
                     .paths = {"weight.base.values", "weight.mask", "weight.a", "weight.b", "weight.scale", "bias"},
                     .copies = 100});
}

TEST(Lora, KeepsTheContractInNetsAndAttention) {
  const auto of = [](std::vector<std::string> linears) {
    std::vector<std::string> paths;
    for (const auto& name : linears) {
      for (const char* part : {"base.values", "mask", "a", "b", "scale"}) paths.push_back(name + ".weight." + part);
      paths.push_back(name + ".bias");
    }
    return paths;
  };
  test::check_layer([](auto type) { return adapted(Mlp<typename decltype(type)::type>({.width = 4, .hidden = 7})); },
                    {.in = 4, .out = 4, .paths = of({"up", "down"}), .copies = 100});
  test::check_layer(
      [](auto type) { return adapted(GatedMlp<typename decltype(type)::type>({.width = 4, .hidden = 7})); },
      {.in = 4, .out = 4, .paths = of({"gate", "up", "down"}), .copies = 100});
  test::check_grouped([](auto type) { return adapted(Mlp<typename decltype(type)::type>({.width = 4, .hidden = 7})); },
                      {.width = 4, .counts = {3, 0, 5}, .tokens = 4});
  test::check_grouped(
      [](auto type) { return adapted(GatedMlp<typename decltype(type)::type>({.width = 4, .hidden = 7})); },
      {.width = 4, .counts = {3, 0, 5}, .tokens = 4});
  test::check_layer(
      [](auto type) { return adapted(Attention<typename decltype(type)::type>({.width = 4, .num_heads = 2})); },
      {.in = 4, .out = 4, .paths = of({"qkv", "out"}), .copies = 20});
}

/// A block whose feed-forward net is a mixture: weights of its own, attention and experts, and a router.
auto sparse_block() {
  EncoderBlock block({.width = 8, .num_heads = 2},
                     SparseMlp(TopKRouter<float>({.width = 8, .num_experts = 3, .num_selected = 2}),
                               Mlp<float>({.width = 8, .hidden = 12})));
  test::disturb(block, 5, 0.3);
  return block;
}

TEST(Lora, TrainedThroughTheMaskItMergesToTheBitAndWhatWasRemovedStays) {
  const auto dense = sparse_block();
  const auto teacher = pack<SharedWeight<float>>(dense);
  Masks masks;
  for (const auto& [path, mask] : some_masks(dense).of)
    if (!path.starts_with("attention.inner.out")) masks.of.emplace(path, mask);  // which stays whole
  ASSERT_EQ(masks.of.size(), 7u);
  Rng rng(3);
  auto model =
      add_lora(teacher, {{.weights = "attention*", .rank = 2}, {.weights = "*.experts.*", .rank = 3}}, masks, rng);
  EXPECT_EQ(model.attention.inner.qkv.weight.rank(), 2);
  EXPECT_EQ(model.ffn.inner.experts[1].up.weight.rank(), 3);
  EXPECT_EQ(model.ffn.inner.experts[1].up.weight.base.values.data(),
            teacher.ffn.inner.experts[1].up.weight.values.data());
  const auto start = model;
  auto grad = zeros_like(model);
  const Trainable trainable = Trainable::only(lora_parameters());
  AdamW optimizer(model, {.lr = 0.05, .trainable = trainable});
  EXPECT_EQ(optimizer.mean.attention.inner.qkv.weight.base.values.data(),
            teacher.attention.inner.qkv.weight.values.data())
      << "moments of what is frozen take memory";
  const auto x = test::random_matrix<float>({30, 8}, 1), wanted = test::random_matrix<float>({30, 8}, 2);
  Tensor<float, 2> y({30, 8}), dy({30, 8}), dx({30, 8});
  Context ctx;
  double first = 0, last = 0;
  for (int step = 0; step < 20; ++step) {
    const auto scope = ctx.workspace.scope();
    const auto saved = model.forward(x, y, ctx);
    last = 0;
    for (std::size_t i = 0; i < y.flat().size(); ++i) {
      dy.flat()[i] = y.flat()[i] - wanted.flat()[i];
      last += std::pow(double{dy.flat()[i]}, 2);
    }
    if (step == 0) first = last;
    set_zero(grad);
    model.backward(saved, dy, dx, grad, ctx);
    ASSERT_TRUE(std::isfinite(gradient_norm(grad, ctx)));
    optimizer.step(model, grad, ctx);
  }
  EXPECT_LT(last, 0.9 * first);
  for_each_param(
      [](std::string_view path, const auto& now, const auto& then) {
        const bool moved = !std::ranges::equal(now.flat(), then.flat());
        EXPECT_EQ(moved, path.ends_with(".a") || path.ends_with(".b")) << path;
      },
      model, start);

  const auto merged = merge_lora(model, ctx);
  static_assert(std::same_as<decltype(merged), const decltype(sparse_block())>);
  for (const Index rows : {1, 7, 30}) {
    Tensor<float, 2> unmerged({rows, 8}), same({rows, 8});
    infer(model, x.view().rows(0, rows), unmerged.view(), ctx);
    infer(merged, x.view().rows(0, rows), same.view(), ctx);
    EXPECT_TRUE(test::same_bits<float>(unmerged.flat(), same.flat())) << rows;
  }
  for_each_param(
      [&](std::string_view path, const auto& w) {
        const Mask* const mask = masks.find(path);
        if (!mask) return;
        for (std::size_t i = 0; i < w.flat().size(); ++i)
          EXPECT_EQ(w.flat()[i] != 0, mask->flat()[i] != 0) << path << " " << i;
      },
      merged);
}

TEST(Lora, WithoutAMaskItStandsOnPackedWeights) {
  const auto check = [](auto format) {
    using F = decltype(format);
    Mlp<float> dense({.width = 40, .hidden = 70});
    test::disturb(dense, 6, 0.2);
    const auto packed = pack<F>(dense);
    Rng rng(3);
    auto model = add_lora(packed, {{.weights = "up.weight", .rank = 4}}, {}, rng);
    const auto x = test::random_matrix<float>({9, 40}, 1), dy = test::random_matrix<float>({9, 40}, 2);
    Context ctx;
    Tensor<float, 2> y({9, 40}), frozen({9, 40});
    infer(model, x.view(), y.view(), ctx);
    infer(merge_lora(model, ctx), x.view(), frozen.view(), ctx);
    EXPECT_TRUE(test::same_bits<float>(y.flat(), frozen.flat()));
    // What it starts as is the packed model, but for the rounding of activations, which is left out.
    Tensor<float, 2> unpacked(dense.up.weight.shape());
    packed.up.weight.unpack(unpacked);
    EXPECT_EQ(model.up.weight.merged(ctx), unpacked);
    // The gradient against that of the same weights, dense.
    for (float& v : model.up.weight.b.flat()) v = static_cast<float>(0.1 * rng.normal());
    const auto merged = merge_lora(model, ctx);
    const auto pass = test::run_pass(model, x, dy, ctx), wanted = test::run_pass(merged, x, dy, ctx);
    EXPECT_TRUE(test::same_bits<float>(pass.dx.flat(), wanted.dx.flat()));
    const auto& [g, w] = std::pair(pass.grad.up.weight, model.up.weight);
    const auto& dense_g = wanted.grad.up.weight;
    const double s = 4;  // 16 / 4
    for (Index n = 0; n < 70; ++n)
      for (Index r = 0; r < 4; ++r) {
        double sum = 0;
        for (Index k = 0; k < 40; ++k) sum += s * double{dense_g.view()(n, k)} * double{w.a.view()(r, k)};
        EXPECT_NEAR(g.b.view()(n, r), sum, 1e-4);
      }
    for (Index r = 0; r < 4; ++r)
      for (Index k = 0; k < 40; ++k) {
        double sum = 0;
        for (Index n = 0; n < 70; ++n) sum += s * double{dense_g.view()(n, k)} * double{w.b.view()(n, r)};
        EXPECT_NEAR(g.a.view()(r, k), sum, 1e-4);
      }
    EXPECT_EQ(model.down.weight.rank(), 0);
  };
  check(int8{});
  check(int4{});
}

TEST(Lora, IsSavedWithItsBaseAndReadIntoOneOfTheSameRank) {
  const auto model = adapted(Mlp<float>({.width = 4, .hidden = 7}));
  CheckpointWriter writer;
  writer.add("net", model);
  const auto bytes = writer.bytes();
  const CheckpointReader reader(SafeTensors(std::span<const std::byte>(bytes), "net.safetensors"));
  Rng rng(99);
  const Mlp<float> other_dense({.width = 4, .hidden = 7});
  auto other = add_lora(other_dense, {{.rank = 2, .alpha = 1}}, some_masks(other_dense), rng);
  reader.read("net", other);
  for_each_param([](std::string_view path, const auto& a,
                    const auto& b) { EXPECT_TRUE(std::ranges::equal(a.flat(), b.flat())) << path; },
                 other, model);
  auto wider = add_lora(other_dense, {{.rank = 3, .alpha = 1}}, some_masks(other_dense), rng);
  EXPECT_THROW(reader.read("net", wider), CheckpointError);
}

TEST(Lora, SaysWhatDoesNotFit) {
  const SharedWeight<float> base(test::random_matrix<float>({3, 4}, 1));
  using L = Lora<float>;
  EXPECT_THROW(L(base, {.rank = -1, .alpha = 1}, Rng(1)), OptionError);
  EXPECT_THROW(L(base, {.rank = 1, .alpha = -1}, Rng(1)), OptionError);
  EXPECT_THROW(L(base, {.rank = 1, .alpha = 1}, Rng(1), Mask(Tensor<std::uint8_t, 2>({4, 3}))), ShapeError);
}

}  // namespace
}  // namespace gatefold
