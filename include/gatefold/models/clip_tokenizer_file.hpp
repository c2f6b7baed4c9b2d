#pragma once
#include "gatefold/io/json_file.hpp"
#include "gatefold/models/name_map.hpp"
#include "gatefold/text/clip_tokenizer.hpp"

namespace gatefold {

namespace detail {

inline constexpr std::size_t kMaxTokenizerBytes = std::size_t{64} << 20;  ///< CLIP's tokenizer.json has 3.6 MB.

/// {"token": id, ...}
inline std::map<std::string, TokenId> vocabulary_of_json(const nlohmann::json& json, const std::string& source) {
  const auto refuse = [&](const std::string& why) { throw FormatError(source + ": " + why); };
  if (!json.is_object()) refuse("the vocabulary is no JSON object");
  std::map<std::string, TokenId> vocabulary;
  for (const auto& [token, id] : json.items()) {
    if (!id.is_number_integer() || id < 0 || id >= Bpe::kMaxTokens)
      refuse("token «" + token + "» has id " + id.dump() + ", expected 0.." + std::to_string(Bpe::kMaxTokens - 1));
    vocabulary.emplace_hint(vocabulary.end(), token, id.get<TokenId>());
  }
  return vocabulary;
}

/// Messages of what is wrong with the content begin with where it stands and what was wanted.
template <class Make>
auto at_source(const std::string& source, Make&& make) {
  try {
    return make();
  } catch (const FormatError& error) {
    throw FormatError(source + ": is no tokenizer of a CLIP: " + error.what());
  }
}

}  // namespace detail

/// CLIP's tokenizer from Hugging Face's pair of files. Throws FormatError.
inline ClipTokenizer clip_tokenizer_of_pair(const std::string& vocab_json, const std::string& merges_txt,
                                            const ClipTokenizer::Options& options, const std::string& source) {
  const auto vocab = source + "/vocab.json";
  const auto vocabulary = detail::vocabulary_of_json(parse_json_object(vocab_json, vocab), vocab);
  const auto merges = ClipTokenizer::merges_of_file(merges_txt);
  // Every token but 512 for the bytes and the two markers is the result of a merge; a few may have been added since.
  constexpr Index kNotMerged = 512 + 2, kAdded = 256;
  if (std::ssize(vocabulary) > kNotMerged + std::ssize(merges) + kAdded)
    throw FormatError(source + "/merges.txt: has " + std::to_string(merges.size()) + " merges, but vocab.json " +
                      std::to_string(vocabulary.size()) + " tokens, expected 514 more than merges (cut short?)");
  return detail::at_source(vocab, [&] { return ClipTokenizer(vocabulary, merges, options); });
}

/// CLIP's tokenizer from a tokenizer.json: its vocabulary, merges (either way to write them) and added tokens; how it
/// cleans and cuts texts is CLIP's, whatever the file says. Throws FormatError, also for the tokenizers of other
/// models.
inline ClipTokenizer clip_tokenizer_of_json(const std::string& text, const ClipTokenizer::Options& options,
                                            const std::string& source) {
  const auto refuse = [&](const std::string& why) { throw FormatError(source + ": " + why); };
  const auto json = parse_json_object(text, source);
  const auto model = json.value("model", nlohmann::json::object());
  if (!model.is_object() || !model.contains("vocab") || !model.contains("merges"))
    refuse("has no «model» with «vocab» and «merges»");
  const auto is = [&](const char* key, const char* wanted) {  // early files do not state their type
    const auto at = model.find(key);
    if (at != model.end() && *at != wanted)
      refuse(std::string("model.") + key + " is " + at->dump() + ", expected \"" + wanted + "\" as CLIP has it");
  };
  is("type", "BPE");
  is("end_of_word_suffix", "</w>");
  auto vocabulary = detail::vocabulary_of_json(model["vocab"], source);
  if (const auto added = json.find("added_tokens"); added != json.end() && added->is_array())
    for (const auto& token : *added) {
      if (!token.is_object() || !token.contains("content") || !token["content"].is_string() || !token.contains("id") ||
          !token["id"].is_number_integer() || token["id"] < 0 || token["id"] >= Bpe::kMaxTokens)
        refuse("added_tokens holds " + token.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      vocabulary.emplace(token["content"].get<std::string>(), token["id"].get<TokenId>());
    }
  const auto& lines = model["merges"];
  if (!lines.is_array() || lines.size() > Bpe::kMaxTokens) refuse("model.merges is no list");
  std::vector<std::string> merges;
  for (const auto& line : lines) {
    if (line.is_string())
      merges.push_back(line.get<std::string>());
    else if (line.is_array() && line.size() == 2 && line[0].is_string() && line[1].is_string())
      merges.push_back(line[0].get<std::string>() + ' ' + line[1].get<std::string>());
    else
      refuse("model.merges holds " + line.dump() + ", expected two tokens");
  }
  return detail::at_source(source, [&] { return ClipTokenizer(vocabulary, merges, options); });
}

/// How texts are cleaned and padded for weights under these names, whatever else lies in the folder. Throws FormatError
/// when an open_clip_config.json asks for another tokenizer than CLIP's.
inline ClipTokenizer::Options clip_tokenizer_options(const std::filesystem::path& folder, ClipNames names,
                                                     Index context) {
  if (names == ClipNames::hugging_face) return {.context = context};
  if (const auto path = folder / "open_clip_config.json"; std::filesystem::exists(path)) {
    const auto json = read_json_object(path);
    const auto* model = find_field(json, "model_cfg");
    const auto* text = model && model->is_object() ? find_field(*model, "text_cfg") : nullptr;
    for (const auto* name : {"hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs"}) {
      const auto* value = text && text->is_object() ? find_field(*text, name) : nullptr;
      if (value && !value->empty() && *value != "" && *value != nlohmann::json{{"clean", "lower"}})
        refuse_field(path.string() + ": model_cfg: text_cfg", name, *value,
                     "null: texts are cut into pieces by the tokenizer of OpenAI's CLIP alone");
    }
  }
  return {.context = context, .cleaning = ClipCleaning::open_clip, .padding = ClipPadding::zero};
}

/// CLIP's tokenizer from a model's folder: vocab.json and merges.txt, else tokenizer.json, else merges.txt or OpenAI's
/// bpe_simple_vocab_16e6.txt alone. What a pad_token of «!» in tokenizer_config.json says of the padding is taken over.
/// Throws FormatError that says which file is wrong, or what to put there.
inline ClipTokenizer load_clip_tokenizer(const std::filesystem::path& folder, ClipTokenizer::Options options = {}) {
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name); };
  const auto read = [&](const char* name) { return read_text_file(folder / name, detail::kMaxTokenizerBytes); };
  const auto path = [&](const char* name) { return (folder / name).string(); };
  if (has("tokenizer_config.json")) {
    const auto config = parse_json_object(read("tokenizer_config.json"), path("tokenizer_config.json"));
    auto token = config.value("pad_token", nlohmann::json());
    if (token.is_object()) token = token.value("content", nlohmann::json());
    if (token == "!") options.padding = ClipPadding::zero;
  }
  if (has("vocab.json") && has("merges.txt"))
    return clip_tokenizer_of_pair(read("vocab.json"), read("merges.txt"), options, folder.string());
  if (has("tokenizer.json")) return clip_tokenizer_of_json(read("tokenizer.json"), options, path("tokenizer.json"));
  for (const auto* name : {"merges.txt", "bpe_simple_vocab_16e6.txt"})
    if (has(name))
      return detail::at_source(
          path(name), [&] { return ClipTokenizer::of_merges(ClipTokenizer::merges_of_file(read(name)), options); });
  if (has("bpe_simple_vocab_16e6.txt.gz"))
    throw FormatError(path("bpe_simple_vocab_16e6.txt.gz") + ": is packed; run «gunzip " +
                      path("bpe_simple_vocab_16e6.txt.gz") + "»");
  throw FormatError(folder.string() +
                    (has("vocab.json") ? ": has vocab.json without merges.txt" : ": has no tokenizer") +
                    "; expected vocab.json and merges.txt, or tokenizer.json, or merges.txt, or "
                    "bpe_simple_vocab_16e6.txt");
}

}  // namespace gatefold
