#include "zero_shot/html.hpp"

#include <gtest/gtest.h>

namespace zero_shot {
namespace {

TEST(EscapeHtml, LeavesNothingThatMarksUp) {
  EXPECT_EQ(escape_html("<b>\"fish\" & 'chips'</b>"), "&lt;b&gt;&quot;fish&quot; &amp; &#39;chips&#39;&lt;/b&gt;");
  EXPECT_EQ(escape_html("&amp;"), "&amp;amp;");
  EXPECT_EQ(escape_html("a\tb\nschön"), "a\tb\nschön");
  EXPECT_EQ(escape_html(std::string_view("\0\033", 2)), "\uFFFD\uFFFD");
  EXPECT_EQ(escape_html("photo\u202egnp.exe \u2066a\u2069"), "photo\uFFFDgnp.exe \uFFFDa\uFFFD");
  EXPECT_EQ(escape_html("\u2029\u202f\u2065\u206a"), "\u2029\u202f\u2065\u206a");  // their neighbours
}

}  // namespace
}  // namespace zero_shot
