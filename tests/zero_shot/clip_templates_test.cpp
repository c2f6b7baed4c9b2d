#include "zero_shot/clip_templates.hpp"

#include <gmock/gmock.h>

#include "tests/io/temporary_folder.hpp"

namespace zero_shot {
namespace {

using gatefold::test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ClipTemplates, TheLabelStandsInEachPlace) {
  EXPECT_EQ(fill_template("a {} in a video game.", "cat"), "a cat in a video game.");
  EXPECT_EQ(fill_template("{}, {} and {}", "a"), "a, a and a");
  EXPECT_EQ(fill_template("{}", "{}"), "{}");  // what the label says is not filled again
}

TEST(ClipTemplates, ImageNetsAreEightyAndAllDiffer) {
  const auto templates = templates_of({}, "imagenet");
  EXPECT_EQ(templates.size(), 80u);
  EXPECT_EQ(templates.front(), "a bad photo of a {}.");
  EXPECT_EQ(templates.back(), "a tattoo of the {}.");
}

TEST(ClipTemplates, ComeFromTheCommandLineAFileOrTheDefault) {
  EXPECT_THAT(templates_of({}, ""), ElementsAre("a photo of a {}."));
  EXPECT_THAT(templates_of({"{}", "a {}", "{}"}, ""), ElementsAre("{}", "a {}"));
  const gatefold::test::TemporaryFolder folder;
  gatefold::test::write_text(folder / "mine.txt", "# mine\nmy {}\n");
  EXPECT_THAT(templates_of({"{}"}, (folder / "mine.txt").string()), ElementsAre("{}", "my {}"));
}

TEST(ClipTemplates, RefusesOneWithoutAPlaceAndAnUnknownSet) {
  EXPECT_THAT(message_of<gatefold::FormatError>([] { (void)templates_of({"a photo"}, ""); }), HasSubstr("expected {}"));
  EXPECT_THAT(message_of<gatefold::FormatError>([] { (void)templates_of({}, "imagnet"); }),
              HasSubstr("expected imagenet"));
}

}  // namespace
}  // namespace zero_shot
