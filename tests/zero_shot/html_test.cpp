#include "zero_shot/html.hpp"

#include <gtest/gtest.h>

namespace zero_shot {
namespace {

TEST(EscapeHtml, LeavesNothingThatMarksUp) {
  EXPECT_EQ(escape_html("<b>\"fish\" & 'chips'</b>"), "&lt;b&gt;&quot;fish&quot; &amp; &#39;chips&#39;&lt;/b&gt;");
  EXPECT_EQ(escape_html("&amp;"), "&amp;amp;");
  EXPECT_EQ(escape_html("a\tb\nschön"), "a\tb\nschön");
  EXPECT_EQ(escape_html(std::string_view("\0\033", 2)), "\uFFFD\uFFFD");
}

}  // namespace
}  // namespace zero_shot
