#include "wardrobe/feed.hpp"

#include <set>

namespace wardrobe {

gatefold::Vocabulary model_vocabulary() {
  std::set<std::string> words;
  for (const auto& word : vocabulary())
    for (auto& part : gatefold::split_words(word)) words.insert(std::move(part));
  return gatefold::Vocabulary({words.begin(), words.end()});
}

void Texts::add(const gatefold::Vocabulary& vocabulary, std::string_view text, Index max_tokens) {
  const auto encoded = vocabulary.encode(text, max_tokens);
  ids.insert(ids.end(), encoded.begin(), encoded.end());
  offset.push_back(std::ssize(ids));
}

void render_batch(std::span<const Scene> scenes, const Photos& photos, View<float, 4> images, Context& ctx) {
  ctx.parallel_for(std::ssize(scenes), [&](Index begin, Index end, Index) {
    std::array<std::uint8_t, static_cast<std::size_t>(kCanvasBytes)> canvas{};
    for (Index i = begin; i < end; ++i) {
      render(scenes[static_cast<std::size_t>(i)], photos, canvas);
      float* const out = images.data() + i * kCanvasBytes;
      for (std::size_t p = 0; p < canvas.size(); ++p) out[p] = static_cast<float>(canvas[p]) / 127.5f - 1;
    }
  });
}

void normalise_rows(gatefold::Rows<float> z) {
  for (Index i = 0; i < z.extent(0); ++i) {
    double squares = 0;
    for (Index j = 0; j < z.extent(1); ++j) squares += static_cast<double>(z(i, j)) * static_cast<double>(z(i, j));
    const auto scale = static_cast<float>(squares > 0 ? 1 / std::sqrt(squares) : 0);
    for (Index j = 0; j < z.extent(1); ++j) z(i, j) *= scale;
  }
}

}  // namespace wardrobe
