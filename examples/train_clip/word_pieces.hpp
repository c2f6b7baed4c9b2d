#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "gatefold/core/shape.hpp"

namespace train_clip {

using gatefold::Index;

/// Byte pairs to merge, best first, learned from words and how often they are (Sennrich et al. 2016), for CLIP's
/// tokenizer: every word that came is one token when nothing is left to merge, and any other text still has ids. Of
/// pairs that are equally frequent the first in byte order.
std::vector<std::string> learn_merges(const std::map<std::string, Index>& word_count, Index most);

/// The pieces of texts as CLIP's tokenizer cuts them, counted.
std::map<std::string, Index> count_pieces(const std::vector<std::string>& texts);

/// vocab.json and merges.txt of these merges, as transformers reads them.
void write_tokenizer(const std::vector<std::string>& merges, const std::filesystem::path& folder);

}  // namespace train_clip
