#include "zero_shot/json.hpp"

#include "gatefold/module/ops.hpp"

namespace zero_shot {

Json json_of(const Picture& picture, const Reading& reading, Index top) {
  Json entry{{"name", picture.name}};
  if (picture.expected) {
    entry["expected"] = reading.labels[static_cast<std::size_t>(*picture.expected)].text;
    entry["right"] = picture.right();
  }
  entry["labels"] = Json::array();
  for (const Candidate& candidate : picture.ranked) {
    if (std::ssize(entry["labels"]) >= top) break;
    const Label& label = reading.labels[static_cast<std::size_t>(candidate.label)];
    entry["labels"].push_back(Json{{"label", label.text},
                                   {"probability", candidate.probability},
                                   {"cosine", candidate.cosine},
                                   {"seen_in_training", name_of(*label.seen)},
                                   {"cut", label.cut}});
  }
  return entry;
}

void write_json(std::ostream& out, const Reading& reading, const Reader& reader, Index top) {
  JsonStream json(out);
  json.member("model", Json{{"card", reader.file.card},
                            {"parameters", gatefold::count_params(reader.file.model)},
                            {"probe_deviation", reader.deviation},
                            {"temperature", reading.temperature}});
  json.begin_list("pictures");
  for_each_picture(reading, top, [&](const Json& picture) { json.item(picture); });
  json.end_list();
  auto layers = Json::array();
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
    layers.push_back(std::move(entry));
  }
  json.member("sparse_layers", layers);
  json.end();
}

}  // namespace zero_shot
