// Prints one table of several training runs: compare_runs NAME=RUN,RUN... NAME=RUN...
// Runs of one name differ in their seed; the table shows their mean and, in brackets, each.
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "gatefold/io/json_file.hpp"
#include "program.hpp"

namespace {

using Json = nlohmann::json;

Json read_summary(const std::string& folder) {
  const std::string path = folder + "/summary.json";
  auto json = gatefold::parse_json(gatefold::read_text_file(path, std::size_t{16} << 20), path);
  if (!json.is_object()) throw gatefold::FormatError(path + ": is no summary; train with --out " + folder + " first");
  return json;
}

struct Group {
  std::string name;
  std::vector<Json> runs;
};

Group read_group(const std::string& argument) {
  const auto equals = argument.find('=');
  if (equals == std::string::npos) throw std::runtime_error("«" + argument + "»: expected NAME=RUN,RUN...");
  Group group{argument.substr(0, equals), {}};
  std::istringstream folders(argument.substr(equals + 1));
  for (std::string folder; std::getline(folders, folder, ',');) group.runs.push_back(read_summary(folder));
  if (group.runs.empty()) throw std::runtime_error("«" + argument + "» names no run");
  return group;
}

/// «61.5 (60.2, 62.8)», in per cent or as it is; «-» where a run has no such value.
template <class Value>
std::string cell(const Group& group, double unit, const Value& value) {
  double sum = 0;
  std::string each;
  char text[32];
  for (const auto& run : group.runs) {
    const Json found = value(run);
    if (found.is_null()) return "-";
    const double x = unit * found.get<double>();
    sum += x;
    std::snprintf(text, sizeof text, "%.1f", x);
    each += (each.empty() ? "" : ", ") + std::string(text);
  }
  std::snprintf(text, sizeof text, "%.1f", sum / static_cast<double>(group.runs.size()));
  return group.runs.size() == 1 ? text : std::string(text) + " (" + each + ")";
}

/// A column of the table: what it is called, in what unit, and where a run has it.
struct Column {
  std::string head;
  double unit;
  std::function<Json(const Json& run)> value;
};

/// What the first run tells of, in its order; of routing and of time only where that is told.
std::vector<Column> columns_of(const Json& first) {
  std::vector<Column> columns;
  if (first.contains("routing"))
    for (const auto& [key, unit, of] : {std::tuple("success", 100.0, " success %"), {"experts", 1.0, " experts"}})
      for (const std::size_t modality : {0u, 1u})
        columns.push_back({(modality == 0 ? "image" : "text") + std::string(of), unit,
                           [key = std::string(key), modality](const Json& run) -> Json {
                             return run.contains("routing") ? run["routing"][modality][key] : Json();
                           }});
  const auto& tests = first.at("tests");
  for (std::size_t i = 0; i < tests.size(); ++i)
    columns.push_back(
        {tests[i].at("title").get<std::string>() + " (n = " + std::to_string(tests[i].at("n").get<long>()) + ")", 100,
         [i](const Json& run) -> Json { return run.at("tests").at(i).at("top1"); }});
  if (first.contains("seconds"))
    columns.push_back({"minutes", 1 / 60.0,
                       [](const Json& run) -> Json { return run.contains("seconds") ? run["seconds"] : Json(); }});
  return columns;
}

void print_table(const std::vector<Group>& groups) {
  const auto columns = columns_of(groups.front().runs.front());
  std::string head = "| run |", rule = "|---|";
  for (const auto& column : columns) head += " " + column.head + " |", rule += "---|";
  std::printf("%s\n%s\n", head.c_str(), rule.c_str());
  for (const auto& group : groups) {
    std::string line = "| " + group.name + " |";
    for (const auto& column : columns) line += " " + cell(group, column.unit, column.value) + " |";
    std::printf("%s\n", line.c_str());
  }
}

int run_main(int argc, char** argv) {
  std::vector<Group> groups;
  for (int i = 1; i < argc; ++i) groups.push_back(read_group(argv[i]));
  if (groups.empty()) throw std::runtime_error("usage: compare_runs NAME=RUN,RUN... NAME=RUN...");
  print_table(groups);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("compare_runs", run_main, argc, argv); }
