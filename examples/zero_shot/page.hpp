#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "zero_shot/reading.hpp"

namespace zero_shot {

/// What a page says of the model that made it. All but the card is HTML.
struct PageModel {
  std::string lead;         ///< Begins the page: what this is.
  std::string remark = "";  ///< What is to be said before the pictures, if anything.
  std::string scope = "";   ///< What the model knows; ends the explanation of the percentages.
  std::string explanation;  ///< More <dt> and <dd>.
  std::string source;       ///< Who made this kind of model.
  Index image_size, patch;
  std::vector<std::pair<std::string, std::string>> card{};  ///< Name and value, as plain text.
};

/// The folder that all of them lie in, with a slash behind it. What is above the pictures is nobody's business who is
/// shown the page.
std::string common_folder(const std::vector<std::string>& names);

/// One HTML page that needs nothing but itself. Pictures of which the answer is known come surest first, others as they
/// are given; of each picture so many labels are shown.
std::string page_html(Reading reading, PageModel model, Index labels_of_each_picture);

/// Writes the page so that a reader never sees half of it. Throws FormatError that says what to do.
void write_page(const std::string& html, const std::filesystem::path& path);

}  // namespace zero_shot
