#include "zero_shot/labels.hpp"

#include <gmock/gmock.h>

#include <sstream>

namespace zero_shot {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> read(const std::string& text) {
  std::istringstream in(text);
  return read_labels(in, "mine.txt");
}

TEST(ReadLabels, TakesOneALine) {
  EXPECT_THAT(read("a red dress\n\n  # a comment\n \t a blue bag \r\nlast # not a comment"),
              ElementsAre("a red dress", "a blue bag", "last # not a comment"));
  EXPECT_THAT(read(""), ElementsAre());
}

template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const gatefold::FormatError& e) {
    return e.what();
  }
  return "accepted";
}

TEST(ReadLabels, RefusesWhatIsNoListOfLabels) {
  EXPECT_THAT(refusal([] { read("a\n" + std::string(16'385, 'x')); }), HasSubstr("mine.txt:2: a label of 16385 bytes"));
  EXPECT_EQ(read(std::string(16'384, 'x')).size(), 1u);
  std::string many;
  for (int i = 0; i < 10'001; ++i) many += "a\n";
  EXPECT_THAT(refusal([&] { read(many); }), HasSubstr("more than 10000 labels"));
  EXPECT_THAT(refusal([] { read_labels(std::filesystem::path("/no/such/file")); }), HasSubstr("one label a line"));
  EXPECT_THAT(refusal([] { read_labels(std::filesystem::path("/")); }), HasSubstr("cannot be read"));
}

TEST(WithoutRepeats, KeepsTheFirst) {
  EXPECT_THAT(without_repeats({"b", "a", "b", "c", "a"}), ElementsAre("b", "a", "c"));
}

}  // namespace
}  // namespace zero_shot
