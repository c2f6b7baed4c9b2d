#pragma once
#include "bench/report/results.hpp"

/// The roofline and some bars, as SVG.
namespace gatefold::bench {

using svg::LogAxis;
using svg::Picture;

/// Ours blue, the others in greys and browns, the same everywhere.
inline std::string colour(const std::string& who) {
  static const std::map<std::string, std::string> known{{"gatefold", "#1f5fbf"}, {"oneDNN", "#c26a1a"},
                                                        {"OpenBLAS", "#7a8f3c"}, {"Eigen", "#8c8c8c"},
                                                        {"libtorch", "#b03a48"}, {"dense", "#9db8e0"}};
  const auto at = known.find(who);
  return at == known.end() ? "#c9c9c9" : at->second;
}

namespace detail {

/// Experts of all sizes on one thread under the ceilings of the machine.
inline void draw_roofline(Picture& picture, const Results& results) {
  double most = 100;
  for (const char* limit : {"FMA", "BF16_dot", "INT8_dot", "AMX_BF16", "AMX_INT8"})
    most = std::max(most, results.ceiling(limit, 1));
  const LogAxis x{0.25, 4096, 60, 560}, y{4, most * 1.5, 420, 40};
  picture.words(60, 24, "Experts under the roofline, 1 thread", "font-weight=\"bold\" font-size=\"14\"");
  for (double tick = 0.25; tick <= 4096; tick *= 4) {
    picture.line(x(tick), 40, x(tick), 420, "stroke=\"#eee\"");
    picture.words(x(tick), 436, text("%g", tick), "text-anchor=\"middle\" fill=\"#666\"");
  }
  for (double tick = 10; tick <= y.most; tick *= 10) {
    picture.line(60, y(tick), 560, y(tick), "stroke=\"#eee\"");
    picture.words(54, y(tick) + 4, text("%g", tick), "text-anchor=\"end\" fill=\"#666\"");
  }
  picture.words(310, 454, "operations for each byte of weights", "text-anchor=\"middle\" fill=\"#666\"");
  picture.words(8, 34, "GFLOP/s", "fill=\"#666\"");
  for (const char* limit : {"FMA", "BF16_dot", "INT8_dot", "AMX_BF16", "AMX_INT8"})
    if (const double rate = results.ceiling(limit, 1); rate > 0) {
      picture.line(60, y(rate), 560, y(rate), "stroke=\"#333\" stroke-dasharray=\"6 3\"");
      picture.words(64, y(rate) - 4, std::string(limit) + text(" %.0f", rate), "fill=\"#333\"");
    }
  for (const char* limit : {"L2_read", "DRAM_read"})
    if (const double rate = results.ceiling(limit, 1); rate > 0) {
      const double end = std::min(x.most, y.most / rate), begin = std::max(x.least, y.least / rate);
      picture.line(x(begin), y(begin * rate), x(end), y(end * rate), "stroke=\"#333\" stroke-dasharray=\"6 3\"");
      picture.words(x(begin) + 4, y(begin * rate) - 6, std::string(limit) + text(" %.0f GB/s", rate), "fill=\"#333\"");
    }
  for (const bool ours : {false, true})
    for (const Row& row : results.rows)
      if ((row.group() == "ffn" || row.group() == "cold_ffn") && row.ours() == ours &&
          row.name.ends_with("threads:1")) {
        const std::string fill = row.group() == "ffn" ? colour(row.who) : "white";
        const std::string style = "fill=\"" + fill + "\" stroke=\"" + colour(row.who) + "\" fill-opacity=\"0.8\"";
        picture.dot(x(row["flop_per_byte"]), y(row["GFLOP/s"]), style.c_str(),
                    row.who + " " + row.name + text(": %.1f GFLOP/s", row["GFLOP/s"]));
      }
  picture.words(60, 474, "filled: weights in cache as far as they fit; hollow: cold experts", "fill=\"#666\"");
}

/// Share of the ceiling of each contender, case by case.
inline void draw_bars(Picture& picture, const Results& results, const std::vector<std::string>& cases) {
  const double left = 800, right = 1160;
  double at = 40;
  picture.words(620, 24, "Share of the ceiling (1 = roofline)", "font-weight=\"bold\" font-size=\"14\"");
  for (const std::string& name : cases) {
    std::vector<const Row*> rows;
    for (const Row& row : results.rows)
      if (row.name == name && row.has("share")) rows.push_back(&row);
    if (rows.empty()) continue;
    picture.words(left - 8, at + 9 + 4.5 * static_cast<double>(rows.size() - 1), name,
                  "text-anchor=\"end\" font-size=\"10\"");
    for (const Row* row : rows) {
      const std::string style = "fill=\"" + colour(row->who) + "\"";
      const double share = std::min((*row)["share"], 1.0);
      picture.bar(left, at, share * (right - left), 8, style.c_str(), row->who + text(" %.0f %%", 100 * share));
      at += 9;
    }
    at += 7;
  }
  for (const double tick : {0.0, 0.25, 0.5, 0.75, 1.0})
    picture.line(left + tick * (right - left), 34, left + tick * (right - left), at, "stroke=\"#ddd\"");
  double key = 620;
  for (const char* who : {"gatefold", "oneDNN", "OpenBLAS", "Eigen", "libtorch", "dense"}) {
    const std::string style = "fill=\"" + colour(who) + "\"";
    picture.bar(key, 476, 10, 10, style.c_str(), who);
    picture.words(key + 14, 485, who);
    key += 30 + 7.5 * static_cast<double>(std::string(who).size());
  }
}

}  // namespace detail

inline std::string picture(const Results& results) {
  Picture drawing(1180, 500);
  detail::draw_roofline(drawing, results);
  std::vector<std::string> cases;
  for (const int rows : {1, 16, 64, 196, 1024}) cases.push_back(text("ffn/fp32/768x3072/rows:%d/threads:1", rows));
  cases.push_back("cold_ffn/fp32/768x3072/rows:1/threads:1");
  cases.push_back("moe/fp32/uniform/experts:32/selected:2/threads:1");
  cases.push_back("moe/fp32/uniform/experts:32/selected:2/threads:2");
  detail::draw_bars(drawing, results, cases);
  return drawing.finish();
}

}  // namespace gatefold::bench
