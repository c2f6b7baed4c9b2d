// Prints one table of several training runs: compare_runs NAME=RUN,RUN... NAME=RUN...
// Runs of one name differ in their seed; the table shows their mean and, in brackets, each.
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "program.hpp"
#include "runs.hpp"

namespace {

using Json = nlohmann::json;
using gatefold::RunGroup;

/// «61.5 (60.2, 62.8)», in per cent or as it is; «-» where a run has no such value.
template <class Value>
std::string cell(const RunGroup& group, double unit, const Value& value) {
  double sum = 0;
  std::string each;
  char text[32];
  for (const auto& run : group.runs) {
    const Json found = value(run.summary);
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

void print_table(const std::vector<RunGroup>& groups) {
  const auto columns = columns_of(groups.front().runs.front().summary);
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
  std::vector<RunGroup> groups;
  for (int i = 1; i < argc; ++i) groups.push_back(gatefold::read_group(argv[i]));
  if (groups.empty()) throw std::runtime_error("usage: compare_runs NAME=RUN,RUN... NAME=RUN...");
  print_table(groups);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("compare_runs", run_main, argc, argv); }
