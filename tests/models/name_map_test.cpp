#include "gatefold/models/name_map.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "gatefold/models/clip_file.hpp"

namespace gatefold {
namespace {

using ::testing::ElementsAre;

/// The names that a model of these options takes from a file; the last way to make a parameter is the plain one.
std::set<std::string> names_of(const NameMap& map, const ClipOptions& options) {
  Clip<float, Packed<float>> model(options);
  std::set<std::string> names;
  auto collect = [&](std::string_view path, auto&) {
    const auto ways = map.find(path);
    EXPECT_FALSE(ways.empty()) << path;
    if (ways.empty()) return;
    for (const auto& name : ways.back().names) EXPECT_TRUE(names.insert(name).second) << name << " is used twice";
  };
  detail::WeightVisitor<decltype(collect)> visitor(collect);
  decltype(model)::visit(visitor, model);
  return names;
}

ClipOptions vit_b_32() { return {.vocabulary = 3}; }  // the size of the vocabulary changes no name

// openai/CLIP issue 250: 302 tensors; model.safetensors of openai/clip-vit-base-patch32: 398.
TEST(NameMap, CountsOfViTB32AreThoseOfTheOriginals) {
  EXPECT_EQ(names_of(kOpenAiClipNames, vit_b_32()).size(), 302);
  EXPECT_EQ(names_of(kHuggingFaceClipNames, vit_b_32()).size(), 398);
}

// clip-moe-4-2: 4 experts in all 12 blocks of both towers: 16 tensors and a gate instead of 4.
TEST(NameMap, CountOfClipMoeIsThatOfItsBlocks) {
  auto options = vit_b_32();
  options.vision.mixture.placement = options.text.mixture.placement = Placement::last(12, 12);
  EXPECT_EQ(names_of(kOpenAiClipNames, options).size(), 302 + 24 * (16 + 1 - 4));
}

TEST(NameMap, CarriesNumbersOverInTheirOrder) {
  const auto expert = kOpenAiClipNames.find("vision.encoder.blocks.11.ffn.inner.experts.3.down.bias");
  ASSERT_EQ(expert.size(), 1);
  EXPECT_THAT(expert[0].names, ElementsAre("visual.transformer.resblocks.11.experts.3.c_proj.bias"));
  const auto qkv = kHuggingFaceClipNames.find("text.encoder.blocks.7.attention.inner.qkv.weight");
  ASSERT_EQ(qkv.size(), 1);
  EXPECT_THAT(qkv[0].names, ElementsAre("text_model.encoder.layers.7.self_attn.q_proj.weight",
                                        "text_model.encoder.layers.7.self_attn.k_proj.weight",
                                        "text_model.encoder.layers.7.self_attn.v_proj.weight"));
  const auto positions = kOpenAiClipNames.find("text.position.table");
  ASSERT_EQ(positions.size(), 2);
  EXPECT_THAT(positions[0].names, ElementsAre("positional_embedding", "positional_embedding_res"));
  EXPECT_EQ(positions[0].arrangement, Arrangement::two_tables_at_20);
  EXPECT_THAT(positions[1].names, ElementsAre("positional_embedding"));
}

TEST(NameMap, KnowsNothingOfOtherNames) {
  EXPECT_TRUE(kHuggingFaceClipNames.find("text.encoder.blocks.7.ffn.inner.router.weight").empty());
  EXPECT_TRUE(kHuggingFaceClipNames.find("text.encoder.blocks.x.ffn.norm.gain").empty());
  EXPECT_TRUE(kHuggingFaceClipNames.find("").empty());
  EXPECT_TRUE(kHuggingFaceClipNames.ignores("text_model.embeddings.position_ids"));
  EXPECT_FALSE(kHuggingFaceClipNames.ignores("text_model.embeddings.position_embedding.weight"));
  EXPECT_TRUE(kOpenAiClipNames.ignores("input_resolution"));
}

// Granite's gate and up of all experts in one tensor.
TEST(NameMap, SaysWhichSliceAndWhichPartOfATensor) {
  constexpr NameRule kRules[] = {{"experts.{}.gate.weight", "moe.input.weight", Arrangement::experts, Part::first_half},
                                 {"experts.{}.up.weight", "moe.input.weight", Arrangement::experts, Part::second_half},
                                 {"router.weight", "moe.router"}};
  const NameMap::Prefix prefixes[] = {{"blocks.{}.", "layers.{}."}};
  const NameMap map{.rules = {}, .block_prefixes = prefixes, .block_rules = kRules, .ignored = {}};
  const auto up = map.find("blocks.3.experts.12.up.weight");
  ASSERT_EQ(up.size(), 1);
  EXPECT_THAT(up[0].names, ElementsAre("layers.3.moe.input.weight"));
  EXPECT_EQ(up[0].arrangement, Arrangement::experts);
  EXPECT_EQ(up[0].part, Part::second_half);
  EXPECT_EQ(up[0].number, 12);
  EXPECT_EQ(map.find("blocks.3.router.weight")[0].part, Part::whole);
  const detail::ForeignSizes sizes{.num_experts = 16};
  const std::vector<Index> ours{6, 4};
  EXPECT_THAT(detail::source_shape(ours, up[0], sizes), ElementsAre(16, 12, 4));
}

}  // namespace
}  // namespace gatefold
