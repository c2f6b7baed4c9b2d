#include "zero_shot/page.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "tests/zero_shot/tiny_reader.hpp"

namespace zero_shot {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::vector<std::string> kLabels{"a pink bag", "a blue bag", "<script>alert('&')</script> \"quoted\""};

std::string page_of(const gatefold::LimoeOptions& options) {
  Reader reader = tiny::reader(options);
  reader.file.card["data"] = "<i>card</i>";
  Reading reading = tiny::plan(3, kLabels, reader);
  reading.pictures[0].name = "\"><img src=x onerror=y>.png";
  gatefold::Context ctx;
  read(reading, reader, ctx);
  return Page(reading, reader, {.model_name = "<model>"}).html();
}

Index count(const std::string& text, const std::string& piece) {
  Index n = 0;
  for (auto at = text.find(piece); at != std::string::npos; at = text.find(piece, at + 1)) ++n;
  return n;
}

TEST(PageOf, NeedsNothingButItself) {
  const std::string html = page_of(tiny::options());
  EXPECT_THAT(html, Not(HasSubstr("http:")));
  EXPECT_THAT(html, Not(HasSubstr("https:")));
  EXPECT_THAT(html, Not(HasSubstr("@import")));
  EXPECT_THAT(html, Not(HasSubstr("<link")));
  const std::regex resource(R"re((src|href)="([^"]*)"|url\(([^)]*)\))re");
  for (std::sregex_iterator at(html.begin(), html.end(), resource), end; at != end; ++at) {
    const std::string target = (*at)[2].str() + (*at)[3].str();
    EXPECT_TRUE(target.starts_with("data:image/png;base64,") || target == "#hatch") << target;
  }
}

TEST(PageOf, EscapesWhatComesFromOutside) {
  const std::string html = page_of(tiny::options());
  EXPECT_EQ(count(html, "<script>"), 1);  // our own
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt; &quot;quoted&quot;"));
  EXPECT_THAT(html, Not(HasSubstr("<img src=x")));
  EXPECT_THAT(html, HasSubstr("&lt;i&gt;card&lt;/i&gt;"));
  EXPECT_THAT(html, HasSubstr("&lt;model&gt;"));
}

TEST(PageOf, ClosesWhatItOpens) {
  for (const auto towers : {gatefold::LimoeOptions::Towers::one, gatefold::LimoeOptions::Towers::two}) {
    auto options = tiny::options();
    options.towers = towers;
    const std::string html = page_of(options);
    for (const std::string tag :
         {"div",     "span", "article", "section", "figure", "svg",  "g",      "p",  "b",  "i", "table",
          "details", "dl",   "dt",      "dd",      "header", "main", "button", "h2", "h3", "em"})
      EXPECT_EQ(count(html, "<" + tag + " ") + count(html, "<" + tag + ">"), count(html, "</" + tag + ">")) << tag;
  }
}

TEST(PageOf, ShowsEveryPatchAndWhatTrainingHasSeen) {
  const std::string html = page_of(tiny::options());
  EXPECT_EQ(count(html, "<rect class=\"f\""), 3 * 4);  // pictures, patches
  EXPECT_THAT(html, HasSubstr("<rect class=\"h\""));   // half of the seats are missing
  EXPECT_THAT(html, HasSubstr(">never seen<"));
  EXPECT_THAT(html, HasSubstr(">seen<"));
  EXPECT_THAT(html, HasSubstr(">outside the world<"));
}

TEST(PageOf, ADenseModelSaysNothingOfExperts) {
  auto options = tiny::options();
  options.sparse = gatefold::Placement::none();
  const std::string html = page_of(options);
  EXPECT_THAT(html, Not(HasSubstr("Who does what")));
  EXPECT_THAT(html, Not(HasSubstr("<rect class=\"f\"")));
  EXPECT_THAT(html, HasSubstr("a pink bag"));
}

TEST(WritePage, ReplacesAndSaysWhatToDo) {
  const auto path = std::filesystem::temp_directory_path() / ("gatefold-page-" + std::to_string(::getpid()) + ".html");
  write_page("first, and longer", path);
  write_page("second", path);
  std::ifstream in(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "second");
  std::filesystem::remove(path);
  try {
    write_page("x", "/no/such/folder/page.html");
    FAIL();
  } catch (const gatefold::FormatError& e) {
    EXPECT_THAT(e.what(), HasSubstr("--report FOLDER/report.html"));
  }
}

}  // namespace
}  // namespace zero_shot
