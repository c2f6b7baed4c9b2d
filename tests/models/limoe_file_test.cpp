#include "gatefold/models/limoe_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/nn/init.hpp"
#include "tests/io/damage.hpp"

namespace gatefold::limoe_file_test {
namespace {

using gatefold::test::message_of;
using gatefold::test::read_text;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::HasSubstr;

const Vocabulary kVocabulary(std::vector<std::string>{"shirt", "red"});

/// Every option differs from its default.
LimoeOptions options() {
  return {.image_size = 4,
          .patch = 2,
          .channels = 1,
          .vocabulary = kVocabulary.size(),
          .max_text_tokens = 5,
          .width = 8,
          .hidden = 6,
          .num_layers = 3,
          .num_heads = 2,
          .embedding = 7,
          .towers = LimoeOptions::Towers::two,
          .sparse = {.layers = {0, 2}},
          .num_experts = 4,
          .num_selected = 2,
          .capacity = {.factor = 2.5},
          .priority = Priority::gate_sum,
          .router_noise = 0.5,
          .aux = {.coefficient = 0.1,
                  .min_image_experts = 3,
                  .min_text_experts = 2,
                  .importance = false,
                  .load = false,
                  .z = false,
                  .local_image = true,
                  .local_text = false,
                  .global_image = false,
                  .global_text = false},
          .initial_temperature = 3,
          .max_temperature = 50};
}

struct Probe {
  Tensor<float, 4> image{{1, 4, 4, 1}};
  std::vector<Index> ids{258, 259, 1};
  Probe() {
    Rng rng(5);
    for (float& v : image.flat()) v = static_cast<float>(rng.normal());
  }
  View<const Index, 1> words() const { return {ids.data(), {std::ssize(ids)}}; }
};

LimoeFile random_file(const LimoeOptions& o = options()) {
  LimoeFile file{Limoe<float>(o), kVocabulary, {{"licence", "Apache-2.0"}, {"seed", "7"}}};
  Rng rng(1);
  init::truncated_normal(file.model, rng, 0.3);
  return file;
}

std::filesystem::path saved(const TemporaryFolder& folder, Dtype dtype = Dtype::f32) {
  Context ctx;
  const Probe probe;
  save_limoe(random_file(), probe.image, probe.words(), folder / "model.safetensors", dtype, ctx);
  return folder / "model.safetensors";
}

/// A file of other metadata or tensors, and not a damaged one. Text of the same length only.
void replace(const std::filesystem::path& path, const std::string& from, const std::string& to) {
  auto text = read_text(path);
  const auto at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  ASSERT_EQ(from.size(), to.size());
  write_text(path, gatefold::test::with_checksum(text.replace(at, from.size(), to)));
}

TEST(LimoeFile, AFileIsAsGoodAsTheModel) {
  const TemporaryFolder folder;
  const auto path = saved(folder);
  const auto original = random_file();
  const auto file = load_limoe(path);
  for_each_param([](std::string_view at, const auto& a, const auto& b) { EXPECT_EQ(a, b) << at; }, file.model,
                 original.model);
  EXPECT_EQ(to_json(file.model.options), to_json(original.model.options));
  EXPECT_EQ(file.vocabulary, original.vocabulary);
  EXPECT_EQ(file.card, original.card);
  Context ctx;
  EXPECT_EQ(verify(file, path, ctx), 0);
}

TEST(LimoeFile, HalfPrecisionHoldsTheAnswerOfTheRoundedWeights) {
  const TemporaryFolder folder;
  const auto path = saved(folder, Dtype::bf16);
  const auto file = load_limoe(path);
  const auto original = random_file();
  Context ctx;
  EXPECT_EQ(verify(file, path, ctx), 0);
  for_each_param(
      [](std::string_view at, const auto& a, const auto& b) {
        for (std::size_t i = 0; i < a.flat().size(); ++i)
          ASSERT_EQ(a.flat()[i], static_cast<float>(bf16(b.flat()[i]))) << at;
      },
      file.model, original.model);
}

TEST(LimoeFile, VerifyHoldsOnOtherKernels) {
  const TemporaryFolder folder;
  const auto path = saved(folder);
  const auto file = load_limoe(path);
  Context ctx;
  ctx.isa = Isa::portable;
  EXPECT_LT(verify(file, path, ctx), 1e-5);
}

TEST(LimoeFile, VerifySeesADifferentModelAndNan) {
  const TemporaryFolder folder;
  const auto path = saved(folder);
  Context ctx;
  auto file = load_limoe(path);
  for (float& v : file.model.image_projection.weight.flat()) v *= 1.01f;
  EXPECT_NEAR(verify(file, path, ctx), 0.01, 0.0099);
  file = load_limoe(path);
  file.model.text_projection.weight.flat()[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(verify(file, path, ctx) < 1e-3);
  for (float& v : file.model.word_embed.table.flat()) v = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(verify(file, path, ctx) < 1e-3);
}

TEST(LimoeFile, OptionsGoThroughJson) {
  const auto o = options();
  const auto back = limoe_options_from_json(to_json(o), "file");
  EXPECT_EQ(to_json(back), to_json(o));
  EXPECT_EQ(back.towers, o.towers);
  EXPECT_EQ(back.sparse.layers, o.sparse.layers);
  EXPECT_EQ(back.priority, o.priority);
  EXPECT_EQ(back.capacity.factor, 2.5);
  EXPECT_TRUE(back.aux.local_image);
  EXPECT_FALSE(back.aux.importance);

  auto unlimited = o;
  unlimited.capacity = {};
  EXPECT_THAT(to_json(unlimited), HasSubstr("\"capacity_factor\":null"));
  EXPECT_EQ(limoe_options_from_json(to_json(unlimited), "file").capacity.factor, Capacity::kUnlimited);
}

TEST(LimoeFile, BadConfigurationsAreRefusedByName) {
  const std::string good = to_json(options());
  const auto refusal = [&](const std::string& from, const std::string& to) {
    auto text = good;
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    return message_of<FormatError>([&] { (void)limoe_options_from_json(text, "file"); });
  };
  EXPECT_EQ(refusal("\"hidden\":6,", ""), "file: model configuration: «hidden» is missing");
  EXPECT_EQ(refusal("\"hidden\":6", "\"hidden\":\"six\""), "file: model configuration: «hidden» has another type");
  EXPECT_EQ(refusal("\"hidden\":6", "\"hidden\":6.5"), "file: model configuration: «hidden» has another type");
  EXPECT_EQ(refusal("\"hidden\":6", "\"hidden\":true"), "file: model configuration: «hidden» has another type");
  EXPECT_EQ(refusal("\"hidden\":6", "\"hidden\":1e300"), "file: model configuration: «hidden» has another type");
  EXPECT_EQ(refusal("\"aux_z\":false", "\"aux_z\":0"), "file: model configuration: «aux_z» has another type");
  EXPECT_EQ(refusal("\"sparse_layers\":[0,2]", "\"sparse_layers\":[0,\"2\"]"),
            "file: model configuration: «sparse_layers» has another type");
  EXPECT_EQ(refusal("\"hidden\":6", "\"hidden\":6,\"colour\":1"),
            "file: model configuration: it holds options that this version does not know");
  EXPECT_EQ(refusal("\"hidden\":6", "\"hidden\":0"), "file: model configuration: a size is 0, expected 1..65536");
  EXPECT_EQ(refusal("\"hidden\":6", "\"hidden\":70000"),
            "file: model configuration: a size is 70000, expected 1..65536");
  EXPECT_THAT(refusal("\"hidden\":6", "\"hidden\":18446744073709551615"), HasSubstr("expected 1..65536"));
  EXPECT_EQ(refusal("\"two_towers\":1", "\"two_towers\":2"), "file: model configuration: «two_towers» is 2");
  EXPECT_EQ(refusal("\"priority\":2", "\"priority\":-1"), "file: model configuration: «priority» is -1");
  EXPECT_EQ(refusal("\"priority\":2", "\"priority\":3"), "file: model configuration: «priority» is 3");
  for (const std::string text : {"", "[]", "{", "3", "null"})
    EXPECT_EQ(message_of<FormatError>([&] { (void)limoe_options_from_json(text, "file"); }),
              "file: model configuration: not a JSON object");
}

TEST(LimoeFile, ContradictingOptionsInAFileAreAFormatError) {
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"\\\"num_heads\\\":2", "\\\"num_heads\\\":3"},        // no divisor of the width
           {"\\\"num_selected\\\":2", "\\\"num_selected\\\":5"},  // of 4 experts
           {"\\\"patch\\\":2", "\\\"patch\\\":3"},
           {"[0,2]", "[0,9]"}}) {
    const TemporaryFolder folder;
    const auto path = saved(folder);
    replace(path, from, to);
    EXPECT_THAT(message_of<FormatError>([&] { (void)load_limoe(path); }), HasSubstr("model configuration: ")) << from;
  }
}

TEST(LimoeFile, AConfigurationLargerThanTheFileIsRefusedBeforeItIsBuilt) {
  const TemporaryFolder folder;
  const auto path = saved(folder);
  // 60000 experts of 8 x 6 weights would fit into memory, 60000 x 60000 would not; neither is in the file.
  auto file = random_file();
  file.model.options.width = 60000, file.model.options.hidden = 60000, file.model.options.num_experts = 60000;
  CheckpointWriter writer;
  const Tensor<float, 1> nothing({1});
  writer.add_tensor("model.log_temperature", nothing);
  writer.add_metadata("gatefold.limoe", to_json(file.model.options));
  writer.add_metadata("gatefold.vocabulary", kVocabulary.serialize());
  writer.write(folder / "greedy.safetensors");
  EXPECT_THROW((void)load_limoe(folder / "greedy.safetensors"), FormatError);
}

TEST(LimoeFile, AnotherVocabularyIsRefused) {
  const TemporaryFolder folder;
  const auto path = saved(folder);
  replace(path, "shirt\\nred\\n", "shirtyxred\\n");
  EXPECT_EQ(message_of<FormatError>([&] { (void)load_limoe(path); }),
            path.string() + ": the vocabulary holds 259 tokens, but the model was made for 260");
}

TEST(LimoeFile, EveryFlippedBitIsNoticed) {
  const TemporaryFolder folder;
  EXPECT_EQ(gatefold::test::unnoticed_flips(saved(folder, Dtype::bf16), 200,
                                               [](const auto& path) { (void)load_limoe(path); }),
            0);
}

TEST(LimoeFile, DamagedFilesAreRefused) {
  const TemporaryFolder folder;
  const auto path = saved(folder);
  const auto whole = read_text(path);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, whole.size() / 2, whole.size() - 1}) {
    write_text(path, whole.substr(0, size));
    EXPECT_THROW((void)load_limoe(path), FormatError) << size;
  }
  EXPECT_THROW((void)load_limoe(folder / "nowhere"), std::system_error);

  write_text(path, whole);
  replace(path, "model.text_position.table", "model.text_position.tabby");
  EXPECT_THAT(message_of<CheckpointError>([&] { (void)load_limoe(path); }), HasSubstr("missing: "));
  write_text(path, whole);
  replace(path, "gatefold.limoe", "gatefold.lemon");
  EXPECT_THAT(message_of<CheckpointError>([&] { (void)load_limoe(path); }), HasSubstr("gatefold.limoe"));
}

}  // namespace
}  // namespace gatefold::limoe_file_test
