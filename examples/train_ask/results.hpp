#pragma once
#include "train_ask/run.hpp"
#include "training/run_folder.hpp"
#include "wardrobe/evaluation.hpp"

namespace train_ask {

/// Writes the model for use, in bf16, with its words and card. Throws FormatError or std::system_error, and then the
/// old model is still there.
void publish(Run& run, const std::filesystem::path& path);

/// Of each kind of question, how many are answered right word for word.
using Scores = std::array<wardrobe::Proportion, static_cast<std::size_t>(wardrobe::kAsksCount)>;

/// The first questions of the run's seed about the pictures of a split, by kind.
Scores score(Run& run, Index count, wardrobe::Shown shown, const wardrobe::Photos& photos);

/// What the model answers about photos that it has not seen, in combinations that training shows and in ones that it
/// never does, beside what always the same answer would: to the terminal, to report.md and, for programs, to
/// summary.json.
void evaluate(Run& run, Index count, const wardrobe::FashionMnist& data, const training::RunFolder& folder);

}  // namespace train_ask
