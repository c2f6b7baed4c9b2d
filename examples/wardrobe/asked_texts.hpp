#pragma once
#include <string_view>
#include <vector>

#include "gatefold/core/tensor.hpp"
#include "gatefold/text/vocabulary.hpp"

namespace wardrobe {

/// Questions and their answers as a VisionLanguage reads them: the words of all, one after the other; an answer ends
/// in Vocabulary::kEnd.
struct AskedTexts {
  std::vector<gatefold::Index> ids, offset = {0}, answer;

  void add(const gatefold::Vocabulary& vocabulary, std::string_view question, std::string_view reply) {
    auto words = vocabulary.encode(question);
    words.pop_back();  // the end, which is the answer's
    ids.insert(ids.end(), words.begin(), words.end());
    answer.push_back(std::ssize(ids));
    words = vocabulary.encode(reply);
    ids.insert(ids.end(), words.begin(), words.end());
    offset.push_back(std::ssize(ids));
  }

  template <class Batch>
  Batch batch(gatefold::View<const float, 4> images) const {
    const auto view = [](const auto& list) {
      return gatefold::View<const gatefold::Index, 1>{list.data(), {std::ssize(list)}};
    };
    return {.images = images, .ids = view(ids), .text_offset = view(offset), .answer = view(answer)};
  }
};

}  // namespace wardrobe
