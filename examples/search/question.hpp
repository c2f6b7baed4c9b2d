#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "zero_shot/clip_embed.hpp"
#include "zero_shot/clip_photos.hpp"

namespace search {

using gatefold::Index;

/// A text or a picture of a question, and whether it is added or taken away.
struct Term {
  std::string words;
  bool picture = false, minus = false;
};

/// What is asked for: the sum of its terms, each of length 1, brought to length 1 again.
struct Question {
  std::vector<Term> terms;

  std::string text() const {
    std::string all;
    for (const Term& term : terms) all += (all.empty() ? "" : term.minus ? " - " : " + ") + term.words;
    return all;
  }
};

/// The questions of a command line: each word is one, but a «+» or «-» that stands alone binds what is on its sides, as
/// in «beach + sunset - people». A term that ends as a picture's name does is one. Throws FormatError for a sign
/// without a term and for a picture that is not there.
std::vector<Question> questions_of(std::span<const std::string> words);

/// What the model makes of questions; texts stand in a sentence as {}. Throws FormatError for a picture that cannot be
/// read and where nothing is left of a sum. // [Q, P] of length 1
gatefold::Tensor<float, 2> embed_questions(const zero_shot::ClipModel& clip, std::span<const Question> questions,
                                           const std::string& sentence, const zero_shot::EmbedOptions& how,
                                           gatefold::Context& ctx);

}  // namespace search
