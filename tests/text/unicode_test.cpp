#include "gatefold/text/unicode.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

Character only(std::string_view bytes) { return character_at(bytes, 0); }

TEST(Unicode, ReadsOneToFourBytes) {
  EXPECT_EQ(only("a").code, 'a');
  EXPECT_EQ(only("\u00e9!").code, 0xe9);
  EXPECT_EQ(only("\u00e9!").bytes, "\u00e9");
  EXPECT_EQ(only("\u20ac").code, 0x20ac);
  EXPECT_EQ(only("\U0001f457").code, 0x1f457);
}

TEST(Unicode, GivesInvalidBytesOneByOne) {
  // lone continuation, cut, overlong, surrogate, above U+10FFFF, never used
  for (const std::string_view bytes :
       {"\x80", "\xe2\x82", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"}) {
    EXPECT_EQ(only(bytes).code, -1);
    EXPECT_EQ(only(bytes).bytes.size(), 1u);
    EXPECT_FALSE(is_utf8(bytes));
  }
  EXPECT_TRUE(is_utf8("caf\u00e9 \U0001f457"));
  EXPECT_FALSE(is_utf8("caf\xc3"));
}

TEST(Unicode, LowersLikePythonAndOnlyOnce) {
  EXPECT_EQ(to_lower("CAF\u00c9 \u0394\u0416 \xc3"), "caf\u00e9 \u03b4\u0436 \xc3");
  EXPECT_EQ(to_lower("\u0130"), "i\u0307");
  for (std::int32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xd800 && code < 0xe000) continue;
    std::string text;
    append_utf8(text, code);
    ASSERT_EQ(only(text).code, code);
    const auto lower = to_lower(text);
    ASSERT_EQ(to_lower(lower), lower) << code;
  }
}

TEST(Unicode, ClassesAreDisjoint) {
  EXPECT_TRUE(is_letter(only("\u4e2d")));
  EXPECT_TRUE(is_mark(only("\u0301")));
  EXPECT_TRUE(is_number(only("\u00bd")));
  EXPECT_TRUE(is_punctuation(only("\u2019")));
  EXPECT_TRUE(is_symbol(only("\u20ac")));
  EXPECT_TRUE(is_control(only("\u200d")));
  for (const std::string_view space : {" ", "\t", "\n", "\u0085", "\u00a0", "\u2003", "\u2028", "\u3000"})
    EXPECT_TRUE(is_space(only(space)));
  EXPECT_FALSE(is_space(only("\u200b")));  // zero width space is a format character
  for (std::int32_t code = -1; code < 0x30000; ++code) {
    const Character c{"", code};
    ASSERT_LE(is_letter(c) + is_mark(c) + is_number(c) + is_punctuation(c) + is_symbol(c) + is_space(c), 1) << code;
  }
}

}  // namespace
}  // namespace gatefold
