#pragma once
#include <optional>
#include <regex>

#include "bench/report/results.hpp"

namespace gatefold::bench {

/// What we promise of some rows: the worst of them decides.
struct Goal {
  std::string what;
  std::string rows;     ///< Regular expression over the names of our rows.
  std::string counter;  ///< «1/x» is the inverse of the counter x, and the less of it the better.
  double least, wanted;
  std::string needs = {};  ///< The ceiling row without which the goal is not for this CPU.

  bool less_is_better() const { return counter.starts_with("1/"); }
  bool percent() const { return counter == "share"; }
};

inline const std::vector<Goal>& goals() {
  const std::string wide = "(512|768|1024)x[0-9]+", one = "/threads:1", two = "/threads:2";
  const auto moe = [](const std::string& format, int selected, int threads) {
    return text("moe/%s/uniform/experts:32/selected:%d/threads:%d", format.c_str(), selected, threads);
  };
  const std::string amx = "AMX_BF16";
  static const std::vector<Goal> all{
      {"fp32 expert, 64 rows and more: share of the FMA ceiling", "ffn/fp32/" + wide + "/rows:(64|196|1024)" + one,
       "share", 0.94, 0.97},
      {"fp32 expert, 16 rows, against oneDNN", "ffn/fp32/" + wide + "/rows:16" + one, "vs_oneDNN", 1.15, 1.25},
      {"fp32 expert, 64 rows, against oneDNN", "ffn/fp32/" + wide + "/rows:64" + one, "vs_oneDNN", 1.07, 1.15},
      {"fp32 expert, 196 rows and more, against oneDNN", "ffn/fp32/" + wide + "/rows:(196|1024)" + one, "vs_oneDNN",
       1.02, 1.06},
      {"fp32 expert, 1 and 4 rows, against the best peer", "(cold_)?ffn/fp32/.*/rows:[14]" + one, "ratio", 1.0, 1.1},
      {"bf16 expert, 1 and 4 rows, against the best peer", "(cold_)?ffn/bf16/.*/rows:[14]" + one, "ratio", 1.0, 1.1},
      {"int8 expert, 1 and 4 rows, against the best peer", "(cold_)?ffn/int8/.*/rows:[14]" + one, "ratio", 1.0, 1.1},
      {"fp32 cold experts, 1 and 4 rows: share of DRAM bandwidth", "cold_ffn/fp32/.*" + one, "share", 0.9, 0.95},
      {"bf16 cold experts, 1 and 4 rows: share of DRAM bandwidth", "cold_ffn/bf16/.*" + one, "share", 0.9, 0.95},
      {"int8 cold experts, 1 and 4 rows: share of DRAM bandwidth", "cold_ffn/int8/.*" + one, "share", 0.9, 0.95},
      {"int4 cold experts, 1 and 4 rows: share of DRAM bandwidth", "cold_ffn/int4/.*" + one, "share", 0.9, 0.95},
      {"mxfp4 cold experts, 1 and 4 rows: share of DRAM bandwidth", "cold_ffn/mxfp4/.*" + one, "share", 0.9, 0.95},
      {"fp8 cold experts, 1 and 4 rows: share of DRAM bandwidth", "cold_ffn/fp8/.*" + one, "share", 0.9, 0.95},
      {"fp32 mixture, 2048 tokens: time against our dense net of equal flops", "moe/fp32/uniform/.*" + one,
       "1/vs_dense", 1.05, 1.02},
      {"fp32 mixture of 32, top-1, against libtorch, 1 thread", moe("fp32", 1, 1), "vs_libtorch", 2.2, 2.5},
      {"fp32 mixture of 32, top-2, against libtorch, 1 thread", moe("fp32", 2, 1), "vs_libtorch", 1.6, 1.8},
      {"fp32 mixture of 32, top-1, against libtorch, 2 threads", moe("fp32", 1, 2), "vs_libtorch", 5, 6},
      {"fp32 mixture of 32, top-2, against libtorch, 2 threads", moe("fp32", 2, 2), "vs_libtorch", 3.5, 4.2},
      {"bf16 mixture of 32 on AMX, top-1, against libtorch, 1 thread", moe("bf16", 1, 1), "vs_libtorch", 3, 4.5, amx},
      {"bf16 mixture of 32 on AMX, top-2, against libtorch, 1 thread", moe("bf16", 2, 1), "vs_libtorch", 2.7, 4, amx},
      {"bf16 mixture of 32 on AMX, top-1, against libtorch, 2 threads", moe("bf16", 1, 2), "vs_libtorch", 3.5, 5, amx},
      {"bf16 mixture of 32 on AMX, top-2, against libtorch, 2 threads", moe("bf16", 2, 2), "vs_libtorch", 3, 4.5, amx},
      {"bf16 expert on AMX, 196 rows and more: share of the AMX peak", "ffn/bf16/" + wide + "/rows:(196|1024)" + one,
       "share", 0.4, 0.6, amx},
      {"int8 mixture of 32 on AMX, against our bf16", "moe/int8/uniform/experts:32/.*", "vs_bf16", 1.5, 1.9, amx},
      {"routing of 8 and 32 experts, against libtorch's softmax and topk", "gates_choice_plan/experts:(8|32)/.*" + one,
       "vs_libtorch", 10, 15},
      {"routing of 128 and 256 experts, against the same", "gates_choice_plan/experts:(128|256)/.*" + one,
       "vs_libtorch", 6, 10},
      {"seats within a capacity, against one-hot and cumulative sum", "seats/.*" + one, "vs_libtorch", 50, 100},
      {"Zipf 1.2 routing: time against uniform, 2 threads", "moe/fp32/zipf/.*" + two, "1/vs_uniform", 1.05, 1.03},
      {"training step of a sparse block, against libtorch, 2 threads", "train_step/.*" + two, "vs_libtorch", 2.5, 4},
      {"fp32 mixture: 2 threads against 1", "moe/fp32/uniform/.*" + two, "vs_one_thread", 1.9, 1.97},
      {"fp32 CLIP ViT-B/32, images: share of the FMA ceiling, 2 threads", "clip_images/fp32/.*" + two, "share", 0.85,
       0.92},
      {"bf16 CLIP ViT-B/32 on AMX, images: share of the AMX peak, 2 threads", "clip_images/bf16/.*" + two, "share", 0.3,
       0.4, amx},
      {"zero-shot example on AMX: bf16 against fp32", "zero_shot/bf16/.*", "vs_fp32", 3, 3, amx},
  };
  return all;
}

/// How a goal came out.
struct Outcome {
  const Goal* goal;
  double worst = 0, best = 0;
  std::string worst_row = {};
  enum class Verdict { missing, other_cpu, missed, met, surpassed } verdict = Verdict::missing;
};

inline Outcome judge(const Goal& goal, const Results& results) {
  Outcome outcome{.goal = &goal};
  const bool less = goal.less_is_better();
  const std::string counter = less ? goal.counter.substr(2) : goal.counter;
  const std::regex rows(goal.rows);
  for (const Row& row : results.rows) {
    if (!row.ours() || !row.has(counter) || !std::regex_match(row.name, rows)) continue;
    const double value = less ? 1 / row[counter] : row[counter];
    const bool first = outcome.worst_row.empty();
    if (first || (less ? value > outcome.worst : value < outcome.worst))
      outcome.worst = value, outcome.worst_row = row.name;
    if (first || (less ? value < outcome.best : value > outcome.best)) outcome.best = value;
  }
  using enum Outcome::Verdict;
  const auto reaches = [&](double bound) { return less ? outcome.worst <= bound : outcome.worst >= bound; };
  if (outcome.worst_row.empty())
    outcome.verdict = missing;
  else if (!goal.needs.empty() && results.ceiling(goal.needs, 1) == 0)
    outcome.verdict = other_cpu;
  else
    outcome.verdict = reaches(goal.wanted) ? surpassed : reaches(goal.least) ? met : missed;
  return outcome;
}

inline std::string name(Outcome::Verdict verdict) {
  constexpr std::array kNames{"not measured", "needs AMX", "**missed**", "met", "as wanted"};
  return kNames[static_cast<std::size_t>(verdict)];
}

}  // namespace gatefold::bench
