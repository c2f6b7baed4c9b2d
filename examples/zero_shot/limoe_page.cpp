#include "zero_shot/limoe_page.hpp"

#include "gatefold/module/ops.hpp"

namespace zero_shot {

PageModel page_model(const Reader& reader, const std::string& file) {
  const auto& o = reader.file.model.options;
  const bool sparse = !o.sparse.layers.empty();
  const auto count = [](auto number) { return std::to_string(number); };
  PageModel page{.lead =
                     "One small neural network looks at pictures and reads words, and says which words fit. It was "
                     "never taught these labels as classes: it compares what it sees with what it reads, which is "
                     "called <em>zero-shot</em> classification. ",
                 .scope =
                     "It knows a small world of ten garments and eight shapes in ten colours and three patterns; "
                     "what it says of anything else is a guess.",
                 .explanation =
                     "<dt>Seen, never seen</dt><dd>From its training some combinations were left out on purpose, in "
                     "pictures and in words: there were pink things and there were bags, but, say, no pink bag. A "
                     "picture that is named right although the combination was never seen shows that the model has put "
                     "it together from its parts. «Outside the world» marks labels that name no such combination.</dd>",
                 .source =
                     "The model is a small LIMoE: Mustafa, Riquelme, Puigcerver, Jenatton, Houlsby, «Multimodal "
                     "contrastive learning with LIMoE: the language-image mixture of experts», 2022 (arXiv "
                     "2206.02770).",
                 .image_size = o.image_size,
                 .patch = o.patch};
  if (sparse) {
    page.lead += "In " + count(o.sparse.layers.size()) + " of its " + count(o.num_layers) +
                 " blocks there is not one network but " + count(o.num_experts) +
                 ", the <em>experts</em>, and a router sends each of the " +
                 count(reader.file.model.patches_per_image()) +
                 " patches of a picture and each word of a label to the one that it holds to be best. Nobody told it "
                 "which are patches and which are words.";
    page.explanation +=
        "<dt>Coloured squares and words</dt><dd>A picture is cut into squares, and every square and every word goes "
        "through the same network. In a sparse block a router picks one expert for each of them; the colour and the "
        "number say which. ■ is the mark that ends each label.</dd>"
        "<dt>Hatched</dt><dd>In training each expert has a fixed number of seats, so that no expert is overrun; the "
        "least certain tokens are turned away when it is full. Hatched are those that would have had no seat if "
        "everything on this page had been one batch of training. Here everybody has a seat, so no picture's answer "
        "depends on the others.</dd>";
  }
  page.card.emplace_back("file", file);
  page.card.insert(page.card.end(), reader.file.card.begin(), reader.file.card.end());
  page.card.emplace_back("parameters", count(gatefold::count_params(reader.file.model)));
  page.card.emplace_back("shape", count(o.num_layers) + " blocks of width " + count(o.width) + ", pictures of " +
                                      count(o.image_size) + " x " + count(o.image_size) + " in patches of " +
                                      count(o.patch) + " x " + count(o.patch));
  std::array<char, 100> text{};
  if (sparse) {
    std::snprintf(text.data(), text.size(), "trained with seats for %.2f times the tokens", reader.trained.factor);
    page.card.emplace_back(
        "experts",
        count(o.num_experts) + " in each sparse block, " + count(o.num_selected) + " for each token, " +
            (std::isinf(reader.trained.factor) ? "trained without a limit of seats" : std::string(text.data())));
  }
  std::snprintf(text.data(), text.size(), "the stored example was reproduced to %.0e", reader.deviation);
  page.card.emplace_back("self-check", text.data());
  return page;
}

}  // namespace zero_shot
