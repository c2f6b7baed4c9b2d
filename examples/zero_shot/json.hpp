#pragma once
#include "zero_shot/json_stream.hpp"
#include "zero_shot/limoe_reader.hpp"

namespace zero_shot {

inline const char* name_of(wardrobe::Seen seen) {
  return seen == wardrobe::Seen::yes ? "yes" : seen == wardrobe::Seen::no ? "no" : "not_a_combination";
}

/// A picture for programs, with at most `top` labels.
inline Json json_of(const Picture& picture, const Reading& reading, Index top) {
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

/// All pictures in their order, those that cannot be read among them, handed to `take(Json)`.
template <class Take>
void for_each_picture(const Reading& reading, Index top, const Take& take) {
  auto unread = reading.unread.begin();
  for (std::size_t i = 0; i <= reading.pictures.size(); ++i) {
    for (; unread != reading.unread.end() && unread->before == i; ++unread)
      take(Json{{"name", unread->name}, {"fault", unread->fault}, {"labels", Json::array()}});
    if (i < reading.pictures.size()) take(json_of(reading.pictures[i], reading, top));
  }
}

/// One object a line, of a picture each.
inline void write_json_lines(std::ostream& out, const Reading& reading, Index top) {
  for_each_picture(reading, top, [&](const Json& picture) { out << dump(picture) << "\n"; });
}

/// The reading for programs.
inline void write_json(std::ostream& out, const Reading& reading, const Reader& reader, Index top) {
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
