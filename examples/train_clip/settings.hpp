#pragma once
#include "training/settings.hpp"

namespace train_clip {

using gatefold::Index;
using training::to_text;

/// All that decides the numbers of a stage: with its step, a run is a function of these, of the model that it begins
/// with and of the data.
struct Settings {
  std::string stage = "tune";
  std::string train = "all";          ///< What of the model moves.
  std::string captions = "detailed";  ///< Of the wardrobe world.
  // A model that is made here.
  Index width = 96, heads = 3, vision_layers = 4, text_layers = 3, patch = 6, embedding = 64, image_size = 48,
        context = 24, merges = 4000;
  // How.
  bool fixed_temperature = true, augment = true, skip_bad = false, recompute = false;
  Index pairs = 102400, steps = 400, batch = 256, micro_batch = 0, warmup = 20, image_clusters = 3, text_clusters = 3,
        copies = 4, stretch = 0;
  double lr = 3e-4, weight_decay = 0.05, label_smoothing = 0;
  training::Seed seed = 1;
  // From what; empty: the tiny model, the wardrobe world, none.
  std::string model = {}, data = {}, experts = {};
};

struct AnyText {
  bool holds(const std::string&) const { return true; }
  std::string ends() const { return "TEXT"; }
  std::string text() const { return "a text"; }
};

/// See training/settings.hpp.
template <class Visitor, class SomeSettings>
void visit_settings(Visitor&& visit, SomeSettings& s) {
  using training::kMostSteps, training::kMostWide;
  using Whole = training::Range<Index>;
  using Number = training::Range<double>;
  using Flag = training::Range<bool>;
  using training::OneOf;
  visit("stage", s.stage, OneOf{{"base", "tune", "mcl", "upcycle", "router"}}, "");
  visit("train", s.train, OneOf{{"all", "ffn", "router", "experts", "text"}},
        "what moves: all, the feed-forward nets, the routers, routers and experts, or all but the image tower (LiT)");
  visit("captions", s.captions, OneOf{{"brief", "detailed"}}, "what captions of the wardrobe world tell");
  visit("width", s.width, Whole{8, kMostWide}, "of a token; this and the next seven are of a model made here");
  visit("heads", s.heads, Whole{1, 1024}, "of attention, a divisor of the width");
  visit("vision_layers", s.vision_layers, Whole{1, 256}, "blocks of the image tower");
  visit("text_layers", s.text_layers, Whole{1, 256}, "blocks of the text tower");
  visit("patch", s.patch, Whole{1, 1024}, "edge of a patch in pixels");
  visit("embedding", s.embedding, Whole{1, kMostWide}, "width of the shared space");
  visit("image_size", s.image_size, Whole{1, 4096}, "edge of a picture, a multiple of the patch");
  visit("context", s.context, Whole{4, 4096}, "tokens of a text, start and end included");
  visit("merges", s.merges, Whole{0, 48894}, "of byte pairs in its vocabulary, at most");
  visit("fixed_temperature", s.fixed_temperature, Flag{}, "the temperature stays as the model has it");
  visit("augment", s.augment, Flag{}, "photographs: cut out and mirror by lot");
  visit("skip_bad", s.skip_bad, Flag{}, "go on without lines and photographs that are of no use");
  visit("recompute", s.recompute, Flag{}, "compute blocks again in backward: less memory, a third more time");
  visit("pairs", s.pairs, Whole{1, Index{1} << 31}, "pictures of the wardrobe world");
  visit("steps", s.steps, Whole{1, kMostSteps}, "updates");
  visit("batch", s.batch, Whole{2, 1 << 16}, "pairs per update, all negatives of one another");
  visit("micro_batch", s.micro_batch, Whole{0, 1 << 16}, "pairs in memory at once; 0: the whole batch");
  visit("warmup", s.warmup, Whole{0, kMostSteps}, "steps of warm-up");
  visit("image_clusters", s.image_clusters, Whole{1, 1024}, "of a stage of mcl");
  visit("text_clusters", s.text_clusters, Whole{1, 1024}, "of a stage of mcl");
  visit("copies", s.copies, Whole{2, 256}, "upcycle without --experts: of each feed-forward net");
  visit("stretch", s.stretch, Whole{0, 4096},
        "stage tune: begin with longer texts, Long-CLIP's way: positions that stay, 20 make 248 of 77; 0: as they are");
  visit("lr", s.lr, Number{1e-12, 10}, "peak learning rate");
  visit("weight_decay", s.weight_decay, Number{0, 1e3}, "of matrices");
  visit("label_smoothing", s.label_smoothing, Number{0, 1}, "of the contrastive loss");
  visit("seed", s.seed, training::kSeeds, "of the order of the data, and of weights that are drawn");
  visit("model", s.model, AnyText{}, "");
  visit("data", s.data, AnyText{}, "");
  visit("experts", s.experts, AnyText{}, "");
}

template <class NameOf>
std::string contradiction(const Settings& s, const NameOf& name_of) {
  if (s.stage == "mcl" && s.train != "ffn") return name_of("train") + " is " + s.train + ", stage mcl trains ffn";
  if (s.stretch > 0 && s.stage != "tune")
    return name_of("stretch") + " is " + to_text(s.stretch) + ", which goes with stage tune, not " + s.stage;
  if (s.image_size % s.patch != 0)
    return name_of("image_size") + " is " + to_text(s.image_size) + ", expected a multiple of " + name_of("patch") +
           ", " + to_text(s.patch);
  if (s.micro_batch > 0 && s.batch % s.micro_batch != 0)
    return name_of("micro_batch") + " is " + to_text(s.micro_batch) + ", expected a divisor of " + name_of("batch") +
           ", " + to_text(s.batch);
  return "";
}

/// What a stage has where nothing else is said: CLIP-MoE in the wardrobe world, with rates for so small a model.
Settings defaults_of(const std::string& stage);

}  // namespace train_clip
