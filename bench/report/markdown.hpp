#pragma once
#include <set>

#include "bench/report/goals.hpp"

namespace gatefold::bench {

inline std::string time_text(double seconds) {
  return seconds < 1e-3 ? text("%.3g µs", seconds * 1e6) : text("%.3g ms", seconds * 1e3);
}

inline std::string goal_text(const Goal& goal, double value) {
  return goal.percent() ? text("%.0f %%", 100 * value) : text("%.2f", value);
}

/// The goals, then what they rest on: one table for each group of cases.
inline std::string markdown(const Results& results, const std::vector<Outcome>& outcomes, const std::string& machine) {
  std::string out = "# Speed\n\n" + machine + "\n\n";
  out += "| goal | least / wanted | measured: worst (best) row | |\n|---|---|---|---|\n";
  for (const Outcome& o : outcomes) {
    const Goal& goal = *o.goal;
    const std::string bound = goal.less_is_better() ? "≤ " : "≥ ";
    out +=
        "| " + goal.what + " | " + bound + goal_text(goal, goal.least) + " / " + goal_text(goal, goal.wanted) + " | ";
    if (!o.worst_row.empty()) out += goal_text(goal, o.worst) + " (" + goal_text(goal, o.best) + ")";
    out += " | " + name(o.verdict) + (o.verdict == Outcome::Verdict::missed ? ": `" + o.worst_row + "`" : "") + " |\n";
  }
  out += "\nCeilings, G/s:";
  for (const Row& row : results.rows)
    if (row.group() == "ceiling")
      out += " " + row.name.substr(8) + " " + row.who + " " +
             text("%.0f", row.has("GB/s") ? row["GB/s"] : row["GFLOP/s"]) + ";";
  out += "\n\n«vs» is their time divided by ours.\n";

  std::vector<std::string> groups;
  for (const Row& row : results.rows)
    if (row.ours() && std::find(groups.begin(), groups.end(), row.group()) == groups.end())
      groups.push_back(row.group());
  for (const std::string& group : groups) {
    std::set<std::string> counters;
    bool flops = false, bytes = false, share = false;
    std::string per, scratch;
    for (const Row& row : results.rows) {
      if (row.group() != group || !row.ours()) continue;
      flops |= row.has("GFLOP/s"), bytes |= row.has("GB/s"), share |= row.has("share");
      for (const auto& [key, value] : row.counters) {
        if (key.starts_with("vs_")) counters.insert(key);
        if (key.starts_with("ns_per_")) per = key;
        if (key.starts_with("scratch_per_")) scratch = key;
      }
    }
    std::string head = "| " + group + " | time", rule = "|---|---";
    const auto column = [&](const std::string& title) { head += " | " + title, rule += "|---"; };
    if (!per.empty()) column("ns a " + per.substr(7));
    if (!scratch.empty()) column("bytes a " + scratch.substr(12));
    if (flops) column("GFLOP/s");
    if (bytes) column("GB/s");
    if (share) column("share");
    for (const auto& counter : counters) column("vs " + counter.substr(3));
    out += "\n" + head + " |\n" + rule + "|\n";
    for (const Row& row : results.rows) {
      if (row.group() != group || !row.ours()) continue;
      const auto cell = [&](bool shown, const std::string& value) { out += " | " + (shown ? value : std::string()); };
      out += "| " + row.name.substr(group.size() + 1) + " | " + time_text(row.seconds);
      if (!per.empty()) cell(row.has(per), text("%.3g", row[per]));
      if (!scratch.empty()) cell(row.has(scratch), text("%.3g", row[scratch]));
      if (flops) cell(row.has("GFLOP/s"), text("%.3g", row["GFLOP/s"]));
      if (bytes) cell(row.has("GB/s"), text("%.3g", row["GB/s"]));
      if (share) cell(row.has("share"), text("%.0f %% ", 100 * row["share"]) + row.label);
      for (const auto& counter : counters) cell(row.has(counter), text("%.2f", row[counter]));
      out += " |\n";
    }
  }
  return out;
}

}  // namespace gatefold::bench
