#include "gatefold/models/vision_language_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/io/damage.hpp"

namespace gatefold::vision_language_file_test {
namespace {

using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using ::testing::HasSubstr;
using Options = VisionLanguageOptions;

const Vocabulary kVocabulary(std::vector<std::string>{"bag", "red"});

/// Every option differs from its default.
Options options() {
  return {
      .vision = {.image_size = 4, .patch = 2, .channels = 1, .width = 8, .hidden = 6, .num_layers = 1, .num_heads = 2},
      .projector = Options::Projector::mlp,
      .vocabulary = kVocabulary.size(),
      .context = 9,
      .width = 12,
      .hidden = 10,
      .num_layers = 3,
      .num_heads = 2,
      .num_key_heads = 1,
      .head_width = 4,
      .rotary_base = 500,
      .epsilon = 0.25,
      .attention_bias = true,
      .query_key_norm = QueryKeyNorm::whole,
      .head = Options::Head::free};
}
/// The first and the last of three blocks skip, each by every option otherwise than by default.
VisionLanguageFile random_file(const Options& o = options(), const std::vector<Index>& skipping = {0, 2}) {
  Rng rng(1);
  Context ctx;
  const MixtureOfDepthsOptions depths{.skipped = 0.25,
                                      .always = 6,
                                      .first_always = true,
                                      .choice = MixtureOfDepthsOptions::Choice::threshold,
                                      .threshold = 0.75,
                                      .gate = MixtureOfDepthsOptions::Gate::block,
                                      .places = MixtureOfDepthsOptions::Places::kept,
                                      .aux_weight = 0.125};
  VisionLanguageFile file{with_depths(VisionLanguage<float>(o), skipping, depths, rng, ctx),
                          kVocabulary,
                          {{"licence", "Apache-2.0"}, {"seed", "7"}}};
  init::truncated_normal(file.model, rng, 0.3);
  return file;
}
MixtureOfDepthsOptions& depths_of(VisionLanguageFile& file, std::size_t layer) {
  return std::get<1>(file.model.decoder.blocks[layer].layer).options;
}

TEST(VisionLanguageFile, AFileIsAsGoodAsTheModel) {
  const TemporaryFolder folder;
  auto plain = options();
  plain.projector = Options::Projector::linear, plain.head = Options::Head::tied;
  plain.attention_bias = false, plain.query_key_norm = QueryKeyNorm::none, plain.vision.num_layers = 0;
  for (const auto& o : {options(), plain}) {
    auto original = random_file(o);
    depths_of(original, 2).threshold = 0.5;
    save_vision_language(original, folder / "model.safetensors");
    auto file = load_vision_language(folder / "model.safetensors");
    for_each_param([](std::string_view at, const auto& a, const auto& b) { EXPECT_EQ(a, b) << at; }, file.model,
                   original.model);
    EXPECT_EQ(to_json(file.model.options), to_json(o));
    EXPECT_EQ(file.card, original.card);
    EXPECT_EQ(file.vocabulary, original.vocabulary);
    EXPECT_EQ(std::get<0>(file.model.decoder.blocks[1].layer).ffn.norm.epsilon, o.epsilon);
    EXPECT_EQ(std::get<0>(file.model.decoder.blocks[1].layer).attention.inner.options.rotary.base, o.rotary_base);
    for (const std::size_t layer : {0u, 2u}) {
      EXPECT_EQ(options_to_json(depths_of(file, layer)), options_to_json(depths_of(original, layer)));
      EXPECT_EQ(depths_of(file, layer).width, o.width);
    }
    EXPECT_EQ(depths_of(file, 0).threshold, 0.75);
    EXPECT_EQ(depths_of(file, 0).always, 6u);
    EXPECT_EQ(depths_of(file, 2).threshold, 0.5);
  }
}

TEST(VisionLanguageFile, BlocksThatSkipAreRefusedByName) {
  const TemporaryFolder folder;
  const auto file = random_file();
  const auto refusal = [&](const std::string& key, const std::string& text) {
    CheckpointWriter writer;
    writer.add("model", file.model);
    writer.add_metadata("gatefold.vision_language", to_json(options()));
    writer.add_metadata("gatefold.vocabulary", kVocabulary.serialize());
    writer.add_metadata("gatefold.depths." + key, text);
    writer.write(folder / "model.safetensors");
    return message_of<FormatError>([&] { (void)load_vision_language(folder / "model.safetensors"); });
  };
  auto original = file;
  auto json = nlohmann::ordered_json::parse(options_to_json(depths_of(original, 0)));
  EXPECT_THAT(refusal("3", json.dump()), HasSubstr("«gatefold.depths.3» is of no block, expected 0..2"));
  EXPECT_THAT(refusal("00", json.dump()), HasSubstr("«gatefold.depths.00» is of no block, expected 0..2"));
  EXPECT_THAT(refusal("0", json.dump()), HasSubstr("unexpected: 'model.decoder.blocks.2.router.weight'"));
  json["threshold"] = 1.5;
  EXPECT_THAT(refusal("0", json.dump()), HasSubstr("MixtureOfDepths: threshold is 1.5, expected a score in [0, 1]"));
  json["gate"] = 2;
  EXPECT_THAT(refusal("0", json.dump()), HasSubstr("«gate» is 2"));
  json["always"] = -1;
  EXPECT_THAT(refusal("0", json.dump()), HasSubstr("«always» is -1"));
}

TEST(VisionLanguageFile, OptionsGoThroughJson) {
  const auto back = vision_language_options_from_json(to_json(options()), "file");
  EXPECT_EQ(to_json(back), to_json(options()));
  EXPECT_EQ(back.vision.width, 8);
  EXPECT_EQ(back.width, 12);
  EXPECT_EQ(back.head_width, 4);
  EXPECT_EQ(back.query_key_norm, QueryKeyNorm::whole);
}

TEST(VisionLanguageFile, BadConfigurationsAreRefusedByName) {
  const auto refusal = [&](const char* name, const nlohmann::ordered_json& value) {
    auto json = nlohmann::ordered_json::parse(to_json(options()));
    json[name] = value;
    return message_of<FormatError>([&] { (void)vision_language_options_from_json(json.dump(), "file"); });
  };
  EXPECT_EQ(refusal("head", 2), "file: model configuration: «head» is 2");
  EXPECT_EQ(refusal("projector", -1), "file: model configuration: «projector» is -1");
  EXPECT_EQ(refusal("rotary_base", "much"), "file: model configuration: «rotary_base» has another type");
  EXPECT_EQ(refusal("attention_bias", 1), "file: model configuration: «attention_bias» has another type");
  EXPECT_EQ(refusal("depth", 1), "file: model configuration: it holds options that this version does not know");
  for (const char* name : {"vision_image_size", "vision_patch", "vision_channels", "vision_width", "vision_hidden",
                           "vision_num_layers", "vision_num_heads", "vocabulary", "context", "width", "hidden",
                           "num_layers", "num_heads", "num_key_heads", "head_width"})
    EXPECT_EQ(refusal(name, 70000), "file: model configuration: a size is 70000, expected 1..65536") << name;
}

/// A model of these options, but another configuration beside it.
std::string refusal_of(const Options& configured) {
  const TemporaryFolder folder;
  const auto file = random_file();
  CheckpointWriter writer;
  writer.add("model", file.model);
  writer.add_metadata("gatefold.vision_language", to_json(configured));
  writer.add_metadata("gatefold.vocabulary", kVocabulary.serialize());
  writer.write(folder / "model.safetensors");
  return message_of<FormatError>([&] { (void)load_vision_language(folder / "model.safetensors"); });
}

TEST(VisionLanguageFile, AConfigurationThatDoesNotFitTheFileIsRefused) {
  auto o = options();
  o.num_key_heads = 3;
  EXPECT_THAT(refusal_of(o), HasSubstr("model configuration: "));
  o = options(), o.width = 60000, o.hidden = 60000, o.num_layers = 60000;
  EXPECT_THAT(refusal_of(o), HasSubstr("it asks for more than the file holds"));
  o = options(), o.vision.image_size = 65536, o.vision.patch = 1, o.context = 65536;
  EXPECT_THAT(refusal_of(o), HasSubstr("it asks for more than the file holds"));
  o = options(), o.vocabulary += 1;
  EXPECT_THAT(refusal_of(o), HasSubstr("the vocabulary holds 260 tokens, but the model was made for 261"));
  o = options(), o.hidden = 11;
  EXPECT_THAT(refusal_of(o), HasSubstr("misshapen: 'model.decoder.blocks.0.ffn.inner.gate.weight'"));
  o = options(), o.head = Options::Head::tied;
  EXPECT_THAT(refusal_of(o), HasSubstr("unexpected: "));
}

TEST(VisionLanguageFile, WeightsThatAreNoNumbersAndEveryFlippedBitAreNoticed) {
  const TemporaryFolder folder;
  auto file = random_file();
  save_vision_language(file, folder / "model.safetensors", Dtype::bf16);
  EXPECT_EQ(gatefold::test::unnoticed_flips(folder / "model.safetensors", 100,
                                               [](const auto& path) { (void)load_vision_language(path); }),
            0);
  file.model.words.table.data()[1] = std::numeric_limits<float>::quiet_NaN();
  save_vision_language(file, folder / "model.safetensors");
  EXPECT_THAT(message_of<FormatError>([&] { (void)load_vision_language(folder / "model.safetensors"); }),
              HasSubstr("model.words.table"));
  EXPECT_THROW((void)load_vision_language(folder / "nowhere"), std::system_error);
}

}  // namespace
}  // namespace gatefold::vision_language_file_test
