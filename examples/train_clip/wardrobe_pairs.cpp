#include "train_clip/wardrobe_pairs.hpp"

#include "wardrobe/render.hpp"

namespace train_clip {

void draw_scene(const wardrobe::Scene& scene, const wardrobe::Photos& photos, gatefold::View<float, 3> out) {
  expect_shape(out, {wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3}, "draw_scene: out");
  std::array<std::uint8_t, static_cast<std::size_t>(wardrobe::kCanvasBytes)> canvas{};
  wardrobe::render(scene, photos, canvas);
  for (std::size_t p = 0; p < canvas.size(); ++p) out.data()[p] = static_cast<float>(canvas[p]) / 127.5f - 1;
}

wardrobe::Scene WardrobePairs::scene(Index picture) const {
  return wardrobe::corpus_scene({seed(), static_cast<std::uint64_t>(picture)}, photos_);
}

void WardrobePairs::draw(Index picture, gatefold::Rng*, gatefold::View<float, 3> out) const {
  draw_scene(scene(picture), photos_, out);
}

std::string WardrobePairs::identity() const {
  return "wardrobe " + std::to_string(seed()) + " of " + std::to_string(options_.count);
}

wardrobe::Told WardrobePairs::told(Index picture, Index which) const {
  // Streams apart from those of the scenes, which have bit 62.
  gatefold::Rng rng(seed(), static_cast<std::uint64_t>(picture * num_captions(picture) + which));
  return wardrobe::tell(scene(picture), options_.telling, rng);
}

}  // namespace train_clip
