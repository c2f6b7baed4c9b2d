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

TEST(Unicode, ReplacesTheLongestBeginningOfACharacter) {
  // Table 3-8 of the Unicode standard and its neighbours.
  EXPECT_EQ(to_utf8("caf\u00e9 \U0001f457"), "caf\u00e9 \U0001f457");
  EXPECT_EQ(to_utf8("a\xf1\x80\x80\xe1\x80\xc2"
                    "b\x80"
                    "c\x80\xbf"
                    "d"),
            "a\ufffd\ufffd\ufffdb\ufffdc\ufffd\ufffdd");
  EXPECT_EQ(to_utf8("\xc0\xaf\xe0\x80\xbf"), "\ufffd\ufffd\ufffd\ufffd\ufffd");
  EXPECT_EQ(to_utf8("\xed\xa0\x80\xf4\x90\x80\x80\xff"), "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd");
  EXPECT_EQ(to_utf8("\xf0\x9f\x91"), "\ufffd");
  EXPECT_EQ(to_utf8("\xf0\x9f\xe2\x82\xac"), "\ufffd\u20ac");
}

TEST(Unicode, Normalizes) {
  EXPECT_EQ(to_nfc("e\u0301 A\u030a \u212b \u1112\u1161\u11ab q\u0307\u0323"),
            "\u00e9 \u00c5 \u00c5 \ud55c q\u0323\u0307");
  EXPECT_EQ(to_nfc("\ufb01"), "\ufb01");
  EXPECT_EQ(to_nfkc("\ufb01 \uff21 \u00b2"), "fi A 2");
  const std::string zero("a\0\u00e9", 4);
  EXPECT_EQ(to_nfc(zero), zero);
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
