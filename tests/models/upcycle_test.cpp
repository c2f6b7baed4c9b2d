#include "gatefold/models/upcycle.hpp"

#include "gatefold/adapt/freeze_policy.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

ClipOptions options(ClipActivation activation = ClipActivation::quick_gelu) {
  return {.image_size = 8,
          .patch = 4,
          .vocabulary = 12,
          .context = 7,
          .embedding = 6,
          .vision = {.width = 16, .hidden = 24, .num_layers = 3, .num_heads = 2, .activation = activation},
          .text = {.width = 8, .hidden = 12, .num_layers = 2, .num_heads = 2, .activation = activation}};
}

Clip<float> dense(const ClipOptions& o) {
  Clip<float> model(o);
  test::disturb(model, 4, 0.3);
  return model;
}

struct Embeddings {
  Tensor<float, 2> image{{5, 6}}, text{{4, 6}};
};
template <class Model>
Embeddings embed(const Model& model) {
  Tensor<float, 4> images({5, 8, 8, 3});
  Tensor<Index, 2> ids({4, 7});
  Rng rng(2);
  for (float& v : images.flat()) v = static_cast<float>(rng.normal());
  for (Index& id : ids.flat()) id = static_cast<Index>(rng.uniform(0, 11));
  for (Index b = 0; b < 4; ++b) ids.view()(b, 3 + b) = 11;
  Context ctx;
  Embeddings z;
  model.encode_images(images, z.image, ctx);
  model.encode_texts(ids, z.text, ctx);
  return z;
}

// The gates of a token sum to 1 within K / 2 epsilon, so each mixture gives its net's output within a few epsilon of
// its size; the residual stream carries that through the blocks that follow. Blocks of these widths amplify by less
// than 50; eight mixtures at most.
TEST(Upcycle, EmbeddingsStayAsTheyWere) {
  constexpr double kSteps = 8 * 50;
  for (const auto activation : {ClipActivation::quick_gelu, ClipActivation::gelu}) {
    const auto model = dense(options(activation));
    const auto before = embed(model);
    for (const auto& how :
         {UpcycleOptions{}, UpcycleOptions{.num_experts = 3, .num_selected = 3},
          UpcycleOptions{.num_experts = 6, .num_selected = 2, .vision = Placement{{1}}, .text = Placement{}}}) {
      Rng rng(7);
      const auto after = embed(upcycle(model, how, rng));
      test::expect_near<float, float>(after.image.flat(), before.image.flat(), kSteps, "image");
      test::expect_near<float, float>(after.text.flat(), before.text.flat(), kSteps, "text");
    }
  }
}

TEST(Upcycle, MakesMixturesOfCopiesInTheChosenBlocks) {
  const auto model = dense(options());
  Rng rng(7);
  const auto moe = upcycle(
      model, {.num_experts = 5, .num_selected = 2, .vision = Placement{{0, 2}}, .text = Placement{{1}}, .balance = 0.5},
      rng);
  // A router of E D and E - 1 further nets for each chosen block.
  const auto net = [](Index d, Index h) { return 2 * d * h + h + d; };
  EXPECT_EQ(count_params(moe) - count_params(model), 2 * (5 * 16 + 4 * net(16, 24)) + 5 * 8 + 4 * net(8, 12));
  EXPECT_EQ(moe.options.vision.mixture.placement.layers, (std::vector<Index>{0, 2}));
  EXPECT_EQ(moe.options.vision.mixture.num_experts, 5);
  const auto& blocks = moe.vision.tower.encoder.blocks;
  EXPECT_EQ(std::get<0>(blocks[1].ffn.inner.layer).layer.index(), 0U);
  const auto& mixture = std::get<1>(std::get<0>(blocks[2].ffn.inner.layer).layer);
  const auto& original = std::get<0>(std::get<0>(model.vision.tower.encoder.blocks[2].ffn.inner.layer).layer);
  for (const auto& expert : mixture.experts) {
    EXPECT_EQ(expert.up.weight, original.up.weight);
    EXPECT_EQ(expert.up.bias, original.up.bias);
    EXPECT_EQ(expert.down.weight, original.down.weight);
    EXPECT_EQ(expert.down.bias, original.down.bias);
  }
  EXPECT_EQ(mixture.router.options.renormalise, Renormalise::before_dropping);
  EXPECT_DOUBLE_EQ(mixture.aux_scale, 0.5);  // the mean over the two mixtures
  EXPECT_DOUBLE_EQ(mixture.aux.coefficient, 0.5);
  double least = 1, most = -1;
  for (const float v : mixture.router.weight.flat()) {
    least = std::min(least, double{v});
    most = std::max(most, double{v});
  }
  EXPECT_GE(least, -0.25);  // 1 / sqrt(16)
  EXPECT_LE(most, 0.25);
  EXPECT_GT(most - least, 0.3);
  // What a model of these options is made like.
  EXPECT_NO_THROW(
      for_each_param([](std::string_view, const auto& a, const auto& b) { EXPECT_EQ(a.shape(), b.shape()); }, moe,
                     std::as_const(*std::make_unique<Clip<float>>(moe.options))));
}

TEST(Upcycle, ResultCanBePackedTrainedAndRouted) {
  Rng rng(7);
  const auto moe = upcycle(dense(options()), {}, rng);
  const auto plain = embed(moe);
  const auto packed = embed(pack<float>(moe));
  test::expect_near<float, float>(packed.image.flat(), plain.image.flat(), 400, "image");
  Tensor<float, 4> images({2, 8, 8, 3});
  std::ranges::fill(images.flat(), 0.5f);
  Tensor<float, 2> z({2, 6}), dz({2, 6}), none({0, 6});
  std::ranges::fill(dz.flat(), 1.0f);
  Context ctx;
  RoutingReport report;
  ctx.report = &report;
  auto grad = zeros_like(moe);
  const auto saved = moe.forward({.images = images, .ids = {}}, z, none, ctx);
  moe.backward(saved, dz, none, grad, ctx);
  for (const auto& block : grad.vision.tower.encoder.blocks)
    EXPECT_GT(norm(std::get<1>(std::get<0>(block.ffn.inner.layer).layer).router), 0);
}

// What is made of a dense model penalises routing as a model that is made with its options.
TEST(Upcycle, BalancesAsItsOptionsSay) {
  std::vector<float> values;
  for (const auto over : {BalanceOver::block, BalanceOver::tower}) {
    Rng rng(7);
    const auto moe = upcycle(dense(options()), {.balance = 0.5, .balance_over = over}, rng);
    Clip<float> made(moe.options);
    convert(moe, made);
    const auto balance = [](const Clip<float>& model) {
      Tensor<float, 4> images({2, 8, 8, 3});
      Rng noise(3);
      for (float& v : images.flat()) v = static_cast<float>(noise.normal());
      Tensor<float, 2> z({2, 6}), none({0, 6});
      Context ctx;
      return model.aux_loss(model.forward({.images = images, .ids = {}}, z, none, ctx), ctx);
    };
    values.push_back(balance(moe));
    EXPECT_EQ(values.back(), balance(made));
  }
  EXPECT_GT(values[1], 1.5 * values[0]);  // of two choices, not of the first
}

TEST(Upcycle, RefusesWhatMakesNoSense) {
  const auto model = dense(options());
  Rng rng(7);
  EXPECT_THROW((void)upcycle(model, {.num_experts = 4, .num_selected = 1}, rng), OptionError);
  EXPECT_THROW((void)upcycle(model, {.num_experts = 2, .num_selected = 3}, rng), OptionError);
  EXPECT_THROW((void)upcycle(model, {.balance = -1}, rng), OptionError);
  EXPECT_THROW((void)upcycle(model, {.vision = Placement{{3}}}, rng), OptionError);
  EXPECT_THROW((void)upcycle(upcycle(model, {}, rng), {}, rng), OptionError);
}

/// The dense model as it comes out of tuning its feed-forward nets.
Clip<float> tuned(Clip<float> model, std::uint64_t seed) {
  Rng rng(seed);
  for_each_param(
      [&](std::string_view path, auto& t) {
        if (feed_forward_only()(path))
          for (float& v : t.flat()) v += static_cast<float>(0.1 * rng.normal());
      },
      model);
  return model;
}

TEST(UpcycleFrom, ExpertsAreTheNetsOfTheModelsAndAllElseIsTheFirsts) {
  for (const auto activation : {ClipActivation::quick_gelu, ClipActivation::gelu}) {
    const auto base = dense(options(activation));
    const std::vector<Clip<float>> models{base, tuned(base, 1), tuned(base, 2)};
    const UpcycleOptions how{.num_experts = 3, .num_selected = 2};
    Rng rng(7), same(7);
    const auto moe = upcycle_from<float>(models, how, rng), copies = upcycle(base, how, same);
    Index experts = 0;
    for_each_param(
        [&](std::string_view path, const auto& got, const auto& copy) {
          const std::size_t at = path.find(".experts.");
          if (at == std::string_view::npos) {
            EXPECT_EQ(got, copy) << path;
            return;
          }
          ++experts;
          // vision.encoder.blocks.1.ffn.inner.experts.2.up.weight is ...ffn.inner.up.weight of model 2
          const auto e = static_cast<std::size_t>(path[at + 9] - '0');
          const auto dense_path = std::string(path.substr(0, at)) + std::string(path.substr(at + 10));
          for_each_param(
              [&](std::string_view of_net, const auto& wanted) {
                if (of_net == dense_path) {
                  EXPECT_TRUE(std::ranges::equal(got.flat(), wanted.flat())) << path;
                }
              },
              models[e]);
        },
        moe, copies);
    EXPECT_EQ(experts, 5 * 3 * 4);  // blocks, experts, tensors of a net
  }
}

// One model thrice is copy-upcycling.
TEST(UpcycleFrom, ModelsThatAreOneGiveItsEmbeddings) {
  const auto base = dense(options());
  const std::vector<Clip<float>> models(3, base);
  Rng rng(7);
  const auto before = embed(base), after = embed(upcycle_from<float>(models, {.num_experts = 3}, rng));
  test::expect_near<float, float>(after.image.flat(), before.image.flat(), 400, "image");
  test::expect_near<float, float>(after.text.flat(), before.text.flat(), 400, "text");
}

TEST(UpcycleFrom, RefusesModelsThatDoNotGoTogether) {
  const auto base = dense(options());
  Rng rng(7);
  const auto why = [&](const std::vector<Clip<float>>& models, const UpcycleOptions& how) -> std::string {
    try {
      (void)upcycle_from<float>(models, how, rng);
    } catch (const OptionError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(why({base, base}, {.num_experts = 3}),
            "upcycle_from: num_experts is 3, expected as many as there are models, 2");
  EXPECT_THAT(why({base, dense(options(ClipActivation::gelu))}, {.num_experts = 2}),
              ::testing::StartsWith("upcycle_from: model 1 is made with other options than model 0"));
  auto other = tuned(base, 1);
  other.text.tower.encoder.blocks[1].attention.inner.out.bias.flat()[3] += 1;
  EXPECT_THAT(why({base, other}, {.num_experts = 2}),
              ::testing::StartsWith(
                  "upcycle_from: model 1 differs from model 0 in text.encoder.blocks.1.attention.inner.out.bias"));
  const auto moe = upcycle_from<float>(std::vector{base, other}, {.num_experts = 2}, rng, OtherParameters::may_differ);
  EXPECT_EQ(moe.text.tower.encoder.blocks[1].attention.inner.out.bias,
            base.text.tower.encoder.blocks[1].attention.inner.out.bias);
  // A net that was tuned in a block that stays dense would be lost.
  EXPECT_THAT(why({base, tuned(base, 1)}, {.num_experts = 2, .vision = Placement{{1, 2}}}),
              ::testing::HasSubstr("vision.encoder.blocks.0.ffn.inner.up.weight"));
}

}  // namespace
}  // namespace gatefold
