// What the benchmark programs have in common. Beside the flags of Google Benchmark there is --quick: each case once, to
// see that it works, and --large: also the cases that take minutes. --benchmark_min_time is the time for each contender
// of a case (0.1 s).
#include <cstdlib>
#include <string_view>

#include "bench/session.hpp"

int main(int argc, char** argv) {
  using namespace gatefold::bench;
  Session::Options options;
  std::vector<char*> rest;
  for (char* argument : std::span(argv, static_cast<std::size_t>(argc))) {
    constexpr std::string_view kMinTime = "--benchmark_min_time=";
    const std::string_view text = argument;
    if (text.starts_with(kMinTime)) options.seconds = std::strtod(argument + kMinTime.size(), nullptr);
    if (text == "--quick")
      options.quick = true;
    else if (text == "--large")
      options.large = true;
    else
      rest.push_back(argument);
  }
  argc = static_cast<int>(rest.size());
  rest.push_back(nullptr);
  Session session(options);
  try {
    add_cases(session);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
    return 1;
  }
  benchmark::Initialize(&argc, rest.data());
  if (benchmark::ReportUnrecognizedArguments(argc, rest.data())) return 1;
  benchmark::AddCustomContext("isa", std::string(name(gatefold::default_isa())));
  for (const Peer& peer : peers()) benchmark::AddCustomContext(peer.name, peer.version);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return session.failed() ? 1 : 0;
}
