#include "gatefold/models/limoe.hpp"

#include <cstring>
#include <memory>

#include "gatefold/losses/contrastive.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

LimoeOptions tiny() {
  return {.image_size = 4,
          .patch = 2,
          .channels = 1,
          .vocabulary = 6,
          .max_text_tokens = 4,
          .width = 8,
          .hidden = 3,
          .num_layers = 2,
          .num_heads = 2,
          .embedding = 3,
          .sparse = {.layers = {1}},
          .num_experts = 3,
          .num_selected = 1,
          .capacity = {.factor = 1.0},
          .router_noise = 0,
          .aux = {.coefficient = 0.3, .min_image_experts = 2, .min_text_experts = 2},
          .initial_temperature = 5};
}
LimoeOptions unlimited() {
  auto o = tiny();
  o.capacity = {};
  return o;
}

/// Some pictures and texts, and the memory that a Batch borrows.
template <class T>
struct Data {
  Tensor<T, 4> images;
  std::vector<Index> ids, offset;

  typename Limoe<T>::Batch batch() const { return {.images = images, .ids = words(), .text_offset = offsets()}; }
  typename Limoe<T>::Batch images_only() const { return {.images = images, .ids = {}, .text_offset = {}}; }
  typename Limoe<T>::Batch texts_only() const { return {.images = {}, .ids = words(), .text_offset = offsets()}; }
  Index num_images() const { return images.extent(0); }
  Index num_texts() const { return std::ssize(offset) - 1; }

 private:
  View<const Index, 1> words() const { return {ids.data(), {std::ssize(ids)}}; }
  View<const Index, 1> offsets() const { return {offset.data(), {std::ssize(offset)}}; }
};
template <class T>
Data<T> data() {
  Data<T> d{Tensor<T, 4>({3, 4, 4, 1}), {1, 5, 2, 2, 0, 3, 4, 5}, {0, 3, 4, 8}};
  Rng rng(9);
  for (T& v : d.images.flat()) v = T(static_cast<double>(static_cast<float>(rng.normal())));
  return d;
}

template <class T>
Limoe<T> random_limoe(const LimoeOptions& options) {
  Limoe<T> model(options);
  test::disturb(model, 4, 0.4);
  return model;
}

template <class T>
T total_loss(const Limoe<T>& model, const Data<T>& d, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  auto a = ctx.workspace.take<T>(d.num_images(), model.options.embedding);
  auto b = ctx.workspace.take<T>(d.num_texts(), model.options.embedding);
  const auto saved = model.forward(d.batch(), a, b, ctx);
  const auto loss = SoftmaxContrastive{}.forward<T>(a, b, model.log_temperature.flat()[0], ctx);
  return loss.loss + model.aux_loss(saved, ctx);
}

template <class T>
Limoe<T> gradient(const Limoe<T>& model, const Data<T>& d, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  const Index p = model.options.embedding;
  auto a = ctx.workspace.take<T>(d.num_images(), p), b = ctx.workspace.take<T>(d.num_texts(), p);
  auto da = ctx.workspace.take<T>(d.num_images(), p), db = ctx.workspace.take<T>(d.num_texts(), p);
  auto grad = zeros_like(model);
  const auto saved = model.forward(d.batch(), a, b, ctx);
  const auto loss = SoftmaxContrastive{}.forward<T>(a, b, model.log_temperature.flat()[0], ctx);
  SoftmaxContrastive{}.backward<T>(loss, T(1), da, db, grad.log_temperature.flat()[0], ctx);
  model.backward(saved, da, db, grad, ctx);
  return grad;
}

void check_gradients(const LimoeOptions& options) {
  const auto model = random_limoe<double>(options);
  Limoe<Dual> lifted(options);
  convert(model, lifted);
  Context ctx;
  const auto grad = gradient(model, data<double>(), ctx);
  const auto d = data<Dual>();
  std::size_t moved = 0, count = 0;
  for_each_param(
      [&](std::string_view path, const auto& g, auto& variables) {
        for (std::size_t i = 0; i < g.flat().size(); ++i, ++count) {
          variables.flat()[i].d = 1;
          const double wanted = total_loss(lifted, d, ctx).d;
          variables.flat()[i].d = 0;
          ASSERT_NEAR(g.flat()[i], wanted, 1e-10 * (1 + std::abs(wanted))) << path << " " << i;
          moved += wanted != 0;
        }
      },
      grad, lifted);
  EXPECT_GT(moved, count / 2);  // the comparison is not one of zeros
}

TEST(Limoe, GradientsOfOneTowerWithAuxiliaryLosses) { check_gradients(tiny()); }
TEST(Limoe, GradientsOfTwoSparseBlocksAndTwoExpertsEach) {
  auto o = tiny();
  o.sparse.layers = {0, 1};
  o.num_selected = 2;
  check_gradients(o);
}
TEST(Limoe, GradientsOfTheDenseModel) {
  auto o = tiny();
  o.sparse = Placement::none();
  check_gradients(o);
}
TEST(Limoe, GradientsOfTwoTowers) {
  auto o = tiny();
  o.towers = LimoeOptions::Towers::two;
  check_gradients(o);
}

TEST(Limoe, ListsItsParameters) {
  auto o = tiny();
  o.num_experts = 2;
  auto model = Limoe<float>(o);
  std::vector<std::string> paths;
  for_each_param([&](std::string_view path, auto&) { paths.emplace_back(path); }, model);
  std::vector<std::string> wanted{"patch_embed.projection.weight", "patch_embed.projection.bias", "word_embed.table",
                                  "text_position.table"};
  for (const std::string block : {"0", "1"}) {
    for (const std::string part :
         {"attention.norm.gain", "attention.norm.bias", "attention.inner.qkv.weight", "attention.inner.qkv.bias",
          "attention.inner.out.weight", "attention.inner.out.bias", "ffn.norm.gain", "ffn.norm.bias"})
      wanted.push_back("trunks.0.blocks." + block + "." + part);
    if (block == "1") wanted.push_back("trunks.0.blocks.1.ffn.inner.router.weight");
    for (const std::string& net :
         block == "1" ? std::vector<std::string>{"experts.0.", "experts.1."} : std::vector<std::string>{""})
      for (const std::string part : {"up.weight", "up.bias", "down.weight", "down.bias"})
        wanted.push_back("trunks.0.blocks." + block + ".ffn.inner." + net + part);
  }
  for (const char* path : {"trunks.0.norm.gain", "trunks.0.norm.bias", "image_projection.weight",
                           "text_projection.weight", "log_temperature"})
    wanted.emplace_back(path);
  EXPECT_EQ(paths, wanted);

  o.towers = LimoeOptions::Towers::two;
  EXPECT_EQ(Limoe<float>(o).trunks.size(), 2u);
}

struct Embeddings {
  Tensor<double, 2> image, text;
};
Embeddings embed(const Limoe<double>& model, const Limoe<double>::Batch& batch) {
  Embeddings z{Tensor<double, 2>({batch.num_images(), model.options.embedding}),
               Tensor<double, 2>({batch.num_texts(), model.options.embedding})};
  Context ctx;
  (void)model.forward(batch, z.image, z.text, ctx);
  return z;
}
void expect_near(View<const double, 1> a, View<const double, 1> b) {
  for (Index i = 0; i < a.extent(0); ++i) EXPECT_NEAR(a[i], b[i], 1e-13);
}

TEST(Limoe, WithSeatsForAllEachModalityIsAsIfAlone) {
  for (const auto towers : {LimoeOptions::Towers::one, LimoeOptions::Towers::two}) {
    auto o = unlimited();
    o.towers = towers;
    const auto model = random_limoe<double>(o);
    const auto d = data<double>();
    const auto joint = embed(model, d.batch()), images = embed(model, d.images_only()),
               texts = embed(model, d.texts_only());
    EXPECT_EQ(images.text.size(), 0);
    for (Index i = 0; i < 3; ++i) {
      expect_near(joint.image.view()[i], images.image.view()[i]);
      expect_near(joint.text.view()[i], texts.text.view()[i]);
    }
    EXPECT_EQ(embed(model, {}).image.size(), 0);  // nothing at all
  }
}

TEST(Limoe, ATextDoesNotDependOnItsBatchMates) {
  const auto model = random_limoe<double>(unlimited());
  const auto d = data<double>();
  const auto all = embed(model, d.batch());
  for (Index b = 0; b < 3; ++b) {
    Data<double> one{Tensor<double, 4>({0, 4, 4, 1}),
                     {d.ids.begin() + d.offset[static_cast<std::size_t>(b)],
                      d.ids.begin() + d.offset[static_cast<std::size_t>(b) + 1]},
                     {0}};
    one.offset.push_back(std::ssize(one.ids));
    expect_near(embed(model, one.texts_only()).text.view()[0], all.text.view()[b]);
  }
  Data<double> reversed{Tensor<double, 4>({0, 4, 4, 1}), {0, 3, 4, 5, 2, 1, 5, 2}, {0, 4, 5, 8}};
  // The same texts the other way round: {0 3 4 5}, {2}, {1 5 2}.
  reversed.ids = {d.ids[4], d.ids[5], d.ids[6], d.ids[7], d.ids[3], d.ids[0], d.ids[1], d.ids[2]};
  const auto other = embed(model, reversed.texts_only());
  for (Index b = 0; b < 3; ++b) expect_near(other.text.view()[b], all.text.view()[2 - b]);
}

TEST(Limoe, PositionsMatter) {
  const auto model = random_limoe<double>(unlimited());
  auto d = data<double>();
  const auto before = embed(model, d.batch());
  std::swap(d.ids[0], d.ids[1]);
  for (Index j = 0; j < 2; ++j)
    for (Index i = 0; i < 2; ++i)
      std::swap(d.images.view()(0, i, j, 0), d.images.view()(0, i, j + 2, 0));  // two patches
  const auto after = embed(model, d.batch());
  for (Index j = 0; j < 3; ++j) {
    EXPECT_GT(std::abs(before.text.view()(0, j) - after.text.view()(0, j)), 1e-6);
    EXPECT_GT(std::abs(before.image.view()(0, j) - after.image.view()(0, j)), 1e-6);
  }
}

TEST(Limoe, SavedMayBeCopied) {
  const auto model = random_limoe<double>(tiny());
  const auto d = data<double>();
  Context ctx;
  const auto wanted = gradient(model, d, ctx);
  const auto scope = ctx.workspace.scope();
  Tensor<double, 2> a({3, 3}), b({3, 3}), da({3, 3}), db({3, 3});
  auto original = std::make_unique<Limoe<double>::Saved>(model.forward(d.batch(), a, b, ctx));
  const auto copy = *original;
  *original = {};
  original.reset();
  auto grad = zeros_like(model);
  const auto loss = SoftmaxContrastive{}.forward<double>(a, b, model.log_temperature.flat()[0], ctx);
  SoftmaxContrastive{}.backward<double>(loss, 1, da, db, grad.log_temperature.flat()[0], ctx);
  model.backward(copy, da, db, grad, ctx);
  for_each_param([](std::string_view path, const auto& g, const auto& w) { EXPECT_EQ(g, w) << path; }, grad, wanted);
}

TEST(Limoe, SameBitsForAnyNumberOfThreads) {
  for (const auto towers : {LimoeOptions::Towers::one, LimoeOptions::Towers::two}) {
    auto o = tiny();
    o.towers = towers;
    const auto model = random_limoe<float>(o);
    Data<float> many{Tensor<float, 4>({300, 4, 4, 1}), {}, {0}};
    Rng rng(3);
    for (float& v : many.images.flat()) v = static_cast<float>(rng.normal());
    for (Index b = 0; b < 300; ++b) {
      for (Index i = 0; i <= b % 4; ++i) many.ids.push_back(rng.below(6));
      many.offset.push_back(std::ssize(many.ids));
    }
    const auto with = [&](ParallelFor parallel_for) {
      Context ctx;
      ctx.parallel_for = std::move(parallel_for);
      return gradient(model, many, ctx);
    };
    const auto serial = with(ParallelFor());
    for (const Index workers : {2, 7}) {
      const auto parallel = with(test::threads(workers));
      for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, parallel,
                     serial);
    }
  }
}

TEST(Limoe, NoAllocationAfterWarmUpAndTheLayoutIsGivenBack) {
  const auto model = random_limoe<float>(tiny());
  const auto d = data<float>();
  Tensor<float, 2> a({3, 3}), b({3, 3});
  auto grad = zeros_like(model);
  Context ctx;
  ctx.parallel_for = ParallelFor();
  const TokenLayout mine;
  ctx.layout = &mine;
  const auto pass = [&] {
    const auto scope = ctx.workspace.scope();
    const auto saved = model.forward(d.batch(), a, b, ctx);
    model.backward(saved, a, b, grad, ctx);
  };
  pass();
  const auto blocks = ctx.workspace.allocations();
  const test::AllocGuard guard;
  pass();
  EXPECT_EQ(guard.count(), 0);
  EXPECT_EQ(ctx.workspace.allocations(), blocks);
  EXPECT_EQ(ctx.layout, &mine);
}

template <class M>
Embeddings embed_float(const M& model, const Data<float>& d, Context& ctx) {
  Tensor<float, 2> image({d.num_images(), model.options.embedding}), text({d.num_texts(), model.options.embedding});
  const typename M::Batch batch{.images = d.images, .ids = d.batch().ids, .text_offset = d.batch().text_offset};
  const auto scope = ctx.workspace.scope();
  (void)model.forward(batch, image, text, ctx);
  Embeddings z{Tensor<double, 2>(image.shape()), Tensor<double, 2>(text.shape())};
  std::ranges::copy(image.flat(), z.image.flat().begin());
  std::ranges::copy(text.flat(), z.text.flat().begin());
  return z;
}

TEST(Limoe, MayBePacked) {
  for (const auto towers : {LimoeOptions::Towers::one, LimoeOptions::Towers::two}) {
    auto o = unlimited();
    o.towers = towers;
    o.width = 48, o.hidden = 70, o.embedding = 9;
    Limoe<float> model(o);
    Context ctx;
    Rng rng(1);
    model.initialise(rng, ctx);
    test::disturb(model, 2, 0.02);
    const auto d = data<float>();
    const auto wanted = embed_float(model, d, ctx);
    const auto check = [&]<class F>(std::type_identity<F>, double tolerance) {
      const auto packed = pack<F>(model);
      static_assert(std::same_as<decltype(pack<F>(model)), Limoe<float, Packed<F>>>);
      EXPECT_EQ(packed.log_temperature, model.log_temperature);
      const auto z = embed_float(packed, d, ctx);
      double error = 0, size = 0;
      for (const auto& [a, b] : {std::pair(z.image.flat(), wanted.image.flat()), {z.text.flat(), wanted.text.flat()}})
        for (std::size_t i = 0; i < a.size(); ++i) error += std::pow(a[i] - b[i], 2), size += std::pow(b[i], 2);
      EXPECT_LE(std::sqrt(error / size), tolerance);

      std::vector<std::string> paths;
      for_each_param([&](std::string_view path, const auto&) { paths.emplace_back(path); }, packed);
      EXPECT_THAT(paths, testing::Contains("trunks.0.blocks.1.ffn.inner.experts.2.down.weight.values"));
      EXPECT_THAT(paths, testing::Contains("image_projection.weight.values"));
      EXPECT_THAT(paths, testing::Contains("word_embed.table"));

      const auto before = ctx.workspace.allocations();
      for (const Index workers : {2, 7}) {
        Context parallel;
        parallel.parallel_for = test::threads(workers);
        const auto other = embed_float(packed, d, parallel);
        EXPECT_EQ(other.image, z.image);
        EXPECT_EQ(other.text, z.text);
      }
      (void)embed_float(packed, d, ctx);
      EXPECT_EQ(ctx.workspace.allocations(), before);
    };
    // A patch embedding, two blocks of four products and a projection, in 24, 8, 8 and 4 bits; what a router changes
    // its mind about comes on top.
    check(std::type_identity<float>{}, 1e-4);
    check(std::type_identity<bf16>{}, 0.05);
    check(std::type_identity<int8>{}, 0.15);
    check(std::type_identity<int4>{}, 1);
  }
}

TEST(Limoe, CapacityMayBeChangedForUse) {
  auto model = random_limoe<double>(tiny());
  auto free = random_limoe<double>(unlimited());
  const auto d = data<double>();
  const auto scarce = embed(model, d.batch());
  model.set_capacity({});
  const auto plenty = embed(model, d.batch());
  EXPECT_EQ(plenty.image, embed(free, d.batch()).image);
  EXPECT_NE(plenty.image, scarce.image);
  EXPECT_EQ(model.options.capacity, Capacity{});
}

TEST(Limoe, TemperatureStaysWithinItsBounds) {
  Limoe<float> model(tiny());
  auto& t = model.log_temperature.flat()[0];
  EXPECT_FLOAT_EQ(t, std::log(5.0f));
  model.clamp_temperature();
  EXPECT_FLOAT_EQ(t, std::log(5.0f));
  t = 10;
  model.clamp_temperature();
  EXPECT_FLOAT_EQ(t, std::log(100.0f));
  t = -1;
  model.clamp_temperature();
  EXPECT_EQ(t, 0);
}

TEST(Limoe, RefusesWhatDoesNotFit) {
  const Limoe<float> model(tiny());
  const auto good = data<float>();
  Tensor<float, 2> a({3, 3}), b({3, 3});
  Context ctx;
  const auto refused = [&](Data<float> d, auto change) {
    change(d);
    EXPECT_THROW((void)model.forward(d.batch(), a, b, ctx), ShapeError);
  };
  EXPECT_NO_THROW((void)model.forward(good.batch(), a, b, ctx));
  refused(good, [](auto& d) { d.images = Tensor<float, 4>({3, 4, 6, 1}); });
  refused(good, [](auto& d) { d.images = Tensor<float, 4>({3, 4, 4, 3}); });
  refused(good, [](auto& d) { d.offset = {0, 3, 4, 7}; });
  refused(good, [](auto& d) { d.offset = {1, 3, 4, 8}; });
  refused(good, [](auto& d) { d.offset = {0, 4, 3, 8}; });
  refused(good, [](auto& d) { d.offset = {0, 5, 6, 8}; });  // five words, at most four
  refused(good, [](auto& d) { d.ids[5] = 6; });
  refused(good, [](auto& d) { d.ids[0] = -1; });
  refused(good, [](auto& d) { d.images = Tensor<float, 4>({2, 4, 4, 1}); });  // one row of z_image too many
  const auto without_offsets = Limoe<float>::Batch{.images = {}, .ids = good.batch().ids, .text_offset = {}};
  EXPECT_THROW((void)model.forward(without_offsets, Rows<float>(nullptr, {0, 3}), Rows<float>(nullptr, {0, 3}), ctx),
               ShapeError);

  auto o = tiny();
  o.patch = 3;
  EXPECT_THROW(Limoe<float>{o}, OptionError);
  for (const auto field :
       {&LimoeOptions::image_size, &LimoeOptions::patch, &LimoeOptions::channels, &LimoeOptions::vocabulary,
        &LimoeOptions::max_text_tokens, &LimoeOptions::width, &LimoeOptions::hidden, &LimoeOptions::num_layers,
        &LimoeOptions::num_heads, &LimoeOptions::embedding}) {
    o = tiny(), o.*field = 0;
    EXPECT_THAT([&] { Limoe<float>{o}; },
                testing::ThrowsMessage<OptionError>(testing::HasSubstr(" is 0, expected at least 1")));
  }
  o = tiny(), o.initial_temperature = 0;
  EXPECT_THROW(Limoe<float>{o}, OptionError);
  o = tiny(), o.num_heads = 3;
  EXPECT_THROW(Limoe<float>{o}, OptionError);
  o = tiny(), o.num_selected = 4;
  EXPECT_THROW(Limoe<float>{o}, OptionError);
  o = tiny(), o.sparse.layers = {2};
  EXPECT_THROW(Limoe<float>{o}, OptionError);
}

}  // namespace
}  // namespace gatefold
