#include "gatefold/models/vision_language.hpp"

#include "gatefold/losses/cross_entropy.hpp"
#include "gatefold/models/generate.hpp"
#include "gatefold/train/adamw.hpp"
#include "tests/models/tiny_vision_language.hpp"

namespace gatefold {
namespace {

using test::random_vision_language;
using Options = VisionLanguageOptions;
template <class T>
using Texts = test::PictureTexts<T>;

/// Everything that may be otherwise is.
Options other() {
  auto o = test::tiny_vision_language();
  o.projector = Options::Projector::mlp;
  o.head = Options::Head::free;
  o.width = 6;
  o.head_width = 2;
  o.attention_bias = true;
  o.query_key_norm = QueryKeyNorm::head;
  o.epsilon = 0.01;
  return o;
}

template <class T>
Tensor<T, 2> logits_of(const VisionLanguage<T>& model, const Texts<T>& texts, Context& ctx) {
  const auto batch = texts.template of<VisionLanguage<T>>();
  Tensor<T, 2> logits({batch.num_answer_tokens(), model.options.vocabulary});
  const auto scope = ctx.workspace.scope();
  (void)model.forward(batch, logits, ctx);
  return logits;
}
template <class T>
T loss_of(const VisionLanguage<T>& model, const Texts<T>& texts, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  const auto logits = logits_of(model, texts, ctx);
  const auto label = texts.template of<VisionLanguage<T>>().answer_tokens(ctx.workspace);
  return CrossEntropy{}.forward<T>(logits, label, ctx).loss;
}
template <class T>
VisionLanguage<T> gradient(const VisionLanguage<T>& model, const Texts<T>& texts, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  const auto batch = texts.template of<VisionLanguage<T>>();
  auto logits = ctx.workspace.take<T>(batch.num_answer_tokens(), model.options.vocabulary);
  auto dlogits = ctx.workspace.take<T>(logits.extent(0), logits.extent(1));
  auto grad = zeros_like(model);
  const auto saved = model.forward(batch, logits, ctx);
  CrossEntropy{}.backward<T>(CrossEntropy{}.forward<T>(logits, batch.answer_tokens(ctx.workspace), ctx), T(1), dlogits,
                             ctx);
  model.backward(saved, dlogits, grad, ctx);
  return grad;
}

void check_gradients(const Options& o) {
  const auto model = random_vision_language<double>(o);
  VisionLanguage<Dual> lifted(o);
  convert(model, lifted);
  Context ctx;
  const auto grad = gradient(model, Texts<double>(o, 3), ctx);
  const Texts<Dual> texts(o, 3);
  std::size_t moved = 0, count = 0;
  for_each_param(
      [&](std::string_view path, const auto& g, auto& variables) {
        for (std::size_t i = 0; i < g.flat().size(); ++i, ++count) {
          variables.flat()[i].d = 1;
          const double wanted = loss_of(lifted, texts, ctx).d;
          variables.flat()[i].d = 0;
          ASSERT_NEAR(g.flat()[i], wanted, 1e-10 * (1 + std::abs(wanted))) << path << " " << i;
          moved += wanted != 0;
        }
      },
      grad, lifted);
  EXPECT_GT(moved, count * 3 / 4);  // the comparison is not one of zeros
}

TEST(VisionLanguage, GradientsBehindATiedHead) { check_gradients(test::tiny_vision_language()); }
TEST(VisionLanguage, GradientsBehindAHeadOfItsOwnWithTwoMapsBiasesAndNormsOfHeads) { check_gradients(other()); }

TEST(VisionLanguage, ListsItsParameters) {
  const auto paths_of = [](const Options& o) {
    std::vector<std::string> paths;
    const VisionLanguage<float> model(o);
    for_each_param([&](std::string_view path, const auto&) { paths.emplace_back(path); }, model);
    return paths;
  };
  std::vector<std::string> wanted{"vision.patch_embed.projection.weight", "vision.patch_embed.projection.bias",
                                  "vision.position.table"};
  for (const std::string part :
       {"attention.norm.gain", "attention.norm.bias", "attention.inner.qkv.weight", "attention.inner.qkv.bias",
        "attention.inner.out.weight", "attention.inner.out.bias", "ffn.norm.gain", "ffn.norm.bias",
        "ffn.inner.up.weight", "ffn.inner.up.bias", "ffn.inner.down.weight", "ffn.inner.down.bias"})
    wanted.push_back("vision.trunk.blocks.0." + part);
  for (const char* path :
       {"vision.trunk.norm.gain", "vision.trunk.norm.bias", "projector.weight", "projector.bias", "words.table"})
    wanted.emplace_back(path);
  for (const std::string block : {"0", "1"})
    for (const std::string part :
         {"attention.norm.gain", "attention.inner.qkv.weight", "attention.inner.out.weight", "ffn.norm.gain",
          "ffn.inner.gate.weight", "ffn.inner.up.weight", "ffn.inner.down.weight"})
      wanted.push_back("decoder.blocks." + block + "." + part);
  wanted.emplace_back("decoder.norm.gain");
  EXPECT_EQ(paths_of(test::tiny_vision_language()), wanted);
  for (const char* path : {"projector.up.weight", "projector.down.bias", "decoder.blocks.1.attention.inner.qkv.bias",
                           "decoder.blocks.1.attention.inner.query_norm.gain", "head.weight"})
    EXPECT_THAT(paths_of(other()), testing::Contains(path));
}

/// Rows of several sequences stand beside each other and see nothing of each other.
TEST(VisionLanguage, ASequenceIsAsIfAlone) {
  const auto o = other();
  const auto model = random_vision_language<double>(o);
  Context ctx;
  const auto all = logits_of(model, Texts<double>(o, 5), ctx);
  Index row = 0;
  for (Index b = 0; b < 5; ++b) {
    const auto alone = logits_of(model, Texts<double>(o, 1, b), ctx);
    for (Index i = 0; i < alone.extent(0); ++i, ++row)
      for (Index v = 0; v < o.vocabulary; ++v) ASSERT_NEAR(alone.view()(i, v), all.view()(row, v), 1e-12) << b;
  }
  EXPECT_EQ(row, all.extent(0));
  EXPECT_EQ(logits_of(model, Texts<double>(o, 0), ctx).size(), 0);
}

/// Where the answer begins changes which words are told, not how; no word is told from itself or what follows.
TEST(VisionLanguage, AnswersAreToldFromWhatComesBefore) {
  const auto o = test::tiny_vision_language();
  const auto model = random_vision_language<double>(o);
  Context ctx;
  Texts<double> texts(o, 4), whole = texts;
  for (std::size_t b = 0; b < 4; ++b) whole.answer[b] = whole.offset[b];
  const auto some = logits_of(model, texts, ctx), all = logits_of(model, whole, ctx);
  Index row = 0;
  for (std::size_t b = 0; b < 4; ++b)
    for (Index i = texts.answer[b]; i < texts.offset[b + 1]; ++i, ++row)
      for (Index v = 0; v < o.vocabulary; ++v) ASSERT_NEAR(some.view()(row, v), all.view()(i, v), 1e-12);
  EXPECT_EQ(row, some.extent(0));

  auto changed = whole;
  const Index at = whole.offset[1] + 1;
  changed.ids[static_cast<std::size_t>(at)] = (changed.ids[static_cast<std::size_t>(at)] + 1) % o.vocabulary;
  const auto after = logits_of(model, changed, ctx);
  for (Index i = 0; i < all.extent(0); ++i) {
    bool same = true;
    for (Index v = 0; v < o.vocabulary; ++v) same &= all.view()(i, v) == after.view()(i, v);
    EXPECT_EQ(same, i <= at || i >= whole.offset[2]) << i;
  }

  auto batch = texts.of<VisionLanguage<double>>();
  const auto label = batch.answer_tokens(ctx.workspace);
  EXPECT_EQ(label[0], texts.ids[static_cast<std::size_t>(texts.answer[0])]);
  batch.answer = {};
  EXPECT_EQ(batch.num_answer_tokens(), 0);
}

TEST(VisionLanguage, NaNStaysInItsSequence) {
  const auto o = test::tiny_vision_language();
  const auto model = random_vision_language<float>(o);
  Context ctx;
  Texts<float> texts(o, 4);
  const auto wanted = logits_of(model, texts, ctx);
  texts.images.data()[texts.images.size() / 4 + 2] = std::numeric_limits<float>::quiet_NaN();
  const auto came = logits_of(model, texts, ctx);
  Index row = 0;
  for (std::size_t b = 0; b < 4; ++b)
    for (Index i = texts.answer[b]; i < texts.offset[b + 1]; ++i, ++row)
      for (Index v = 0; v < o.vocabulary; ++v) {
        if (b == 1)
          EXPECT_TRUE(std::isnan(came.view()(row, v)));
        else
          EXPECT_EQ(came.view()(row, v), wanted.view()(row, v));
      }
}

TEST(VisionLanguage, SameBitsForAnyNumberOfThreads) {
  for (const auto& o : {test::tiny_vision_language(), other()}) {
    const auto model = random_vision_language<float>(o);
    const Texts<float> texts(o, 300);
    const auto with = [&](ParallelFor parallel_for) {
      Context ctx;
      ctx.parallel_for = std::move(parallel_for);
      return gradient(model, texts, ctx);
    };
    const auto serial = with(ParallelFor());
    for (const Index workers : {2, 7}) {
      const auto parallel = with(test::threads(workers));
      for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, parallel,
                     serial);
    }
  }
}

TEST(VisionLanguage, NoAllocationAfterWarmUpAndTheLayoutIsGivenBack) {
  const auto model = random_vision_language<float>(other());
  const Texts<float> texts(other(), 3);
  const auto batch = texts.of<VisionLanguage<float>>();
  Tensor<float, 2> logits({batch.num_answer_tokens(), model.options.vocabulary});
  auto grad = zeros_like(model);
  Context ctx;
  ctx.parallel_for = ParallelFor();
  const TokenLayout mine;
  ctx.layout = &mine;
  const auto pass = [&] {
    const auto scope = ctx.workspace.scope();
    const auto saved = model.forward(batch, logits, ctx);
    model.backward(saved, logits, grad, ctx);
  };
  pass();
  const auto blocks = ctx.workspace.allocations();
  const test::AllocGuard guard;
  pass();
  EXPECT_EQ(guard.count(), 0);
  EXPECT_EQ(ctx.workspace.allocations(), blocks);
  EXPECT_EQ(ctx.layout, &mine);
}

TEST(VisionLanguage, BeginsByKnowingNothing) {
  auto o = other();
  o.vision.width = 8;
  VisionLanguage<float> model(o);
  Context ctx;
  Rng rng(1);
  model.initialise(rng, ctx);
  EXPECT_THAT(logits_of(model, Texts<float>(o, 2), ctx).flat(), testing::Each(0.0f));
  EXPECT_NE(norm(model.words), 0);
  EXPECT_NE(norm(model.projector), 0);
  EXPECT_NE(norm(model.decoder.blocks[1].ffn.inner), 0);
  EXPECT_NE(norm(model.vision.position), 0);
}

/// One patch of four is bright: one word asks for its row, another for its column. Learnt from pictures with noise of
/// their own.
TEST(VisionLanguage, LearnsToSayWhatItSees) {
  auto o = test::tiny_vision_language();
  o.vision.width = 8, o.vision.hidden = 16;
  o.width = 16, o.hidden = 24, o.rotary_base = 100;
  VisionLanguage<float> model(o);
  Context ctx;
  ctx.parallel_for = ParallelFor();
  Rng first(2);
  model.initialise(first, ctx);
  constexpr Index kBatch = 20, kRow = 4, kEnd = 6;
  const auto draw = [&](std::uint64_t step) {
    Texts<float> texts(o, kBatch);
    texts.ids.clear(), texts.answer.clear(), texts.offset = {0};
    Rng rng(7, step);
    for (float& v : texts.images.flat()) v = static_cast<float>(0.1 * rng.normal());
    for (Index b = 0; b < kBatch; ++b) {
      const Index bright = rng.below(4), question = kRow + rng.below(2);
      for (Index i = 0; i < 4; ++i) texts.images.view()(b, bright / 2 * 2 + i / 2, bright % 2 * 2 + i % 2, 0) += 2.0f;
      texts.ids.insert(texts.ids.end(), {question, question == kRow ? bright / 2 : bright % 2, kEnd});
      texts.answer.push_back(texts.offset.back() + 1);
      texts.offset.push_back(std::ssize(texts.ids));
    }
    return texts;
  };
  AdamW optimizer(model, {.lr = 1.5e-2});
  for (std::uint64_t step = 0; step < 110; ++step) optimizer.step(model, gradient(model, draw(step), ctx), ctx);

  const auto fresh = draw(1000);
  std::vector<Index> questions, offset{0};
  for (Index b = 0; b < kBatch; ++b) {
    questions.push_back(fresh.ids[static_cast<std::size_t>(3 * b)]);
    offset.push_back(b + 1);
  }
  const auto answers = generate(
      model,
      {.images = fresh.images, .ids = {questions.data(), {kBatch}}, .text_offset = {offset.data(), {kBatch + 1}}},
      {.max_tokens = 4, .stop = {kEnd}}, ctx);
  Index right = 0;
  for (std::size_t b = 0; b < kBatch; ++b)
    right += answers[b].ids == std::vector{fresh.ids[3 * b + 1]} && answers[b].ended == Ended::stop;
  EXPECT_GE(right, 17);  // of 20; by chance 10
}

/// An encoder that sees a picture as two rows, its halves.
struct Halves {
  using Scalar = float;
  struct Saved {
    Index images = 0;
  };
  static void visit(auto&, auto&...) {}
  Index tokens_per_image() const { return 2; }
  Index width() const { return 8; }
  Saved forward(View<const float, 4> images, Rows<float> y, Context&) const {
    std::copy_n(images.data(), y.size(), y.data());
    return {images.extent(0)};
  }
  void backward(const Saved& saved, Rows<const float> dy, Halves&, Context&) const {
    EXPECT_EQ(dy.extent(0), 2 * saved.images);
  }
};

TEST(VisionLanguage, SeesByAnotherEncoder) {
  const auto o = test::tiny_vision_language();
  using Model = VisionLanguage<float, Tensor<float, 2>, Halves>;
  Model model(o, Halves(), [&](Index) { return make_decoder_block<float>(o); });
  test::disturb(model, 4);
  EXPECT_EQ(model.tokens_per_image(), 2);
  const Texts<float> texts(o, 3);
  const auto batch = texts.of<Model>();
  Context ctx;
  Tensor<float, 2> logits({batch.num_answer_tokens(), o.vocabulary});
  auto grad = zeros_like(model);
  model.backward(model.forward(batch, logits, ctx), logits, grad, ctx);
  EXPECT_GT(norm(grad.projector), 0);
}

TEST(VisionLanguage, RefusesWhatDoesNotFit) {
  const auto o = test::tiny_vision_language();
  const VisionLanguage<float> model(o);
  Context ctx;
  const Texts<float> texts(o, 3);
  const auto good = texts.of<VisionLanguage<float>>();
  Tensor<float, 2> logits({good.num_answer_tokens(), o.vocabulary}), narrow({logits.extent(0), o.vocabulary - 1});
  const auto refused = [&](auto change, const char* why) {
    auto batch = good;
    change(batch);
    EXPECT_THAT([&] { (void)model.forward(batch, logits, ctx); },
                testing::ThrowsMessage<ShapeError>(testing::HasSubstr(why)));
  };
  EXPECT_NO_THROW((void)model.forward(good, logits, ctx));
  EXPECT_THROW((void)model.forward(good, narrow, ctx), ShapeError);
  refused([](auto& b) { b.images = {}; }, "there are 0 pictures, expected one for each of the 3 texts");
  const Tensor<float, 4> small({3, 2, 2, 1});
  refused([&](auto& b) { b.images = small; }, "PatchEncoder::forward: images has shape [3, 2, 2, 1]");
  auto offset = texts.offset;
  offset[1] = 0;
  refused([&](auto& b) { b.text_offset = {offset.data(), {4}}; }, "text 0 has no words, expected at least 1");
  offset = {0, 1, 2, 3};
  refused([&](auto& b) { b.text_offset = {offset.data(), {4}}; }, "batch.text_offset ends at [3]");
  std::vector<Index> many(20, 1), long_offset{0, 1, 2, 20}, begins{0, 1, 2};
  refused(
      [&](auto& b) {
        b.ids = {many.data(), {20}}, b.text_offset = {long_offset.data(), {4}}, b.answer = {begins.data(), {3}};
      },
      "sequence 2 has 4 tokens of its picture and 18 words, expected at most 12 (context) in all");
  begins = {0, texts.offset[1], texts.offset[3] + 1};
  refused([&](auto& b) { b.answer = {begins.data(), {3}}; }, "batch.answer[2] is ");
  refused([&](auto& b) { b.answer = {begins.data(), {2}}; }, "batch.answer has shape [2], expected [3]");
  auto ids = texts.ids;
  ids[1] = 7;
  refused([&](auto& b) { b.ids = {ids.data(), {std::ssize(ids)}}; }, "is 7, expected 0..6");
  auto grad = zeros_like(model), untied = zeros_like(VisionLanguage<float>(other()));
  const auto saved = model.forward(good, logits, ctx);
  EXPECT_THROW(model.backward(saved, narrow, grad, ctx), ShapeError);
  EXPECT_THROW(model.backward(saved, logits, untied, ctx), ShapeError);

  for (const auto field : {&Options::vocabulary, &Options::context, &Options::width, &Options::hidden,
                           &Options::num_layers, &Options::num_heads}) {
    auto bad = o;
    bad.*field = 0;
    EXPECT_THAT([&] { VisionLanguage<float>{bad}; },
                testing::ThrowsMessage<OptionError>(testing::HasSubstr(" is 0, expected at least 1")));
  }
  const auto no_model = [&](auto change, const char* why) {
    auto bad = o;
    change(bad);
    EXPECT_THAT([&] { VisionLanguage<float>{bad}; }, testing::ThrowsMessage<OptionError>(testing::HasSubstr(why)));
  };
  no_model([](auto& b) { b.context = 4; }, "context is 4, expected more than the tokens of a picture");
  no_model([](auto& b) { b.num_heads = 3; }, "3");
  no_model([](auto& b) { b.num_key_heads = 3; }, "num_heads 2 is not a multiple of num_key_heads 3");
  no_model([](auto& b) { b.vision.patch = 3; }, "PatchEncoder: image_size 4 is not a multiple of patch 3");
  no_model([](auto& b) { b.rotary_base = 0; }, "rotary.base");
}

}  // namespace
}  // namespace gatefold
