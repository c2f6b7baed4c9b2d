#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "zero_shot/labels.hpp"

namespace zero_shot {

/// The sentences in which OpenAI put ImageNet's classes: github.com/openai/CLIP (MIT licence),
/// notebooks/Prompt_Engineering_for_ImageNet.ipynb, «imagenet_templates», its 80 in its order.
inline constexpr std::string_view kImageNetTemplates[] = {"a bad photo of a {}.",
                                                          "a photo of many {}.",
                                                          "a sculpture of a {}.",
                                                          "a photo of the hard to see {}.",
                                                          "a low resolution photo of the {}.",
                                                          "a rendering of a {}.",
                                                          "graffiti of a {}.",
                                                          "a bad photo of the {}.",
                                                          "a cropped photo of the {}.",
                                                          "a tattoo of a {}.",
                                                          "the embroidered {}.",
                                                          "a photo of a hard to see {}.",
                                                          "a bright photo of a {}.",
                                                          "a photo of a clean {}.",
                                                          "a photo of a dirty {}.",
                                                          "a dark photo of the {}.",
                                                          "a drawing of a {}.",
                                                          "a photo of my {}.",
                                                          "the plastic {}.",
                                                          "a photo of the cool {}.",
                                                          "a close-up photo of a {}.",
                                                          "a black and white photo of the {}.",
                                                          "a painting of the {}.",
                                                          "a painting of a {}.",
                                                          "a pixelated photo of the {}.",
                                                          "a sculpture of the {}.",
                                                          "a bright photo of the {}.",
                                                          "a cropped photo of a {}.",
                                                          "a plastic {}.",
                                                          "a photo of the dirty {}.",
                                                          "a jpeg corrupted photo of a {}.",
                                                          "a blurry photo of the {}.",
                                                          "a photo of the {}.",
                                                          "a good photo of the {}.",
                                                          "a rendering of the {}.",
                                                          "a {} in a video game.",
                                                          "a photo of one {}.",
                                                          "a doodle of a {}.",
                                                          "a close-up photo of the {}.",
                                                          "a photo of a {}.",
                                                          "the origami {}.",
                                                          "the {} in a video game.",
                                                          "a sketch of a {}.",
                                                          "a doodle of the {}.",
                                                          "a origami {}.",
                                                          "a low resolution photo of a {}.",
                                                          "the toy {}.",
                                                          "a rendition of the {}.",
                                                          "a photo of the clean {}.",
                                                          "a photo of a large {}.",
                                                          "a rendition of a {}.",
                                                          "a photo of a nice {}.",
                                                          "a photo of a weird {}.",
                                                          "a blurry photo of a {}.",
                                                          "a cartoon {}.",
                                                          "art of a {}.",
                                                          "a sketch of the {}.",
                                                          "a embroidered {}.",
                                                          "a pixelated photo of a {}.",
                                                          "itap of the {}.",
                                                          "a jpeg corrupted photo of the {}.",
                                                          "a good photo of a {}.",
                                                          "a plushie {}.",
                                                          "a photo of the nice {}.",
                                                          "a photo of the small {}.",
                                                          "a photo of the weird {}.",
                                                          "the cartoon {}.",
                                                          "art of the {}.",
                                                          "a drawing of the {}.",
                                                          "a photo of the large {}.",
                                                          "a black and white photo of a {}.",
                                                          "the plushie {}.",
                                                          "a dark photo of a {}.",
                                                          "itap of a {}.",
                                                          "graffiti of the {}.",
                                                          "a toy {}.",
                                                          "itap of my {}.",
                                                          "a photo of a cool {}.",
                                                          "a photo of a small {}.",
                                                          "a tattoo of the {}."};
static_assert(std::size(kImageNetTemplates) == 80);

/// What a label stands in when nobody says otherwise.
inline constexpr const char* kDefaultTemplate = "a photo of a {}.";

/// The label in place of each {}.
inline std::string fill_template(std::string_view sentence, std::string_view label) {
  std::string text;
  for (;;) {
    const auto at = sentence.find("{}");
    text += sentence.substr(0, at);
    if (at == sentence.npos) return text;
    text += label;
    sentence.remove_prefix(at + 2);
  }
}

/// The templates of a command line: `own` sentences, and those of `set`, which is «imagenet» or a file with one a line.
/// Throws FormatError for one without a place for the label.
inline std::vector<std::string> templates_of(const std::vector<std::string>& own, const std::string& set) {
  auto templates = own;
  if (set == "imagenet") {
    templates.insert(templates.end(), std::begin(kImageNetTemplates), std::end(kImageNetTemplates));
  } else if (!set.empty()) {
    std::error_code error;
    if (!std::filesystem::exists(set, error))
      throw gatefold::FormatError("--templates " + set +
                                  ": expected imagenet, or a text file with one template a line");
    const auto more = read_labels(std::filesystem::path(set));
    templates.insert(templates.end(), more.begin(), more.end());
  }
  if (templates.empty()) templates.push_back(kDefaultTemplate);
  for (const auto& sentence : templates)
    if (sentence.find("{}") == sentence.npos)
      throw gatefold::FormatError("the template «" + sentence +
                                  "» has no place for the label, expected {} in it, as in «" + kDefaultTemplate + "»");
  return without_repeats(templates);
}

}  // namespace zero_shot
