#include "wardrobe/free_caption.hpp"

namespace wardrobe {

namespace detail {
namespace {

std::vector<std::string> plain_words(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char letter : text) {
    if (std::isalnum(static_cast<unsigned char>(letter)) || letter == '-') {
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

/// Where `phrase` (one or more words) begins in `words`, or -1.
Index find_phrase(const std::vector<std::string>& words, std::string_view phrase) {
  const auto wanted = split_words(phrase);
  const auto at = std::search(words.begin(), words.end(), wanted.begin(), wanted.end());
  return at == words.end() ? -1 : at - words.begin();
}

/// Takes «in front of a red wall» and its like out of `words`.
void remove_backgrounds(std::vector<std::string>& words) {
  for (const auto& form : kBackgrounds) {
    for (Index k = 0; k < kColourCount; ++k) {
      const std::string phrase = background_phrase(static_cast<Colour>(k), form);
      const Index at = find_phrase(words, phrase);
      if (at >= 0) words.erase(words.begin() + at, words.begin() + at + std::ssize(split_words(phrase)));
    }
  }
}

/// What is said of one object; nothing if it names no class or more than one of anything.
std::optional<Meaning> read_object(const std::vector<std::string>& words) {
  Meaning meaning;
  Index classes = 0, colours = 0, patterns = 0;
  for (Index c = 0; c < kClassCount; ++c) {
    const auto names = names_of(static_cast<ObjectClass>(c));
    if (std::none_of(names.begin(), names.end(), [&](const Name& n) { return find_phrase(words, n.words) >= 0; }))
      continue;
    meaning.object_class = static_cast<ObjectClass>(c), ++classes;
  }
  for (Index k = 0; k < kColourCount; ++k) {
    if (find_phrase(words, kColourNames[static_cast<std::size_t>(k)]) < 0) continue;
    meaning.colour = static_cast<Colour>(k), ++colours;
  }
  for (Index p = 0; p < kPatternCount; ++p) {
    const PatternNames& names = names_of(static_cast<Pattern>(p));
    const auto said = [&](std::string_view name) { return !name.empty() && find_phrase(words, name) >= 0; };
    if (!said(names.adjectives[0]) && !said(names.adjectives[1]) && !said(names.phrase)) continue;
    meaning.pattern = static_cast<Pattern>(p), ++patterns;
  }
  if (classes != 1 || colours > 1 || patterns > 1) return {};
  return meaning;
}

/// Calls f for the colour that was said, or for each in turn; whether any call is true.
template <class F>
bool any_colour(const Meaning& meaning, const F& f) {
  for (Index k = 0; k < kColourCount; ++k) {
    const auto colour = static_cast<Colour>(k);
    if ((!meaning.colour || meaning.colour == colour) && f(colour)) return true;
  }
  return false;
}

bool shown(const Meaning& object) {
  return any_colour(object, [&](Colour colour) {
    return object.pattern ? seen_in_training(*object.object_class, colour, *object.pattern)
                          : seen_in_training(*object.object_class, colour);
  });
}
bool shown_together(const Meaning& a, const Meaning& b) {
  if (a.pattern.value_or(Pattern::plain) != Pattern::plain || b.pattern.value_or(Pattern::plain) != Pattern::plain) {
    return false;
  }
  return any_colour(a, [&](Colour first) {
    return any_colour(b, [&](Colour second) {
      return seen_together({*a.object_class, first}, {*b.object_class, second});
    });
  });
}

}  // namespace
}  // namespace detail

Seen seen_in_training(std::string_view caption) {
  auto words = detail::plain_words(caption);
  const auto known = vocabulary();
  for (const auto& word : words) {
    if (!std::binary_search(known.begin(), known.end(), word)) return Seen::not_a_combination;
  }
  detail::remove_backgrounds(words);
  std::vector<std::vector<std::string>> parts(1);
  for (const auto& word : words) {
    if (word == detail::kUpperFirst || word == detail::kLowerFirst || word == detail::kUnordered) {
      parts.emplace_back();
    } else {
      parts.back().push_back(word);
    }
  }
  if (parts.size() > 2) return Seen::not_a_combination;
  const auto first = detail::read_object(parts.front()), last = detail::read_object(parts.back());
  if (!first || !last) return Seen::not_a_combination;
  return (parts.size() == 1 ? detail::shown(*first) : detail::shown_together(*first, *last)) ? Seen::yes : Seen::no;
}

}  // namespace wardrobe
