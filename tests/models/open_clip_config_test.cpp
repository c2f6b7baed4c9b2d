#include "gatefold/models/open_clip_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/models/clip_file.hpp"
#include "gatefold/models/clip_tokenizer_file.hpp"
#include "tests/io/temporary_folder.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

namespace fs = std::filesystem;
using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;

const fs::path kData = gatefold::test::test_data("clip/open_clip");  // of make_open_clip.py

nlohmann::json read(const char* name) { return read_json_object(kData / name); }

/// A folder as open_clip saves it: the weights of a case, and a configuration.
struct Folder {
  TemporaryFolder folder;
  Folder(const std::string& name, const nlohmann::json& model_cfg) {
    fs::copy_file(kData / (name + ".safetensors"), folder / "open_clip_model.safetensors");
    set(model_cfg);
  }
  void set(const nlohmann::json& model_cfg) const {
    write_text(folder / "open_clip_config.json", nlohmann::json{{"model_cfg", model_cfg}}.dump());
  }
  fs::path path() const { return folder / "."; }
};

double deviation(std::span<const float> got, std::span<const float> wanted) {
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double d = std::abs(double{got[i]} - double{wanted[i]});
    if (!(d <= worst)) worst = d;
    largest = std::max(largest, std::abs(double{wanted[i]}));
  }
  return worst / largest;
}

class OpenClipGolden : public ::testing::TestWithParam<std::string> {};

// Goldens are of open_clip 3.3 in double.
TEST_P(OpenClipGolden, EmbeddingsAreThoseOfOpenClip) {
  const auto variant = read("variants.json").at(GetParam());
  const Folder folder(variant.at("case"), variant.at("model_cfg"));
  const CheckpointReader expected(kData / "expected.safetensors");
  const auto images = expected.read_tensor<float, 4>("images");
  const auto ids = expected.read_tensor<Index, 2>("ids");
  const auto wanted_image = expected.read_tensor<float, 2>(GetParam() + ".image");
  const auto wanted_text = expected.read_tensor<float, 2>(GetParam() + ".text");
  auto image = wanted_image, text = wanted_text;
  const auto check = [&](const char* how) {
    EXPECT_LT(deviation(image.flat(), wanted_image.flat()), 1e-5) << how;
    EXPECT_LT(deviation(text.flat(), wanted_text.flat()), 1e-5) << how;
    std::ranges::fill(image.flat(), 0.0f);
    std::ranges::fill(text.flat(), 0.0f);
  };
  Context ctx;
  const auto model = load_clip(folder.path());
  (void)model.forward({.images = images, .ids = ids}, image, text, ctx);
  check("forward");
  model.encode_images(images, image, ctx);
  model.encode_texts(ids, text, ctx);
  check("encode");
  const auto packed = load_clip<Packed<float>>(folder.path());
  packed.encode_images(images, image, ctx);
  packed.encode_texts(ids, text, ctx);
  check("packed");
}
std::vector<std::string> variants() {
  std::vector<std::string> names;
  const auto all = read("variants.json");
  for (const auto& [name, variant] : all.items()) names.push_back(name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Variants, OpenClipGolden, ::testing::ValuesIn(variants()),
                         [](const auto& variant) { return variant.param; });

/// What the weights of a model would tell by their shapes and names.
ClipOptions of_weights(const nlohmann::json& facts) {
  ClipOptions o;
  for (auto [tower, name] : {std::pair(&o.vision, "vision"), {&o.text, "text"}}) {
    tower->width = facts.at(name).at("width");
    tower->hidden = facts.at(name).at("hidden");
    tower->num_layers = facts.at(name).at("layers");
  }
  o.image_size = facts.at("vision").at("image_size");
  o.patch = facts.at("vision").at("patch");
  o.context = facts.at("text").at("context");
  o.vocabulary = facts.at("text").at("vocabulary");
  o.embedding = facts.at("embedding");
  return o;
}

/// Why the others of open_clip's own configurations are refused.
const std::map<std::string, std::string> kRefused{
    {"coca_ViT-B-32", "«multimodal_cfg»"},
    {"coca_ViT-L-14", "«multimodal_cfg»"},
    {"coca_base", "«multimodal_cfg»"},
    {"coca_roberta-ViT-B-32", "«multimodal_cfg»"},
    {"mt5-base-ViT-B-32", "«hf_model_name» is \"google/mt5-base\""},
    {"mt5-xl-ViT-H-14", "«hf_model_name» is \"google/mt5-xl\""},
    {"nllb-clip-base", "«hf_model_name» is \"facebook/nllb-200-distilled-600M\""},
    {"nllb-clip-large", "«hf_model_name» is \"facebook/nllb-200-distilled-1.3B\""},
    {"roberta-ViT-B-32", "«hf_model_name» is \"roberta-base\""},
    {"xlm-roberta-base-ViT-B-32", "«hf_model_name» is \"xlm-roberta-base\""},
    {"xlm-roberta-large-ViT-H-14", "«hf_model_name» is \"xlm-roberta-large\""}};
/// Which of those that are read bring a tokenizer of their own.
bool has_other_tokenizer(const std::string& name) {
  return name.find("CLIPA") != name.npos || name.find("worldwide") != name.npos;
}

// Each configuration that open_clip 3.3 comes with, and what it builds of it.
TEST(OpenClipConfig, OpenClipsOwnConfigurationsAreReadOrRefusedByName) {
  std::size_t read_ones = 0, refused = 0;
  const TemporaryFolder folder;
  const auto all = read("model_configs.json");
  for (const auto& [name, entry] : all.items()) {
    SCOPED_TRACE(name);
    const nlohmann::json json{{"model_cfg", entry.at("model_cfg")}};
    if (const auto at = kRefused.find(name); at != kRefused.end()) {
      ClipOptions o;
      o.embedding = entry.at("model_cfg").at("embed_dim");
      o.image_size = entry.at("model_cfg").at("vision_cfg").at("image_size");
      o.patch = entry.at("model_cfg").at("vision_cfg").at("patch_size");
      o.vision.width = entry.at("model_cfg").at("vision_cfg").at("width");
      o.vision.num_layers = entry.at("model_cfg").at("vision_cfg").at("layers");
      EXPECT_THAT(message_of<FormatError>([&] { read_open_clip_config(json, "c", {}, o); }), HasSubstr(at->second));
      ++refused;
      continue;
    }
    ++read_ones;
    const auto& facts = entry.at("facts");
    auto o = of_weights(facts);
    read_open_clip_config(json, "c", {facts.at("vision").at("layer_scale"), facts.at("text").at("layer_scale")}, o);
    for (auto [tower, of] : {std::pair(&o.vision, "vision"), {&o.text, "text"}}) {
      EXPECT_EQ(tower->num_heads, facts.at(of).at("heads"));
      EXPECT_EQ(tower->epsilon, facts.at(of).at("epsilon"));
      EXPECT_EQ(tower->epsilon, facts.at(of).at("last_epsilon"));
      EXPECT_EQ(tower->activation == ClipActivation::gelu, facts.at(of).at("activation") == "gelu");
    }
    EXPECT_EQ(o.image_pre_norm, facts.at("vision").at("pre_norm").get<bool>());
    const bool mean = facts.at("vision").at("pool") == "avg";
    EXPECT_EQ(o.image_pool != ClipPool::token, mean);
    if (mean) {
      EXPECT_EQ(o.image_pool == ClipPool::mean_then_norm, facts.at("vision").at("norm_after_pool").get<bool>());
    }
    EXPECT_EQ(o.causal_text, facts.at("text").at("causal").get<bool>());
    const auto pool = facts.at("text").at("pool");
    EXPECT_EQ(o.text_pool == ClipTextPool::last, pool == "last");
    EXPECT_EQ(o.end_of_text, pool == "eos" ? std::optional<Index>(facts.at("text").at("eos")) : std::nullopt);

    write_text(folder / "open_clip_config.json", json.dump());
    const auto words = [&] { return clip_tokenizer_options(folder / ".", ClipNames::open_clip, o.context); };
    if (has_other_tokenizer(name)) {
      EXPECT_THAT(message_of<FormatError>(words), HasSubstr("«hf_tokenizer_name»"));
    } else {
      EXPECT_EQ(words().cleaning, ClipCleaning::open_clip);
      EXPECT_EQ(words().padding, ClipPadding::zero);
    }
  }
  EXPECT_EQ(refused, kRefused.size());
  EXPECT_EQ(read_ones, 45u);
}

TEST(OpenClipConfig, WhatIsNotBuiltOrNotKnownIsRefusedByName) {
  const auto plain = read("variants.json").at("plain").at("model_cfg");
  const Folder folder("plain", plain);
  const auto why = [&](const char* section, const char* key, const char* value) {
    auto config = plain;
    (section ? config[section] : config)[key] = nlohmann::json::parse(value);
    folder.set(config);
    return message_of<FormatError>([&] { (void)open_clip_file(folder.path()); });
  };
  using Case = std::array<const char*, 4>;  // section, key, value, what is said
  for (const auto& [section, key, value, said] :
       {Case{"vision_cfg", "pool_type", "\"none\"", "as many embeddings as patches"},
        Case{"vision_cfg", "attentional_pool", "true", "attention pooling"},
        Case{"vision_cfg", "attentional_pool", "\"parallel\"", "attention pooling"},
        Case{"vision_cfg", "layers", "[3, 4, 6, 3]", "ResNets"},
        Case{"vision_cfg", "timm_model_name", "\"vit_base\"", "open_clip's own"},
        Case{"vision_cfg", "act_kwargs", "{\"approximate\": \"tanh\"}", "error function"},
        Case{"vision_cfg", "norm_kwargs", "{\"elementwise_affine\": true}", "norm_kwargs: «elementwise_affine»"},
        Case{"vision_cfg", "ls_init_value", "1e-4", "no layer scales"},
        Case{"vision_cfg", "block_type", "\"parallel\"", "«block_type»"},
        Case{"vision_cfg", "image_size", "16", "expected 8 as the weights have it"},
        Case{"vision_cfg", "image_size", "[8, 16]", "a whole number"},
        Case{"vision_cfg", "layers", "3", "expected 2 as the weights have it"},
        Case{"vision_cfg", "mlp_ratio", "3", "the ratio of 48 hidden to 12 channels"},
        Case{"vision_cfg", "head_width", "0", "a whole number"},
        Case{"vision_cfg", "rope", "true", "not known here"},
        Case{"text_cfg", "pool_type", "\"none\"", "\"argmax\", \"eos\", \"first\" or \"last\""},
        Case{"text_cfg", "embed_cls", "true", "class token"},
        Case{"text_cfg", "proj_bias", "true", "bias"},
        Case{"text_cfg", "proj_type", "\"none\"", "«proj_type»"},
        Case{"text_cfg", "hf_model_name", "\"roberta-base\"", "text transformer"},
        Case{"text_cfg", "context_length", "12", "expected 10 as the weights have it"},
        Case{"text_cfg", "vocab_size", "41", "expected 40 as the weights have it"},
        Case{"text_cfg", "no_causal_mask", "1", "true or false"},
        Case{"text_cfg", "heads", "\"all\"", "a whole number"},
        Case{"text_cfg", "window", "4", "not known here"},
        Case{nullptr, "multimodal_cfg", "{\"width\": 8}", "CoCa"},
        Case{nullptr, "init_logit_bias", "-10", "softmax"},
        Case{nullptr, "embed_dim", "7", "expected 6 as the weights have it"},
        Case{nullptr, "quick_gelu", "\"yes\"", "true or false"},
        Case{nullptr, "depth_cfg", "{\"layers\": 1}", "not known here"}})
    EXPECT_THAT(why(section, key, value),
                AllOf(HasSubstr("open_clip_config.json: model_cfg"), HasSubstr(key), HasSubstr(said)))
        << key << " " << value;
  for (const auto* part :
       {"qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"})
    for (const auto* section : {"vision_cfg", "text_cfg"})
      EXPECT_THAT(why(section, part, "true"), HasSubstr("«" + std::string(part) + "» is true, expected false")) << part;
  for (const auto& [section, key, value, said] :
       {Case{"vision_cfg", "patch_dropout", "0.5", ""}, Case{"vision_cfg", "image_size", "[8, 8]", ""},
        Case{"vision_cfg", "rope", "false", ""}, Case{"text_cfg", "pad_id", "1", ""},
        Case{"text_cfg", "act_kwargs", "null", ""}, Case{nullptr, "nonscalar_logit_scale", "true", ""}})
    EXPECT_EQ(why(section, key, value), "nothing thrown") << key << " " << said;
  write_text(folder.folder / "open_clip_config.json", "{}");
  EXPECT_THAT(message_of<FormatError>([&] { (void)open_clip_file(folder.path()); }), HasSubstr("has no «model_cfg»"));
}

TEST(OpenClipConfig, LayerScalesThatOneSideLacksAreReported) {
  const auto variant = read("variants.json").at("layer_scale").at("model_cfg");
  auto without = variant;
  without["vision_cfg"].erase("ls_init_value");
  const Folder folder("layer_scale", without);
  EXPECT_THAT(message_of<FormatError>([&] { (void)load_clip(folder.path()); }),
              HasSubstr("vision_cfg: «ls_init_value» is null, expected a number, since the weights have layer scales"));
}

}  // namespace
}  // namespace gatefold
