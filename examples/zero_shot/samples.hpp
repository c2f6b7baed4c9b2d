#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace zero_shot {

/// One of the shipped pictures: a file beside the manifest, the labels to choose among and the right one.
struct Sample {
  std::string file, label_set, expected;
};

/// What manifest.json says: `{"made_by": TEXT, "label_sets": {NAME: [LABEL...]}, "pictures": [{"file": NAME, "labels":
/// NAME OF A SET, "expected": LABEL}]}`.
struct Manifest {
  std::string made_by;
  std::map<std::string, std::vector<std::string>> label_sets;
  std::vector<Sample> pictures;
};

/// Throws FormatError that begins with `source` and says what is wrong where.
Manifest parse_manifest(const std::string& text, const std::string& source);

Manifest read_manifest(const std::filesystem::path& path);

std::string to_json(const Manifest& manifest);

}  // namespace zero_shot
