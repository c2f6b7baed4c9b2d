#include "gatefold/models/vmoe_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/io/damage.hpp"

namespace gatefold::vmoe_file_test {
namespace {

using gatefold::test::message_of;
using gatefold::test::read_text;
using gatefold::test::TemporaryFolder;
using ::testing::HasSubstr;

/// Every option differs from its default.
VmoeOptions options() {
  return {.image_size = 4,
          .patch = 2,
          .channels = 3,
          .num_classes = 5,
          .width = 8,
          .hidden = 6,
          .num_layers = 3,
          .num_heads = 2,
          .classifier = VmoeOptions::Classifier::mean,
          .sparse = {.layers = {0, 2}},
          .num_experts = 4,
          .num_selected = 3,
          .capacity = {.factor = 2.5},
          .priority = Priority::gate_sum,
          .router_noise = 0.5,
          .images_per_group = 2,
          .importance = 0.25,
          .load = 0.125};
}
VmoeFile random_file(const VmoeOptions& o = options()) {
  VmoeFile file{Vmoe<float>(o), {{"licence", "Apache-2.0"}, {"seed", "7"}}};
  Rng rng(1);
  init::truncated_normal(file.model, rng, 0.3);
  return file;
}

TEST(VmoeFile, AFileIsAsGoodAsTheModel) {
  const TemporaryFolder folder;
  auto token = options();
  token.classifier = VmoeOptions::Classifier::token;
  for (const auto& o : {options(), token}) {
    const auto original = random_file(o);
    save_vmoe(original, folder / "model.safetensors");
    const auto file = load_vmoe(folder / "model.safetensors");
    for_each_param([](std::string_view at, const auto& a, const auto& b) { EXPECT_EQ(a, b) << at; }, file.model,
                   original.model);
    EXPECT_EQ(to_json(file.model.options), to_json(o));
    EXPECT_EQ(file.card, original.card);
  }
}

TEST(VmoeFile, OptionsGoThroughJson) {
  const auto o = options();
  const auto back = vmoe_options_from_json(to_json(o), "file");
  EXPECT_EQ(to_json(back), to_json(o));
  EXPECT_EQ(back.classifier, o.classifier);
  EXPECT_EQ(back.sparse.layers, o.sparse.layers);
  EXPECT_EQ(back.images_per_group, 2);
  EXPECT_EQ(back.importance, 0.25);
  EXPECT_EQ(back.load, 0.125);
  EXPECT_EQ(back.capacity.factor, 2.5);
}

TEST(VmoeFile, BadConfigurationsAreRefusedByName) {
  const auto refusal = [&](const std::string& from, const std::string& to) {
    auto text = to_json(options());
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    return message_of<FormatError>([&] { (void)vmoe_options_from_json(text, "file"); });
  };
  EXPECT_EQ(refusal("\"num_classes\":5,", ""), "file: model configuration: «num_classes» is missing");
  EXPECT_EQ(refusal("\"classifier\":1", "\"classifier\":2"), "file: model configuration: «classifier» is 2");
  EXPECT_EQ(refusal("\"load\":0.125", "\"load\":\"much\""), "file: model configuration: «load» has another type");
  for (const char* name : {"image_size", "patch", "channels", "num_classes", "width", "hidden", "num_layers",
                           "num_heads", "num_experts", "num_selected"}) {
    auto json = nlohmann::ordered_json::parse(to_json(options()));
    json[name] = 70000;
    EXPECT_EQ(message_of<FormatError>([&] { (void)vmoe_options_from_json(json.dump(), "file"); }),
              "file: model configuration: a size is 70000, expected 1..65536")
        << name;
  }
}

/// A model of these options, but another configuration beside it.
std::string refusal_of(const VmoeOptions& configured) {
  const TemporaryFolder folder;
  const auto file = random_file();
  CheckpointWriter writer;
  writer.add("model", file.model);
  writer.add_metadata("gatefold.vmoe", to_json(configured));
  writer.write(folder / "model.safetensors");
  return message_of<FormatError>([&] { (void)load_vmoe(folder / "model.safetensors"); });
}

TEST(VmoeFile, AConfigurationThatDoesNotFitTheFileIsRefused) {
  auto o = options();
  o.num_heads = 3;  // no divisor of the width
  EXPECT_THAT(refusal_of(o), HasSubstr("model configuration: "));
  o = options(), o.width = 60000, o.hidden = 60000, o.num_experts = 60000;
  EXPECT_THAT(refusal_of(o), HasSubstr("it asks for more than the file holds"));
  o = options(), o.num_classes = 6;
  EXPECT_THAT(refusal_of(o), HasSubstr("misshapen: 'model.head.weight'"));
  o = options(), o.sparse = {};
  EXPECT_THAT(refusal_of(o), HasSubstr("unexpected: "));
}

TEST(VmoeFile, WeightsThatAreNoNumbersAndEveryFlippedBitAreNoticed) {
  const TemporaryFolder folder;
  auto file = random_file();
  save_vmoe(file, folder / "model.safetensors", Dtype::bf16);
  EXPECT_EQ(gatefold::test::unnoticed_flips(folder / "model.safetensors", 100,
                                               [](const auto& path) { (void)load_vmoe(path); }),
            0);
  file.model.head.bias.data()[1] = std::numeric_limits<float>::quiet_NaN();
  save_vmoe(file, folder / "model.safetensors");
  EXPECT_THAT(message_of<FormatError>([&] { (void)load_vmoe(folder / "model.safetensors"); }),
              HasSubstr("model.head.bias"));
  EXPECT_THROW((void)load_vmoe(folder / "nowhere"), std::system_error);
}

}  // namespace
}  // namespace gatefold::vmoe_file_test
