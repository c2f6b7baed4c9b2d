#include "gatefold/models/clip_weights.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/io/safetensors_writer.hpp"
#include "tests/io/temporary_folder.hpp"

namespace gatefold {
namespace {

namespace fs = std::filesystem;
using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ClipWeights : public ::testing::Test {
 protected:
  /// A file of one tensor.
  void write(const std::string& name, const std::string& tensor) const {
    fs::create_directories((folder_ / name).parent_path());
    SafeTensorsWriter writer;
    writer.add_bytes(tensor, Dtype::u8, std::vector<Index>{0}, {});
    writer.write(folder_ / name);
  }
  void write(const std::string& name) const { write(name, name); }
  /// The only tensor of what is taken.
  std::string taken(const std::string& name = ".") const {
    return std::string(open_clip_weights(folder_ / name).tensors().begin()->first);
  }
  std::string refusal(const std::string& name = ".") const {
    return message_of<FormatError>([&] { (void)open_clip_weights(folder_ / name); });
  }
  const TemporaryFolder folder_;
};

TEST_F(ClipWeights, AreFoundUnderAnyOfTheirNames) {
  write("some.safetensors");
  EXPECT_EQ(taken(), "some.safetensors");
  EXPECT_EQ(taken("some.safetensors"), "some.safetensors");
  write("other.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("has several .safetensors files, expected model.safetensors"));
  const std::string sign = ".visual.class_embedding";
  for (const std::string name :
       {"open_clip_pytorch_model.safetensors", "open_clip_model.safetensors", "model.safetensors"}) {
    write(name, name + sign);
    EXPECT_EQ(taken(), name + sign);
  }
  write("shard.safetensors", "shard" + sign);
  write_text(folder_ / "model.safetensors.index.json",
             R"({"weight_map": {"shard.visual.class_embedding": "shard.safetensors"}})");
  EXPECT_EQ(taken(), "shard" + sign);
  EXPECT_EQ(taken("model.safetensors.index.json"), "shard" + sign);
}

TEST_F(ClipWeights, AreKnownByWhatTheyHold) {
  // As timm has it on the hub: its own model under the first name.
  write("model.safetensors", "blocks.0.attn.qkv.weight");
  write("open_clip_model.safetensors", "visual.class_embedding");
  EXPECT_EQ(taken(), "visual.class_embedding");
  write("open_clip_model.safetensors", "module.visual.class_embedding");
  EXPECT_EQ(taken(), "module.visual.class_embedding");
  write("model.safetensors", "text_model.embeddings.token_embedding.weight");  // both, as LAION has it
  EXPECT_EQ(taken(), "text_model.embeddings.token_embedding.weight");
  write("others/a.safetensors", "blocks.0.attn.qkv.weight");
  write("others/b.safetensors", "visual.class_embedding");
  EXPECT_EQ(taken("others"), "visual.class_embedding");
  write("others/c.safetensors", "vision_model.embeddings.class_embedding");
  EXPECT_THAT(refusal("others"), HasSubstr("has several .safetensors files"));
}

TEST_F(ClipWeights, StandBehindAnyWrapper) {
  const auto root = [&](const std::vector<std::string>& tensors) {
    SafeTensorsWriter writer;
    for (const auto& tensor : tensors) writer.add_bytes(tensor, Dtype::u8, std::vector<Index>{0}, {});
    writer.write(folder_ / "one.safetensors");
    return detail::clip_root(ShardedSafeTensors::open(folder_ / "one.safetensors"));
  };
  EXPECT_EQ(root({"bert.weight"}), std::nullopt);
  EXPECT_EQ(root({"module.visual.class_embedding", "module.logit_scale"})->prefix, "module.");
  EXPECT_EQ(root({"module.visual.class_embedding"})->names, ClipNames::open_clip);
  EXPECT_EQ(root({"clip.vision_model.embeddings.class_embedding"})->prefix, "clip.");
  EXPECT_EQ(root({"clip.vision_model.embeddings.class_embedding"})->names, ClipNames::hugging_face);
  EXPECT_EQ(root({"visual.class_embedding", "momentum.visual.class_embedding"})->prefix, "");
  EXPECT_EQ(root({"audiovisual.class_embedding"}), std::nullopt);  // no name of its own
  EXPECT_THAT(message_of<FormatError>([&] {
                root({"a.visual.class_embedding", "b.visual.class_embedding"});
              }),
              HasSubstr("holds parts of several models, under 'a.', 'b.'"));
}

TEST_F(ClipWeights, AreFoundInHuggingFacesCacheAndInSentenceTransformers) {
  write("st/0_CLIPModel/model.safetensors", "vision_model.embeddings.class_embedding");
  EXPECT_EQ(clip_folder(folder_ / "st"), folder_ / "st/0_CLIPModel");
  EXPECT_EQ(taken("st"), "vision_model.embeddings.class_embedding");
  const auto cache = std::string("models--openai--clip-vit-base-patch32");
  write(cache + "/snapshots/aaa/model.safetensors", "visual.class_embedding");
  EXPECT_EQ(clip_folder(folder_ / cache), folder_ / (cache + "/snapshots/aaa"));
  write(cache + "/snapshots/bbb/model.safetensors", "visual.conv1.weight");
  EXPECT_THAT(refusal(cache),
              AllOf(HasSubstr("several snapshots"), HasSubstr("snapshots/aaa\n"), HasSubstr("snapshots/bbb")));
  fs::create_directories(folder_ / (cache + "/refs"));
  write_text(folder_ / (cache + "/refs/main"), "bbb\n");
  EXPECT_EQ(taken(cache), "visual.conv1.weight");
  write_text(folder_ / (cache + "/refs/main"), "../../..");
  EXPECT_THAT(refusal(cache), HasSubstr("several snapshots"));
  fs::remove_all(folder_ / (cache + "/snapshots"));
  fs::create_directories(folder_ / (cache + "/snapshots"));
  EXPECT_THAT(refusal(cache), HasSubstr("no snapshot; download the model again"));
}

TEST_F(ClipWeights, SayWhatToDoWhereThereAreNone) {
  EXPECT_THAT(refusal("nowhere"), AllOf(HasSubstr("nowhere: does not exist"), HasSubstr("hf download")));
  EXPECT_THAT(refusal(), AllOf(HasSubstr("has no weights, expected model.safetensors"), HasSubstr("hf download")));
  fs::create_symlink("../../blobs/1", folder_ / "model.safetensors");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("is a link to ../../blobs/1"), HasSubstr("cp -rL")));
}

TEST_F(ClipWeights, PicklesAreRefusedWithTheCommandThatConvertsThem) {
  write_text(folder_ / "pytorch_model.bin", "PK");
  for (const auto* name : {".", "pytorch_model.bin"})
    EXPECT_THAT(refusal(name), AllOf(HasSubstr("pytorch_model.bin: is a pickle"), HasSubstr("python3 -c"),
                                     HasSubstr("save_file"), HasSubstr("weights_only=True"), HasSubstr("hf download")));
  write("model.safetensors");
  EXPECT_EQ(taken(), "model.safetensors");  // both, as most have it
}

}  // namespace
}  // namespace gatefold
