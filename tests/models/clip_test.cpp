#include "gatefold/models/clip.hpp"

#include <filesystem>

#include "gatefold/adapt/freeze_policy.hpp"
#include "gatefold/losses/contrastive.hpp"
#include "gatefold/models/clip_file.hpp"
#include "gatefold/routing/routing_report.hpp"
#include "gatefold/train/accumulate.hpp"
#include "tests/support/layer_contract.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

std::filesystem::path data_folder(const std::string& name) { return gatefold::test::test_data("clip") / name; }

/// What the reference made of some pictures and texts (tests/data/clip/make_clip.py).
struct Golden {
  std::string name;
  Clip<float> model;
  CheckpointReader expected;
  Tensor<float, 4> images;
  Tensor<Index, 2> ids;

  explicit Golden(const std::string& n)
      : name(n),
        model(load_clip(data_folder(n),
                        n.starts_with("clip_moe") ? LoadClipOptions{.weights = {.head_width = 4}} : LoadClipOptions{})),
        expected(data_folder(n) / "expected.safetensors"),
        images(expected.read_tensor<float, 4>("images")),
        ids(expected.read_tensor<Index, 2>("ids")) {}
  Clip<float>::Batch batch() const { return {.images = images, .ids = ids}; }
  Tensor<float, 2> embeddings(const std::string& kind) const { return expected.read_tensor<float, 2>(kind); }
};

/// The largest deviation, in terms of the largest value.
double deviation(std::span<const float> got, std::span<const float> wanted) {
  if (got.size() != wanted.size()) return std::numeric_limits<double>::infinity();
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(double{got[i]} - double{wanted[i]});
    if (!(d <= worst)) worst = d;
    largest = std::max(largest, std::abs(double{wanted[i]}));
  }
  return worst / largest;
}

/// The same of lengths: of the difference, in terms of what was wanted.
double distance(std::span<const float> got, std::span<const float> wanted) {
  double difference = 0, length = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double d = double{got[i]} - double{wanted[i]};
    difference += d * d;
    length += double{wanted[i]} * double{wanted[i]};
  }
  return std::sqrt(difference / length);
}

/// Rows of sequences of some lengths, of an expected tensor in which all have the same. // [B, T, D]
std::vector<float> first_rows(const Tensor<float, 3>& all, View<const Index, 1> offset) {
  std::vector<float> rows;
  for (Index b = 0; b < all.extent(0); ++b) {
    const auto from = all.view()[b].rows(0, offset[b + 1] - offset[b]);
    rows.insert(rows.end(), from.data(), from.data() + from.size());
  }
  return rows;
}

template <class TowerSaved>
void expect_hidden_states(const Golden& golden, const std::string& tower, const TowerSaved& saved, double tolerance) {
  const auto& blocks = saved.encoder.blocks;
  for (Index layer = 0; layer <= blocks.extent(0); ++layer) {
    const Rows<const float> got = layer < blocks.extent(0) ? blocks[layer].attention.norm.x : saved.encoder.norm.x;
    const auto name = tower + ".hidden." + std::to_string(layer);
    const auto wanted = first_rows(golden.expected.read_tensor<float, 3>(name), saved.layout->offset);
    EXPECT_LT(deviation({got.data(), static_cast<std::size_t>(got.size())}, wanted), tolerance) << name;
  }
}

class ClipGolden : public ::testing::TestWithParam<std::string> {};

// Goldens are of transformers in double (its softmax in float), and of CLIP-MoE's formulas in torch.
TEST_P(ClipGolden, HiddenStatesAndEmbeddingsAreTheReferences) {
  const Golden golden(GetParam());
  for (const Isa isa : {Isa::portable, default_isa()}) {
    Context ctx;
    ctx.isa = isa;
    auto image = golden.embeddings("image"), text = golden.embeddings("text");
    const auto wanted_image = image, wanted_text = text;
    const auto saved = golden.model.forward(golden.batch(), image, text, ctx);
    expect_hidden_states(golden, "vision", saved.vision.tower, 1e-5);
    expect_hidden_states(golden, "text", saved.text.tower, 1e-5);
    EXPECT_LT(deviation(image.flat(), wanted_image.flat()), 1e-5);
    EXPECT_LT(deviation(text.flat(), wanted_text.flat()), 1e-5);
    golden.model.encode_images(golden.images, image, ctx);
    golden.model.encode_texts(golden.ids, text, ctx);
    EXPECT_LT(deviation(image.flat(), wanted_image.flat()), 1e-5);
    EXPECT_LT(deviation(text.flat(), wanted_text.flat()), 1e-5);
  }
}

/// The larger distance of both embeddings over packed weights, packed after loading and while loading.
template <class F>
double packed_distance(const Golden& golden) {
  const LoadClipOptions how{.weights = {.head_width = golden.name == "clip_moe" ? 4 : 64}};
  double worst = 0;
  for (const auto& model : {pack<F>(golden.model), load_clip<Packed<F>>(data_folder(golden.name), how)}) {
    Context ctx;
    auto image = golden.embeddings("image"), text = golden.embeddings("text");
    model.encode_images(golden.images, image, ctx);
    model.encode_texts(golden.ids, text, ctx);
    worst = std::max({worst, distance(image.flat(), golden.embeddings("image").flat()),
                      distance(text.flat(), golden.embeddings("text").flat())});
  }
  return worst;
}

TEST_P(ClipGolden, PackedWeightsGiveNearlyTheSame) {
  const Golden golden(GetParam());
  EXPECT_LT(packed_distance<float>(golden), 1e-5);
  // bf16 rounds by 2^-9 at most, int8 by 1/254 of the largest weight of an output and of the largest input; in blocks
  // of a dozen channels that hardly averages out.
  const double of_bf16 = packed_distance<bf16>(golden), of_int8 = packed_distance<int8>(golden);
  EXPECT_LT(of_bf16, 1e-2);
  EXPECT_LT(of_int8, 5e-2);
  RecordProperty("bf16", std::to_string(of_bf16));
  RecordProperty("int8", std::to_string(of_int8));
}
INSTANTIATE_TEST_SUITE_P(Names, ClipGolden, ::testing::Values("quick", "gelu", "bf16", "openai", "clip_moe"),
                         [](const auto& golden) { return golden.param; });

/// The worst of the gradients of a folder's CLIP under `loss` and its balance, against those of a file, under the
/// weights' names and so of the same shapes. Returns how many were compared.
Index expect_gradients(const Clip<float>& model, const Golden& golden, const SoftmaxContrastive& contrastive,
                       const Clip<float>& wanted, const std::filesystem::path& file) {
  Context ctx;
  const Index p = model.options.embedding, images = golden.images.extent(0), texts = golden.ids.extent(0);
  auto a = ctx.workspace.take<float>(images, p), b = ctx.workspace.take<float>(texts, p);
  auto da = ctx.workspace.take<float>(images, p), db = ctx.workspace.take<float>(texts, p);
  auto grad = zeros_like(model);
  const auto saved = model.forward(golden.batch(), a, b, ctx);
  const auto loss = contrastive.forward<float>(a, b, model.logit_scale.flat()[0], ctx);
  contrastive.backward<float>(loss, 1.0f, da, db, grad.logit_scale.flat()[0], ctx);
  model.backward(saved, da, db, grad, ctx);
  const CheckpointReader reference(file);
  EXPECT_NEAR(double{loss.loss}, std::stod(reference.metadata("loss")), 1e-5);
  for (const auto* tower : {"vision", "text"})
    if (!model.options.vision.mixture.placement.layers.empty()) {
      const double value = std::string(tower) == "vision" ? double{model.vision.tower.aux_loss(saved.vision.tower, ctx)}
                                                          : double{model.text.tower.aux_loss(saved.text.tower, ctx)};
      EXPECT_NEAR(value / model.options.vision.mixture.balance, std::stod(reference.metadata(tower)), 1e-5) << tower;
    }
  Index compared = 0;
  for_each_param(
      [&](std::string_view path, const auto& got, const auto& of_torch) {
        // The loss does not depend on the key's bias: what is left is rounding, in PyTorch as here.
        double largest = 0;
        for (const float v : of_torch.flat()) largest = std::max(largest, std::abs(double{v}));
        EXPECT_GT(largest, 1e-6) << path;
        EXPECT_LT(deviation(got.flat(), of_torch.flat()), 1e-4) << path;
        ++compared;
      },
      grad, wanted);
  return compared;
}

TEST(ClipGolden, ContrastiveGradientsAreThoseOfPyTorch) {
  const Golden golden("quick");
  const Index compared = expect_gradients(golden.model, golden, {}, load_clip(data_folder("gradients")),
                                          data_folder("gradients") / "model.safetensors");
  EXPECT_EQ(compared, 48 + 8 + 5 + 1);  // blocks, the rest of vision and of text, logit_scale
}

// The training loss of CLIP-MoE: label smoothing, and the balance of the paper (of each block, first choices) and of
// the published code (of a tower, all choices).
TEST(ClipGolden, GradientsOfAWholeClipMoeAreThoseOfPyTorch) {
  const Golden golden("clip_moe_gradients");
  for (const auto over : {BalanceOver::block, BalanceOver::tower}) {
    auto options = golden.model.options;
    for (auto* tower : {&options.vision, &options.text}) {
      tower->mixture.balance = 0.3;
      tower->mixture.balance_over = over;
    }
    Clip<float> model(options);
    convert(golden.model, model);
    const auto folder = data_folder("clip_moe_gradients") / (over == BalanceOver::block ? "block" : "tower");
    const Index compared =
        expect_gradients(model, golden, {.label_smoothing = 0.1}, load_clip(folder, {.weights = {.head_width = 4}}),
                         folder / "model.safetensors");
    EXPECT_EQ(compared, 4 * (8 + 1 + 3 * 4) + 8 + 5 + 1);
  }
}

ClipOptions tiny() {
  return {.image_size = 4,
          .patch = 2,
          .channels = 1,
          .vocabulary = 9,
          .context = 6,
          .embedding = 3,
          .vision = {.width = 4, .hidden = 3, .num_layers = 2, .num_heads = 2, .epsilon = 1e-3},
          .text = {.width = 4, .hidden = 3, .num_layers = 1, .num_heads = 1, .activation = ClipActivation::gelu},
          .initial_temperature = 5};
}
ClipOptions tiny_mixture() {
  auto o = tiny();
  o.vision.mixture = {.placement = {.layers = {1}}, .num_experts = 3, .balance = 0.3};
  o.text.mixture = {.placement = {.layers = {0}}, .num_experts = 3, .balance = 0.3};
  return o;
}

/// Two mixtures in a tower, whose choices are counted together.
ClipOptions tiny_mixture_of_towers() {
  auto o = tiny_mixture();
  o.vision.mixture.placement.layers = {0, 1};
  o.vision.mixture.balance_over = o.text.mixture.balance_over = BalanceOver::tower;
  return o;
}

template <class T>
struct Data {
  Tensor<T, 4> images{{2, 4, 4, 1}};
  Tensor<Index, 2> ids{{2, 6}};
  Data() {
    Rng rng(9);
    for (T& v : images.flat()) v = T(static_cast<double>(static_cast<float>(rng.normal())));
    std::ranges::copy(std::vector<Index>{7, 1, 2, 8, 0, 0, 7, 5, 3, 1, 8, 8}, ids.flat().begin());
  }
  typename Clip<T>::Batch batch() const { return {.images = images, .ids = ids}; }
};

template <class T>
Clip<T> random_clip(const ClipOptions& options) {
  Clip<T> model(options);
  test::disturb(model, 4, 0.4);
  return model;
}

template <class T>
T total_loss(const Clip<T>& model, const Data<T>& d, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  auto a = ctx.workspace.take<T>(2, 3), b = ctx.workspace.take<T>(2, 3);
  const auto saved = model.forward(d.batch(), a, b, ctx);
  return SoftmaxContrastive{}.forward<T>(a, b, model.logit_scale.flat()[0], ctx).loss + model.aux_loss(saved, ctx);
}

template <class T>
Clip<T> gradient(const Clip<T>& model, const Data<T>& d, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  auto a = ctx.workspace.take<T>(2, 3), b = ctx.workspace.take<T>(2, 3);
  auto da = ctx.workspace.take<T>(2, 3), db = ctx.workspace.take<T>(2, 3);
  auto grad = zeros_like(model);
  const auto saved = model.forward(d.batch(), a, b, ctx);
  const auto loss = SoftmaxContrastive{}.forward<T>(a, b, model.logit_scale.flat()[0], ctx);
  SoftmaxContrastive{}.backward<T>(loss, T(1), da, db, grad.logit_scale.flat()[0], ctx);
  model.backward(saved, da, db, grad, ctx);
  return grad;
}

void check_gradients(const ClipOptions& options) {
  const auto model = random_clip<double>(options);
  Clip<Dual> lifted(options);
  convert(model, lifted);
  Context ctx;
  const auto grad = gradient(model, Data<double>(), ctx);
  const Data<Dual> d;
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
TEST(Clip, GradientsOfTheDenseModel) { check_gradients(tiny()); }
TEST(Clip, GradientsOfMixturesWithTheirBalance) { check_gradients(tiny_mixture()); }
TEST(Clip, GradientsOfMixturesWithTheBalanceOfATower) { check_gradients(tiny_mixture_of_towers()); }

/// What a pass over `model` gives, computed as `change` says.
template <class Change>
Clip<float> gradient_with(Clip<float> model, Change&& change) {
  Context ctx;
  change(model, ctx);
  return gradient(model, Data<float>(), ctx);
}

TEST(Clip, GradientsKeepEveryBitWhereBlocksRunAgain) {
  const auto model = random_clip<float>(tiny_mixture());
  const auto wanted = gradient_with(model, [](auto&, auto&) {});
  const auto again = gradient_with(
      model, [](auto& m, auto&) { m.vision.tower.encoder.recompute = m.text.tower.encoder.recompute = true; });
  for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, again, wanted);

  auto recomputing = model;
  recomputing.vision.tower.encoder.recompute = recomputing.text.tower.encoder.recompute = true;
  Context ctx;
  EXPECT_EQ(total_loss(recomputing, Data<float>(), ctx), total_loss(model, Data<float>(), ctx));
  auto over_towers = random_clip<float>(tiny_mixture_of_towers());
  over_towers.vision.tower.encoder.recompute = true;
  EXPECT_THROW((void)total_loss(over_towers, Data<float>(), ctx), OptionError);
}

/// Pictures and texts in pairs, cut into chunks.
struct Pairs {
  Tensor<double, 4> images{{5, 4, 4, 1}};
  Tensor<Index, 2> ids{{5, 6}};
  Pairs() {
    Rng rng(9);
    for (double& v : images.flat()) v = rng.normal();
    for (Index& id : ids.flat()) id = rng.below(8);
    for (Index b = 0; b < 5; ++b) ids.view()(b, 1 + b) = 8;
  }
  Clip<double>::Batch rows(Index begin, Index end) const {
    return {.images = images.view().rows(begin, end), .ids = ids.view().rows(begin, end)};
  }
};

/// Adds the gradient of the contrastive loss over all five pairs, three of which are encoded at once at most.
void accumulate(const Clip<double>& model, const Pairs& pairs, const std::vector<std::pair<Index, Index>>& chunks,
                Clip<double>& grad) {
  constexpr Index kWidth = 3;
  const SoftmaxContrastive contrastive{.label_smoothing = 0.1};
  Context ctx;
  using Chunk = std::pair<Index, Index>;
  const auto forward = [&](const Chunk& c, Rows<double> z) {
    return model.forward(pairs.rows(c.first, c.second), z.columns(0, kWidth), z.columns(kWidth, 2 * kWidth), ctx);
  };
  (void)accumulate_contrastive<double>(
      chunks,
      [&](const Chunk& c) {
        auto z = ctx.workspace.take<double>(c.second - c.first, 2 * kWidth);
        (void)forward(c, z);
        return z;
      },
      [&](Rows<const double> z, Rows<double> dz) {
        const auto loss = contrastive.forward<double>(z.columns(0, kWidth), z.columns(kWidth, 2 * kWidth),
                                                      model.logit_scale.flat()[0], ctx);
        contrastive.backward<double>(loss, 1, dz.columns(0, kWidth), dz.columns(kWidth, 2 * kWidth),
                                     grad.logit_scale.flat()[0], ctx);
        return loss.loss;
      },
      [&](const Chunk& c, Rows<const double> dz) {
        const auto saved = forward(c, ctx.workspace.take<double>(c.second - c.first, 2 * kWidth));
        model.backward(saved, dz.columns(0, kWidth), dz.columns(kWidth, 2 * kWidth), grad, ctx);
      },
      ctx);
}

// GradCache: chunks have the gradient of the whole batch; with mixtures, the mean of the chunks' own balances.
TEST(Clip, ChunksHaveTheGradientOfTheWholeBatch) {
  const Pairs pairs;
  const std::vector<std::pair<Index, Index>> whole{{0, 5}}, chunks{{0, 2}, {2, 5}};
  for (const auto& options : {tiny(), tiny_mixture()}) {
    auto model = random_clip<double>(options);
    auto wanted = zeros_like(model), got = zeros_like(model);
    model.set_balance(0);
    accumulate(model, pairs, whole, wanted);
    model.set_balance(0.3 / 2);
    accumulate(model, pairs, chunks, got);
    for (const auto& [begin, end] : chunks) {  // the balance alone: no gradient comes from the embeddings
      Context ctx;
      Tensor<double, 2> image({end - begin, 3}), text({end - begin, 3}), none({end - begin, 3});
      const auto saved = model.forward(pairs.rows(begin, end), image, text, ctx);
      model.backward(saved, none, none, wanted, ctx);
    }
    double largest = 0;
    for_each_param(
        [&](std::string_view path, const auto& a, const auto& b) {
          for (std::size_t i = 0; i < a.flat().size(); ++i) {
            EXPECT_NEAR(a.flat()[i], b.flat()[i], 1e-12 * (1 + std::abs(b.flat()[i]))) << path;
            largest = std::max(largest, std::abs(b.flat()[i]));
          }
        },
        got, wanted);
    EXPECT_GT(largest, 1e-2);
  }
}

TEST(Clip, PartsHaveTheEmbeddingsAndTheGradientOfTheWholeBatch) {
  const Index count = 600;  // 5 tokens a picture, 2 to 6 a text
  Tensor<double, 4> images({count, 4, 4, 1});
  Tensor<Index, 2> ids({count, 6});
  Rng rng(2);
  for (double& v : images.flat()) v = rng.normal();
  for (Index& id : ids.flat()) id = rng.below(8);
  for (Index b = 0; b < count; ++b) ids.view()(b, b % 8 == 0 ? 1 : 5) = 8;
  Tensor<double, 2> dimage({count, 3}), dtext({count, 3});
  for (auto* d : {&dimage, &dtext})
    for (double& v : d->flat()) v = rng.normal();
  for (const auto& options : {tiny(), tiny_mixture()}) {
    const auto model = random_clip<double>(options);
    const bool dense = options == tiny();
    Tensor<double, 2> image({count, 3}), text({count, 3}), image_whole({count, 3}), text_whole({count, 3});
    const auto pass = [&](const auto& forward, Tensor<double, 2>& a, Tensor<double, 2>& b) {
      Context ctx;
      auto grad = zeros_like(model);
      const auto saved = (model.*forward)({.images = images, .ids = ids}, a, b, ctx);
      if constexpr (requires { saved.vision.extent(0); }) {
        EXPECT_EQ(saved.vision.extent(0), dense ? 2 : 1);
        EXPECT_EQ(saved.text.extent(0), dense ? 2 : 1);
      }
      EXPECT_EQ(model.aux_loss(saved, ctx) == 0, dense);
      model.backward(saved, dimage, dtext, grad, ctx);
      return grad;
    };
    const auto wanted = pass(&Clip<double>::forward, image_whole, text_whole);
    const auto got = pass(&Clip<double>::forward_in_parts, image, text);
    for (std::size_t i = 0; i < image.flat().size(); ++i) {
      EXPECT_NEAR(image.flat()[i], image_whole.flat()[i], 1e-12);
      EXPECT_NEAR(text.flat()[i], text_whole.flat()[i], 1e-12);
    }
    for_each_param(
        [&](std::string_view path, const auto& a, const auto& b) {
          for (std::size_t i = 0; i < a.flat().size(); ++i)
            EXPECT_NEAR(a.flat()[i], b.flat()[i], 1e-10 * (1 + std::abs(b.flat()[i]))) << path;
        },
        got, wanted);
  }
}

TEST(Clip, PoliciesTrainWhatTheySayAndSpareTheRest) {
  const auto o = tiny_mixture();
  const auto model = random_clip<float>(o);
  const Index net = 2 * 4 * 3 + 3 + 4, routers = 2 * 3 * 4;  // dense block 0 of vision, mixtures of 3 in each tower
  EXPECT_EQ(count_trained(model, feed_forward_only()), net + 2 * 3 * net + routers);
  EXPECT_EQ(count_trained(model, routers_only()), routers);
  EXPECT_EQ(count_trained(model, routers_and_experts()), 2 * 3 * net + routers);
  EXPECT_EQ(count_trained(model, locked_image_tower()), count_params(model.text) + 1);
  const auto wanted = gradient(model, Data<float>(), *std::make_unique<Context>());
  for (const auto& policy : {feed_forward_only(), routers_only(), routers_and_experts(), locked_image_tower()}) {
    policy.expect_known(model);
    const Frozen frozen(model, policy);
    Context ctx;
    ctx.frozen = &frozen;
    Index spared = 0;
    const auto some = gradient(model, Data<float>(), ctx);
    for_each_param(
        [&](std::string_view path, const auto& got, const auto& full) {
          if (policy(path)) {
            EXPECT_EQ(got, full) << path;
          } else {
            spared += path.ends_with(".weight") && std::ranges::all_of(got.flat(), [](float g) { return g == 0; });
          }
        },
        some, wanted);
    EXPECT_GT(spared, 5);
  }
}

/// The other ways to read off a tower, and what goes with them in open_clip's models.
ClipOptions tiny_mean() {
  auto o = tiny();
  o.image_pool = ClipPool::mean;
  o.text_pool = ClipTextPool::first;
  o.causal_text = false;
  return o;
}
ClipOptions tiny_clipa() {
  auto o = tiny();
  o.image_pool = ClipPool::mean_then_norm;
  o.image_pre_norm = false;
  o.text_pool = ClipTextPool::last;
  o.causal_text = false;
  return o;
}
TEST(Clip, GradientsOfOtherWaysToReadOff) {
  check_gradients(tiny_mean());
  check_gradients(tiny_clipa());
  auto o = tiny_clipa();
  o.causal_text = true;
  o.vision.num_layers = 1;  // an odd number of blocks: the gradient begins in the other buffer
  check_gradients(o);
}

TEST(Clip, PaddingIsSeenWhereItShouldBe) {
  const auto encode = [](const ClipOptions& options, const std::vector<Index>& ids) {
    Context ctx;
    Tensor<float, 2> z({1, 3});
    random_clip<float>(options).encode_texts(View<const Index, 2>(ids.data(), {1, std::ssize(ids)}), z, ctx);
    return z;
  };
  auto o = tiny();
  o.causal_text = false;  // read off at the end of the text, which sees what is behind it
  EXPECT_NE(encode(o, {7, 1, 2, 8, 0, 0}), encode(o, {7, 1, 2, 8, 0, 1}));
  o = tiny();
  o.text_pool = ClipTextPool::last;
  EXPECT_NE(encode(o, {7, 1, 2, 8, 0, 0}), encode(o, {7, 1, 2, 8, 1, 0}));
  EXPECT_NO_THROW(encode(o, {7, 1, 2, 8}));
  o.text_pool = ClipTextPool::first;  // causal: what is behind the first token has no influence
  EXPECT_EQ(encode(o, {7, 1, 2, 8, 0, 0}), encode(o, {7, 2, 8, 0, 1, 0}));
  EXPECT_THROW(encode(o, {}), ShapeError);
}

TEST(Clip, ANormThatIsNotUsedIsNoParameter) {
  std::vector<std::string> paths;
  const auto model = Clip<float>(tiny_clipa());
  for_each_param([&](std::string_view path, const auto&) { paths.emplace_back(path); }, model);
  EXPECT_EQ(std::ranges::count_if(paths, [](const auto& path) { return path.find("pre_norm") != path.npos; }), 0);
  EXPECT_EQ(count_params(model) + 8, count_params(Clip<float>(tiny())));
}

TEST(Clip, ListsItsParameters) {
  auto model = Clip<float>(tiny_mixture());
  std::vector<std::string> paths;
  for_each_param([&](std::string_view path, auto&) { paths.emplace_back(path); }, model);
  std::vector<std::string> wanted{"vision.patch_embed.projection.weight", "vision.class_token.token",
                                  "vision.position.table", "vision.pre_norm.gain", "vision.pre_norm.bias"};
  const auto block = [&](const std::string& name, const std::vector<std::string>& nets) {
    for (const std::string part :
         {"attention.norm.gain", "attention.norm.bias", "attention.inner.qkv.weight", "attention.inner.qkv.bias",
          "attention.inner.out.weight", "attention.inner.out.bias", "ffn.norm.gain", "ffn.norm.bias"})
      wanted.push_back(name + part);
    if (nets.size() > 1) wanted.push_back(name + "ffn.inner.router.weight");
    for (const auto& net : nets)
      for (const std::string part : {"up.weight", "up.bias", "down.weight", "down.bias"})
        wanted.push_back(name + "ffn.inner." + net + part);
  };
  const std::vector<std::string> experts{"experts.0.", "experts.1.", "experts.2."};
  block("vision.encoder.blocks.0.", {""});
  block("vision.encoder.blocks.1.", experts);
  for (const auto* name : {"vision.encoder.norm.gain", "vision.encoder.norm.bias", "vision.projection.weight",
                           "text.word_embed.table", "text.position.table"})
    wanted.emplace_back(name);
  block("text.encoder.blocks.0.", experts);
  for (const auto* name : {"text.encoder.norm.gain", "text.encoder.norm.bias", "text.projection.weight", "logit_scale"})
    wanted.emplace_back(name);
  EXPECT_EQ(paths, wanted);
}

TEST(Clip, TextIsReadOffAtTheFirstEndAndNotInfluencedByWhatFollows) {
  const auto encode = [](const Clip<float>& model, const std::vector<Index>& ids) {
    Context ctx;
    Tensor<float, 2> z({1, 3});
    model.encode_texts(View<const Index, 2>(ids.data(), {1, std::ssize(ids)}), z, ctx);
    return z;
  };
  const auto model = random_clip<float>(tiny());
  const auto z = encode(model, {7, 1, 2, 8, 0, 0});
  EXPECT_EQ(encode(model, {7, 1, 2, 8}), z);
  EXPECT_EQ(encode(model, {7, 1, 2, 8, 8, 8}), z);
  EXPECT_EQ(encode(model, {7, 1, 2, 8, 3, 5, 8, 8, 8, 8}), z);  // longer than the context, but not the text
  EXPECT_NE(encode(model, {7, 1, 3, 8}), z);

  auto options = tiny();
  options.end_of_text = 5;  // no longer the largest
  const auto other = random_clip<float>(options);
  EXPECT_EQ(encode(other, {7, 1, 8, 5, 8, 5}), encode(other, {7, 1, 8, 5}));
  EXPECT_THROW(encode(other, {7, 1, 8}), ShapeError);
  EXPECT_THROW(encode(model, {}), ShapeError);
  EXPECT_THROW(encode(model, {7, 1, 2, 3, 4, 5, 8}), ShapeError);  // 7 tokens for 6 positions
  EXPECT_THROW(encode(model, {7, 1, 9}), ShapeError);              // no such word
  EXPECT_THROW(encode(model, {7, -1, 8}), ShapeError);
}

TEST(Clip, EachSequenceIsEmbeddedForItself) {
  for (const auto& options : {tiny(), tiny_mixture(), tiny_mean(), tiny_clipa()}) {
    const auto model = random_clip<float>(options);
    const Data<float> d;
    Context ctx;
    Tensor<float, 2> image({2, 3}), text({2, 3}), one({1, 3});
    (void)model.forward(d.batch(), image, text, ctx);
    for (Index b = 0; b < 2; ++b) {
      model.encode_images(d.images.view().rows(b, b + 1), one, ctx);
      EXPECT_LT(deviation(one.flat(), image.flat().subspan(static_cast<std::size_t>(3 * b), 3)), 1e-5);
      model.encode_texts(d.ids.view().rows(b, b + 1), one, ctx);
      EXPECT_LT(deviation(one.flat(), text.flat().subspan(static_cast<std::size_t>(3 * b), 3)), 1e-5);
    }
  }
}

TEST(Clip, EncodingGivesWhatForwardGivesAlsoWhereSeatsAreScarce) {
  auto scarce = tiny_mixture();
  scarce.vision.mixture.capacity = scarce.text.mixture.capacity = {.factor = 0.5};
  for (const auto& options : {tiny(), tiny_mixture(), scarce, tiny_mean(), tiny_clipa()}) {
    const auto model = random_clip<float>(options);
    const Data<float> d;
    Context ctx;
    Tensor<float, 2> image({2, 3}), text({2, 3}), z({2, 3});
    (void)model.forward(d.batch(), image, text, ctx);
    model.encode_images(d.images, z, ctx);
    EXPECT_LT(deviation(z.flat(), image.flat()), 1e-5);
    model.encode_texts(d.ids, z, ctx);
    EXPECT_LT(deviation(z.flat(), text.flat()), 1e-5);
    // A report is of all tokens, as forward's.
    RoutingReport of_forward, of_encoding;
    ctx.report = &of_forward;
    (void)model.forward(d.batch(), image, text, ctx);
    ctx.report = &of_encoding;
    model.encode_images(d.images, z, ctx);
    model.encode_texts(d.ids, z, ctx);
    ASSERT_EQ(of_encoding.layers().size(), of_forward.layers().size());
    for (std::size_t layer = 0; layer < of_forward.layers().size(); ++layer)
      EXPECT_EQ(of_encoding.layers()[layer].modalities[0].seated, of_forward.layers()[layer].modalities[0].seated);
  }
}

TEST(Clip, AnyNumberOfThreadsGivesTheSameBits) {
  for (const auto& options : {tiny_mixture(), tiny_clipa()}) {
    const auto model = random_clip<float>(options);
    const Data<float> d;
    std::vector<Clip<float>> grads;
    for (const Index workers : {1, 2, 7}) {
      Context ctx;
      ctx.parallel_for = test::threads(workers);
      grads.push_back(gradient(model, d, ctx));
    }
    for (const auto& other : grads)
      for_each_param([](std::string_view path, const auto& a,
                        const auto& b) { EXPECT_TRUE(test::same_bits<float>(a.flat(), b.flat())) << path; },
                     grads[0], other);
  }
}

TEST(Clip, AllocatesNothingOnceItIsWarm) {
  for (const auto& options : {tiny_mixture(), tiny_clipa()}) {
    const auto model = random_clip<float>(options);
    const auto packed = pack<bf16>(model);
    const Data<float> d;
    Context ctx;
    ctx.parallel_for = {};
    Tensor<float, 2> z({2, 3});
    const auto all = [&] {
      model.encode_images(d.images, z, ctx);
      model.encode_texts(d.ids, z, ctx);
      packed.encode_images(d.images, z, ctx);
      packed.encode_texts(d.ids, z, ctx);
    };
    all();
    const test::AllocGuard guard;
    all();
    EXPECT_EQ(guard.count(), 0);
  }
}

TEST(Clip, EitherPartOfABatchMayBeEmpty) {
  const auto model = random_clip<float>(tiny_mixture());
  const Data<float> d;
  Context ctx;
  Tensor<float, 2> image({2, 3}), text({2, 3}), none({0, 3});
  auto grad = zeros_like(model);
  const auto only_images = model.forward({.images = d.images, .ids = {}}, image, none, ctx);
  model.backward(only_images, image, none, grad, ctx);
  EXPECT_EQ(norm(grad.text), 0);
  EXPECT_GT(norm(grad.vision), 0);
  grad = zeros_like(model);
  const auto only_texts = model.forward({.images = {}, .ids = d.ids}, none, text, ctx);
  model.backward(only_texts, none, text, grad, ctx);
  EXPECT_EQ(norm(grad.vision), 0);
  EXPECT_GT(norm(grad.text), 0);
  EXPECT_GT(model.aux_loss(only_texts, ctx), 0);
}

TEST(Clip, KeepsTheTemperatureInItsBounds) {
  auto model = Clip<float>(tiny());
  EXPECT_NEAR(model.logit_scale.flat()[0], std::log(5), 1e-6);
  model.logit_scale.flat()[0] = 7;
  model.clamp_temperature();
  EXPECT_NEAR(model.logit_scale.flat()[0], std::log(100), 1e-6);
  model.logit_scale.flat()[0] = -1;
  model.clamp_temperature();
  EXPECT_EQ(model.logit_scale.flat()[0], 0);
}

TEST(Clip, RefusesContradictingOptionsAndWrongShapes) {
  auto o = tiny();
  o.patch = 3;
  EXPECT_THROW(Clip<float>{o}, OptionError);
  o = tiny();
  o.vision.num_heads = 3;
  EXPECT_THROW(Clip<float>{o}, OptionError);
  o = tiny();
  o.text.mixture.placement.layers = {1};
  EXPECT_THROW(Clip<float>{o}, OptionError);
  o = tiny();
  o.text.width = 0;
  EXPECT_THROW(Clip<float>{o}, OptionError);
  const Clip<float> model(tiny());
  Context ctx;
  Tensor<float, 4> images({2, 4, 6, 1});
  Tensor<float, 2> z({2, 3}), narrow({2, 2});
  EXPECT_THROW(model.encode_images(images, z, ctx), ShapeError);
  EXPECT_THROW(model.encode_images(Data<float>().images, narrow, ctx), ShapeError);
  EXPECT_THROW(model.encode_texts(Data<float>().ids, narrow, ctx), ShapeError);
}

}  // namespace
}  // namespace gatefold
