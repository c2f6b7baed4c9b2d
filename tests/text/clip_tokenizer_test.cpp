#include "gatefold/text/clip_tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <sstream>

#include "gatefold/core/random.hpp"
#include "gatefold/core/tensor.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::clip_tokenizer_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Ids = std::vector<TokenId>;

struct Text {
  std::string bytes;
  Ids open_clip{}, hugging_face{};
};
struct Checksums {
  std::string open_clip, hugging_face;
};
struct Goldens {
  std::vector<std::string> merges{}, pieces{};
  std::vector<Text> texts{};
  std::vector<Checksums> random{};
};

std::string from_hexadecimal(const std::string& digits) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

Ids ids_of(const std::string& text) {
  std::istringstream numbers(text);
  return Ids(std::istream_iterator<TokenId>(numbers), {});
}

const Goldens& goldens() {
  static const auto all = [] {
    std::ifstream file(gatefold::test::test_data("clip_tokenizer_goldens.txt"));
    Goldens read;
    for (std::string line; std::getline(file, line);) {
      const auto space = line.find(' ');
      const auto kind = line.substr(0, space), rest = line.substr(space + 1);
      if (kind == "merge") read.merges.push_back(rest);
      if (kind == "piece") read.pieces.push_back(from_hexadecimal(rest));
      if (kind == "random") read.random.push_back({rest.substr(0, rest.find(' ')), rest.substr(rest.find(' ') + 1)});
      if (kind != "text") continue;
      const auto first = rest.find(':'), second = rest.find(':', first + 1);
      read.texts.push_back({from_hexadecimal(rest.substr(0, first - 1)),
                            ids_of(rest.substr(first + 1, second - first - 1)), ids_of(rest.substr(second + 1))});
    }
    return read;
  }();
  return all;
}

/// The random texts of tests/data/make_clip_tokenizer_goldens.py.
class Congruence {
 public:
  explicit Congruence(std::size_t seed) : state_(static_cast<std::uint32_t>(seed)) {}
  std::size_t below(std::size_t count) {
    state_ = state_ * 1664525u + 1013904223u;
    return (state_ >> 16) % count;
  }

 private:
  std::uint32_t state_;
};
std::string random_text(std::size_t number) {
  static const std::vector<std::string> separators{" ",  " ",  " ",  " ",    "",       "",
                                                   "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000"};
  Congruence rng(number);
  std::string text;
  for (auto count = number % 16 == 15 ? 60 + rng.below(40) : 1 + rng.below(12); count > 0; --count) {
    auto piece = goldens().pieces[rng.below(goldens().pieces.size())];
    if (rng.below(8) == 0)
      for (char& c : piece) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    text += piece + separators[rng.below(separators.size())];
  }
  return text;
}

std::string checksum(const Ids& ids) {
  std::ostringstream text;
  text << std::hex << std::setw(8) << std::setfill('0')
       << crc32(0, reinterpret_cast<const Bytef*>(ids.data()), static_cast<uInt>(ids.size() * sizeof(TokenId)));
  return text.str();
}

ClipTokenizer tokenizer(ClipTokenizer::Options options = {}) {
  return ClipTokenizer::of_merges(goldens().merges, options);
}

TEST(ClipTokenizer, GivesTheIdsOfTheReferences) {
  const auto open_clip = tokenizer({.cleaning = ClipCleaning::open_clip});
  const auto hugging_face = tokenizer();
  ASSERT_EQ(goldens().texts.size(), 28u);
  for (const auto& text : goldens().texts) {
    EXPECT_EQ(open_clip.encode(text.bytes), text.open_clip) << text.bytes;
    EXPECT_EQ(hugging_face.encode(text.bytes), text.hugging_face) << text.bytes;
  }
}

TEST(ClipTokenizer, GivesTheIdsOfTheReferencesForThousandsOfTexts) {
  const auto open_clip = tokenizer({.cleaning = ClipCleaning::open_clip});
  const auto hugging_face = tokenizer();
  ASSERT_EQ(goldens().random.size(), 4000u);
  int mojibake = 0;
  for (std::size_t i = 0; i < goldens().random.size(); ++i) {
    const auto text = random_text(i);
    const auto& expected = goldens().random[i];
    if (expected.open_clip == "-")
      ++mojibake;
    else
      EXPECT_EQ(checksum(open_clip.encode(text)), expected.open_clip) << i << ": " << text;
    EXPECT_EQ(checksum(hugging_face.encode(text)), expected.hugging_face) << i << ": " << text;
  }
  EXPECT_EQ(mojibake, 9);
}

TEST(ClipTokenizer, NumbersBytesMergesAndMarkersInClipsOrder) {
  const auto clip = tokenizer();
  const auto merges = static_cast<TokenId>(goldens().merges.size());
  EXPECT_EQ(clip.bpe().find("!"), 0);
  EXPECT_EQ(clip.bpe().find("!</w>"), 256);
  EXPECT_EQ(clip.bpe().find("a</w>"), 320);
  EXPECT_EQ(clip.start(), 512 + merges);
  EXPECT_EQ(clip.end(), 513 + merges);
  EXPECT_EQ(clip.size(), 514 + merges);
}

TEST(ClipTokenizer, CutsToTheContextAndKeepsTheEnd) {
  const auto clip = tokenizer({.context = 4});
  EXPECT_THAT(clip.encode("! ! !"), ElementsAre(clip.start(), 256, 256, clip.end()));
  EXPECT_THAT(clip.encode("! !"), ElementsAre(clip.start(), 256, 256, clip.end()));
  EXPECT_THAT(clip.encode("!"), ElementsAre(clip.start(), 256, clip.end()));
  EXPECT_THAT(clip.encode(""), ElementsAre(clip.start(), clip.end()));
  const auto shortest = tokenizer({.context = 2});
  EXPECT_THAT(shortest.encode("! ! !"), ElementsAre(shortest.start(), shortest.end()));
  EXPECT_THROW(tokenizer({.context = 1}), OptionError);
}

TEST(ClipTokenizer, PadsEitherWay) {
  const std::vector<std::string> texts{"!", "! ! ! ! !"};
  for (const auto padding : {ClipPadding::zero, ClipPadding::end_of_text}) {
    const auto clip = tokenizer({.context = 5, .padding = padding});
    Tensor<TokenId, 2> ids({2, 5});
    clip.encode(texts, ids.view());
    const TokenId fill = padding == ClipPadding::zero ? 0 : clip.end();
    EXPECT_THAT(ids.flat(), ElementsAre(clip.start(), 256, clip.end(), fill, fill,  //
                                        clip.start(), 256, 256, 256, clip.end()));
    Tensor<Index, 2> narrow({2, 4});
    EXPECT_THROW(clip.encode(texts, narrow.view()), ShapeError);
  }
}

TEST(ClipTokenizer, LetsNobodyWriteAMarker) {
  const auto clip = tokenizer();
  for (const std::string_view text : {"<|endoftext|>", "<|startoftext|>", "<end_of_text>"}) {
    const auto ids = clip.encode(text);
    EXPECT_GT(ids.size(), 4u);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), clip.end()), 1);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), clip.start()), 1);
  }
}

TEST(ClipTokenizer, ReplacesWhatIsNotUtf8) {
  const auto clip = tokenizer();
  EXPECT_EQ(clip.encode("cat \xff"), clip.encode("cat \ufffd"));
  EXPECT_EQ(clip.encode("cat \xe2\x82 dog"), clip.encode("cat \ufffd dog"));
}

TEST(ClipTokenizer, LooksAtTheFirstKilobytesOfATextOnly) {
  const auto clip = tokenizer();
  const std::size_t most = ClipTokenizer::kMaxTextBytes;
  EXPECT_EQ(clip.encode(std::string(most - 1, ' ') + "!!"), clip.encode("!"));
  EXPECT_EQ(clip.clean(std::string(most - 2, ' ') + "\u20ac!").size(), most - 2);  // no half character
  // Marks in the wrong order are what normalisation takes longest for.
  std::string marks;
  while (marks.size() < 4 * most) marks += "\u0301\u0327";
  EXPECT_EQ(clip.encode(marks).size(), 77u);
}

TEST(ClipTokenizer, DecodesToTheCleanedWords) {
  const auto clip = tokenizer();
  EXPECT_EQ(clip.decode(clip.encode("A photo,  of a CAT")), "a photo , of a cat");
  EXPECT_EQ(clip.decode(clip.encode("")), "");
  const Ids padded{clip.start(), 256, clip.end(), clip.end(), 0};
  EXPECT_EQ(clip.decode(padded), "!");
  EXPECT_THROW(clip.decode(Ids{static_cast<TokenId>(clip.size())}), OptionError);
}

TEST(ClipTokenizer, ReadsEitherFileOfMerges) {
  const std::vector<std::string> merges{"a b", "ab c</w>"};
  EXPECT_EQ(ClipTokenizer::merges_of_file("#version: 0.2\na b\nab c</w>\n"), merges);
  EXPECT_EQ(ClipTokenizer::merges_of_file("#version: 0.2\r\na b\r\nab c</w>"), merges);
  EXPECT_EQ(ClipTokenizer::merges_of_file("a b\nab c</w>\n"), merges);
  EXPECT_EQ(ClipTokenizer::merges_of_file(""), std::vector<std::string>{});
  std::string long_file = "\"bpe_simple_vocab_16e6.txt#version: 0.2\n";
  for (int i = 0; i < 50000; ++i) long_file += "a b\n";
  EXPECT_EQ(ClipTokenizer::merges_of_file(long_file).size(), ClipTokenizer::kMaxMergesOfOpenAi);
}

TEST(ClipTokenizer, RefusesWhatIsNoClipVocabulary) {
  const auto of = [](std::vector<std::string> merges) { return [=] { ClipTokenizer::of_merges(merges, {}); }; };
  EXPECT_THAT(of({"a b", "a b"}), ThrowsMessage<FormatError>(HasSubstr("id")));
  EXPECT_THAT(of({"ab"}), ThrowsMessage<FormatError>(HasSubstr("merge line 1 is not two tokens")));
  EXPECT_THAT(of({"a bc"}), ThrowsMessage<FormatError>(HasSubstr("«bc» is not in the vocabulary")));
  std::map<std::string, TokenId> unmarked;
  const auto clip = tokenizer();
  for (TokenId id = 0; id < 512; ++id) unmarked.emplace(clip.bpe().token(id), id);
  EXPECT_THAT([&] { ClipTokenizer(unmarked, {}, {}); }, ThrowsMessage<FormatError>(HasSubstr("«<|startoftext|>»")));
}

}  // namespace
}  // namespace gatefold::clip_tokenizer_test
