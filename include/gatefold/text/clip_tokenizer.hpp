#pragma once
#include <concepts>

#include "gatefold/core/view.hpp"
#include "gatefold/text/bpe.hpp"
#include "gatefold/text/final_sigma.hpp"
#include "gatefold/text/fix_text.hpp"

namespace gatefold {

/// What happens to a text before it is cut into pieces. The same for plain ASCII without «&».
enum class ClipCleaning {
  hugging_face,  ///< CLIPTokenizerFast (transformers 4 and 5): Normalization Form C, lower-case.
  open_clip      ///< OpenAI's and open_clip's SimpleTokenizer: fix_text, HTML unescaped twice, lower-case.
};

/// What fills up to the context. A causal model that is read off at the end marker never looks behind it, so that both
/// give the same embedding; others must have the one of their training.
enum class ClipPadding {
  end_of_text,  ///< Hugging Face: the end marker again (so pool at the first one).
  zero          ///< OpenAI and open_clip: 0, which is also the id of «!».
};

/// CLIP's tokenizer: byte-level BPE on lower-case words, between a start and an end marker (Radford et al., 2021,
/// section 2.4). Gives the ids of the tokenizers named above, but for
///   - the marker texts <|startoftext|> and <|endoftext|>, which are text here: nobody outside may write a marker (so
///     does Hugging Face with split_special_tokens);
///   - mojibake, see fix_text; and bytes that are not UTF-8, of which Python's str has none: they become U+FFFD;
///   - a text's rest behind kMaxTextBytes, which is not looked at (cleaning a hostile text may take quadratic time).
/// A value; many threads may encode at once.
class ClipTokenizer {
 public:
  static constexpr std::size_t kMaxTextBytes = std::size_t{1} << 14;
  /// How much of OpenAI's file of 262144 merges is CLIP's: 49152 ids less 256 bytes and 2 markers.
  static constexpr std::size_t kMaxMergesOfOpenAi = 48894;

  struct Options {
    Index context = 77;  ///< T, start and end included; 248 for Long-CLIP and CLIP-MoE.
    ClipCleaning cleaning = ClipCleaning::hugging_face;
    ClipPadding padding = ClipPadding::end_of_text;
  };

  /// From vocab.json and merges.txt as Bpe takes them. Throws FormatError as Bpe does and when the markers are missing,
  /// OptionError when the context is below 2.
  ClipTokenizer(const std::map<std::string, TokenId>& vocabulary, std::span<const std::string> merges, Options options)
      : options_(options),
        bpe_(vocabulary, merges,
             {.end_of_word = "</w>",
              .pre_tokenizer = options.cleaning == ClipCleaning::open_clip ? clip_pieces : hugging_face_clip_pieces}),
        start_(marker({"<|startoftext|>", "<start_of_text>"})),
        end_(marker({"<|endoftext|>", "<end_of_text>"})) {
    expect_option(options.context >= 2,
                  "ClipTokenizer: context is " + std::to_string(options.context) + ", expected at least 2");
  }

  /// From the merges alone, since CLIP's ids follow from them: the 256 byte symbols by code point, the same with the
  /// end of word, each merge's result, the two markers. Throws FormatError as Bpe does.
  static ClipTokenizer of_merges(std::span<const std::string> merges, Options options) {
    std::map<std::string, TokenId> vocabulary;
    TokenId next = 0;
    auto characters = byte_characters();
    std::sort(characters.begin(), characters.end());
    for (const auto* end : {"", "</w>"})
      for (const auto code : characters) {
        std::string symbol;
        append_utf8(symbol, code);
        vocabulary.emplace(symbol + end, next++);
      }
    for (const auto& merge : merges) {
      if (merge.empty() || (&merge == merges.data() && merge.starts_with("#version"))) continue;
      std::string token = merge;
      if (const auto space = token.find(' '); space != token.npos) token.erase(space, 1);
      vocabulary.emplace(std::move(token), next++);  // Bpe finds what is wrong with the line, or that ids are missing
    }
    vocabulary.emplace("<|startoftext|>", next++);
    vocabulary.emplace("<|endoftext|>", next++);
    return {vocabulary, merges, options};
  }

  /// The merges of a merges.txt or of OpenAI's bpe_simple_vocab_16e6.txt (unpacked), for `of_merges`: without the first
  /// line, which names the version, and without what OpenAI's file has beyond CLIP's.
  static std::vector<std::string> merges_of_file(std::string_view file) {
    const auto take_line = [&] {
      const auto line = file.substr(0, file.find('\n'));
      file.remove_prefix(std::min(line.size() + 1, file.size()));
      return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
    };
    std::size_t limit = Bpe::kMaxTokens;
    if (const auto head = file.substr(0, file.find('\n')); head.find("#version") != head.npos) {
      if (head.find("bpe_simple_vocab") != head.npos) limit = kMaxMergesOfOpenAi;
      take_line();
    }
    std::vector<std::string> lines;
    while (!file.empty() && lines.size() < limit) lines.emplace_back(take_line());
    if (!lines.empty() && lines.back().empty()) lines.pop_back();
    return lines;
  }

  const Options& options() const { return options_; }
  const Bpe& bpe() const { return bpe_; }
  Index size() const { return bpe_.size(); }
  TokenId start() const { return start_; }
  TokenId end() const { return end_; }
  TokenId padding() const { return options_.padding == ClipPadding::zero ? 0 : end_; }

  /// The text as it is cut into pieces: valid UTF-8, cleaned, lower-case. (White space, which separates whatever its
  /// kind and amount, is left.)
  std::string clean(std::string_view text) const {
    if (text.size() > kMaxTextBytes) {
      std::size_t end = kMaxTextBytes;  // not within a character
      while (end > kMaxTextBytes - 4 && (static_cast<std::uint8_t>(text[end]) & 0xc0) == 0x80) --end;
      text = text.substr(0, end);
    }
    const auto valid = to_utf8(text);
    if (options_.cleaning == ClipCleaning::hugging_face) return to_lower(to_nfc(valid));
    auto lower = to_lower_with_final_sigma(unescape_html(unescape_html(fix_text(valid))));
    // The iota subscript falls through its regular expression: it is no letter, but without regard to case it is one.
    for (std::size_t at = 0; (at = lower.find("\u0345", at)) != lower.npos;) lower.replace(at, 2, 1, ' ');
    return lower;
  }

  /// Start, the text's ids, end; of a longer one the first `context` - 1 and the end. Never throws on a text. // [<= T]
  std::vector<TokenId> encode(std::string_view text) const {
    std::vector<TokenId> ids{start_};
    const auto words = bpe_.encode(clean(text));
    const auto room = static_cast<std::size_t>(options_.context - 2);
    ids.insert(ids.end(), words.begin(), words.begin() + static_cast<Index>(std::min(words.size(), room)));
    ids.push_back(end_);
    return ids;
  }

  /// Whether a text is longer than the context, so that `encode` cuts it. Cheap for short ones of plain ASCII.
  bool cuts(std::string_view text) const {
    const auto room = static_cast<std::size_t>(options_.context - 2);
    // A token has a byte or more, and cleaning makes no more of plain ASCII without «&».
    const auto grows = [](char c) { return static_cast<std::uint8_t>(c) >= 0x80 || c == '&'; };
    if (text.size() <= room && std::ranges::none_of(text, grows)) return false;
    return text.size() > kMaxTextBytes || bpe_.encode(clean(text)).size() > room;
  }

  /// The same for several texts, padded. Throws ShapeError.
  template <std::integral Id>
  void encode(std::span<const std::string> texts, View<Id, 2> ids) const {  // [B, T]
    expect_shape(ids, {static_cast<Index>(texts.size()), options_.context}, "ClipTokenizer::encode: ids");
    for (std::size_t b = 0; b < texts.size(); ++b) {
      const auto row = encode(texts[b]);
      for (Index t = 0; t < options_.context; ++t)
        ids(b, t) = t < static_cast<Index>(row.size()) ? row[static_cast<std::size_t>(t)] : padding();
    }
  }

  /// The words of the ids, without markers and what follows the first end. Throws OptionError on an id outside the
  /// vocabulary.
  std::string decode(std::span<const TokenId> ids) const {
    std::vector<TokenId> words;
    for (const TokenId id : ids) {
      if (id == end_) break;
      if (id != start_) words.push_back(id);
    }
    auto text = bpe_.decode(words);
    if (text.ends_with(' ')) text.pop_back();
    return text;
  }

 private:
  TokenId marker(std::initializer_list<const char*> names) const {
    for (const auto* name : names)
      if (const auto id = bpe_.find(name)) return *id;
    throw FormatError(std::string("ClipTokenizer: the vocabulary lacks «") + *names.begin() +
                      "»; is it that of a CLIP?");
  }

  Options options_;
  Bpe bpe_;
  TokenId start_, end_;
};

}  // namespace gatefold
