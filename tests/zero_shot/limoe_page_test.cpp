#include "zero_shot/limoe_page.hpp"

#include <gmock/gmock.h>

#include <map>
#include <regex>

#include "tests/zero_shot/html_check.hpp"
#include "tests/zero_shot/tiny_reader.hpp"

namespace zero_shot {
namespace {

using html::count;
using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<std::string> kLabels{"a pink bag", "a blue bag", "<script>alert('&')</script> \"quoted\""};

std::string page_of(const gatefold::LimoeOptions& options) {
  Reader reader = tiny::reader(options);
  reader.file.card["data"] = "<i>card</i>";
  Reading reading = tiny::plan(3, kLabels, reader);
  reading.pictures[0].name = "\"><img src=x onerror=y>.png";
  gatefold::Context ctx;
  read(reading, reader, ctx);
  return page_html(reading, page_model(reader, "<model>"), 5);
}

TEST(LimoePage, NeedsNothingButItself) { html::expect_to_need_nothing_but_itself(page_of(tiny::options())); }

TEST(LimoePage, EscapesWhatComesFromOutside) {
  const std::string html = page_of(tiny::options());
  EXPECT_EQ(count(html, "<script>"), 1);  // our own
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt; &quot;quoted&quot;"));
  EXPECT_THAT(html, Not(HasSubstr("<img src=x")));
  EXPECT_THAT(html, HasSubstr("&lt;i&gt;card&lt;/i&gt;"));
  EXPECT_THAT(html, HasSubstr("&lt;model&gt;"));
}

TEST(LimoePage, ClosesWhatItOpens) {
  for (const auto towers : {gatefold::LimoeOptions::Towers::one, gatefold::LimoeOptions::Towers::two}) {
    auto options = tiny::options();
    options.towers = towers;
    html::expect_to_close_what_it_opens(page_of(options));
  }
}

TEST(LimoePage, ShowsEveryPatchAndWhatTrainingHasSeen) {
  const std::string html = page_of(tiny::options());
  EXPECT_EQ(count(html, "<rect class=\"f\""), 3 * 4);  // pictures, patches
  EXPECT_THAT(html, HasSubstr("<rect class=\"h\""));   // half of the seats are missing
  EXPECT_THAT(html, HasSubstr(">never seen<"));
  EXPECT_THAT(html, HasSubstr(">seen<"));
  EXPECT_THAT(html, HasSubstr(">outside the world<"));
}

TEST(LimoePage, SurestFirstAndNothingAboveTheCommonFolder) {
  Reader reader = tiny::reader();
  Reading reading = tiny::plan(3, kLabels, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  const std::vector<double> sure{0.6, 0.9, 0.7};
  for (std::size_t i = 0; i < 3; ++i) {
    Picture& picture = reading.pictures[i];
    picture.name = "/home/someone/private/" + std::string(i == 2 ? "deeper/" : "") + "p" + std::to_string(i) + ".png";
    picture.ranked.front() = {.label = i == 1 ? 1 : 0, .probability = sure[i]};  // the second is named wrong
  }
  const std::string html = page_html(reading, page_model(reader, "m"), 5);
  EXPECT_THAT(html, Not(HasSubstr("someone")));
  const auto first = html.find("deeper/p2.png</h3>"), second = html.find(" p0.png</h3>"),
             last = html.find("p1.png</h3>");
  ASSERT_NE(last, std::string::npos);
  EXPECT_LT(first, second);
  EXPECT_LT(second, last);
  EXPECT_EQ(count(html, "pixels are all that the model sees"), 1);
}

TEST(LimoePage, EveryButtonAndMapHasANameOfItsOwnForAScreenReader) {
  const std::string html = page_of(tiny::options());
  const std::regex name(R"re(<(button|svg)[^>]*aria-label="([^"]*)")re");
  std::map<std::string, int> names;
  for (std::sregex_iterator at(html.begin(), html.end(), name), end; at != end; ++at) ++names[(*at)[2].str()];
  EXPECT_EQ(std::ssize(names), 4 + 3);  // experts, each with a button in the legend and in its row; maps
  for (const auto& [text, times] : names) EXPECT_EQ(times, text.find(", expert ") == std::string::npos ? 1 : 2) << text;
}

TEST(LimoePage, SaysWhatMadeItAndShowsItsCardReadably) {
  Reader reader = tiny::reader();
  reader.file.card["pairs"] = "1408000";
  reader.file.card["settings"] = R"({"lr":0.001,"losses":"<limoe>"})";
  const Reading reading = [&] {
    Reading r = tiny::plan(1, kLabels, reader);
    gatefold::Context ctx;
    read(r, reader, ctx);
    return r;
  }();
  const std::string html = page_html(reading, page_model(reader, "m"), 5);
  EXPECT_THAT(html, HasSubstr("<td>1,408,000</td>"));
  EXPECT_THAT(html, HasSubstr("2 settings</summary>"));
  EXPECT_THAT(html, HasSubstr("losses: &lt;limoe&gt;"));
  EXPECT_THAT(html, HasSubstr("gatefold 0."));
  EXPECT_THAT(html, HasSubstr("<meta name=\"description\""));
  EXPECT_THAT(html, HasSubstr("@media print"));
}

TEST(LimoePage, ADenseModelSaysNothingOfExperts) {
  auto options = tiny::options();
  options.sparse = gatefold::Placement::none();
  const std::string html = page_of(options);
  EXPECT_THAT(html, Not(HasSubstr("Who does what")));
  EXPECT_THAT(html, Not(HasSubstr("<rect class=\"f\"")));
  EXPECT_THAT(html, HasSubstr("a pink bag"));
}

}  // namespace
}  // namespace zero_shot
