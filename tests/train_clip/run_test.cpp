#include "train_clip/run.hpp"

#include <gmock/gmock.h>

#include "gatefold/models/clip_init.hpp"

namespace train_clip {
namespace {

/// Noise, each with a caption of its own.
class Noise : public Pairs {
 public:
  Index size() const override { return 20; }
  Index num_captions(Index) const override { return 1; }
  std::string caption(Index picture, Index) const override { return "number " + std::to_string(picture); }
  std::uint64_t meaning(Index picture, Index) const override { return static_cast<std::uint64_t>(picture); }
  void draw(Index picture, gatefold::Rng*, gatefold::View<float, 3> out) const override {
    gatefold::Rng rng(static_cast<std::uint64_t>(picture));
    for (float& x : std::span(out.data(), static_cast<std::size_t>(out.size()))) x = static_cast<float>(rng.normal());
  }
  std::string identity() const override { return "noise"; }
};

Model tiny_model() {
  auto tokenizer = gatefold::ClipTokenizer::of_merges({}, {.context = 16});
  const gatefold::ClipTowerOptions tower{.width = 8, .hidden = 16, .num_layers = 2, .num_heads = 2};
  Clip clip({.image_size = 96,
             .patch = 4,
             .vocabulary = tokenizer.size(),
             .context = 16,
             .embedding = 8,
             .end_of_text = tokenizer.end(),
             .vision = tower,
             .text = tower});
  gatefold::Rng rng(1);
  Context ctx;
  initialise(clip, rng, ctx);
  return {std::move(clip), std::move(tokenizer), gatefold::ClipPreprocess(), gatefold::ClipNames::hugging_face};
}

/// 577 tokens a picture, so that a batch is of several parts.
Clip after_steps(const std::string& train, Index micro_batch, int threads) {
  Settings s;
  s.train = train, s.micro_batch = micro_batch, s.stage = "tune", s.batch = 10, s.steps = 3, s.warmup = 0;
  const Noise noise;
  Run run(s, tiny_model(), Context{.parallel_for = gatefold::default_parallel_for(threads)});
  run.feed_from({noise, [](Index step, std::span<Index> which) {
                   for (std::size_t i = 0; i < which.size(); ++i) which[i] = step % 2 * 10 + static_cast<Index>(i);
                 }});
  for (Index step = 0; step < s.steps; ++step) EXPECT_FALSE(run.advance(true).skipped);
  return run.model.clip;
}

bool same(const Clip& a, const Clip& b) {
  bool all = true;
  gatefold::for_each_param([&](std::string_view, const auto& x, const auto& y) { all &= x == y; }, a, b);
  return all;
}

/// The largest difference of two models of which the second has moved from the first, by how far one has.
double deviation(const Clip& a, const Clip& b, const Clip& from) {
  double worst = 0, most = 0;
  gatefold::for_each_param(
      [&](std::string_view, const auto& x, const auto& y, const auto& z) {
        for (Index i = 0; i < x.size(); ++i) {
          worst = std::max(worst, std::abs(double{x.data()[i]} - double{y.data()[i]}));
          most = std::max(most, std::abs(double{y.data()[i]} - double{z.data()[i]}));
        }
      },
      a, b, from);
  return worst / most;
}

TEST(Run, AnyNumberOfThreadsGivesTheSameBits) { EXPECT_TRUE(same(after_steps("all", 0, 1), after_steps("all", 0, 3))); }

TEST(Run, ChunksOfABatchWithAllOfItAsNegativesGiveTheSameGradient) {
  // AdamW divides by how large a gradient is, so one of hardly any moves as far: less weight on those.
  EXPECT_LT(deviation(after_steps("all", 5, 2), after_steps("all", 0, 2), tiny_model().clip), 1e-2);
}

TEST(Run, ALockedImageTowerStaysAndTheTextsLearn) {
  const auto before = tiny_model().clip, lit = after_steps("text", 0, 2);
  gatefold::for_each_param(
      [&](std::string_view path, const auto& now, const auto& was) {
        EXPECT_EQ(now == was, path.starts_with("vision.") || path == "logit_scale") << path;
      },
      lit, before);
  EXPECT_LT(deviation(after_steps("text", 5, 1), lit, before), 1e-2);
}

}  // namespace
}  // namespace train_clip
