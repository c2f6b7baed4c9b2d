#include "zero_shot/clip_model.hpp"

#include <gmock/gmock.h>

#include "gatefold/io/safetensors_writer.hpp"
#include "gatefold/models/clip_file.hpp"
#include "gatefold/models/clip_tokenizer_file.hpp"
#include "tests/zero_shot/tiny_clip.hpp"
#include "zero_shot/clip_embed.hpp"

namespace zero_shot {
namespace {

namespace fs = std::filesystem;
using gatefold::FormatError;
using gatefold::test::message_of;
using gatefold::test::read_text;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;

class OpenClip : public ::testing::Test {
 protected:
  OpenClip() {
    tiny::write_clip(clip_);
    tiny::write_photos(folder_ / "photos");
  }
  template <class E = FormatError>
  std::string refusal(const fs::path& path) const {
    return message_of<E>([&] { (void)open_clip(path); });
  }
  std::string refusal() const { return refusal(clip_); }
  nlohmann::json config() const { return nlohmann::json::parse(read_text(clip_ / "config.json")); }
  void set_config(const nlohmann::json& json) const { write_text(clip_ / "config.json", json.dump()); }

  const TemporaryFolder folder_;
  const fs::path clip_ = folder_ / "clip";
  gatefold::Context ctx_;
};

/// The rows of what open_clip makes, against the model in another memory layout and steps written out here.
TEST_F(OpenClip, EmbedsAsTheModelDoesInEachFormat) {
  const auto dense = gatefold::load_clip(clip_);
  const auto tokenizer = gatefold::load_clip_tokenizer(clip_, {.context = 10});
  const std::vector<std::string> texts{"a cat", "dogs"};
  gatefold::Tensor<Index, 2> ids({2, 10});
  for (Index b = 0; b < 2; ++b) {
    const auto row = tokenizer.encode(texts[static_cast<std::size_t>(b)]);
    for (Index t = 0; t < 10; ++t) ids.view()(b, t) = t < std::ssize(row) ? row[static_cast<std::size_t>(t)] : 515;
  }
  gatefold::Tensor<float, 2> z_texts({2, 6}), z_image({1, 6});
  dense.encode_texts(ids, z_texts, ctx_);
  const fs::path red[]{folder_ / "photos" / "red.png"};
  gatefold::Tensor<float, 4> image({1, 8, 8, 3});
  const gatefold::ClipPreprocess preprocess({.shortest_edge = 8, .crop = {{8, 8}}});
  preprocess.interleaved<float>(gatefold::decode_image_file(red[0]), image.view()[0]);
  dense.encode_images(image, z_image, ctx_);
  const auto similar = [](gatefold::View<const float, 1> a, gatefold::View<const float, 1> b) {
    double ab = 0, aa = 0, bb = 0;
    for (Index i = 0; i < a.extent(0); ++i)
      ab += double{a[i]} * double{b[i]}, aa += double{a[i]} * double{a[i]}, bb += double{b[i]} * double{b[i]};
    return ab / std::sqrt(aa * bb);
  };
  // 4 bits round by up to 1/14 of the largest weight of a group, in every layer.
  for (const auto& [format, least] :
       std::map<std::string, double>{{"fp32", 1 - 1e-6}, {"bf16", 1 - 1e-3}, {"int8", 1 - 1e-2}, {"int4", 0.8}}) {
    const auto clip = open_clip(clip_, {.format = format});
    EXPECT_EQ(clip.format, format);
    EXPECT_NEAR(clip.temperature, std::exp(double{dense.logit_scale.flat()[0]}), 1e-9);
    const auto z = embed_texts(clip, texts, {}, ctx_);
    const auto photo = embed_photos(clip, red, {}, ctx_);
    EXPECT_GE(similar(z.view()[0], z_texts.view()[0]), least) << format;
    EXPECT_GE(similar(z.view()[1], z_texts.view()[1]), least) << format;
    EXPECT_GE(similar(photo.z.view()[0], z_image.view()[0]), least) << format;
  }
}

TEST_F(OpenClip, ReadsOpenAisNamesFromAFileBesideItsTokenizer) {
  tiny::write_openai_clip(folder_ / "openai");
  const auto clip = open_clip(folder_ / "openai" / "tiny.safetensors");
  EXPECT_EQ(clip.options.image_size, 8);
  EXPECT_EQ(clip.tokenizer.options().cleaning, gatefold::ClipCleaning::open_clip);
  EXPECT_EQ(clip.preprocess.options().rounding, gatefold::CropRounding::half_even);
  FileSums sums;
  const auto identity = open_clip(folder_ / "openai" / "tiny.safetensors", {.sums = &sums}).identity;
  EXPECT_EQ(open_clip(folder_ / "openai", {.sums = &sums}).identity, identity);
}

// As timm has them on the hub: its own model and configuration beside open_clip's.
TEST_F(OpenClip, TheNamesOfTheWeightsDecideHowTextsAndImagesArePrepared) {
  const auto timm = folder_ / "timm";
  tiny::write_openai_clip(timm);
  fs::rename(timm / "tiny.safetensors", timm / "open_clip_model.safetensors");
  write_text(timm / "open_clip_config.json", R"({"model_cfg": {"quick_gelu": true, "text_cfg": {"heads": 1}},
                                                 "preprocess_cfg": {"resize_mode": "squash"}})");
  write_text(timm / "config.json", R"({"architecture": "vit_base_patch32_clip_224"})");
  write_text(timm / "preprocessor_config.json", R"({"size": 8, "crop_size": 8})");
  gatefold::SafeTensorsWriter other;
  other.add_bytes("blocks.0.norm1.weight", gatefold::Dtype::f32, std::vector<Index>{0}, {});
  other.write(timm / "model.safetensors");
  for (const auto& path : {timm, timm / "open_clip_model.safetensors"}) {
    const auto clip = open_clip(path);
    EXPECT_EQ(clip.tokenizer.options().cleaning, gatefold::ClipCleaning::open_clip);
    EXPECT_EQ(clip.tokenizer.options().padding, gatefold::ClipPadding::zero);
    EXPECT_EQ(clip.preprocess.options().exact_size, (gatefold::ImageSize{8, 8}));
    EXPECT_EQ(clip.preprocess.options().alpha, gatefold::Alpha::ignored);
  }
  const auto clip = open_clip(clip_);
  EXPECT_EQ(clip.tokenizer.options().cleaning, gatefold::ClipCleaning::hugging_face);
  EXPECT_EQ(clip.preprocess.options().rounding, gatefold::CropRounding::down);
  EXPECT_EQ(clip.preprocess.options().alpha, gatefold::Alpha::over_white);
  write_text(timm / "open_clip_config.json",
             R"({"model_cfg": {"text_cfg": {"heads": 1, "hf_tokenizer_name": "bert"}}})");
  EXPECT_THAT(refusal(timm), HasSubstr("text_cfg: «hf_tokenizer_name» is \"bert\""));
}

TEST_F(OpenClip, WarnsOfTensorsThatAreOfNeitherTower) {
  std::vector<std::string> warnings;
  const OpenClipOptions how{.warn = [&](const std::string& warning) { warnings.push_back(warning); }};
  (void)open_clip(clip_, how);
  EXPECT_TRUE(warnings.empty());
  const gatefold::SafeTensors file{gatefold::MappedFile(clip_ / "model.safetensors")};
  gatefold::SafeTensorsWriter writer;
  for (const auto& entry : file.entries()) writer.add_bytes(entry.name, entry.dtype, entry.shape, entry.bytes);
  for (int i = 0; i < 7; ++i)
    writer.add_bytes("classifier." + std::to_string(i), gatefold::Dtype::f32, std::vector<Index>{0}, {});
  writer.write(folder_ / "more.safetensors");
  fs::rename(folder_ / "more.safetensors", clip_ / "model.safetensors");
  (void)open_clip(clip_, how);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], AllOf(HasSubstr("model.safetensors: holds tensors that are of neither tower and were left: "
                                           "classifier.0, classifier.1"),
                                 HasSubstr("… (7 in all)")));
}

TEST_F(OpenClip, TakesTheActivationThatIsAskedForWhereTheWeightsDoNotSay) {
  tiny::write_openai_clip(folder_ / "openai");
  const auto weights = folder_ / "openai" / "tiny.safetensors";
  const gatefold::SafeTensors file{gatefold::MappedFile(weights)};
  gatefold::SafeTensorsWriter writer;
  for (const auto& entry : file.entries())
    if (entry.name != "vocab_size") writer.add_bytes(entry.name, entry.dtype, entry.shape, entry.bytes);
  writer.write(folder_ / "openai" / "other.safetensors");
  fs::rename(folder_ / "openai" / "other.safetensors", weights);
  EXPECT_THAT(refusal(weights), HasSubstr("state it (--activation)"));
  const std::vector<std::string> texts{"a cat"};
  gatefold::Tensor<float, 2> z[2];
  int i = 0;
  for (const auto& [name, activation] : clip_activations())
    z[i++] = embed_texts(open_clip(weights, {.activation = activation}), texts, {}, ctx_);
  EXPECT_NE(z[0], z[1]);
  FileSums sums;
  EXPECT_NE(open_clip(weights, {.activation = gatefold::ClipActivation::gelu, .sums = &sums}).identity,
            open_clip(weights, {.activation = gatefold::ClipActivation::quick_gelu, .sums = &sums}).identity);
}

TEST_F(OpenClip, ReadsClipMoe) {
  tiny::write_clip_moe(folder_ / "clip_moe");
  const auto clip = open_clip(folder_ / "clip_moe");
  EXPECT_TRUE(clip.has_mixtures());
  EXPECT_EQ(clip.options.context, 248);
  EXPECT_EQ(clip.options.vision.mixture.num_experts, 3);
  const std::vector<std::string> texts{"cat", std::string(400, 'c')};
  ClipRouting routing;
  const auto z = embed_texts(clip, texts, {.routing = &routing}, ctx_);
  EXPECT_EQ(routing.texts.layers().at(0).total().tokens, 3 + 248);  // the second is cut
  for (const float x : z.flat()) EXPECT_TRUE(std::isfinite(x));
}

TEST_F(OpenClip, UpcycledGivesTheSameAndReportsEachToken) {
  const auto dense = open_clip(clip_), sparse = open_clip(clip_, {.upcycle = 4});
  EXPECT_FALSE(dense.has_mixtures());
  EXPECT_TRUE(sparse.has_mixtures());
  const fs::path photos[]{folder_ / "photos" / "red.png", folder_ / "photos" / "green.png"};
  ClipRouting routing;
  const auto wanted = embed_photos(dense, photos, {}, ctx_);
  const auto got = embed_photos(sparse, photos, {.batch = 1, .routing = &routing}, ctx_);
  for (std::size_t i = 0; i < 12; ++i) EXPECT_NEAR(got.z.flat()[i], wanted.z.flat()[i], 1e-5);
  EXPECT_EQ(ctx_.report, nullptr);
  ASSERT_EQ(routing.images.layers().size(), 2u);  // batches add up
  for (const auto& layer : routing.images.layers()) {
    const auto usage = layer.total();
    EXPECT_EQ(usage.tokens, 2 * 5);
    EXPECT_EQ(std::accumulate(usage.requests.begin(), usage.requests.end(), 0.0), 2 * 2 * 5);
  }
  EXPECT_TRUE(routing.texts.layers().empty());
}

TEST_F(OpenClip, TheIdentityTellsWhatChangesEmbeddings) {
  FileSums sums;
  const auto identity_of = [&](OpenClipOptions how = {}) {
    how.sums = &sums;
    return open_clip(clip_, how).identity;
  };
  EXPECT_EQ(open_clip(clip_).identity, "");  // for whom nothing is summed
  const auto identity = identity_of();
  EXPECT_EQ(identity_of({.format = "bf16"}), identity);
  EXPECT_NE(identity_of({.upcycle = 2}), identity);
  write_text(clip_ / "README.md", "words");
  EXPECT_EQ(identity_of(), identity);
  EXPECT_EQ(sums.summed(), 1);  // an unchanged file is summed once
  write_text(clip_ / "merges.txt", "#version: 0.2\nd o\ndo g</w>\n");
  EXPECT_NE(identity_of(), identity);
  tiny::write_clip(clip_);
  EXPECT_EQ(identity_of(), identity);
  // Any byte counts, wherever in a tensor, also when the time of the content is set back.
  const auto path = clip_ / "model.safetensors";
  const auto time = fs::last_write_time(path);
  for (const auto* name : {"text_model.embeddings.token_embedding.weight", "visual_projection.weight"}) {
    const gatefold::SafeTensors sound{gatefold::MappedFile(path)};
    gatefold::SafeTensorsWriter writer;
    std::vector<std::byte> changed;
    for (const auto& entry : sound.entries()) {
      if (entry.name == name) {
        changed.assign(entry.bytes.begin(), entry.bytes.end());
        changed[changed.size() / 3 / 4 * 4] ^= std::byte{1};  // of a float the part that changes least
      }
      writer.add_bytes(entry.name, entry.dtype, entry.shape, entry.name == name ? changed : entry.bytes);
    }
    writer.write(path);
    fs::last_write_time(path, time);
    EXPECT_NE(identity_of(), identity) << name;
    tiny::write_clip(clip_);
    EXPECT_EQ(identity_of(), identity);
  }
}

TEST_F(OpenClip, APackedModelIsTheSameModel) {
  const auto packed = folder_ / "packed";
  const fs::path photos[]{folder_ / "photos" / "red.png", folder_ / "photos" / "green.png"};
  const std::vector<std::string> texts{"cat", "c a t"};
  for (const OpenClipOptions& how : {OpenClipOptions{.format = "int8"}, {.format = "bf16", .upcycle = 2}}) {
    fs::remove_all(packed);
    FileSums sums, other;
    auto with = how;
    with.sums = &sums;
    const auto made = open_clip(clip_, with);
    save_packed(made, packed);
    EXPECT_TRUE(is_clip(packed));
    const auto clip = open_clip(packed, {.sums = &other});
    EXPECT_EQ(other.summed(), 0);
    EXPECT_EQ(clip.identity, made.identity);
    EXPECT_EQ(clip.format, how.format);
    EXPECT_EQ(clip.temperature, made.temperature);
    EXPECT_EQ(clip.has_mixtures(), how.upcycle > 0);
    EXPECT_EQ(embed_photos(clip, photos, {}, ctx_).z, embed_photos(made, photos, {}, ctx_).z);
    EXPECT_EQ(embed_texts(clip, texts, {}, ctx_), embed_texts(made, texts, {}, ctx_));
    EXPECT_EQ(open_clip(packed / "model.safetensors").format, how.format);
    EXPECT_THAT(message_of<gatefold::FormatError>([&] { save_packed(made, packed); }), HasSubstr("is there already"));
    write_text(packed / "merges.txt", "#version: 0.2\nd o\ndo g</w>\n");
    EXPECT_NE(open_clip(packed, {.sums = &other}).identity, made.identity);
  }
  const auto refusal = [&](const OpenClipOptions& how) {
    return message_of<gatefold::FormatError>([&] { (void)open_clip(packed, how); });
  };
  EXPECT_THAT(refusal({.format = "int4"}),
              HasSubstr("is packed as bf16 and cannot be had as int4; there is no way back"));
  EXPECT_THAT(refusal({.upcycle = 4}), HasSubstr("cannot be upcycled"));
  EXPECT_THROW(save_packed(open_clip(clip_), folder_ / "unnamed"), gatefold::OptionError);
}

TEST_F(OpenClip, SaysWhatIsMissing) {
  EXPECT_THAT(refusal(folder_ / "nowhere"), AllOf(HasSubstr("does not exist"), HasSubstr("hf download")));
  EXPECT_THAT(refusal(folder_ / "photos"), AllOf(HasSubstr("has no weights"), HasSubstr("model.safetensors")));
  fs::rename(clip_ / "merges.txt", clip_ / "other.txt");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("has no tokenizer"), HasSubstr("hf download openai/clip-vit-base-patch32")));
  fs::rename(clip_ / "other.txt", clip_ / "merges.txt");
  fs::remove(clip_ / "config.json");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("config.json: is missing"), HasSubstr("hf download MODEL config.json")));
  fs::rename(clip_ / "model.safetensors", clip_ / "pytorch_model.bin");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("is a pickle"), HasSubstr("save_file")));
}

TEST_F(OpenClip, SaysWhatIsDamagedOrOfAnotherModel) {
  const auto weights = clip_ / "model.safetensors";
  auto json = config();
  json["model_type"] = "bert";
  set_config(json);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("configuration of a 'bert'"), HasSubstr("expected a 'clip'")));
  json["model_type"] = "clip";
  json["vision_config"]["hidden_size"] = 24;
  set_config(json);
  EXPECT_THAT(refusal<gatefold::CheckpointError>(clip_), AllOf(HasSubstr("misshapen"), HasSubstr("wanted")));
  write_text(clip_ / "config.json", "{\"model_type\": \"cl");
  EXPECT_THAT(refusal(), HasSubstr("config.json: is not a JSON object (cut short?)"));
  fs::resize_file(weights, fs::file_size(weights) - 1000);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("model.safetensors"), HasSubstr("download it again")));
}

TEST_F(OpenClip, SaysWhichPartsDoNotFitEachOther) {
  write_text(clip_ / "preprocessor_config.json", R"({"size": 16, "crop_size": 16})");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("makes images of 16 x 16, the model takes 8 x 8"), HasSubstr("one model?")));
  tiny::write_clip(clip_);
  write_text(clip_ / "merges.txt", "c a\nca t</w>\na t</w>\n");
  EXPECT_THAT(refusal(), HasSubstr("the tokenizer has 517 tokens, the model embeds 516"));
  write_text(clip_ / "merges.txt", "c a\n");
  EXPECT_THAT(refusal(), HasSubstr("the merges make 515 tokens, the model embeds 516 (cut short?)"));
  tiny::write_clip(clip_);
  auto json = config();
  json["text_config"]["eos_token_id"] = 7;
  set_config(json);
  EXPECT_THAT(refusal(), HasSubstr("ends texts with id 515, the model reads them off at id 7"));
}

TEST_F(OpenClip, KnowsAClipFromAModelOfTrainLimoe) {
  EXPECT_TRUE(is_clip(clip_));
  EXPECT_TRUE(is_clip(clip_ / "model.safetensors"));
  EXPECT_TRUE(is_clip(folder_ / "photos"));  // where the message says what a folder must hold
  EXPECT_FALSE(is_clip(folder_ / "nowhere"));
  fs::resize_file(clip_ / "model.safetensors", 100);
  EXPECT_TRUE(is_clip(clip_ / "model.safetensors"));
  fs::create_directories(folder_ / "run");
  gatefold::SafeTensorsWriter writer;
  writer.add_metadata("gatefold.limoe", "{}");
  writer.write(folder_ / "run" / "model.safetensors");
  EXPECT_FALSE(is_clip(folder_ / "run" / "model.safetensors"));
  EXPECT_FALSE(is_clip(folder_ / "run"));
  write_text(folder_ / "run" / "model.safetensors", "short");
  EXPECT_FALSE(is_clip(folder_ / "run" / "model.safetensors"));
}

}  // namespace
}  // namespace zero_shot
