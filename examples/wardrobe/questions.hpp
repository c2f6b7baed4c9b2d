#pragma once
#include <string>
#include <vector>

#include "wardrobe/sampler.hpp"

namespace wardrobe {

/// What is asked of a picture.
enum class Asks : std::uint8_t {
  object_class,  ///< «what is this»
  colour,        ///< «what colour is the bag»
  pattern,       ///< «what pattern has the bag»
  background,    ///< «what colour is the background»
  order,         ///< «what is below the bag»
  count,         ///< «how many things are there»
  yes_no         ///< «is the bag red», «is there a bag», «is the bag above the star»
};
inline constexpr auto kAsksNames =
    std::to_array<std::string_view>({"class", "colour", "pattern", "background", "order", "count", "yes/no"});
inline constexpr Index kAsksCount = std::ssize(kAsksNames);
constexpr std::string_view name_of(Asks asks) { return kAsksNames[static_cast<std::size_t>(asks)]; }

/// All answers to questions of a kind, each as frequent as the others: always the same one is right for 1 / size.
const std::vector<std::string>& answers_to(Asks asks);

/// Lower-case words separated by single spaces, without punctuation; things go by their first names.
struct Question {
  Asks asks{};
  std::string text, answer;
};
/// A picture (still to be rendered), a question about it and its answer.
struct Asked {
  Scene scene;
  Question question;
};

/// Which pictures are asked about: those that training may see, where no sentence names a combination that is held out
/// either, or those that show at least one class, colour and pattern together that training never does.
enum class Shown : std::uint8_t { seen, never_seen };

/// One of an endless list of questions, in streams apart from those of captions: a pure function of its arguments. The
/// kinds come in turn.
Asked make_question(const SampleKey& key, Shown shown, const Photos& photos);

/// All words of questions and answers as a model reads them («t-shirt» is two), in byte order.
std::vector<std::string> question_words();

}  // namespace wardrobe
