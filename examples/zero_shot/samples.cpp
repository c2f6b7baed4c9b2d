#include "zero_shot/samples.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "gatefold/io/json_file.hpp"

namespace zero_shot {

Manifest parse_manifest(const std::string& text, const std::string& source) {
  const auto refuse = [&](const std::string& why) -> void { throw gatefold::FormatError(source + ": " + why); };
  const auto json = gatefold::parse_json(text, source);
  if (!json.is_object()) refuse("is not a JSON object; make the samples anew with make_samples");
  const auto member = [&](const nlohmann::json& object, const char* key, const std::string& where, auto kind) {
    const auto at = object.is_object() ? object.find(key) : object.end();
    if (!object.is_object() || at == object.end()) refuse(where + "«" + key + "» is missing");
    if (at->type() != kind) refuse(where + "«" + key + "» is a " + at->type_name());
    return *at;
  };
  using Kind = nlohmann::json::value_t;
  Manifest manifest;
  manifest.made_by = member(json, "made_by", "", Kind::string).get<std::string>();
  const auto label_sets = member(json, "label_sets", "", Kind::object);
  for (const auto& [name, labels] : label_sets.items()) {
    const std::string where = "label set «" + name + "»: ";
    if (!labels.is_array() || labels.empty()) refuse(where + "is not a list of labels");
    auto& set = manifest.label_sets[name];
    for (const auto& label : labels) {
      if (!label.is_string()) refuse(where + "holds a " + label.type_name() + ", expected texts");
      set.push_back(label.get<std::string>());
    }
    if (std::set<std::string>(set.begin(), set.end()).size() != set.size()) refuse(where + "holds a label twice");
  }
  const auto pictures = member(json, "pictures", "", Kind::array);
  if (pictures.empty()) refuse("lists no pictures");
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const std::string where = "picture " + std::to_string(i + 1) + ": ";
    const auto text_of = [&](const char* key) {
      return member(pictures[i], key, where, Kind::string).template get<std::string>();
    };
    Sample sample{text_of("file"), text_of("labels"), text_of("expected")};
    // A manifest names its neighbours and nothing else on the disk.
    if (sample.file.empty() || std::filesystem::path(sample.file).filename() != sample.file || sample.file == "..")
      refuse(where + "«" + sample.file + "» is not the name of a file in the same folder");
    const auto set = manifest.label_sets.find(sample.label_set);
    if (set == manifest.label_sets.end()) {
      refuse(where + "there is no label set «" + sample.label_set + "»");
    } else if (std::find(set->second.begin(), set->second.end(), sample.expected) == set->second.end()) {
      refuse(where + "«" + sample.expected + "» is not in the label set «" + sample.label_set + "»");
    }
    manifest.pictures.push_back(std::move(sample));
  }
  return manifest;
}

Manifest read_manifest(const std::filesystem::path& path) {
  std::string text;
  try {
    text = gatefold::read_text_file(path, std::size_t{16} << 20);
  } catch (const gatefold::FormatError& error) {
    throw gatefold::FormatError(std::string(error.what()) +
                                "; make the samples with make_samples --out FOLDER and name that folder with "
                                "--samples, or give pictures of your own (see --help)");
  }
  return parse_manifest(text, path.string());
}

std::string to_json(const Manifest& manifest) {
  nlohmann::ordered_json json{{"made_by", manifest.made_by}};
  json["label_sets"] = manifest.label_sets;
  for (const auto& [file, labels, expected] : manifest.pictures)
    json["pictures"].push_back(nlohmann::ordered_json{{"file", file}, {"labels", labels}, {"expected", expected}});
  return json.dump(2) + "\n";
}

}  // namespace zero_shot
