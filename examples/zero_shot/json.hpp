#pragma once
#include <nlohmann/json.hpp>

#include "zero_shot/limoe_reader.hpp"

namespace zero_shot {

inline const char* name_of(wardrobe::Seen seen) {
  return seen == wardrobe::Seen::yes ? "yes" : seen == wardrobe::Seen::no ? "no" : "not_a_combination";
}

/// The reading for programs. What is not a number is null, and bytes that are not UTF-8 become U+FFFD.
inline std::string to_json(const Reading& reading, const Reader& reader) {
  using Json = nlohmann::ordered_json;
  Json json;
  json["model"] = {{"card", reader.file.card},
                   {"parameters", gatefold::count_params(reader.file.model)},
                   {"probe_deviation", reader.deviation},
                   {"temperature", reading.temperature}};
  json["pictures"] = Json::array();
  for (const Picture& picture : reading.pictures) {
    Json entry{{"name", picture.name}};
    if (picture.expected) {
      entry["expected"] = reading.labels[static_cast<std::size_t>(*picture.expected)].text;
      entry["right"] = picture.right();
    }
    entry["labels"] = Json::array();
    for (const Candidate& candidate : picture.ranked) {
      const Label& label = reading.labels[static_cast<std::size_t>(candidate.label)];
      entry["labels"].push_back(Json{{"label", label.text},
                                     {"probability", candidate.probability},
                                     {"cosine", candidate.cosine},
                                     {"seen_in_training", name_of(*label.seen)},
                                     {"cut", label.cut}});
    }
    json["pictures"].push_back(std::move(entry));
  }
  json["sparse_layers"] = Json::array();
  for (const LayerUsage& layer : reading.layers) {
    Json entry{{"block", layer.block}, {"experts", layer.num_experts}};
    for (const std::size_t m : {gatefold::kImage, gatefold::kText}) {
      const Usage& usage = layer.modalities[m];
      entry[m == gatefold::kImage ? "image" : "text"] =
          Json{{"tokens", usage.tokens},
               {"requests", usage.requests},
               {"effective_experts", usage.effective_experts()},
               {"success_with_trained_capacity", usage.success_trained()}};
    }
    json["sparse_layers"].push_back(std::move(entry));
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace zero_shot
