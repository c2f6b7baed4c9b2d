#pragma once
#include <benchmark/benchmark.h>

#include <cstdio>
#include <initializer_list>
#include <limits>
#include <set>

#include "bench/ceilings.hpp"
#include "bench/data.hpp"

/// Cases become rows of Google Benchmark: one for us, one for each rival, measured together.
namespace gatefold::bench {

/// What a case asks of the machine at least.
struct Work {
  double flops = 0;
  double bytes = 0;              ///< That must be read, once each.
  Format format = Format::fp32;  ///< Decides which arithmetic counts.
  Limit memory = Limit::l2;      ///< Where the bytes come from: dram for what no cache holds.
  std::string unit = {};
  double units = 0;  ///< Also tell the time for each of so many, as in «token».
};

/// Somebody who takes part in a case. `make` is called when the case comes up, and its result dropped after it.
struct Entrant {
  std::string name;
  std::function<std::optional<Contender>()> make;
  enum class Role { peer, self } role = Role::peer;  ///< «ratio» is against the best peer only.
};

struct Case {
  std::string name;
  Index threads = 1;
  Work work;
  std::vector<Entrant> entrants;  ///< The first is us.
  Index least_rounds = 5;         ///< Fewer for cases of seconds.
};

/// «ffn/fp32/rows:16/threads:1» of row_name("ffn/fp32", {{"rows", 16}, {"threads", 1}}).
inline std::string row_name(std::string prefix, std::initializer_list<std::pair<const char*, Index>> arguments) {
  for (const auto& [key, value] : arguments) prefix.append("/").append(key).append(":").append(std::to_string(value));
  return prefix;
}

/// Adds those of the peers that have an answer: add_peers(entrants, &Peer::ffn, FfnCase{...}).
template <class C>
void add_peers(std::vector<Entrant>& entrants, Peer::Make<C> Peer::*what, const C& c) {
  for (const Peer& peer : peers())
    if (const auto& make = peer.*what; make && std::ranges::find(peer.formats, c.format) != peer.formats.end())
      entrants.push_back({peer.name, [make, c] { return make(c); }});
}

/// One run of one program.
class Session {
 public:
  struct Options {
    bool quick = false;    ///< Show that everything works; the figures mean nothing.
    bool large = false;    ///< Also cases of minutes.
    double seconds = 0.1;  ///< For each contender of a case.
  };

  explicit Session(Options o) : options_(o) {
    if (o.quick) ceilings_.first_probes = 1;
  }
  bool quick() const { return options_.quick; }
  bool large() const { return options_.large; }
  bool failed() const { return failed_; }
  Ceilings& ceilings() { return ceilings_; }

  /// Adds a row for each entrant: <case>/<entrant>. The first row that runs measures the whole case.
  void add(Case c) {
    const auto contest = std::make_shared<Contest>(Contest{std::move(c), {}, {}, {}});
    for (std::size_t i = 0; i < contest->of.entrants.size(); ++i)
      benchmark::RegisterBenchmark((contest->of.name + "/" + contest->of.entrants[i].name).c_str(),
                                   [this, contest, i](benchmark::State& state) { run_row(*contest, i, state); })
          ->Iterations(1)
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
  }

  /// A row for the ceiling itself.
  void add_ceiling(Limit limit, Index threads) {
    if (!ceilings_.has(limit)) return;
    std::string label(name(limit));
    std::replace(label.begin(), label.end(), ' ', '_');
    benchmark::RegisterBenchmark(("ceiling/" + label + "/threads:" + std::to_string(threads)).c_str(),
                                 [this, limit, threads](benchmark::State& state) {
                                   for (auto _ : state) {
                                     const double rate = ceilings_.rate(limit, threads);
                                     state.SetIterationTime(1e9 / rate);
                                     state.counters[is_bandwidth(limit) ? "GB/s" : "GFLOP/s"] = rate * 1e-9;
                                   }
                                 })
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Contest {
    Case of;
    std::vector<double> best;     // seconds; infinite for who has no answer
    std::vector<double> scratch;  // bytes; 0 for who does not tell
    std::set<std::size_t> shown;  // rows that have told their result
  };
  struct Bound {
    double seconds = 0, rate = 0;
    Limit limit{};
  };

  static double seconds_of(const std::function<void()>& run) {
    const auto start = Clock::now();
    run();
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  /// Which arithmetic is the fastest for a format.
  Limit arithmetic(Format format, Index threads) {
    Limit best = Limit::fma;
    const auto consider = [&](Limit limit) {
      if (ceilings_.has(limit) && ceilings_.rate(limit, threads) > ceilings_.rate(best, threads)) best = limit;
    };
    if (format == Format::bf16) consider(Limit::dot_bf16), consider(Limit::amx_bf16);
    if (format == Format::int8 || format == Format::int4) consider(Limit::dot_int8), consider(Limit::amx_int8);
    return best;
  }

  /// The roofline: the work takes at least as long as its arithmetic, and at least as long as its reads.
  Bound bound(const Case& c) {
    const Limit compute = arithmetic(c.work.format, c.threads);
    Bound b{c.work.flops / ceilings_.rate(compute, c.threads), ceilings_.rate(compute, c.threads), compute};
    const double reads = c.work.bytes / ceilings_.rate(c.work.memory, c.threads);
    if (reads > b.seconds) b = {reads, ceilings_.rate(c.work.memory, c.threads), c.work.memory};
    return b;
  }

  /// All contenders by turns, in alternating order, so that whatever else the machine does hits all of them; each
  /// one's best call counts. Calls of a turn but the first find the caches as they left them.
  void measure(Contest& contest) {
    const Case& c = contest.of;
    contest.shown.clear();
    contest.best.assign(c.entrants.size(), std::numeric_limits<double>::infinity());
    contest.scratch.assign(c.entrants.size(), 0);
    struct Player {
      std::size_t at;
      Contender contender;
      Index calls;
    };
    std::vector<Player> players;
    constexpr double kTurn = 0.02;  // seconds
    double longest = 0;
    for (std::size_t i = 0; i < c.entrants.size(); ++i) {
      auto contender = c.entrants[i].make();
      if (!contender) continue;
      contender->pin();
      contender->run();  // allocates, packs, wakes threads
      const double seconds = seconds_of(contender->run);
      const double turn = options_.quick ? 0 : kTurn;
      const Index calls = std::clamp<Index>(static_cast<Index>(turn / seconds), 1, 100'000);
      longest = std::max(longest, seconds * static_cast<double>(calls));
      players.push_back({i, std::move(*contender), calls});
    }
    const Index rounds =
        options_.quick ? 1 : std::max(c.least_rounds, static_cast<Index>(options_.seconds / std::max(longest, 1e-9)));
    const Limit compute = arithmetic(c.work.format, c.threads);
    for (Index round = 0; round < rounds; ++round) {
      if (!options_.quick) {
        if (c.work.flops > 0) ceilings_.probe(compute, c.threads);
        if (c.work.bytes > 0 && (c.work.memory != Limit::dram || round % 4 == 0))
          ceilings_.probe(c.work.memory, c.threads);
      }
      for (auto& player : players) {
        // As for the ceilings: until the threads of the last library sleep.
        if (c.threads > 1 && !options_.quick) std::this_thread::sleep_for(std::chrono::milliseconds(30));
        player.contender.pin();
        if (player.calls > 1) player.contender.run();
        double& best = contest.best[player.at];
        for (Index call = 0; call < player.calls; ++call) best = std::min(best, seconds_of(player.contender.run));
      }
      std::reverse(players.begin(), players.end());
    }
    for (const auto& player : players)
      if (player.contender.scratch) contest.scratch[player.at] = static_cast<double>(player.contender.scratch());
  }

  void run_row(Contest& contest, std::size_t i, benchmark::State& state) {
    try {
      // A row that comes again (--benchmark_repetitions) is measured again.
      if (contest.best.empty() || contest.shown.contains(i)) measure(contest);
      contest.shown.insert(i);
      const double best = contest.best[i];
      if (!(best < std::numeric_limits<double>::infinity()))
        return state.SkipWithError("it has no answer to this case");
      for (auto _ : state) state.SetIterationTime(best);
      report(contest, i, state);
    } catch (const std::exception& e) {
      failed_ = true;
      state.SkipWithError(e.what());
    }
  }

  void report(const Contest& contest, std::size_t i, benchmark::State& state) {
    const Case& c = contest.of;
    const double best = contest.best[i];
    if (c.work.flops > 0) state.counters["GFLOP/s"] = c.work.flops / best * 1e-9;
    if (c.work.bytes > 0) state.counters["GB/s"] = c.work.bytes / best * 1e-9;
    if (c.work.flops > 0 && c.work.bytes > 0) state.counters["flop_per_byte"] = c.work.flops / c.work.bytes;
    if (c.work.units > 0) state.counters["ns_per_" + c.work.unit] = best / c.work.units * 1e9;
    if (c.work.units > 0 && contest.scratch[i] > 0)
      state.counters["scratch_per_" + c.work.unit] = contest.scratch[i] / c.work.units;
    if (c.work.flops > 0 || c.work.bytes > 0) {
      const Bound b = bound(c);
      state.counters["share"] = b.seconds / best;
      state.SetLabel("of " + std::string(name(b.limit)) + " " + std::to_string(static_cast<Index>(b.rate * 1e-9)) +
                     (is_bandwidth(b.limit) ? " GB/s" : " G/s"));
    }
    if (i != 0) return;
    double best_peer = std::numeric_limits<double>::infinity();
    for (std::size_t other = 1; other < c.entrants.size(); ++other) {
      if (!(contest.best[other] < std::numeric_limits<double>::infinity())) continue;
      state.counters["vs_" + c.entrants[other].name] = contest.best[other] / best;
      if (c.entrants[other].role == Entrant::Role::peer) best_peer = std::min(best_peer, contest.best[other]);
    }
    if (best_peer < std::numeric_limits<double>::infinity()) state.counters["ratio"] = best_peer / best;
  }

  Options options_;
  Ceilings ceilings_;
  bool failed_ = false;
};

/// Each program's own: adds its cases.
void add_cases(Session& session);

}  // namespace gatefold::bench
