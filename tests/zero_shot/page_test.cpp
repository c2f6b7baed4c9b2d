#include "zero_shot/page.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace zero_shot {
namespace {

using testing::HasSubstr;

TEST(WritePage, ReplacesAndSaysWhatToDo) {
  const auto path = std::filesystem::temp_directory_path() / ("gatefold-page-" + std::to_string(::getpid()) + ".html");
  ::testing::internal::CaptureStderr();
  write_page("first, and longer", path);
  write_page("second", path);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("The report is in " + path.string()));
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

TEST(Page, ShowsSettingsAsTheyAreWhenNobodyCanMeanThem) {
  PageModel model;
  model.card = {{"settings", "{\"x\": " + std::string(95'000, '[') + std::string(95'000, ']') + "}"}};
  EXPECT_THAT(page_html(Reading(), model, 5), HasSubstr("[[[["));
  model.card = {{"settings", "{\"x\": [7]}"}};
  EXPECT_THAT(page_html(Reading(), model, 5), HasSubstr("1 settings"));
}

}  // namespace
}  // namespace zero_shot
