#pragma once
#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "gatefold/core/parallel.hpp"
#include "gatefold/text/clip_tokenizer.hpp"
#include "zero_shot/clip_templates.hpp"

namespace zero_shot {

/// Of which labels the model does not see the end: a sentence that they stand in is longer than its context.
inline std::vector<bool> cut_labels(const gatefold::ClipTokenizer& tokenizer, std::span<const std::string> labels,
                                    std::span<const std::string> templates,
                                    const gatefold::ParallelFor& parallel_for = {}) {
  std::vector<std::uint8_t> cut(labels.size());  // no bits, which threads cannot write side by side
  parallel_for(std::ssize(labels), [&](gatefold::Index begin, gatefold::Index end, gatefold::Index) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      cut[i] = std::ranges::any_of(
          templates, [&](const auto& sentence) { return tokenizer.cuts(fill_template(sentence, labels[i])); });
  });
  return {cut.begin(), cut.end()};
}

/// What to say of them, in one line; empty when there are none.
inline std::string words_of_cut(std::span<const std::string> texts, const std::vector<bool>& cut,
                                gatefold::Index context, const std::string& what = "label") {
  constexpr std::size_t kShown = 3, kLongest = 60;
  const auto count = static_cast<std::size_t>(std::count(cut.begin(), cut.end(), true));
  if (count == 0) return {};
  std::string names;
  std::size_t shown = 0;
  for (std::size_t i = 0; i < texts.size() && shown < kShown; ++i) {
    if (!cut[i]) continue;
    std::size_t end = std::min(texts[i].size(), kLongest);
    while (end < texts[i].size() && (static_cast<std::uint8_t>(texts[i][end]) & 0xc0) == 0x80) --end;
    names += (shown++ ? ", «" : " «") + texts[i].substr(0, end) + (end < texts[i].size() ? "…»" : "»");
  }
  if (count > shown) names += ", …";
  return std::to_string(count) + (count == 1 ? " " + what + " is" : " " + what + "s are") + " longer than the " +
         std::to_string(context) + " tokens that the model reads; it does not see how " +
         (count == 1 ? "it ends:" : "they end:") + names;
}

}  // namespace zero_shot
