#pragma once
#include <limits>
#include <ostream>

#include "zero_shot/candidate.hpp"
#include "zero_shot/clip_embed.hpp"
#include "zero_shot/json_stream.hpp"
#include "zero_shot/terminal.hpp"

namespace zero_shot {

/// What is said of one photograph.
struct PhotoAnswer {
  std::filesystem::path path;
  std::string fault;              ///< Why it cannot be read; then there are no labels.
  std::vector<Candidate> ranked;  ///< Best first, those that reach the threshold.
};

enum class Scores {
  one_of_all,     ///< One label is right: softmax over all of them.
  each_by_itself  ///< Any number of labels may be right: the cosines. (A CLIP is trained with a softmax; it has no
                  ///< sigmoid.)
};

/// All that is said but for the photographs, of which there may be many: each is shown as it comes, and some are kept
/// for the page.
struct ClipAnswers {
  std::vector<std::string> labels, templates;
  std::vector<bool> cut{};  ///< Labels of which the model does not see the end; empty where nobody has looked.
  Scores scores = Scores::one_of_all;
  double threshold = -std::numeric_limits<double>::infinity();  ///< Of the probability or the cosine.
  std::vector<PhotoAnswer> kept{};
  Index answered = 0;
  std::vector<PhotoAnswer> unread{};
  ClipRouting routing{};
};

/// What is said of a photograph, counted in `answers`. z // [P], z_labels // [L, P]
PhotoAnswer answer(ClipAnswers& answers, const std::filesystem::path& photo, const std::string& fault,
                   gatefold::View<const float, 1> z, gatefold::Rows<const float> z_labels, double temperature);

/// The blocks of a tower that are mixtures, in the order they run.
std::vector<Index> sparse_blocks(const gatefold::ClipTowerOptions& tower);

/// A photograph for programs, with at most `top` labels.
Json json_of(const PhotoAnswer& photo, const ClipAnswers& answers, Index top);

Json json_of(const ClipModel& clip);

/// What the experts did, for programs.
Json json_of(const ClipRouting& routing, const ClipModel& clip);

struct ClipPrintOptions {
  Terminal terminal{};
  Index top = 5;  ///< Labels of each photograph.
};

/// A photograph's answer for people.
void print(std::ostream& out, const PhotoAnswer& photo, const ClipAnswers& answers, const ClipPrintOptions& options);

/// What is said for people when all photographs have been.
void print_summary(std::ostream& out, const ClipAnswers& answers, const ClipModel& clip,
                   const ClipPrintOptions& options);

}  // namespace zero_shot
