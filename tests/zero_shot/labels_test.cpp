#include "zero_shot/labels.hpp"

#include <gmock/gmock.h>

#include "tests/io/temporary_folder.hpp"
#include "zero_shot/arguments.hpp"

namespace zero_shot {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> read(const std::string& text) { return labels_of(text, "mine.txt"); }

TEST(ReadLabels, TakesOneALine) {
  EXPECT_THAT(read("a red dress\n\n  # a comment\n \t a blue bag \r\nlast # not a comment"),
              ElementsAre("a red dress", "a blue bag", "last # not a comment"));
  EXPECT_THAT(read(""), ElementsAre());
}

TEST(ReadLabels, TakesHashtagsAndLeavesComments) {
  EXPECT_THAT(read("#1 dad mug\n#selfie\ncat\n# dog\n#\n#\tbird\n"), ElementsAre("#1 dad mug", "#selfie", "cat"));
}

TEST(ReadLabels, DoesNotCareWhoWroteTheFile) {
  EXPECT_THAT(read("\xef\xbb\xbf"
                   "cat\r\ndog\r\n"),
              ElementsAre("cat", "dog"));                                    // Windows
  EXPECT_THAT(read("cat\rdog\r\rbird"), ElementsAre("cat", "dog", "bird"));  // an old Mac
  // No-break space, ideographic space, thin space, line separator, and a mark that was pasted along.
  EXPECT_THAT(read("\u00a0cat\u3000\n\u2009a\u00a0dog\u2028\n\ufeffbird\n\u00a0\n"),
              ElementsAre("cat", "a\u00a0dog", "bird"));
}

TEST(ReadLabels, RefusesWhatIsNotUtf8) {
  using namespace std::string_literals;
  const auto why = [](const std::string& text) {
    return gatefold::test::message_of<gatefold::FormatError>([&] { read(text); });
  };
  EXPECT_THAT(why("\xff\xfe"
                  "c\0a\0t\0"s),
              HasSubstr("mine.txt: is UTF-16; expected lines of text, saved as UTF-8"));
  EXPECT_THAT(why("\xfe\xff\0c\0a\0t"s), HasSubstr("is UTF-16"));
  EXPECT_THAT(why("c\0a\0t\0"s), HasSubstr("line 1 holds a byte of zero: this is UTF-16"));
  EXPECT_THAT(why("cat\nsch\xf6n\n"), HasSubstr("line 2 is not UTF-8: an older encoding such as Latin-1"));
  EXPECT_THAT(why("\x89PNG\r\n\x1a\n"), HasSubstr("line 1 is not UTF-8"));
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
  EXPECT_THAT(refusal([] { read_labels("/no/such/file"); }),
              AllOf(StartsWith("/no/such/file: cannot be read: No such file"), HasSubstr("has one a line")));
  EXPECT_THAT(refusal([] { read_labels("/"); }), HasSubstr("Is a directory"));
  EXPECT_THAT(refusal([] { read_labels("/dev/zero"); }), HasSubstr("has more than 67108864 bytes"));
}

TEST(ReadLabels, DoesNotUseAFileAsFarAsItCouldBeRead) {
  // A process's own memory stands for a disk that fails: it opens, and reading at address 0 is an error.
  EXPECT_THAT(refusal([] { read_labels("/proc/self/mem"); }), HasSubstr("/proc/self/mem: cannot be read: "));
}

TEST(AllLabels, AreWordsAndEachOnce) {
  Arguments a;
  a.labels = {" cat", "dog\u00a0", "cat"};
  EXPECT_THAT(all_labels(a), ElementsAre("cat", "dog"));
  a.labels = {"cat", " \u00a0"};
  EXPECT_THAT(refusal([&] { all_labels(a); }), HasSubstr("label 2 behind --labels is empty"));
}

TEST(AllLabels, AreDoubtedWhereTheyCannotBeMeant) {
  const gatefold::test::TemporaryFolder folder;
  gatefold::test::write_text(folder / "b.png", "");
  EXPECT_THAT(doubts_about({"cat", "dog"}), ElementsAre());
  EXPECT_THAT(doubts_about({"cat"}), ElementsAre(HasSubstr("one label alone gets 100 %")));
  EXPECT_THAT(doubts_about({"cat", (folder / "b.png").string()}), ElementsAre(HasSubstr("is the name of a file")));
  EXPECT_THAT(doubts_about({"cat", std::string(300, 'x')}), ElementsAre());
}

TEST(WithoutRepeats, KeepsTheFirst) {
  EXPECT_THAT(without_repeats({"b", "a", "b", "c", "a"}), ElementsAre("b", "a", "c"));
}

}  // namespace
}  // namespace zero_shot
