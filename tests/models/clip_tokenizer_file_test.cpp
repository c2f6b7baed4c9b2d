#include "gatefold/models/clip_tokenizer_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace gatefold {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Json = nlohmann::json;

/// A tiny model's folder; gone with the test.
class ClipTokenizerFile : public ::testing::Test {
 protected:
  ClipTokenizerFile() { std::filesystem::create_directories(folder_); }
  ~ClipTokenizerFile() override { std::filesystem::remove_all(folder_); }

  void write(const char* name, const std::string& text) const { std::ofstream(folder_ / name) << text; }

  static Json vocabulary() {
    const auto clip = ClipTokenizer::of_merges(kMerges, {});
    Json json = Json::object();
    for (TokenId id = 0; id < clip.size(); ++id) json[clip.bpe().token(id)] = id;
    return json;
  }
  static Json tokenizer_json() {
    auto vocab = vocabulary();
    const auto start = vocab["<|startoftext|>"], end = vocab["<|endoftext|>"];
    vocab.erase("<|startoftext|>");  // some files have the markers only here
    return {{"added_tokens",
             {{{"id", start}, {"content", "<|startoftext|>"}}, {{"id", end}, {"content", "<|endoftext|>"}}}},
            {"model",
             {{"type", "BPE"},
              {"end_of_word_suffix", "</w>"},
              {"vocab", vocab},
              {"merges", Json::array({"c a", "ca t</w>"})}}}};
  }

  /// «a cat» has the ids that follow from the layout.
  void expect_cat() const {
    const auto clip = load_clip_tokenizer(folder_);
    EXPECT_EQ(clip.encode("A Cat"), (std::vector<TokenId>{514, 320, 513, 515}));
    EXPECT_EQ(clip.padding(), 515);
  }

  static inline const std::vector<std::string> kMerges{"c a", "ca t</w>"};
  std::filesystem::path folder_ = std::filesystem::path(::testing::TempDir()) / "gatefold_clip_tokenizer";
};

TEST_F(ClipTokenizerFile, ReadsVocabularyAndMerges) {
  write("vocab.json", vocabulary().dump());
  write("merges.txt", "#version: 0.2\nc a\nca t</w>\n");
  expect_cat();
}

TEST_F(ClipTokenizerFile, ReadsTokenizerJsonWithEitherKindOfMerges) {
  auto json = tokenizer_json();
  write("tokenizer.json", json.dump());
  expect_cat();
  json["model"]["merges"] = Json::array({Json::array({"c", "a"}), Json::array({"ca", "t</w>"})});
  write("tokenizer.json", json.dump());
  expect_cat();
}

TEST_F(ClipTokenizerFile, ReadsMergesAlone) {
  write("bpe_simple_vocab_16e6.txt", "\"bpe_simple_vocab_16e6.txt#version: 0.2\nc a\nca t</w>\n");
  expect_cat();
  write("merges.txt", "#version: 0.2\nc a\nca t</w>\n");
  expect_cat();
}

TEST_F(ClipTokenizerFile, TakesThePaddingFromTheConfiguration) {
  write("merges.txt", "c a\nca t</w>\n");
  write("tokenizer_config.json", R"({"pad_token": "<|endoftext|>"})");
  expect_cat();
  for (const auto* token : {R"("!")", R"({"content": "!"})"}) {
    write("tokenizer_config.json", std::string(R"({"pad_token": )") + token + "}");
    EXPECT_EQ(load_clip_tokenizer(folder_).padding(), 0);
  }
}

TEST_F(ClipTokenizerFile, SaysWhatIsWrongAndWhatToDo) {
  const auto loading = [&] { load_clip_tokenizer(folder_); };
  const auto expect_message = [&](auto... parts) {
    EXPECT_THAT(loading, ThrowsMessage<FormatError>(AllOf(HasSubstr("gatefold_clip_tokenizer"), HasSubstr(parts)...)));
  };
  expect_message("has no tokenizer", "vocab.json and merges.txt");
  write("vocab.json", vocabulary().dump());
  expect_message("has vocab.json without merges.txt");
  std::filesystem::remove(folder_ / "vocab.json");
  write("bpe_simple_vocab_16e6.txt.gz", "\x1f\x8b");
  expect_message("gunzip");
  const auto whole = tokenizer_json();
  write("tokenizer.json", whole.dump().substr(0, 1000));
  expect_message("tokenizer.json", "not a JSON object (cut short?)");
  const auto with = [&](const char* pointer, const Json& value) {
    auto json = whole;
    json[Json::json_pointer(pointer)] = value;
    write("tokenizer.json", json.dump());
  };
  with("/model", 7);
  expect_message("has no «model»");
  with("/model/type", "Unigram");
  expect_message("model.type is \"Unigram\", expected \"BPE\"");
  with("/model/end_of_word_suffix", "");
  expect_message("model.end_of_word_suffix");
  with("/model/merges", "none");
  expect_message("model.merges is no list");
  with("/model/merges/0", Json::array({"c"}));
  expect_message("expected two tokens");
  with("/model/merges/0", "c x");
  expect_message("merge line 1", "«cx» is not in the vocabulary");
  with("/model/vocab/a", -1);
  expect_message("token «a» has id -1");
  with("/model/vocab/a", 1.5);
  expect_message("token «a» has id 1.5");
  with("/added_tokens/0/id", "one");
  expect_message("added_tokens holds");
  with("/added_tokens/0/content", "<start>");
  expect_message("lacks «<|startoftext|>»");
  write("vocab.json", "{}");
  write("merges.txt", "");
  expect_message("vocab.json", "vocabulary lacks «");
  write("vocab.json", "{\"a\": 1");
  expect_message("vocab.json", "not a JSON object (cut short?)");
  auto vocab = vocabulary();
  for (int i = 0; i < 300; ++i) vocab["token" + std::to_string(i)] = 516 + i;  // merges that make them are not there
  write("vocab.json", vocab.dump());
  write("merges.txt", "c a\nca t</w>\n");
  expect_message("merges.txt: has 2 merges, but vocab.json 816 tokens", "cut short?");
}

/// Published ids, on a real CLIP's folder: GATEFOLD_CLIP_DIR=.../clip-vit-base-patch32
TEST(ClipTokenizerOfTheUser, GivesThePublishedIds) {
  const char* folder = std::getenv("GATEFOLD_CLIP_DIR");
  if (!folder) GTEST_SKIP() << "GATEFOLD_CLIP_DIR is not set";
  const auto clip = load_clip_tokenizer(folder);
  using Ids = std::vector<TokenId>;
  EXPECT_EQ(clip.size(), 49408);
  EXPECT_EQ(clip.encode("a photo of a cat"), (Ids{49406, 320, 1125, 539, 320, 2368, 49407}));
  EXPECT_EQ(clip.encode("a diagram"), (Ids{49406, 320, 22697, 49407}));
  EXPECT_EQ(clip.encode("Hello World! 123"), (Ids{49406, 3306, 1002, 256, 272, 273, 274, 49407}));
  EXPECT_EQ(clip.encode("it's a T-shirt/top."), (Ids{49406, 585, 568, 320, 339, 268, 2523, 270, 1253, 269, 49407}));
  EXPECT_EQ(clip.encode("a photo of an ankle boot."), (Ids{49406, 320, 1125, 539, 550, 14777, 8087, 269, 49407}));
  EXPECT_EQ(clip.encode("a photo of a fox"), (Ids{49406, 320, 1125, 539, 320, 3240, 49407}));
}

}  // namespace
}  // namespace gatefold
