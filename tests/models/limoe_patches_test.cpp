#include "gatefold/models/limoe_patches.hpp"

#include "gatefold/models/vision_language.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

LimoeOptions options() {
  return {.image_size = 8,
          .patch = 4,
          .channels = 1,
          .vocabulary = 5,
          .max_text_tokens = 4,
          .width = 8,
          .hidden = 12,
          .num_layers = 2,
          .num_heads = 2,
          .embedding = 5,
          .sparse = {.layers = {1}},
          .num_experts = 3,
          .capacity = {},
          .aux = {.min_image_experts = 2, .min_text_experts = 1}};
}
template <class T>
Limoe<T> random_limoe(LimoeOptions::Towers towers) {
  auto o = options();
  o.towers = towers;
  Limoe<T> limoe(o);
  test::disturb(limoe, 3);
  return limoe;
}
template <class T>
Tensor<T, 4> pictures(Index count) {
  Tensor<T, 4> images({count, 8, 8, 1});
  Rng rng(5);
  for (T& v : images.flat()) v = T(static_cast<double>(static_cast<float>(rng.normal())));
  return images;
}

/// A LIMoE makes its embeddings of the mean of just these rows; its gradients are proven elsewhere.
TEST(LimoePatches, AreWhatALimoeTakesTheMeanOf) {
  for (const auto towers : {LimoeOptions::Towers::one, LimoeOptions::Towers::two}) {
    const auto limoe = random_limoe<double>(towers);
    const LimoePatches<double> patches(limoe);
    const auto images = pictures<double>(3);
    const auto dz = test::random_matrix<double>({3, 5}, 8);
    Context ctx;
    test::Matrix<double> wanted({3, 5}), none({0, 5}), rows({12, 8}), mean({3, 8}), z({3, 5});
    auto limoe_grad = zeros_like(limoe);
    const auto limoe_saved = limoe.forward({.images = images, .ids = {}, .text_offset = {}}, wanted, none, ctx);
    limoe.backward(limoe_saved, dz, none, limoe_grad, ctx);

    const auto saved = patches.forward(images, rows, ctx);
    const auto layout = equal_sequences(3, 4, ctx.workspace);
    pool<double>(Pooling::mean, rows, layout, mean, ctx);
    const auto saved_projection = limoe.image_projection.forward(mean, z, ctx);
    for (Index i = 0; i < z.size(); ++i) EXPECT_NEAR(z.data()[i], wanted.data()[i], 1e-13);
    EXPECT_NEAR(aux_loss(patches, saved, ctx), limoe.aux_loss(limoe_saved, ctx), 1e-13);
    EXPECT_GT(aux_loss(patches, saved, ctx), 0);

    auto grad = zeros_like(patches);
    auto rest = zeros_like(limoe.image_projection);
    test::Matrix<double> drows({12, 8}), dmean({3, 8});
    limoe.image_projection.backward(saved_projection, dz, dmean, rest, ctx);
    pool_grad<double>(Pooling::mean, dmean, layout, drows, ctx);
    patches.backward(saved, drows, grad, ctx);
    const LimoePatches<double> limoe_part(limoe_grad);
    for_each_param(
        [](std::string_view path, const auto& a, const auto& b) {
          for (std::size_t i = 0; i < a.flat().size(); ++i) ASSERT_NEAR(a.flat()[i], b.flat()[i], 1e-13) << path;
        },
        std::as_const(grad), limoe_part);
    EXPECT_THROW((void)patches.forward(images, mean, ctx), ShapeError);
    EXPECT_THROW((void)patches.forward(Tensor<double, 4>({3, 4, 8, 1}), rows, ctx), ShapeError);
  }
}

TEST(LimoePatches, AVisionLanguageSeesByThem) {
  const VisionLanguageOptions o{
      .vocabulary = 9, .context = 12, .width = 16, .hidden = 24, .num_layers = 1, .num_heads = 2};
  using Model = VisionLanguage<double, Tensor<double, 2>, LimoePatches<double>>;
  Model model(o, LimoePatches<double>(random_limoe<double>(LimoeOptions::Towers::one)),
              [&](Index) { return make_decoder_block<double>(o); });
  const auto images = pictures<double>(2);
  const std::vector<Index> ids{1, 2, 3, 4, 5}, offset{0, 2, 5}, answer{1, 3};
  const Model::Batch batch{images, {ids.data(), {5}}, {offset.data(), {3}}, {answer.data(), {2}}};
  Context ctx;
  Tensor<double, 2> logits({3, 9}), dlogits({3, 9});
  auto grad = zeros_like(model);
  const auto saved = model.forward(batch, logits, ctx);
  EXPECT_GT(aux_loss(model, saved, ctx), 0);
  model.backward(saved, dlogits, grad, ctx);  // of the penalties alone
  Index sparse = 0;
  for_each_sparse(grad, [&](std::string_view path, const auto& mixture) {
    EXPECT_EQ(path, "vision.trunk.blocks.1.ffn.inner");
    EXPECT_GT(norm(mixture.router), 0);
    ++sparse;
  });
  EXPECT_EQ(sparse, 1);
  EXPECT_EQ(norm(grad.decoder), 0);
}

}  // namespace
}  // namespace gatefold
