#pragma once
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "examples/svg.hpp"

/// What the benchmark programs wrote with --benchmark_out.
namespace gatefold::bench {

/// One contender of one case.
struct Row {
  std::string program, name, who;  ///< Of «ffn/fp32/…/threads:1/gatefold»: all before the last slash, and the rest.
  double seconds = 0;
  std::string label;  ///< Which ceiling the share is of.
  std::map<std::string, double> counters;

  bool has(const std::string& counter) const { return counters.contains(counter); }
  double operator[](const std::string& counter) const {
    const auto at = counters.find(counter);
    return at == counters.end() ? 0 : at->second;
  }
  bool ours() const { return who == "gatefold"; }
  /// The first part of the name: «ffn».
  std::string group() const { return name.substr(0, name.find('/')); }
};

struct Results {
  std::vector<Row> rows;
  nlohmann::ordered_json context;  ///< Of the first program; the others ran on the same machine.

  const Row* find(const std::string& name, const std::string& who) const {
    const auto at =
        std::find_if(rows.begin(), rows.end(), [&](const Row& row) { return row.name == name && row.who == who; });
    return at == rows.end() ? nullptr : &*at;
  }
  /// G/s, or 0 for what this CPU lacks.
  double ceiling(const std::string& limit, int threads) const {
    const Row* row = find("ceiling/" + limit, "threads:" + std::to_string(threads));
    return !row ? 0 : row->has("GB/s") ? (*row)["GB/s"] : (*row)["GFLOP/s"];
  }
};

inline void read_results(const std::filesystem::path& path, Results& results) {
  const auto json = nlohmann::ordered_json::parse(std::ifstream(path), nullptr, false);
  if (!json.is_object()) throw std::runtime_error(path.string() + " is not the whole output of a benchmark");
  if (results.context.is_null()) results.context = json.at("context");
  for (const auto& entry : json.at("benchmarks")) {
    if (entry.contains("aggregate_name") || entry.value("error_occurred", false)) continue;
    Row row;
    row.program = path.stem().string();
    std::string name = entry.at("name");
    for (const std::string suffix : {"/manual_time", "/iterations:1"})
      if (name.ends_with(suffix)) name.erase(name.size() - suffix.size());
    const auto slash = name.rfind('/');
    row.name = name.substr(0, slash);
    row.who = name.substr(slash + 1);
    row.seconds = entry.at("real_time").get<double>() * 1e-6;  // all rows are in microseconds
    row.label = entry.value("label", "");
    static constexpr std::array kNotCounters{"family_index", "per_family_instance_index",
                                             "repetitions",  "repetition_index",
                                             "threads",      "iterations",
                                             "real_time",    "cpu_time"};
    for (const auto& [key, value] : entry.items())
      if (value.is_number() && std::find(kNotCounters.begin(), kNotCounters.end(), key) == kNotCounters.end())
        row.counters[key] = value.get<double>();
    results.rows.push_back(std::move(row));
  }
}

using svg::text;

}  // namespace gatefold::bench
