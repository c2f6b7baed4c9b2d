#include "search/question.hpp"

namespace search {

std::vector<Question> questions_of(std::span<const std::string> words) {
  std::vector<Question> questions;
  bool bound = false, minus = false;
  for (const auto& word : words) {
    if (word == "+" || word == "-") {
      if (questions.empty() || bound)
        throw gatefold::FormatError("there is nothing " + std::string(questions.empty() ? "in front of" : "between") +
                                    " «" + word +
                                    "», expected terms with one sign between them, as in: beach + "
                                    "sunset - people");
      bound = true, minus = word == "-";
      continue;
    }
    const bool picture = zero_shot::is_photo_name(word);
    if (picture && !std::filesystem::exists(word))
      throw gatefold::FormatError("no picture at " + word + "; words that end as a picture's name are taken for one");
    if (!bound) questions.emplace_back();
    questions.back().terms.push_back({word, picture, std::exchange(minus, false)});
    bound = false;
  }
  if (bound) throw gatefold::FormatError("there is nothing behind the last «+» or «-», expected another term");
  return questions;
}

gatefold::Tensor<float, 2> embed_questions(const zero_shot::ClipModel& clip, std::span<const Question> questions,
                                           const std::string& sentence, const zero_shot::EmbedOptions& how,
                                           gatefold::Context& ctx) {
  std::vector<std::string> texts;
  std::vector<std::filesystem::path> pictures;
  for (const Question& question : questions)
    for (const Term& term : question.terms)
      if (term.picture)
        pictures.emplace_back(term.words);
      else
        texts.push_back(zero_shot::fill_template(sentence, term.words));
  const auto of_texts = zero_shot::embed_texts(clip, texts, how, ctx);
  const auto of_pictures = zero_shot::embed_photos(clip, pictures, how, ctx);
  for (const auto& fault : of_pictures.faults)
    if (!fault.empty()) throw gatefold::FormatError(fault);

  gatefold::Tensor<float, 2> z({std::ssize(questions), clip.options.embedding});
  Index text = 0, picture = 0;
  std::vector<double> sum(static_cast<std::size_t>(z.extent(1)));
  for (Index q = 0; q < z.extent(0); ++q) {
    const Question& question = questions[static_cast<std::size_t>(q)];
    std::fill(sum.begin(), sum.end(), 0.0);
    for (const Term& term : question.terms) {
      const auto row = term.picture ? of_pictures.z.view()[picture++] : of_texts.view()[text++];
      if (!zero_shot::is_unit(row))
        throw gatefold::FormatError("the model makes no number of «" + term.words + "»; are its weights damaged?");
      for (std::size_t i = 0; i < sum.size(); ++i)
        sum[i] += (term.minus ? -1.0 : 1.0) * double{row[static_cast<Index>(i)]};
    }
    double squares = 0;
    for (const double x : sum) squares += x * x;
    if (squares < 1e-10)
      throw gatefold::FormatError("the terms of «" + question.text() + "» take each other away, nothing is left");
    for (std::size_t i = 0; i < sum.size(); ++i)
      z.view()(q, static_cast<Index>(i)) = static_cast<float>(sum[i] / std::sqrt(squares));
  }
  return z;
}

}  // namespace search
