#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "gatefold/image/image.hpp"
#include "gatefold/models/limoe.hpp"
#include "wardrobe/free_caption.hpp"
#include "zero_shot/candidate.hpp"

namespace zero_shot {

using gatefold::Index;

/// Where a token went in one sparse layer, by its first choice.
struct Route {
  Index expert = -1;
  double gate = 0;               ///< The router's probability for it.
  bool dropped_trained = false;  ///< With the seats of training, where there was a limit, it would have got none.
};
/// The routes of a sequence: one list for each sparse layer, empty for the layers of the other tower.
using Routes = std::vector<std::vector<Route>>;  // [layers][tokens]

struct Label {
  std::string text;
  std::optional<wardrobe::Seen> seen{};  ///< In training, of which that is known.
  std::vector<std::string> words{};      ///< As the model reads it; the last is its end mark.
  Routes routes{};
  bool cut = false;  ///< It is longer than the model reads.
};
struct Picture {
  std::string name;
  gatefold::Image image{};          ///< As the model sees it.
  std::vector<Index> choices{};     ///< The labels to choose among.
  std::optional<Index> expected{};  ///< The right one, where that is known.
  std::vector<Candidate> ranked{};  ///< Best first; what is not a number comes last.
  Routes routes{};

  bool right() const { return expected && !ranked.empty() && ranked.front().label == *expected; }
};

/// What the tokens of one modality did in one sparse layer.
struct Usage {
  double tokens = 0, requests_trained = 0, seated_trained = 0;
  std::vector<double> requests{}, probability{};  // [E]

  double share(Index expert) const {
    const double all = std::accumulate(requests.begin(), requests.end(), 0.0);
    return all > 0 ? requests[static_cast<std::size_t>(expert)] / all : 0;
  }
  /// Of the requests, with the seats of training.
  double success_trained() const { return requests_trained > 0 ? seated_trained / requests_trained : 1; }
  /// exp(entropy of the mean probability), as in LIMoE.
  double effective_experts() const {
    const double all = std::accumulate(probability.begin(), probability.end(), 0.0);
    double entropy = 0;
    for (const double p : probability)
      if (p > 0) entropy -= p / all * std::log(p / all);
    return all > 0 ? std::exp(entropy) : 0;
  }
};
struct LayerUsage {
  Index block = 0;    ///< 0-based, among all blocks of its tower
  std::string title;  ///< «Image tower, block 2 of 12»
  Index num_experts = 0;
  std::array<Usage, 2> modalities;  // gatefold::kImage, kText
};

/// A picture that cannot be read.
struct Unread {
  std::string name, fault;
  std::size_t before = 0;  ///< Which of the pictures that can stands behind it.
};

/// All that is said of the pictures and the labels, on whatever it is then shown.
struct Reading {
  std::vector<Picture> pictures;
  std::vector<Label> labels;
  std::vector<LayerUsage> layers;
  double temperature = 0;
  std::vector<Unread> unread{};
};

/// How many of the pictures with a known answer are right.
struct Score {
  Index known = 0, right = 0, never_seen = 0, never_seen_right = 0;
  double by_chance = 0;  ///< How many guessing would get.
};
inline Score score(const Reading& reading) {
  Score score;
  for (const Picture& picture : reading.pictures) {
    if (!picture.expected) continue;
    const bool never = reading.labels[static_cast<std::size_t>(*picture.expected)].seen == wardrobe::Seen::no;
    ++score.known, score.never_seen += never;
    score.right += picture.right(), score.never_seen_right += never && picture.right();
    score.by_chance += 1 / static_cast<double>(picture.choices.size());
  }
  return score;
}

}  // namespace zero_shot
