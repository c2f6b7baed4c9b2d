#include "zero_shot/cut_labels.hpp"

#include <gtest/gtest.h>

namespace zero_shot {
namespace {

gatefold::ClipTokenizer tokenizer(gatefold::Index context) {
  return gatefold::ClipTokenizer::of_merges(std::vector<std::string>{"c a", "ca t</w>"}, {.context = context});
}

// Each character is a token but those of «cat», and start and end take two places.
TEST(CutLabels, AreThoseOfWhichATemplateMakesTooMuch) {
  const std::vector<std::string> labels{"cat", "dogs", "cat cat cat cat", "dog s dog s"};
  EXPECT_EQ(cut_labels(tokenizer(6), labels, std::vector<std::string>{"{}"}),
            (std::vector<bool>{false, false, false, true}));
  EXPECT_EQ(cut_labels(tokenizer(6), labels, std::vector<std::string>{"{}", "a {}"}),
            (std::vector<bool>{false, true, true, true}));
  EXPECT_EQ(cut_labels(tokenizer(77), labels, std::vector<std::string>{"a {}"}), std::vector<bool>(4));
}

TEST(CutLabels, TheTokenizerSaysItExactly) {
  for (const gatefold::Index context : {3, 5, 10}) {
    const auto own = tokenizer(context);
    for (const std::string text : {"", "dog", "dogs", "cat cat cat", "cat cat cat cat", "ﬀ ﬀ", "İİİ", "&amp;&amp;",
                                   "ÅÅÅÅ", "d\xff", "    cat     ", "dogsdogs", "dogsdogsd"}) {
      const auto longer = tokenizer(1000);
      EXPECT_EQ(own.cuts(text), std::ssize(longer.encode(text)) > context) << text << " " << context;
    }
  }
  EXPECT_TRUE(tokenizer(77).cuts(std::string(20'000, ' ')));  // whose end is not even looked at
}

TEST(CutLabels, AreNamed) {
  const std::vector<std::string> labels{"a", "b", "c", "d", std::string(59, 'x') + "ä"};
  EXPECT_EQ(words_of_cut(labels, std::vector<bool>(5), 77), "");
  EXPECT_EQ(words_of_cut(labels, {false, true, false, false, false}, 77),
            "1 label is longer than the 77 tokens that the model reads; it does not see how it ends: «b»");
  EXPECT_EQ(
      words_of_cut(labels, {true, true, true, true, false}, 77),
      "4 labels are longer than the 77 tokens that the model reads; it does not see how they end: «a», «b», «c», …");
  EXPECT_EQ(words_of_cut(labels, {false, false, false, false, true}, 9, "text"),
            "1 text is longer than the 9 tokens that the model reads; it does not see how it ends: «" +
                std::string(59, 'x') + "…»");
}

}  // namespace
}  // namespace zero_shot
