#include "gatefold/io/sharded_safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/io/safetensors_writer.hpp"
#include "tests/io/temporary_folder.hpp"

namespace gatefold::sharded_safetensors_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using test::message_of;
using test::TemporaryFolder;
using test::write_text;

void write(const std::filesystem::path& path, const std::vector<std::pair<std::string, std::vector<float>>>& tensors) {
  SafeTensorsWriter file;
  for (const auto& [name, values] : tensors) file.add(name, View<const float, 1>(values.data(), {std::ssize(values)}));
  file.write(path);
}

struct Shards {
  TemporaryFolder folder;
  Shards() {
    write(folder / "1.safetensors", {{"a", {1, 2}}, {"b", {3}}});
    write(folder / "2.safetensors", {{"c", {4, 5, 6}}});
    index(R"({"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}})");
  }
  void index(const std::string& text) const { write_text(folder / "index.json", text); }
  ShardedSafeTensors open() const { return ShardedSafeTensors::open_index(folder / "index.json"); }
  std::string why() const {
    return message_of<FormatError>([&] { (void)open(); });
  }
};

std::vector<float> values(const ShardedSafeTensors& file, const std::string& name) {
  const auto* tensor = file.find(name);
  if (!tensor) return {};
  std::vector<float> out(tensor->entry->bytes.size() / 4);
  decode(tensor->entry->dtype, tensor->entry->bytes, std::span(out));
  return out;
}

TEST(ShardedSafeTensors, ShardsAreOne) {
  const Shards shards;
  const auto file = shards.open();
  EXPECT_EQ(file.tensors().size(), 3U);
  EXPECT_EQ(file.files().size(), 2U);
  EXPECT_EQ(values(file, "b"), (std::vector<float>{3}));
  EXPECT_EQ(values(file, "c"), (std::vector<float>{4, 5, 6}));
  EXPECT_EQ(file.find("d"), nullptr);
}

TEST(ShardedSafeTensors, AFileAloneIsOneToo) {
  const Shards shards;
  const auto file = ShardedSafeTensors::open(shards.folder / "1.safetensors");
  EXPECT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(values(file, "a"), (std::vector<float>{1, 2}));
}

TEST(ShardedSafeTensors, WhatIsForgottenIsReadAgain) {
  TemporaryFolder folder;
  std::vector<float> large(1 << 18);  // more than a few pages
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<float>(i);
  write(folder / "x.safetensors", {{"x", large}, {"y", {7}}});
  const auto file = ShardedSafeTensors::open(folder / "x.safetensors");
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(values(file, "x"), large);
    EXPECT_EQ(values(file, "y"), (std::vector<float>{7}));
    for (const auto* name : {"x", "y"}) file.find(name)->file->forget(file.find(name)->entry->bytes);
  }
}

TEST(ShardedSafeTensors, RefusesIndicesThatAreWrong) {
  const Shards shards;
  shards.index(R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "x": "1.safetensors"}})");
  EXPECT_THAT(shards.why(), AllOf(HasSubstr("'x'"), HasSubstr("where it is not")));
  shards.index(R"({"weight_map": {"a": "/etc/passwd"}})");
  EXPECT_THAT(shards.why(), HasSubstr("name of a file"));
  shards.index(R"({"weight_map": {"a": "3.safetensors"}})");
  EXPECT_THAT(shards.why(), AllOf(HasSubstr("'3.safetensors', which is not beside it"), HasSubstr("download")));
  for (const auto* text : {"{}", R"({"weight_map": 3})"}) {
    shards.index(text);
    EXPECT_THAT(shards.why(), HasSubstr("no index of shards")) << text;
  }
  shards.index("{\"weight_map\": {");
  EXPECT_THAT(shards.why(), HasSubstr("index.json: is not a JSON object (cut short?)"));
  write(shards.folder / "2.safetensors", {{"a", {4}}});
  shards.index(R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})");
  EXPECT_THAT(shards.why(), AllOf(HasSubstr("'a' is also in"), HasSubstr("1.safetensors")));
}

TEST(ShardedSafeTensors, SaysWhenAFileIsSomethingElse) {
  TemporaryFolder folder;
  const auto why = [&](const std::string& text) {
    write_text(folder / "x.safetensors", text);
    return message_of<FormatError>([&] { (void)ShardedSafeTensors::open(folder / "x.safetensors"); });
  };
  EXPECT_THAT(why("version https://git-lfs.github.com/spec/v1\n"), HasSubstr("git lfs pull"));
  EXPECT_THAT(why(std::string("\x10\0\0\0\0\0\0\0{", 9)), HasSubstr("download it again"));
  EXPECT_THAT(why(""), HasSubstr("x.safetensors"));
  EXPECT_THAT(why("<!DOCTYPE html><html>"), HasSubstr("x.safetensors: is a web page"));
  EXPECT_THAT(why("{\"model_type\": \"clip\"}"), AllOf(HasSubstr("is JSON"), HasSubstr("name the folder")));
  EXPECT_THAT(why("PK\3\4archive/data.pkl"), HasSubstr("a pickle under another name"));
  std::filesystem::remove(folder / "x.safetensors");
  std::filesystem::create_symlink("../../blobs/1234", folder / "x.safetensors");  // as in Hugging Face's cache
  EXPECT_THAT(message_of<FormatError>([&] { (void)ShardedSafeTensors::open(folder / "x.safetensors"); }),
              AllOf(HasSubstr("is a link to ../../blobs/1234"), HasSubstr("cp -rL")));
}

}  // namespace
}  // namespace gatefold::sharded_safetensors_test
