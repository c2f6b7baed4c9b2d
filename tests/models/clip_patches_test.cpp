#include "gatefold/models/clip_patches.hpp"

#include "gatefold/models/vision_language.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

ClipOptions options(Index num_layers = 2) {
  return {.image_size = 8,
          .patch = 4,
          .embedding = 5,
          .image_pool = ClipPool::mean_then_norm,
          .vision = {.width = 8, .hidden = 12, .num_layers = num_layers, .num_heads = 2},
          .text = {.width = 8, .hidden = 8, .num_layers = 1, .num_heads = 1}};
}
template <class T>
ClipVision<T> random_clip(const ClipOptions& o) {
  ClipVision<T> clip(o);
  test::disturb(clip, 3);
  return clip;
}
template <class T>
Tensor<T, 4> pictures(Index count) {
  Tensor<T, 4> images({count, 8, 8, 3});
  Rng rng(5);
  for (T& v : images.flat()) v = T(static_cast<double>(static_cast<float>(rng.normal())));
  return images;
}
template <class M>
std::map<std::string, std::vector<double>> numbers_of(const M& module) {
  std::map<std::string, std::vector<double>> all;
  for_each_param(
      [&](std::string_view path, const auto& t) {
        std::string name(path);
        if (name.starts_with("encoder.")) name.erase(0, 8);
        all[name].assign(t.flat().begin(), t.flat().end());
      },
      module);
  return all;
}

/// A CLIP that takes the mean of its patches makes its embeddings of just these rows; its gradients are proven
/// elsewhere.
TEST(ClipPatches, AreWhatAClipTakesTheMeanOf) {
  const auto o = options();
  for (const bool pre_norm : {true, false}) {
    auto own = o;
    own.image_pre_norm = pre_norm;
    const auto clip = random_clip<double>(own);
    const ClipPatches<double> patches(own, clip, 0);
    EXPECT_EQ(patches.tokens_per_image(), 4);
    EXPECT_EQ(patches.width(), 8);
    const auto images = pictures<double>(3);
    const auto dz = test::random_matrix<double>({3, 5}, 8);
    Context ctx;
    test::Matrix<double> wanted({3, 5}), rows({12, 8}), mean({3, 8}), normed({3, 8}), z({3, 5});
    auto clip_grad = zeros_like(clip);
    clip.backward(clip.forward(images, wanted, ctx), dz, clip_grad, ctx);

    const auto saved = patches.forward(images, rows, ctx);
    const auto layout = equal_sequences(3, 4, ctx.workspace);
    pool<double>(Pooling::mean, rows, layout, mean, ctx);
    const auto saved_norm = clip.tower.encoder.norm.forward(mean, normed, ctx);
    const auto saved_projection = clip.tower.projection.forward(normed, z, ctx);
    for (Index i = 0; i < z.size(); ++i) EXPECT_NEAR(z.data()[i], wanted.data()[i], 1e-13);

    auto grad = zeros_like(patches);
    test::Matrix<double> drows({12, 8}), dmean({3, 8}), dnormed({3, 8});
    auto rest = zeros_like(clip.tower);
    clip.tower.projection.backward(saved_projection, dz, dnormed, rest.projection, ctx);
    clip.tower.encoder.norm.backward(saved_norm, dnormed, dmean, rest.encoder.norm, ctx);
    pool_grad<double>(Pooling::mean, dmean, layout, drows, ctx);
    patches.backward(saved, drows, grad, ctx);
    auto all = numbers_of(clip_grad);
    for (const auto& [path, numbers] : numbers_of(grad)) {
      ASSERT_TRUE(all.contains(path)) << path;
      for (std::size_t i = 0; i < numbers.size(); ++i) EXPECT_NEAR(numbers[i], all[path][i], 1e-13) << path;
      all.erase(path);
    }
    EXPECT_EQ(all.size(), 3u);  // the last norm's gain and bias, and the projection
  }
}

TEST(ClipPatches, BlocksMayBeDropped) {
  const auto clip = random_clip<double>(options());
  auto shorter = ClipVision<double>(options(1));
  auto from = numbers_of(clip);
  for_each_param(
      [&](std::string_view path, auto& t) {
        std::string name(path);
        if (name.starts_with("encoder.")) name.erase(0, 8);
        std::ranges::copy(from.at(name), t.flat().begin());
      },
      shorter);
  const ClipPatches<double> patches(options(), clip), whole(options(1), shorter, 0);
  Context ctx;
  test::Matrix<double> came({8, 8}), wanted({8, 8});
  (void)patches.forward(pictures<double>(2), came, ctx);
  (void)whole.forward(pictures<double>(2), wanted, ctx);
  EXPECT_EQ(came, wanted);
  EXPECT_THROW(ClipPatches<double>(options(), clip, 3), OptionError);
  EXPECT_THROW((void)patches.forward(pictures<double>(3), came, ctx), ShapeError);
  EXPECT_THROW((void)patches.forward(Tensor<double, 4>({2, 4, 8, 3}), came, ctx), ShapeError);
}

TEST(ClipPatches, AVisionLanguageSeesByThem) {
  const VisionLanguageOptions o{
      .vocabulary = 9, .context = 12, .width = 16, .hidden = 24, .num_layers = 2, .num_heads = 2};
  using Model = VisionLanguage<float, Tensor<float, 2>, ClipPatches<float>>;
  Model model(o, ClipPatches<float>(options(), random_clip<float>(options())),
              [&](Index) { return make_decoder_block<float>(o); });
  Context ctx;
  Rng rng(1);
  const auto clip = model.vision;
  model.initialise(rng, ctx);
  for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; },
                 std::as_const(model.vision), clip);
  test::disturb(model, 7);
  const auto images = pictures<float>(2);
  const std::vector<Index> ids{1, 2, 3, 4, 5}, offset{0, 2, 5}, answer{1, 3};
  const Model::Batch batch{images, {ids.data(), {5}}, {offset.data(), {3}}, {answer.data(), {2}}};
  Tensor<float, 2> logits({3, 9}), close({3, 9});
  auto grad = zeros_like(model);
  model.backward(model.forward(batch, logits, ctx), logits, grad, ctx);
  EXPECT_GT(norm(grad.vision), 0);
  const auto packed = pack<float>(model);
  (void)packed.forward({images, batch.ids, batch.text_offset, batch.answer}, close, ctx);
  for (Index i = 0; i < logits.size(); ++i) EXPECT_NEAR(logits.data()[i], close.data()[i], 1e-4);
}

}  // namespace
}  // namespace gatefold
