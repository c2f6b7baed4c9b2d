#include "gatefold/models/clip_weights.hpp"

#include <gmock/gmock.h>

#include "gatefold/io/safetensors_writer.hpp"
#include "tests/io/temporary_folder.hpp"

namespace gatefold {
namespace {

namespace fs = std::filesystem;
using gatefold::testing::message_of;
using gatefold::testing::TemporaryFolder;
using gatefold::testing::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ClipWeights : public ::testing::Test {
 protected:
  void write(const std::string& name) const {
    SafeTensorsWriter writer;
    writer.add_bytes(name, Dtype::u8, std::vector<Index>{0}, {});
    writer.write(folder_ / name);
  }
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
  for (const auto* name : {"open_clip_pytorch_model.safetensors", "open_clip_model.safetensors", "model.safetensors"}) {
    write(name);
    EXPECT_EQ(taken(), name);
  }
  write_text(folder_ / "model.safetensors.index.json", R"({"weight_map": {"some.safetensors": "some.safetensors"}})");
  EXPECT_EQ(taken(), "some.safetensors");
  EXPECT_EQ(taken("model.safetensors.index.json"), "some.safetensors");
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
