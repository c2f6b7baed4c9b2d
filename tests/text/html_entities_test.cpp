#include "gatefold/text/html_entities.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

TEST(HtmlEntities, KnowsNamesWithAndWithoutSemicolon) {
  EXPECT_EQ(unescape_html("&lt;b&gt; &amp;amp; &eacute;&Eacute; &hearts;"), "<b> &amp; \u00e9\u00c9 \u2665");
  EXPECT_EQ(unescape_html("&eacute &copy2024 &notit;"), "\u00e9 \u00a92024 \u00acit;");  // the longest known beginning
  EXPECT_EQ(unescape_html("&hearts &EACUTE; &unknown; &;&&#;&#x;"), "&hearts &EACUTE; &unknown; &;&&#;&#x;");
  EXPECT_EQ(unescape_html("&NotEqualTilde;"), "\u2242\u0338");
  EXPECT_EQ(unescape_html("&CounterClockwiseContourIntegral;"), "\u2233");  // the longest name
  EXPECT_EQ(unescape_html("&CounterClockwiseContourIntegralsssss;"), "&CounterClockwiseContourIntegralsssss;");
}

TEST(HtmlEntities, ReadsNumbersAsBrowsersDo) {
  EXPECT_EQ(unescape_html("&#233;&#xe9;&#XE9 &#x1F457;"), "\u00e9\u00e9\u00e9 \U0001f457");
  EXPECT_EQ(unescape_html("&#128;&#150;&#x81;"), "\u20ac\u2013\u0081");  // bytes of Windows-1252
  EXPECT_EQ(unescape_html("&#0;&#xD800;&#x110000;&#99999999999999999999;"), "\ufffd\ufffd\ufffd\ufffd");
  EXPECT_EQ(unescape_html("[&#1;&#x7f;&#xFFFE;&#x1FFFF;&#xfdd0;]"), "[]");
  EXPECT_EQ(unescape_html("&#65a &#x41g &#65"), "Aa Ag A");
}

TEST(HtmlEntities, HasTheWholeList) {
  int names = 0, bare = 0;
  std::string_view rest = detail::kHtmlEntities;
  for (; !rest.empty(); rest.remove_prefix(rest.find(' ') + 1), ++names) {
    const auto name = rest.substr(0, rest.find_first_of("=~"));
    const auto* entity = find_html_entity(name);
    ASSERT_NE(entity, nullptr) << name;
    EXPECT_FALSE(entity->text.empty()) << name;
    EXPECT_TRUE(is_utf8(entity->text)) << name;
    EXPECT_EQ(unescape_html("&" + std::string(name) + ";"), entity->text);
    bare += !entity->needs_semicolon;
  }
  EXPECT_EQ(names, 2125);  // the WHATWG's 2231 are these with a semicolon and 106 of them without
  EXPECT_EQ(bare, 106);
}

}  // namespace
}  // namespace gatefold
