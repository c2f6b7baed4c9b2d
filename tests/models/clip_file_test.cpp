#include "gatefold/models/clip_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "gatefold/io/safetensors_writer.hpp"
#include "tests/io/temporary_folder.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

namespace fs = std::filesystem;
using gatefold::test::message_of;
using gatefold::test::read_text;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const fs::path kData = gatefold::test::test_data("clip");

template <class E>
std::string refusal(const fs::path& path, const LoadClipOptions& how = {}) {
  return message_of<E>([&] { (void)load_clip(path, how); });
}

/// A copy of a golden folder that a test may spoil.
struct Copy {
  TemporaryFolder folder;
  explicit Copy(const std::string& name) {
    for (const auto& file : fs::directory_iterator(kData / name))
      fs::copy_file(file.path(), folder / file.path().filename().string());
  }
  fs::path path() const { return folder / "."; }
  nlohmann::json config() const { return nlohmann::json::parse(read_text(folder / "config.json")); }
  void set_config(const nlohmann::json& json) const { write_text(folder / "config.json", json.dump()); }
};

/// The tensors of a file again, but for what `change` does to the name (empty: left out) and the shape.
template <class Change>
void rewrite(const fs::path& from, const fs::path& to, Change&& change) {
  const SafeTensors file{MappedFile(from)};
  std::string data, header;
  for (const auto& entry : file.entries()) {
    std::string name = entry.name;
    std::vector<Index> shape = entry.shape;
    change(name, shape);
    if (name.empty()) continue;
    const auto begin = data.size();
    data.append(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size());
    header +=
        (header.empty() ? "" : ",") + nlohmann::json(name).dump() + ":" +
        nlohmann::json{{"dtype", gatefold::name(entry.dtype)}, {"shape", shape}, {"data_offsets", {begin, data.size()}}}
            .dump();
  }
  header = "{" + header + "}";
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i) & 255);
  write_text(to, length + header + data);
}

/// The same file with further tensors, of nothing.
void add_tensors(const fs::path& path, const std::vector<std::string>& names) {
  const auto bytes = read_text(path);
  write_text(path.string() + ".old", bytes);
  const SafeTensors file{MappedFile(path.string() + ".old")};
  SafeTensorsWriter writer;
  for (const auto& entry : file.entries()) writer.add_bytes(entry.name, entry.dtype, entry.shape, entry.bytes);
  for (const auto& name : names) writer.add_bytes(name, Dtype::f32, std::vector<Index>{0}, {});
  writer.write(path);
  fs::remove(path.string() + ".old");
}

/// Puts other bytes where a tensor ends.
void spoil(const fs::path& path, const std::string& tensor, const std::string& bytes) {
  const SafeTensors file{MappedFile(path)};
  const auto* entry = file.find(tensor);
  ASSERT_NE(entry, nullptr) << tensor;
  auto all = read_text(path);
  const std::string_view mine(reinterpret_cast<const char*>(entry->bytes.data()), entry->bytes.size());
  all.replace(all.find(mine) + mine.size() - bytes.size(), bytes.size(), bytes);
  write_text(path, all);
}

template <class W = Tensor<float, 2>>
void expect_same(const Clip<float, W>& a, const Clip<float, W>& b) {
  for_each_param([](std::string_view path, const auto& x, const auto& y) { EXPECT_EQ(x, y) << path; }, a, b);
}

// CLIPTextConfig, CLIPVisionConfig and CLIPConfig of transformers 5.23.
TEST(ClipFile, ConfigurationHasTheDefaultsOfTransformers) {
  const auto o = clip_options_of_config(nlohmann::json::parse(R"({"model_type": "clip", "text_config": {}})"), "c");
  EXPECT_EQ(o.embedding, 512);
  EXPECT_EQ(o.vocabulary, 49408);
  EXPECT_EQ(o.context, 77);
  EXPECT_EQ(o.image_size, 224);
  EXPECT_EQ(o.patch, 32);
  EXPECT_EQ(o.channels, 3);
  EXPECT_EQ(o.end_of_text, 49407);
  EXPECT_EQ(o.vision.width, 768);
  EXPECT_EQ(o.vision.hidden, 3072);
  EXPECT_EQ(o.vision.num_layers, 12);
  EXPECT_EQ(o.vision.num_heads, 12);
  EXPECT_EQ(o.text.width, 512);
  EXPECT_EQ(o.text.hidden, 2048);
  EXPECT_EQ(o.text.num_layers, 12);
  EXPECT_EQ(o.text.num_heads, 8);
  for (const auto* tower : {&o.vision, &o.text}) {
    EXPECT_EQ(tower->epsilon, 1e-5);
    EXPECT_EQ(tower->activation, ClipActivation::quick_gelu);
    EXPECT_TRUE(tower->mixture.placement.layers.empty());
  }
}

TEST(ClipFile, ConfigurationIsTakenFieldByField) {
  const auto o = clip_options_of_config(nlohmann::json::parse(R"({"model_type": "clip", "projection_dim": 9,
      "text_config_dict": null, "text_config": {"hidden_size": 10, "intermediate_size": 11, "num_hidden_layers": 12,
      "num_attention_heads": 5, "vocab_size": 13, "max_position_embeddings": 14, "hidden_act": "gelu",
      "layer_norm_eps": 1e-6, "eos_token_id": 2},
      "vision_config": {"hidden_size": 1}, "vision_config_dict": {"hidden_size": 20, "image_size": [30, 30],
      "patch_size": 15, "num_channels": 1, "hidden_act": null}})"),
                                        "c");
  EXPECT_EQ(o.embedding, 9);
  EXPECT_EQ(o.text.width, 10);
  EXPECT_EQ(o.text.hidden, 11);
  EXPECT_EQ(o.text.num_layers, 12);
  EXPECT_EQ(o.text.num_heads, 5);
  EXPECT_EQ(o.vocabulary, 13);
  EXPECT_EQ(o.context, 14);
  EXPECT_EQ(o.text.activation, ClipActivation::gelu);
  EXPECT_EQ(o.text.epsilon, 1e-6);
  EXPECT_EQ(o.end_of_text, std::nullopt);  // 2 is none of the tokenizer's ends: the largest id
  EXPECT_EQ(o.vision.width, 20);           // the old name wins, as in transformers
  EXPECT_EQ(o.vision.hidden, 3072);
  EXPECT_EQ(o.image_size, 30);
  EXPECT_EQ(o.patch, 15);
  EXPECT_EQ(o.channels, 1);
}

TEST(ClipFile, ConfigurationsOfOtherModelsAndWithNonsenseAreRefused) {
  const auto why = [](const std::string& text) {
    return message_of<FormatError>([&] { (void)clip_options_of_config(nlohmann::json::parse(text), "c.json"); });
  };
  EXPECT_THAT(why(R"({"model_type": "siglip"})"),
              AllOf(HasSubstr("c.json"), HasSubstr("'siglip'"), HasSubstr("'clip'")));
  EXPECT_THAT(why("{}"), HasSubstr("has no «model_type»"));
  EXPECT_THAT(why("[1]"), HasSubstr("not a JSON object"));
  for (const auto* value : {"0", "-3", "1.5", "\"8\"", "1e30", "[4, 5]", "[8]", "9999999999999999999", "{}"})
    EXPECT_THAT(why(R"({"model_type": "clip", "vision_config": {"patch_size": )" + std::string(value) + "}}"),
                AllOf(HasSubstr("vision_config: «patch_size»"), HasSubstr("whole number")))
        << value;
  EXPECT_THAT(why(R"({"model_type": "clip", "text_config": {"num_hidden_layers": 100000}})"), HasSubstr("1..1000"));
  EXPECT_THAT(why(R"({"model_type": "clip", "text_config": {"hidden_act": "relu"}})"), HasSubstr("quick_gelu"));
  EXPECT_THAT(why(R"({"model_type": "clip", "text_config": {"layer_norm_eps": -1}})"), HasSubstr("layer_norm_eps"));
  EXPECT_THAT(why(R"({"model_type": "clip", "text_config": {"eos_token_id": [2, 3]}})"), HasSubstr("eos_token_id"));
  EXPECT_THAT(why(R"({"model_type": "clip", "text_config": [1]})"), HasSubstr("text_config: is not a JSON object"));
}

TEST(ClipFile, FieldsThatAreNotKnownAreRefusedUnlessTheyAreOff) {
  const auto why = [](const std::string& section, const std::string& field) {
    const auto text = section.empty() ? R"({"model_type": "clip", )" + field + "}"
                                      : R"({"model_type": "clip", ")" + section + R"(": {)" + field + "}}";
    return message_of<FormatError>([&] { (void)clip_options_of_config(nlohmann::json::parse(text), "c.json"); });
  };
  for (const std::string section : {"", "text_config", "vision_config"}) {
    EXPECT_THAT(why(section, R"("use_rope": true)"), HasSubstr("«use_rope» is true, expected not to find it"))
        << section;
    EXPECT_THAT(why(section, R"("pruned_heads": {"0": [1]})"), HasSubstr("«pruned_heads»")) << section;
    EXPECT_THAT(why(section, R"("quantization_config": {"bits": 4})"), HasSubstr("«quantization_config»")) << section;
    EXPECT_EQ(why(section, R"("use_rope": false, "pruned_heads": {}, "rope_scaling": null, "_name_or_path": "x",
                              "torch_dtype": "float32", "id2label": {"0": "LABEL_0"}, "max_length": 20)"),
              "nothing thrown")
        << section;
  }
  EXPECT_THAT(why("vision_config", R"("pool_type": "avg")"), HasSubstr("c.json: vision_config: «pool_type»"));
  // What transformers 4 wrote into every section.
  EXPECT_EQ(why("text_config", R"("_name_or_path": "", "add_cross_attention": false, "architectures": null,
      "attention_dropout": 0.0, "bad_words_ids": null, "bos_token_id": 0, "chunk_size_feed_forward": 0,
      "cross_attention_hidden_size": null, "decoder_start_token_id": null, "diversity_penalty": 0.0,
      "do_sample": false, "dropout": 0.0, "early_stopping": false, "encoder_no_repeat_ngram_size": 0,
      "eos_token_id": 2, "exponential_decay_length_penalty": null, "finetuning_task": null,
      "forced_bos_token_id": null, "forced_eos_token_id": null, "gradient_checkpointing": true,
      "hidden_act": "quick_gelu", "hidden_size": 512, "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
      "initializer_factor": 1.0, "initializer_range": 0.02, "intermediate_size": 2048, "is_decoder": false,
      "is_encoder_decoder": false, "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "layer_norm_eps": 1e-05,
      "length_penalty": 1.0, "max_length": 20, "max_position_embeddings": 77, "min_length": 0,
      "model_type": "clip_text_model", "no_repeat_ngram_size": 0, "num_attention_heads": 8, "num_beam_groups": 1,
      "num_beams": 1, "num_hidden_layers": 12, "num_return_sequences": 1, "output_attentions": false,
      "output_hidden_states": false, "output_scores": false, "pad_token_id": 1, "prefix": null,
      "problem_type": null, "projection_dim": 512, "pruned_heads": {}, "remove_invalid_values": false,
      "repetition_penalty": 1.0, "return_dict": true, "return_dict_in_generate": false, "sep_token_id": null,
      "task_specific_params": null, "temperature": 1.0, "tf_legacy_loss": false, "tie_encoder_decoder": false,
      "tie_word_embeddings": true, "tokenizer_class": null, "top_k": 50, "top_p": 1.0, "torch_dtype": null,
      "torchscript": false, "transformers_version": "4.16.0.dev0", "typical_p": 1.0, "use_bfloat16": false,
      "vocab_size": 49408)"),
            "nothing thrown");
}

TEST(ClipFile, SizesOfOpenAiWeightsFollowFromTheirShapes) {
  const auto o = load_clip(kData / "openai").options;
  EXPECT_EQ(o.image_size, 8);
  EXPECT_EQ(o.patch, 4);
  EXPECT_EQ(o.vocabulary, 40);
  EXPECT_EQ(o.context, 10);
  EXPECT_EQ(o.embedding, 6);
  EXPECT_EQ(o.end_of_text, std::nullopt);
  for (const auto* tower : {&o.vision, &o.text}) {
    EXPECT_EQ(tower->width, 64);
    EXPECT_EQ(tower->hidden, 32);
    EXPECT_EQ(tower->num_layers, 1);
    EXPECT_EQ(tower->num_heads, 1);
    EXPECT_EQ(tower->activation, ClipActivation::quick_gelu);
    EXPECT_TRUE(tower->mixture.placement.layers.empty());
  }
  const auto moe = load_clip(kData / "clip_moe" / "model.safetensors", {.weights = {.head_width = 4}}).options;
  EXPECT_EQ(moe.context, 30);
  EXPECT_EQ(moe.vision.num_heads, 3);
  for (const auto* tower : {&moe.vision, &moe.text}) {
    EXPECT_EQ(tower->mixture.placement.layers, std::vector<Index>{1});
    EXPECT_EQ(tower->mixture.num_experts, 3);
    EXPECT_EQ(tower->mixture.num_selected, 2);
  }
}

TEST(ClipFile, OpenClipSaysItsActivation) {
  const Copy copy("openai");
  const auto activation = [&](const std::string& json) {
    write_text(copy.folder / "open_clip_config.json", json);
    return load_clip(copy.path()).options.vision.activation;
  };
  EXPECT_EQ(activation(R"({"model_cfg": {"vision_cfg": {"width": 64}}})"), ClipActivation::gelu);
  EXPECT_EQ(activation(R"({"model_cfg": {"quick_gelu": true}})"), ClipActivation::quick_gelu);
  write_text(copy.folder / "open_clip_config.json", R"({"model_cfg": {"vision_cfg": {"timm_model_name": "vit"}}})");
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("timm_model_name"));
}

TEST(ClipFile, WeightsThatDoNotSayTheirActivationAreNotGuessed) {
  const Copy copy("openai");
  const auto weights = copy.folder / "model.safetensors";
  const auto activation = [&](std::optional<ClipActivation> asked = {}) {
    const auto o = open_clip_file(copy.path(), {.activation = asked}).options;
    EXPECT_EQ(o.vision.activation, o.text.activation);
    return o.vision.activation;
  };
  EXPECT_EQ(activation(), ClipActivation::quick_gelu);  // OpenAI's archive
  EXPECT_THAT(message_of<FormatError>([&] { activation(ClipActivation::gelu); }),
              HasSubstr("says that the activation is quick_gelu, but asked for was gelu"));
  rewrite(kData / "openai" / "model.safetensors", weights, [](auto& name, auto&) {
    if (name == "vocab_size") name.clear();  // any other
  });
  EXPECT_THAT(refusal<FormatError>(copy.path()),
              AllOf(HasSubstr("model.safetensors: does not say the model's activation"), HasSubstr("--activation"),
                    HasSubstr("open_clip_config.json")));
  EXPECT_EQ(activation(ClipActivation::gelu), ClipActivation::gelu);
  EXPECT_EQ(activation(ClipActivation::quick_gelu), ClipActivation::quick_gelu);

  write_text(copy.folder / "config.json", R"({"architecture": "vit_base_patch32_clip_224", "num_classes": 0})");
  EXPECT_EQ(activation(ClipActivation::gelu), ClipActivation::gelu);  // timm's, which says nothing of CLIP
  const std::string tower = R"({"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
                                "hidden_act": "gelu", "layer_norm_eps": 1e-3})";
  write_text(copy.folder / "config.json",
             R"({"model_type": "clip", "vision_config": )" + tower + R"(, "text_config": )" + tower + "}");
  EXPECT_EQ(activation(), ClipActivation::gelu);
  const auto o = open_clip_file(copy.path()).options;
  for (const auto* of : {&o.vision, &o.text}) {
    EXPECT_EQ(of->num_heads, 2);
    EXPECT_EQ(of->epsilon, 1e-3);
    EXPECT_EQ(of->hidden, 32);  // the weights'
  }
  EXPECT_THAT(message_of<FormatError>([&] { activation(ClipActivation::quick_gelu); }), HasSubstr("config.json: says"));
  write_text(copy.folder / "config.json", R"({"model_type": "clip"})");
  EXPECT_THAT(refusal<FormatError>(copy.path()),
              HasSubstr("vision_config is of 12 blocks of 768 channels, but the weights of 1 of 64"));
  write_text(copy.folder / "open_clip_config.json", R"({"model_cfg": {"quick_gelu": true}})");
  EXPECT_EQ(activation(), ClipActivation::quick_gelu);  // which is about these weights, whatever else is there

  const Copy quick("quick");
  EXPECT_THAT(
      message_of<FormatError>([&] { (void)open_clip_file(quick.path(), {.activation = ClipActivation::gelu}); }),
      HasSubstr("config.json: says that the activation is quick_gelu"));
}

TEST(ClipFile, HeadsOfWideTowersAreThoseOfOpenClip) {
  for (const auto& [width, heads] :
       {std::pair<Index, Index>(768, 12), {1024, 16}, {1280, 16}, {1408, 16}, {1664, 16}, {1792, 16}})
    EXPECT_EQ(width / detail::vision_head_width(width), heads) << width;
}

TEST(ClipFile, NamesBehindAWrapperAreReadAndTensorsBesideTheTowersAreNamed) {
  for (const std::string golden : {"quick", "openai"})
    for (const std::string wrapper : {"module.", "model.", "module.model.clip."}) {
      const Copy copy(golden);
      rewrite(kData / golden / "model.safetensors", copy.folder / "model.safetensors",
              [&](auto& name, auto&) { name = wrapper + name; });
      add_tensors(copy.folder / "model.safetensors", {"logit_scale", "loss.weight", wrapper + "text_decoder.up"});
      const auto file = open_clip_file(copy.path());
      EXPECT_EQ(file.left_out, (std::vector<std::string>{"logit_scale", "loss.weight", wrapper + "text_decoder.up"}));
      expect_same(load_clip(file), load_clip(kData / golden));
    }
  EXPECT_TRUE(open_clip_file(kData / "quick").left_out.empty());
}

TEST(ClipFile, TensorsOfTheTowersThatNothingTakesAreRefused) {
  for (const auto& [golden, tensor] : {std::pair("quick", "vision_model.encoder.layers.0.layer_scale1"),
                                       {"quick", "text_model.extra"},
                                       {"openai", "visual.attn_pool.query"},
                                       {"openai", "transformer.resblocks.0.ln_attn.weight"},
                                       {"openai", "logit_bias"},
                                       {"openai", "cls_emb"}}) {
    const Copy copy(golden);
    add_tensors(copy.folder / "model.safetensors", {tensor});
    EXPECT_THAT(refusal<CheckpointError>(copy.path()), HasSubstr("unexpected: '" + std::string(tensor) + "'"));
  }
}

TEST(ClipFile, TextTowersOfTheirOwnAreRead) {  // open_clip's custom_text
  const Copy copy("openai");
  rewrite(kData / "openai" / "model.safetensors", copy.folder / "model.safetensors", [](auto& name, auto&) {
    if (!name.starts_with("visual.") && name != "logit_scale" && name.find("length") == name.npos)
      name = "text." + name;
  });
  expect_same(load_clip(copy.path(), {.weights = {.activation = ClipActivation::quick_gelu}}),
              load_clip(kData / "openai"));
  add_tensors(copy.folder / "model.safetensors", {"token_embedding.weight"});
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("two tensors that stand for 'token_embedding.weight'"));
}

TEST(ClipFile, WeightsThatAreNoFiniteNumbersAreRefusedByName) {
  const std::string nan("\0\0\xc0\x7f", 4), infinity("\0\0\x80\xff", 4), nan16("\0\x7e", 2);
  for (const auto& [tensor, bytes] :
       {std::pair<std::string, std::string>("vision_model.encoder.layers.1.mlp.fc2.bias", nan),
        {"text_model.encoder.layers.0.self_attn.k_proj.weight", infinity},
        {"text_model.embeddings.token_embedding.weight", nan},
        {"visual_projection.weight", nan},
        {"vision_model.embeddings.patch_embedding.weight", infinity},
        {"logit_scale", nan}}) {
    const Copy copy("quick");
    spoil(copy.folder / "model.safetensors", tensor, bytes);
    EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("tensor '" + tensor + "' holds NaN or infinity"));
    EXPECT_THAT(message_of<FormatError>([&] { (void)load_clip<Packed<bf16>>(copy.path()); }), HasSubstr(tensor));
  }
  const Copy copy("openai");
  spoil(copy.folder / "model.safetensors", "visual.proj", nan16);
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("tensor 'visual.proj' holds NaN or infinity"));
}

TEST(ClipFile, AllThatIsWrongWithTensorsIsReportedAtOnce) {
  const Copy copy("quick");
  rewrite(kData / "quick" / "model.safetensors", copy.folder / "model.safetensors", [](auto& name, auto& shape) {
    if (name == "vision_model.pre_layrnorm.bias") name = "vision_model.pre_layernorm.bias";
    if (name.ends_with("layers.1.self_attn.k_proj.weight")) name.clear();
    if (name == "visual_projection.weight") std::swap(shape[0], shape[1]);
  });
  const auto why = refusal<CheckpointError>(copy.path());
  EXPECT_THAT(why, HasSubstr("missing: 'vision_model.pre_layrnorm.bias' [12]"));
  EXPECT_THAT(why, HasSubstr("unexpected: 'vision_model.pre_layernorm.bias' [12]"));
  EXPECT_THAT(why, HasSubstr("missing: 'vision_model.encoder.layers.1.self_attn.k_proj.weight' [12, 12]"));
  EXPECT_THAT(why, HasSubstr("missing: 'text_model.encoder.layers.1.self_attn.k_proj.weight' [8, 8]"));
  EXPECT_THAT(why, HasSubstr("misshapen: 'visual_projection.weight' came [12, 6], wanted [6, 12]"));
  EXPECT_THAT(why, Not(HasSubstr("layers.0")));
}

TEST(ClipFile, BuffersOfOldFilesAreNoParameters) {
  const Copy copy("quick");
  // The same file with one name changed to a buffer's: then only what lacks is reported, and the buffer is not.
  rewrite(kData / "quick" / "model.safetensors", copy.folder / "model.safetensors", [](auto& name, auto&) {
    if (name == "vision_model.post_layernorm.bias") name = "text_model.embeddings.position_ids";
  });
  const auto why = refusal<CheckpointError>(copy.path());
  EXPECT_THAT(why, HasSubstr("missing: 'vision_model.post_layernorm.bias' [12]"));
  EXPECT_THAT(why, Not(HasSubstr("unexpected")));
}

TEST(ClipFile, MissingExpertsAreReported) {
  TemporaryFolder folder;
  rewrite(kData / "clip_moe" / "model.safetensors", folder / "model.safetensors", [](auto& name, auto&) {
    if (name == "transformer.resblocks.1.gate.weight" || name == "visual.transformer.resblocks.1.experts.2.c_fc.bias")
      name.clear();
  });
  const auto why = refusal<CheckpointError>(folder / "model.safetensors", {.weights = {.head_width = 4}});
  EXPECT_THAT(why, HasSubstr("missing: 'transformer.resblocks.1.gate.weight' [3, 8]"));
  EXPECT_THAT(why, HasSubstr("missing: 'visual.transformer.resblocks.1.experts.2.c_fc.bias' [20]"));
}

TEST(ClipFile, ConfigurationThatDoesNotBelongToTheWeightsIsRefused) {
  const Copy copy("quick");
  auto config = copy.config();
  config["vision_config"]["hidden_size"] = 18;
  copy.set_config(config);
  EXPECT_THAT(refusal<CheckpointError>(copy.path()),
              HasSubstr("misshapen: 'vision_model.embeddings.class_embedding' came [12], wanted [18]"));
  config["vision_config"]["hidden_size"] = 1 << 20;  // 4 TB a layer
  copy.set_config(config);
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("belong together"));
  config["vision_config"]["hidden_size"] = 13;  // heads
  copy.set_config(config);
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("num_heads"));
  config["vision_config"]["hidden_size"] = 12;
  config["vision_config"]["patch_size"] = 3;
  copy.set_config(config);
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("multiple of patch"));
}

TEST(ClipFile, AFolderWithoutConfigurationSaysWhatToDo) {
  TemporaryFolder folder;
  fs::copy_file(kData / "quick" / "model.safetensors", folder / "model.safetensors");
  EXPECT_THAT(refusal<FormatError>(folder / "."),
              AllOf(HasSubstr("config.json: is missing"), HasSubstr("hf download MODEL config.json --local-dir")));
  write_text(folder / "config.json", "{\"model_type\": \"cl");
  EXPECT_THAT(refusal<FormatError>(folder / "."), HasSubstr("config.json: is not a JSON object (cut short?)"));
}

TEST(ClipFile, NumbersOfOtherKindsAreReported) {
  const Copy copy("quick");
  const auto weights = copy.folder / "model.safetensors";
  auto bytes = read_text(weights);
  for (std::size_t at = 0; (at = bytes.find("\"F32\"", at)) != bytes.npos;) bytes.replace(at, 5, "\"I32\"");
  write_text(weights, bytes);
  const auto why = refusal<CheckpointError>(copy.path());
  EXPECT_THAT(why, HasSubstr("came as I32, wanted F32, F16, BF16 or F64"));
  EXPECT_THAT(why, HasSubstr("of one model"));
}

TEST(ClipFile, FilesThatAreCutShortOrSomethingElseSaySo) {
  const Copy copy("quick");
  const auto weights = copy.folder / "model.safetensors";
  const auto whole = read_text(weights);
  for (const std::size_t size : {std::size_t{0}, std::size_t{5}, std::size_t{1000}, whole.size() - 1}) {
    write_text(weights, whole.substr(0, size));
    EXPECT_THAT(refusal<FormatError>(copy.path()),
                AllOf(HasSubstr("model.safetensors"), HasSubstr("download it again")))
        << size;
  }
  write_text(weights, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 605157884\n");
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("git lfs pull"));
  rewrite(kData / "quick" / "model.safetensors", weights, [](auto& name, auto&) {
    std::ranges::replace(name, '_', '-');
    name = "bert." + name;
  });
  EXPECT_THAT(refusal<FormatError>(copy.path()),
              AllOf(HasSubstr("is no CLIP"), HasSubstr("'bert.logit-scale'"), HasSubstr("vision_model.*")));
}

TEST(ClipFile, VisionTowerAloneAndResNetsAreRefused) {
  const Copy copy("openai");
  const auto weights = copy.folder / "model.safetensors";
  rewrite(kData / "openai" / "model.safetensors", weights,
          [](auto& name, auto&) { name = name.starts_with("visual.") ? name : ""; });
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("'token_embedding.weight' is missing"));
  rewrite(kData / "openai" / "model.safetensors", weights, [](auto& name, auto&) {
    if (name.starts_with("visual.transformer")) name = "visual.layer1" + name.substr(18);
  });
  EXPECT_THAT(refusal<FormatError>(copy.path()), HasSubstr("visual.transformer.resblocks.0"));
}

TEST(ClipFile, ShardsThatAreNotWhereTheIndexSaysAreReported) {
  const Copy copy("gelu");
  EXPECT_NO_THROW((void)load_clip(copy.path()));
  const auto index = copy.folder / "model.safetensors.index.json";
  const auto json = nlohmann::json::parse(read_text(index));
  const auto spoil = [&](auto&& change) {
    auto other = json;
    change(other["weight_map"]);
    write_text(index, other.dump());
    return refusal<FormatError>(copy.path());
  };
  EXPECT_THAT(spoil([](auto& map) { map["logit_scale"] = "model-00009-of-00009.safetensors"; }),
              HasSubstr("'model-00009-of-00009.safetensors', which is not beside it"));
  EXPECT_THAT(spoil([](auto& map) { map["logit_scale"] = "../secret.safetensors"; }), HasSubstr("name of a file"));
  EXPECT_THAT(spoil([](auto& map) { map["logit_scale"] = 3; }), HasSubstr("name of a file"));
  EXPECT_THAT(spoil([](auto& map) { map["more"] = "model-00001-of-00002.safetensors"; }), HasSubstr("'more'"));
  EXPECT_THAT(spoil([](auto& map) { map = "none"; }), HasSubstr("no index of shards"));
  write_text(index, json.dump());
  fs::remove(copy.folder / "model-00002-of-00002.safetensors");
  EXPECT_THAT(refusal<FormatError>(copy.path()),
              HasSubstr("'model-00002-of-00002.safetensors', which is not beside it"));
}

TEST(ClipFile, EveryNumberOfWorkersLoadsTheSame) {
  const auto one = load_clip(kData / "gelu", {.parallel_for = {}}), many = load_clip(kData / "gelu");
  for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, one, many);
}

/// A line of /proc/self/status, in bytes.
double status(const std::string& field) {
  std::istringstream lines(read_text("/proc/self/status"));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(field + ":")) return 1024 * std::stod(line.substr(field.size() + 1));
  return 0;
}

/// A file of zeros, and holes at that, for a model of these options; returns its bytes.
double write_hollow(const fs::path& path, const ClipOptions& options) {
  Clip<float, Packed<float>> shapes(options);
  nlohmann::json header;
  std::size_t at = 0;
  auto add = [&](std::string_view name, auto& parameter) {
    const auto source = kHuggingFaceClipNames.find(name).at(0);
    const auto shape = detail::source_shape(parameter.shape(), source, {.patch = options.patch});
    for (const auto& theirs : source.names) {
      const auto begin = at;
      at += *detail::tensor_bytes(Dtype::f32, shape);
      header[theirs] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, at}}};
    }
  };
  detail::WeightVisitor<decltype(add)> visitor(add);
  decltype(shapes)::visit(visitor, shapes);
  const std::string text = header.dump();
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 255);
  write_text(path, length + text);
  fs::resize_file(path, 8 + text.size() + at);
  return static_cast<double>(at);
}

// A mapped page that was read is memory of the process, like any other, until it is let go.
TEST(ClipFile, LoadingNeedsHardlyMoreMemoryThanTheWeights) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need memory of their own";
#endif
  const Copy copy("quick");
  auto config = copy.config();
  config["vision_config"]["hidden_size"] = 1024;
  config["vision_config"]["intermediate_size"] = 4096;
  config["vision_config"]["num_attention_heads"] = 8;
  copy.set_config(config);
  const double weights = write_hollow(copy.folder / "model.safetensors", clip_options_of_config(config, "config.json"));
  ASSERT_GT(weights, 90e6);
  const auto needed = [&](auto&& load) {
    const double before = status("VmRSS");
    std::ofstream("/proc/self/clear_refs") << 5;  // the high-water mark begins anew
    load();
    return status("VmHWM") - before;
  };
  std::ofstream reset("/proc/self/clear_refs");
  if (!(reset << 5 << std::flush)) GTEST_SKIP() << "the peak cannot be measured here";
  const LoadClipOptions one{.parallel_for = {}};
  EXPECT_LT(needed([&] { (void)load_clip(copy.path(), one); }), 1.3 * weights);
  EXPECT_LT(needed([&] { (void)load_clip<Packed<float>>(copy.path(), one); }), 1.3 * weights);
  EXPECT_LT(needed([&] { (void)load_clip<Packed<bf16>>(copy.path(), one); }), 0.8 * weights);
}

}  // namespace
}  // namespace gatefold
