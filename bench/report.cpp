// Makes one table, one file of data and one picture of what the benchmark programs wrote:
//   bench_report FOLDER FILE.json...   writes FOLDER/results.{md,json,svg} and prints the table of goals
#include <iostream>
#include <thread>

#include "bench/report/markdown.hpp"
#include "bench/report/picture.hpp"

namespace {

using namespace gatefold::bench;

/// «AMD EPYC …, 2 CPUs; isa avx512; Eigen 3.4.0, …»
std::string machine_text(const nlohmann::ordered_json& context) {
  std::ifstream cpus("/proc/cpuinfo");
  std::string model = "unknown CPU";
  for (std::string line; std::getline(cpus, line);)
    if (line.starts_with("model name")) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  std::string machine = model + ", " + std::to_string(context.at("num_cpus").get<int>()) + " CPUs";
  for (const auto& cache : context.at("caches"))
    if (cache.at("type") != "Instruction")
      machine += text(", L%d %d KiB", cache.at("level").get<int>(), cache.at("size").get<int>() / 1024);
  machine += "; kernels: " + context.value("isa", "?");
  for (const char* peer : {"Eigen", "OpenBLAS", "oneDNN", "libtorch"})
    if (context.contains(peer)) machine += std::string(", ") + peer + " " + context.at(peer).get<std::string>();
  return machine + "; " + context.at("date").get<std::string>().substr(0, 10) +
         ". The best of many calls, ours and theirs by turns in one process.";
}

nlohmann::ordered_json json(const Results& results, const std::vector<Outcome>& outcomes, const std::string& machine) {
  nlohmann::ordered_json all{{"machine", machine}, {"context", results.context}};
  for (const Outcome& o : outcomes)
    all["goals"].push_back({{"what", o.goal->what},
                            {"rows", o.goal->rows},
                            {"counter", o.goal->counter},
                            {"least", o.goal->least},
                            {"wanted", o.goal->wanted},
                            {"worst", o.worst},
                            {"best", o.best},
                            {"worst_row", o.worst_row},
                            {"verdict", name(o.verdict)}});
  for (const Row& row : results.rows)
    all["rows"].push_back({{"program", row.program},
                           {"case", row.name},
                           {"who", row.who},
                           {"seconds", row.seconds},
                           {"share_of", row.label},
                           {"counters", row.counters}});
  return all;
}

void write(const std::filesystem::path& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary);
  out << content;
  if (!out.flush()) throw std::runtime_error(path.string() + " cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "bench_report FOLDER FILE.json...\n";
    return 1;
  }
  try {
    const std::filesystem::path folder = argv[1];
    Results results;
    for (int i = 2; i < argc; ++i) read_results(argv[i], results);
    std::vector<Outcome> outcomes;
    for (const Goal& goal : goals()) outcomes.push_back(judge(goal, results));
    const std::string machine = machine_text(results.context), table = markdown(results, outcomes, machine);
    write(folder / "results.md", table);
    write(folder / "results.json", json(results, outcomes, machine).dump(1) + "\n");
    write(folder / "results.svg", picture(results));
    std::cout << table.substr(0, table.find("\nCeilings")) << "\nAll rows: " << (folder / "results.md").string()
              << "\n";
  } catch (const std::exception& e) {
    std::cerr << "bench_report: " << e.what() << "\n";
    return 1;
  }
  return 0;
}
