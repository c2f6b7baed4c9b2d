#pragma once
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "gatefold/io/json_file.hpp"

namespace gatefold {

/// Runs of one name, which differ in their seed: as arguments, NAME=FOLDER,FOLDER...
struct RunGroup {
  struct Run {
    std::string folder;
    nlohmann::json summary;  ///< Of summary.json: «tests», and what else the program has written
  };
  std::string name;
  std::vector<Run> runs;
};

/// Throws FormatError for a folder without a summary, std::runtime_error for an argument that is no group.
inline RunGroup read_group(const std::string& argument) {
  const auto equals = argument.find('=');
  if (equals == std::string::npos) throw std::runtime_error("«" + argument + "»: expected NAME=RUN,RUN...");
  RunGroup group{argument.substr(0, equals), {}};
  std::istringstream folders(argument.substr(equals + 1));
  for (std::string folder; std::getline(folders, folder, ',');) {
    const std::string path = folder + "/summary.json";
    auto json = parse_json(read_text_file(path, std::size_t{16} << 20), path);
    if (!json.is_object()) throw FormatError(path + ": is no summary; train with --out " + folder + " first");
    group.runs.push_back({folder, std::move(json)});
  }
  if (group.runs.empty()) throw std::runtime_error("«" + argument + "» names no run");
  return group;
}

}  // namespace gatefold
