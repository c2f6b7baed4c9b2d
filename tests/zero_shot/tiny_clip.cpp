#include "tests/zero_shot/tiny_clip.hpp"

#include <list>
#include <map>
#include <nlohmann/json.hpp>

#include "gatefold/core/tensor.hpp"
#include "gatefold/image/encode.hpp"
#include "gatefold/io/safetensors_writer.hpp"
#include "tests/support/test_data.hpp"

namespace zero_shot::tiny {
namespace {

/// The golden weights in tests/data/clip/`golden`, but for tables that are given more rows: the vocabulary of 40 words,
/// so that a tokenizer can have it, and the positions of texts.
void write_weights(const std::string& golden, const std::map<std::string, Index>& rows, const fs::path& to) {
  const gatefold::SafeTensors file{
      gatefold::MappedFile(gatefold::test::test_data("clip") / golden / "model.safetensors")};
  gatefold::SafeTensorsWriter writer;
  std::list<gatefold::Tensor<float, 2>> tables;  // which the writer borrows
  for (const auto& entry : file.entries()) {
    const auto at = rows.find(entry.name);
    if (at == rows.end()) {
      writer.add_bytes(entry.name, entry.dtype, entry.shape, entry.bytes);
      continue;
    }
    auto& table = tables.emplace_back(gatefold::Shape<2>{at->second, entry.shape[1]});
    for (Index i = 0; i < table.size(); ++i)
      table.flat()[static_cast<std::size_t>(i)] = static_cast<float>((i * 7919) % 1009) / 505.0f - 1;
    writer.add(entry.name, table.view());
  }
  writer.write(to);
}

}  // namespace

void write_clip(const fs::path& folder) {
  using gatefold::test::write_text;
  fs::create_directories(folder);
  write_weights("quick", {{"text_model.embeddings.token_embedding.weight", kVocabulary}}, folder / "model.safetensors");
  auto config =
      nlohmann::json::parse(gatefold::test::read_text(gatefold::test::test_data("clip/quick/config.json")));
  config["text_config"]["vocab_size"] = kVocabulary;
  write_text(folder / "config.json", config.dump());
  write_text(folder / "merges.txt", "#version: 0.2\nc a\nca t</w>\n");
  write_text(folder / "preprocessor_config.json", R"({"size": {"shortest_edge": 8}, "crop_size": 8})");
}

void write_openai_clip(const fs::path& folder) {
  fs::create_directories(folder);
  write_weights("openai", {{"token_embedding.weight", kVocabulary}}, folder / "tiny.safetensors");
  gatefold::test::write_text(folder / "merges.txt", "#version: 0.2\nc a\nca t</w>\n");
}

void write_clip_moe(const fs::path& folder) {
  fs::create_directories(folder);
  write_weights(
      "clip_moe",
      {{"token_embedding.weight", kVocabulary}, {"positional_embedding", 248}, {"positional_embedding_res", 248}},
      folder / "model.safetensors");
  gatefold::test::write_text(folder / "merges.txt", "#version: 0.2\nc a\nca t</w>\n");
}

gatefold::Image photo(std::array<std::uint8_t, 3> colour) {
  auto image = gatefold::Image::of_size({20, 14});
  for (std::size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = colour[i % 3];
  for (std::size_t i = 0; i < 60; ++i) image.rgb[i] = static_cast<std::uint8_t>(255 - image.rgb[i]);
  return image;
}

void write_photos(const fs::path& folder) {
  fs::create_directories(folder / "deep");
  gatefold::write_png(photo({200, 30, 20}), folder / "red.png");
  gatefold::write_png(photo({20, 160, 60}), folder / "green.png");
  gatefold::write_png(photo({10, 40, 220}), folder / "deep" / "blue.png");
}

}  // namespace zero_shot::tiny
