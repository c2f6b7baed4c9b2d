#include "gatefold/text/fix_text.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

// Expectations from ftfy 6.3.1, its documentation's examples among them.

TEST(FixText, KeepsWhatIsFine) {
  for (const std::string text :
       {"", "a photo of a cat\n", "\u65e5\u672c\u8a9e \U0001f457 caf\u00e9", "this&not that", "a\tb\f"})
    EXPECT_EQ(fix_text(text), text);
}

TEST(FixText, TakesLigaturesWidthsAndQuotesBack) {
  EXPECT_EQ(fix_text("\ufb02u\ufb00y \ufb01ne \u01c5 \u0132 \u0149"), "fluffy fine D\u017e IJ 'n");
  EXPECT_EQ(fix_text("\uff2c\uff2f\uff35\uff24\u3000\uff8a\uff9f\uff11"), "LOUD \u30d11");
  EXPECT_EQ(fix_text("\u201cit\u2019s\u201d \u2018\u02bc"), "\"it's\" ''");
  EXPECT_EQ(fix_text("\u0093x\u0094 \u0085 \u0081"), "\"x\" \u2026 \u0081");
  EXPECT_EQ(fix_text("cafe\u0301"), "caf\u00e9");
}

TEST(FixText, DropsControlsAndTerminalColours) {
  EXPECT_EQ(fix_text("\x1b[36;44mI'm blue\x1b[0m"), "I'm blue");
  EXPECT_EQ(fix_text("\x1b\x01[36m \x1b[\x1b[1"), "[36m [[1");  // only whole sequences
  EXPECT_EQ(fix_text(std::string("a\0b\x07\x7f\ufeff\ufffc", 11)), "ab");
  EXPECT_EQ(fix_text("a\r\nb\rc\u2028d\u2029"), "a\nb\nc\nd\n");
  EXPECT_EQ(fix_text("\u200d\u00ad\u202e"), "\u200d\u00ad\u202e");
}

TEST(FixText, UnescapesHtmlUntilALineHasATag) {
  EXPECT_EQ(fix_text("&lt;&eacute;&EACUTE;&SZLIG;&#39;&#x27;"), "<\u00e9\u00c9SS''");
  EXPECT_EQ(fix_text("&eacute &#39 &copy2024 &nTILDE; &HEARTS; &GTX;"), "&eacute &#39 &copy2024 &nTILDE; \u2665 &GTX;");
  EXPECT_EQ(fix_text("&amp;amp;lt;"), "<");
  EXPECT_EQ(fix_text("&gt;\n<b>&gt;\n&gt;"), ">\n<b>&gt;\n&gt;");
}

TEST(FixText, EndsInReasonableTimeOnAnyDepth) {
  std::string deep = "&";
  for (int i = 0; i < 10000; ++i) deep += "amp;";
  EXPECT_LT(fix_text(deep).size(), deep.size());
}

}  // namespace
}  // namespace gatefold
