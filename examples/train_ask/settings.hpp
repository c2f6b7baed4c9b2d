#pragma once
#include "training/settings.hpp"
#include "wardrobe/render.hpp"

namespace train_ask {

using gatefold::Index;

/// All that decides the numbers of a run: with its step, a run is a function of these.
struct Settings {
  // What to train.
  Index width = 96, hidden = 256, layers = 8, heads = 4, patch = 6, vision_layers = 2;
  // How.
  double lr = 2e-3, weight_decay = 0.02;
  Index steps = 3600, batch = 256, warmup = 100;
  std::uint64_t seed = 1;
};

using training::Range;
using training::to_text;

/// See training/settings.hpp.
template <class Visitor, class SomeSettings>
void visit_settings(Visitor&& visit, SomeSettings& s) {
  using training::kMostSteps, training::kMostWide;
  using Whole = Range<Index>;
  using Number = Range<double>;
  visit("width", s.width, Whole{1, kMostWide}, "of a token, a multiple of 4");
  visit("hidden", s.hidden, Whole{1, kMostWide}, "of a feed-forward net of the decoder");
  visit("layers", s.layers, Whole{1, 256}, "blocks of the decoder");
  visit("heads", s.heads, Whole{1, 1024}, "of attention, a divisor of the width");
  visit("patch", s.patch, Whole{1, wardrobe::kCanvasEdge}, "edge of a patch in pixels, a divisor of 48");
  visit("vision_layers", s.vision_layers, Whole{0, 256}, "blocks in which patches see each other; 0: none");
  visit("lr", s.lr, Number{1e-12, 10}, "peak learning rate");
  visit("warmup", s.warmup, Whole{0, kMostSteps}, "steps of warm-up");
  visit("weight_decay", s.weight_decay, Number{0, 1e3}, "of matrices");
  visit("steps", s.steps, Whole{1, kMostSteps}, "updates");
  visit("batch", s.batch, Whole{1, 4096}, "questions per update");
  visit("seed", s.seed, training::kSeeds, "of data and weights");
}

/// How settings contradict each other that the model does not refuse: none do.
template <class NameOf>
std::string contradiction(const Settings&, const NameOf&) {
  return "";
}

std::string to_json(const Settings& settings);

/// Throws FormatError that names the first setting that is missing, unknown, of another kind or out of its range.
Settings settings_from_json(const std::string& text, const std::string& file);

}  // namespace train_ask
