#include "zero_shot/clip_page.hpp"

#include "zero_shot/html.hpp"

namespace zero_shot {

Index photos_on_a_page(const ClipModel& clip) {
  const Index across = clip.options.image_size / clip.options.patch;
  const Index squares = across * across * std::ssize(clip.options.vision.mixture.placement.layers);
  return std::clamp(kMostOnPage / std::max<Index>(squares, 1), Index{4}, Index{60});
}

namespace {

/// One tower's layers, behind those that are there. Returns at which the first is.
std::size_t add_layers(Reading& reading, const gatefold::RoutingReport& report, const gatefold::ClipTowerOptions& tower,
                       std::uint8_t modality) {
  const auto first = reading.layers.size();
  const auto blocks = sparse_blocks(tower);
  for (std::size_t l = 0; l < report.layers().size(); ++l) {
    const auto& layer = report.layers()[l];
    const auto total = layer.total();
    LayerUsage usage{.block = blocks.at(l),
                     .title = std::string(modality == gatefold::kImage ? "Images" : "Words") + ", block " +
                              std::to_string(blocks.at(l) + 1) + " of " + std::to_string(tower.num_layers),
                     .num_experts = layer.num_experts,
                     .modalities = {}};
    usage.modalities[modality] = {.tokens = total.tokens, .requests = total.requests, .probability = total.probability};
    reading.layers.push_back(std::move(usage));
  }
  return first;
}

/// The next `count` tokens of a layer, after `skipped` ones.
std::vector<Route> take_routes(const gatefold::RoutingReport::Layer& layer, std::size_t& at, std::size_t skipped,
                               std::size_t count) {
  std::vector<Route> routes;
  for (at += skipped; routes.size() < count; ++at) {
    const auto& choices = layer.tokens.at(at).choices;
    routes.push_back(choices.empty() ? Route{} : Route{.expert = choices[0].expert, .gate = choices[0].gate});
  }
  return routes;
}

/// A text's tokens as words of their own.
std::vector<std::string> words_of(const std::string& text, const gatefold::ClipTokenizer& tokenizer) {
  std::vector<std::string> words;
  for (const auto id : tokenizer.encode(text)) {
    const gatefold::TokenId one[]{id};
    words.push_back(id == tokenizer.start() ? "<start>" : id == tokenizer.end() ? "<end>" : tokenizer.decode(one));
    if (words.back().empty() || !gatefold::is_utf8(words.back())) words.back() = "\ufffd";  // a part of a character
  }
  return words;
}

}  // namespace

Reading read_for_page(const ClipAnswers& answers, const ClipModel& clip, const EmbedOptions& options,
                      gatefold::Context& ctx) {
  Reading reading;
  reading.temperature = clip.temperature;
  std::vector<gatefold::Image> images(answers.kept.size());  // none of a photograph that has gone meanwhile
  gatefold::MemoryBudget budget(options.decode_bytes);
  ctx.parallel_for(std::ssize(images), [&](Index begin, Index end, Index) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      try {
        load_photo(clip, answers.kept[i].path, options, budget,
                   [&](const gatefold::Image& image) { images[i] = clip.preprocess.crop(image); });
      } catch (const std::exception&) {
        images[i] = {};
      }
    }
  });
  std::vector<std::filesystem::path> shown;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const PhotoAnswer& photo = answers.kept[i];
    if (images[i].rgb.empty()) continue;
    shown.push_back(photo.path);
    Picture picture;
    picture.name = photo.path.string();
    picture.image = std::move(images[i]);
    picture.ranked = photo.ranked;
    reading.pictures.push_back(std::move(picture));
  }
  std::vector<std::string> sentences;
  Index chips = 0;
  for (const auto& label : answers.labels) {
    reading.labels.push_back({.text = label});
    if (chips > kMostOnPage) continue;  // the name is all that is shown
    sentences.push_back(fill_template(answers.templates.at(0), label));
    reading.labels.back().words = words_of(sentences.back(), clip.tokenizer);
    chips += std::ssize(reading.labels.back().words) * std::ssize(clip.options.text.mixture.placement.layers);
  }
  if (!clip.has_mixtures()) return reading;

  using Report = gatefold::RoutingReport;
  ClipRouting routing{Report(Report::Detail::tokens), Report(Report::Detail::tokens)};
  EmbedOptions how = options;
  how.routing = &routing;
  how.progress_from = std::numeric_limits<Index>::max();
  for (const auto& fault : embed_photos(clip, shown, how, ctx).faults)
    if (!fault.empty()) throw gatefold::FormatError("the report: " + fault);
  (void)embed_texts(clip, sentences, how, ctx);
  const auto first_image = add_layers(reading, routing.images, clip.options.vision, gatefold::kImage);
  const auto first_text = add_layers(reading, routing.texts, clip.options.text, gatefold::kText);
  for (Picture& picture : reading.pictures) picture.routes.resize(reading.layers.size());
  for (Label& label : reading.labels) label.routes.resize(reading.layers.size());
  const auto across = static_cast<std::size_t>(clip.options.image_size / clip.options.patch);
  for (std::size_t l = 0; l < routing.images.layers().size(); ++l) {
    std::size_t at = 0;
    for (Picture& picture : reading.pictures)  // behind the class token
      picture.routes[first_image + l] = take_routes(routing.images.layers()[l], at, 1, across * across);
  }
  for (std::size_t l = 0; l < routing.texts.layers().size(); ++l) {
    std::size_t at = 0;
    for (Label& label : reading.labels)
      label.routes[first_text + l] = take_routes(routing.texts.layers()[l], at, 0, label.words.size());
  }
  return reading;
}

PageModel page_model(const ClipAnswers& answers, const ClipModel& clip, const std::string& file) {
  const auto& o = clip.options;
  const auto count = [](auto number) { return std::to_string(number); };
  const auto answered = answers.answered;
  PageModel page{
      .lead =
          "Two neural networks, one that looks at pictures and one that reads words, were trained together to come "
          "to the same place for a picture and what is said of it. They were never taught these labels as classes: "
          "what is seen is compared with what is read, which is called <em>zero-shot</em> classification. ",
      .explanation = "<dt>Templates</dt><dd>A label is read within a sentence, here «" +
                     escape_html(answers.templates.at(0)) + "»" +
                     (answers.templates.size() > 1
                          ? " and " + count(answers.templates.size() - 1) + " others, of which the mean is taken"
                          : "") +
                     ".</dd>",
      .source =
          "The model is a CLIP: Radford and others, «Learning transferable visual models from natural language "
          "supervision», 2021 (arXiv 2103.00020).",
      .image_size = o.image_size,
      .patch = o.patch};
  if (answered > photos_on_a_page(clip))
    page.remark += "<p>The first " + count(photos_on_a_page(clip)) + " of " + count(answered) + " pictures.</p>\n";
  if (!answers.unread.empty()) {
    std::vector<std::string> names;
    for (const auto* photos : {&answers.kept, &answers.unread})
      for (const PhotoAnswer& photo : *photos) names.push_back(photo.path.string());
    const std::string folder = common_folder(names);
    const auto below = [&](std::string text) {
      for (auto at = text.find(folder); !folder.empty() && at != std::string::npos; at = text.find(folder, at))
        text.erase(at, folder.size());
      return text;
    };
    page.remark += "<p>Pictures that could not be read: " + count(answers.unread.size()) + ".";
    for (const auto& photo : std::span(answers.unread).first(std::min<std::size_t>(answers.unread.size(), 10)))
      page.remark += "<br>" + escape_html(printable(below(photo.fault)));
    page.remark += "</p>\n";
  }
  const auto tower = [&](const gatefold::ClipTowerOptions& t) {
    const auto& m = t.mixture;
    return count(t.num_layers) + " blocks of width " + count(t.width) +
           (m.placement.layers.empty()
                ? ""
                : ", in " + count(m.placement.layers.size()) + " of them " + count(m.num_experts) + " experts, " +
                      count(m.num_selected) + " for each token");
  };
  if (clip.has_mixtures()) {
    const auto& mixture = (o.vision.mixture.placement.layers.empty() ? o.text : o.vision).mixture;
    page.lead += "In " + count(o.vision.mixture.placement.layers.size()) + " of " + count(o.vision.num_layers) +
                 " blocks for pictures and in " + count(o.text.mixture.placement.layers.size()) + " of " +
                 count(o.text.num_layers) + " for words there is not one network but " + count(mixture.num_experts) +
                 ", the <em>experts</em>, and a router sends each patch of a picture and each word of a sentence to " +
                 count(mixture.num_selected) + " of them.";
    page.explanation +=
        "<dt>Coloured squares and words</dt><dd>A picture is cut into squares; one more token, which the percentages "
        "count and the squares do not show, stands for the whole. In a sparse block a router picks experts for each of "
        "them; the colour and the number say which came first. Words are those of the first template; long ones come "
        "in pieces, □ begins a sentence and ■ ends it.</dd>";
    page.source += " With experts: «CLIP-MoE», 2024 (arXiv 2409.19291).";
  }
  page.card = {{"file", file},
               {"pictures", count(o.image_size) + " x " + count(o.image_size) + " in patches of " + count(o.patch) +
                                " x " + count(o.patch)},
               {"for pictures", tower(o.vision)},
               {"for words", tower(o.text) + ", at most " + count(o.context) + " tokens"},
               {"embedding", count(o.embedding) + " numbers"},
               {"weights", clip.format}};
  return page;
}

}  // namespace zero_shot
