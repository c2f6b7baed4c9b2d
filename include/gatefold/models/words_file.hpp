#pragma once
#include "gatefold/io/checkpoint.hpp"
#include "gatefold/text/vocabulary.hpp"

// The words of a model in its file.
namespace gatefold::detail {

inline constexpr const char* kVocabularyKey = "gatefold.vocabulary";

inline void add_words(const Vocabulary& vocabulary, CheckpointWriter& writer) {
  writer.add_metadata(kVocabularyKey, vocabulary.serialize());
}
/// Throws FormatError unless there are as many as the model was made for.
inline Vocabulary read_words(const CheckpointReader& reader, Index wanted) {
  auto vocabulary = Vocabulary::parse(reader.metadata(kVocabularyKey));
  if (vocabulary.size() != wanted)
    throw FormatError(reader.file().source() + ": the vocabulary holds " + std::to_string(vocabulary.size()) +
                      " tokens, but the model was made for " + std::to_string(wanted));
  return vocabulary;
}

}  // namespace gatefold::detail
