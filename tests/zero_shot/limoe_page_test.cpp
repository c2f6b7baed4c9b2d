#include "zero_shot/limoe_page.hpp"

#include <gmock/gmock.h>

#include "tests/zero_shot/html_check.hpp"
#include "tests/zero_shot/tiny_reader.hpp"

namespace zero_shot {
namespace {

using testing::count;
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
  return Page(reading, page_model(reader, "<model>"), 5).html();
}

TEST(LimoePage, NeedsNothingButItself) { testing::expect_to_need_nothing_but_itself(page_of(tiny::options())); }

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
    testing::expect_to_close_what_it_opens(page_of(options));
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
