#include "gatefold/module/path_pattern.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

bool matches(const char* pattern, const char* path) { return PathPattern(pattern).matches(path); }

TEST(PathPattern, IsAboutTheWholePath) {
  EXPECT_TRUE(matches("up.weight", "up.weight"));
  EXPECT_FALSE(matches("up", "up.weight"));
  EXPECT_FALSE(matches("weight", "up.weight"));
  EXPECT_FALSE(matches("up.weight", "up.weigh"));
}

TEST(PathPattern, StarSpansDotsAndMayBeEmpty) {
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("*.experts.*", "layers.0.experts.12.up.weight"));
  EXPECT_FALSE(matches("*.experts.*", "experts.12.up.weight"));
  EXPECT_TRUE(matches("*experts*", "experts"));
  EXPECT_TRUE(matches("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(matches("a*b*c", "aXbYbZ"));
  EXPECT_TRUE(matches("**bias**", "up.bias"));
}

TEST(PathPattern, QuestionMarkIsOneCharacter) {
  EXPECT_TRUE(matches("experts.?.up", "experts.3.up"));
  EXPECT_FALSE(matches("experts.?.up", "experts.12.up"));
  EXPECT_FALSE(matches("?", ""));
}

TEST(PathPattern, EmptyMatchesOnlyTheEmpty) {
  EXPECT_TRUE(matches("", ""));
  EXPECT_FALSE(matches("", "a"));
}

// All strings of up to 6 letters over {a, b} against all patterns of up to 4 over {a, b, *, ?}: the textbook recursion
// agrees everywhere.
bool recursive(std::string_view pattern, std::string_view path) {
  if (pattern.empty()) return path.empty();
  if (pattern[0] == '*')
    return recursive(pattern.substr(1), path) || (!path.empty() && recursive(pattern, path.substr(1)));
  return !path.empty() && (pattern[0] == '?' || pattern[0] == path[0]) && recursive(pattern.substr(1), path.substr(1));
}
std::string word(int number, int length, std::string_view letters) {
  std::string text;
  for (int i = 0; i < length; ++i, number /= static_cast<int>(letters.size()))
    text += letters[static_cast<std::size_t>(number) % letters.size()];
  return text;
}

TEST(PathPattern, EqualsTheRecursionEverywhere) {
  for (int pattern_length = 0, patterns = 1; pattern_length <= 4; ++pattern_length, patterns *= 4)
    for (int p = 0; p < patterns; ++p) {
      const std::string pattern = word(p, pattern_length, "ab*?");
      for (int length = 0, paths = 1; length <= 6; ++length, paths *= 2)
        for (int s = 0; s < paths; ++s) {
          const std::string path = word(s, length, "ab");
          ASSERT_EQ(PathPattern(pattern).matches(path), recursive(pattern, path)) << pattern << " " << path;
        }
    }
}

}  // namespace
}  // namespace gatefold
