#include "command_line.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <sstream>

#include "tests/io/temporary_folder.hpp"

namespace gatefold {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// A program of all kinds of options, as ours have them.
struct Program {
  std::vector<std::filesystem::path> pictures;
  std::vector<std::string> labels;
  std::string one = "{}";
  std::filesystem::path path;
  int threads = 0, top = 5;
  bool parsed = false;

  Program& parse(std::vector<std::string> arguments) {
    CLI::App app("Finds things.\n  prog a.png      an example whose columns stay\n");
    add_texts(app, "pictures", pictures,
              "files, of which there may be a good many, so that this sentence must be broken");
    add_texts(app, "--labels", labels, "words");
    add_texts(app, "--template", one, "a sentence");
    app.add_option("--path", path, "by CLI11 alone")->group("Others");
    app.add_option("--top", top, "how many")->capture_default_str()->check(CLI::Range(1, 10));
    add_threads(app, threads);
    arguments.insert(arguments.begin(), "prog");
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    parsed = parse_command_line(app, "prog", static_cast<int>(argv.size()), argv.data());
    return *this;
  }
  std::string refusal(const std::vector<std::string>& arguments) {
    return test::message_of<UsageError>([&] { (void)parse(arguments); });
  }
  std::string shown(const std::vector<std::string>& arguments) {
    ::testing::internal::CaptureStdout();
    (void)parse(arguments);
    std::cout.flush();
    return ::testing::internal::GetCapturedStdout();
  }
};

TEST(CommandLine, TakesWordsAsTheyAre) {
  const auto a = Program().parse({"[2019]", "[a,b]/c.png", "--labels", "[dog, bird]", "{}", "[[x]]", "%%", "50%", "a]",
                                  "[", "", "--template", "[{}]", "--path", "[x]"});
  EXPECT_TRUE(a.parsed);
  EXPECT_THAT(a.pictures, ElementsAre("[2019]", "[a,b]/c.png"));
  EXPECT_THAT(a.labels, ElementsAre("[dog, bird]", "{}", "[[x]]", "%%", "50%", "a]", "[", ""));
  EXPECT_EQ(a.one, "[{}]");
  EXPECT_EQ(a.path, "[x]");
  EXPECT_THAT(Program().parse({"--labels={}"}).labels, ElementsAre("{}"));
  EXPECT_THAT(Program().parse({"--labels", "[a]", "--labels", "[b]"}).labels, ElementsAre("[a]", "[b]"));
  EXPECT_EQ(Program().parse({"--template", "{}"}).one, "{}");
  EXPECT_EQ(Program().parse({"--path", "{}"}).path, "{}");
}

TEST(CommandLine, ThreadsHaveARange) {
  EXPECT_EQ(Program().parse({"--threads", "1024"}).threads, 1024);
  EXPECT_EQ(Program().parse({"--threads", "0"}).threads, 0);
  for (const char* wrong : {"-1", "1025", "100000", "2147483647", "99999999999", "1.5", "two", ""}) {
    const auto why = Program().refusal({"--threads", wrong});
    EXPECT_THAT(why, AllOf(HasSubstr("--threads"), HasSubstr("expected 0 to 1024"))) << wrong;
    EXPECT_LT(why.size(), 100u) << wrong;
  }
}

TEST(CommandLine, SaysWhatMayBeMeant) {
  EXPECT_THAT(Program().refusal({"a.png", "--lables", "x"}), HasSubstr("; did you mean --labels?"));
  EXPECT_THAT(Program().refusal({"--label", "x"}), HasSubstr("; did you mean --labels?"));
  EXPECT_THAT(Program().refusal({"--nothing-like-it"}), AllOf(Not(HasSubstr("did you mean")), HasSubstr("--help")));
  EXPECT_THAT(Program().refusal({"--top", "many]"}), AllOf(HasSubstr("--top"), Not(HasSubstr("\x1f"))));
}

TEST(CommandLine, HelpIsInLinesOfTheTerminal) {
  for (const char* width : {"40", "60", "80"}) {
    ::setenv("COLUMNS", width, 1);
    const auto help = Program().shown({"--help"});
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);)
      EXPECT_LE(static_cast<int>(line.size()), std::stoi(width)) << line;
    const bool narrow = std::string_view(width) == "40";
    EXPECT_THAT(help, HasSubstr(narrow ? "Finds things.\n  prog a.png\n      an example whose columns stay\n"
                                       : "Finds things.\n  prog a.png      an example whose columns stay\n"));
    EXPECT_THAT(help, HasSubstr("\n  --top INT [1 - 10] = 5\n      how many\n"));
    EXPECT_THAT(help, HasSubstr("\n  pictures TEXT...\n      files, "));
    EXPECT_THAT(help, HasSubstr("\nOthers:\n  --path TEXT\n"));
    EXPECT_THAT(help, HasSubstr("\n  --version\n"));
  }
  ::unsetenv("COLUMNS");
}

TEST(CommandLine, ExamplesGoOnAsAShellTakesThem) {
  const std::string text =
      "Examples of what this is for, in a sentence.\n"
      "  prog one.png --labels \"a red boot\" \"a bag\"   your own picture\n"
      "  prog                                       nothing\n";
  EXPECT_EQ(detail::folded(text, 80), text);
  EXPECT_EQ(detail::folded(text, 40),
            "Examples of what this is for, in a\n"
            "sentence.\n"
            "  prog one.png --labels \"a red boot\" \\\n"
            "      \"a bag\"\n"
            "      your own picture\n"
            "  prog\n"
            "      nothing\n");
  EXPECT_EQ(detail::folded("", 40), "");
  EXPECT_EQ(detail::folded("No line's end", 40), "No line's end\n");
}

TEST(CommandLine, HasAVersion) {
  Program a;
  EXPECT_THAT(a.shown({"--version"}), ::testing::MatchesRegex("prog \\(gatefold\\) [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  EXPECT_FALSE(a.parsed);
}

}  // namespace
}  // namespace gatefold
