#pragma once
#include "training/settings.hpp"
#include "wardrobe/render.hpp"
#include "wardrobe/sampler.hpp"

namespace train_limoe {

using gatefold::Index;

/// All that decides the numbers of a run: with its step, a run is a function of these.
struct Settings {
  // What to train.
  bool dense = false, two_tower = false, masked = false;
  Index experts = 8, width = 128, layers = 4, heads = 8, patch = 6, embedding = 128, hidden = 512;
  std::string losses = "limoe", priority = "max_gate";
  double capacity = 1.25, min_image_experts = 4, min_text_experts = 2, aux = 0.04;
  // How.
  double noise = 1, lr = 1.2e-3, weight_decay = 0.5, max_temperature = 25;
  Index steps = 5500, batch = 256, warmup = 400;
  std::uint64_t seed = 1;
  wardrobe::World world{.one_colour = 0.85};
};

using training::OneOf;
using training::Range;
using training::to_text;

/// See training/settings.hpp.
template <class Visitor, class SomeSettings>
void visit_settings(Visitor&& visit, SomeSettings& s) {
  using training::kMostSteps, training::kMostWide;
  using Whole = Range<Index>;
  using Number = Range<double>;
  using Flag = Range<bool>;
  visit("dense", s.dense, Flag{}, "no experts: every block is dense");
  visit("two_tower", s.two_tower, Flag{}, "a trunk of its own for each modality");
  visit("experts", s.experts, Whole{1, 256}, "in each sparse block");
  visit("width", s.width, Whole{1, kMostWide}, "of a token");
  visit("hidden", s.hidden, Whole{1, kMostWide}, "of a feed-forward net");
  visit("layers", s.layers, Whole{1, 256}, "blocks; every second one is sparse");
  visit("heads", s.heads, Whole{1, 1024}, "of attention, a divisor of the width");
  visit("patch", s.patch, Whole{1, wardrobe::kCanvasEdge}, "edge of a patch in pixels, a divisor of 48");
  visit("embedding", s.embedding, Whole{1, kMostWide}, "width of the shared space");
  visit("losses", s.losses, OneOf{{"none", "classic", "limoe"}}, "auxiliary losses");
  visit("priority", s.priority, OneOf{{"max_gate", "position"}},
        "who is seated first: max_gate (batch priority routing) or position");
  visit("capacity", s.capacity, Number{1e-3, 1e6}, "capacity factor in training");
  visit("min_image_experts", s.min_image_experts, Number{1, 256}, "soft minimum, of the global entropy loss");
  visit("min_text_experts", s.min_text_experts, Number{1, 256}, "the same for text");
  visit("aux", s.aux, Number{0, 1e6}, "coefficient of the auxiliary losses");
  visit("noise", s.noise, Number{0, 1e6}, "router noise, times 1/experts");
  visit("lr", s.lr, Number{1e-12, 10}, "peak learning rate");
  visit("warmup", s.warmup, Whole{0, kMostSteps}, "steps of warm-up");
  visit("weight_decay", s.weight_decay, Number{0, 1e3}, "of matrices");
  visit("max_temperature", s.max_temperature, Number{1e-3, 1e6}, "bound of the learned temperature");
  visit("steps", s.steps, Whole{1, kMostSteps}, "updates");
  visit("batch", s.batch, Whole{2, 4096}, "pairs per update");
  visit("seed", s.seed, training::kSeeds, "of data and weights");
  visit("two_objects", s.world.two_objects, Number{0, 1}, "share of scenes with two objects");
  visit("one_colour", s.world.one_colour, Number{0, 1}, "share of batches that share a colour");
  visit("masked", s.masked, Flag{}, "captions that are true of another image are no negatives for it");
}

/// How settings contradict each other, named as `name_of` has them.
template <class NameOf>
std::string contradiction(const Settings& s, const NameOf& name_of) {
  if (s.dense || s.losses != "limoe") return "";
  for (const auto& [name, least] :
       {std::pair("min_image_experts", s.min_image_experts), {"min_text_experts", s.min_text_experts}})
    if (least > static_cast<double>(s.experts))
      return name_of(name) + " is " + to_text(least) + ", expected 1 to " + name_of("experts") + ", " +
             to_text(s.experts);
  return "";
}

std::string to_json(const Settings& settings);

/// Throws FormatError that names the first setting that is missing, unknown, of another kind, out of its range or at
/// odds with another.
Settings settings_from_json(const std::string& text, const std::string& file);

}  // namespace train_limoe
