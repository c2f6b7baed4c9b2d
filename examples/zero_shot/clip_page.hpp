#pragma once
#include "zero_shot/clip_answers.hpp"
#include "zero_shot/page.hpp"

namespace zero_shot {

/// What a page has at most: it shall open at once, and photographs and labels bring something for every sparse block.
inline constexpr Index kMostOnPage = 40'000;

Index photos_on_a_page(const ClipModel& clip);

/// The first of the answers with their photographs, and where the model has mixtures, which expert took what: for that
/// they pass through the model once more, and so does the first sentence that each label stands in.
Reading read_for_page(const ClipAnswers& answers, const ClipModel& clip, const EmbedOptions& options,
                      gatefold::Context& ctx);

/// What a page says of a CLIP. `file` is its name.
PageModel page_model(const ClipAnswers& answers, const ClipModel& clip, const std::string& file);

}  // namespace zero_shot
