#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "gatefold/io/safetensors.hpp"
#include "runs.hpp"
#include "svg.hpp"

/// A picture of what several runs cost and what they kept.
namespace run_drawing {

using gatefold::svg::text;

/// The block that a tensor of a file belongs to, «vision.encoder.blocks.3», or nothing. Experts are parts of blocks.
inline std::string block_of(const std::string& name) {
  for (const std::string_view blocks : {"blocks.", "layers."}) {  // of LIMoE and OpenAI's CLIP; Hugging Face's
    const auto at = name.find(blocks);
    if (at == name.npos) continue;
    const auto end = name.find_first_not_of("0123456789", at + blocks.size());
    if (end != name.npos && name[end] == '.' && end > at + blocks.size()) return name.substr(0, end);
  }
  return {};
}

/// Blocks in the order of their numbers, not of their digits.
struct ByNumber {
  bool operator()(const std::string& a, const std::string& b) const {
    const auto key = [](const std::string& name) {
      const auto number = name.rfind('.') + 1;
      return std::tuple(name.substr(0, number), name.size(), name);
    };
    return key(a) < key(b);
  }
};

struct Zeros {
  double zeros = 0, numbers = 0;
};
using Blocks = std::map<std::string, Zeros, ByNumber>;

struct Drawn {
  struct Run {
    double bytes, accuracy;
  };
  std::string name;
  std::vector<Run> runs;
  Run mean{0, 0};
  Blocks blocks;  ///< Of all runs together; what is packed without its zeros does not count.
};

inline void count_zeros(const gatefold::SafeTensors& file, Blocks& blocks) {
  std::vector<float> values;
  for (const auto& entry : file.entries()) {
    const auto block = block_of(entry.name);
    if (block.empty() || entry.shape.size() != 2 || !gatefold::decodes_to<float>(entry.dtype)) continue;
    values.resize(static_cast<std::size_t>(entry.shape[0] * entry.shape[1]));
    decode(entry.dtype, entry.bytes, std::span(values));
    auto& of = blocks[block];
    of.zeros += static_cast<double>(std::ranges::count(values, 0.0f));
    of.numbers += static_cast<double>(values.size());
  }
}

/// Throws FormatError for a summary without tests and for a model that is damaged.
inline Drawn measured(const gatefold::RunGroup& group) {
  Drawn drawn{.name = group.name, .runs = {}, .blocks = {}};
  for (const auto& [folder, summary] : group.runs) {
    const auto tests = summary.find("tests");
    if (tests == summary.end() || !tests->is_array() || tests->empty())
      throw gatefold::FormatError(folder + "/summary.json: has no tests");
    double sum = 0;
    for (const auto& test : *tests) {
      const auto top1 = test.is_object() ? test.find("top1") : test.end();
      if (!test.is_object() || top1 == test.end() || !top1->is_number())
        throw gatefold::FormatError(folder + "/summary.json: a test has no «top1»");
      sum += top1->get<double>();
    }
    const auto model = folder + "/model.safetensors";
    const gatefold::SafeTensors file{gatefold::MappedFile(model)};
    file.expect_checksum();
    count_zeros(file, drawn.blocks);
    drawn.runs.push_back(
        {static_cast<double>(std::filesystem::file_size(model)), 100 * sum / static_cast<double>(tests->size())});
  }
  for (const auto& run : drawn.runs) drawn.mean.bytes += run.bytes, drawn.mean.accuracy += run.accuracy;
  drawn.mean.bytes /= static_cast<double>(drawn.runs.size());
  drawn.mean.accuracy /= static_cast<double>(drawn.runs.size());
  return drawn;
}

inline constexpr double kTop = 50, kBottom = 380, kLeft = 60, kRight = 520, kBlocks = 700, kCell = 34, kRow = 20;

inline std::string figures(const Drawn& d) {
  return d.name + text(": %.3g MB, %.1f %%", d.mean.bytes / 1e6, d.mean.accuracy);
}

inline void draw_accuracy(gatefold::svg::Picture& picture, const std::vector<Drawn>& all) {
  double least = 1e300, most = 0, worst = 100, best = 0;
  for (const auto& drawn : all)
    for (const auto& run : drawn.runs) {
      least = std::min(least, run.bytes), most = std::max(most, run.bytes);
      worst = std::min(worst, run.accuracy), best = std::max(best, run.accuracy);
    }
  const gatefold::svg::LogAxis x{least / 1.2, most * 1.2, kLeft, kRight};
  const double step = best - worst > 25 ? 10 : best - worst > 5 ? 2 : 0.5;
  const gatefold::svg::Axis y{step * std::floor(worst / step - 0.5), step * std::ceil(best / step + 0.5), kBottom,
                              kTop};
  picture.words(kLeft, 24, "Accuracy against bytes", "font-weight=\"bold\" font-size=\"14\"");
  picture.words(8, 42, "mean of the tests, %", "fill=\"#666\"");
  for (double tick = y.least; tick <= y.most + step / 4; tick += step) {
    picture.line(kLeft, y(tick), kRight, y(tick), "stroke=\"#eee\"");
    picture.words(kLeft - 6, y(tick) + 4, text("%g", tick), "text-anchor=\"end\" fill=\"#666\"");
  }
  for (double decade = 1e-3; decade < 1e7; decade *= 10)
    for (const double part : {1.0, 2.0, 5.0})
      if (const double tick = 1e6 * decade * part; x.least <= tick && tick <= x.most) {
        picture.line(x(tick), kTop, x(tick), kBottom, "stroke=\"#eee\"");
        picture.words(x(tick), kBottom + 16, text("%g", tick / 1e6), "text-anchor=\"middle\" fill=\"#666\"");
      }
  picture.words((kLeft + kRight) / 2, kBottom + 34, "MB on disk", "text-anchor=\"middle\" fill=\"#666\"");
  for (const auto& drawn : all)
    for (const auto& run : drawn.runs) picture.dot(x(run.bytes), y(run.accuracy), "fill=\"#9db8e0\"", drawn.name, 2);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& mean = all[i].mean;
    picture.dot(x(mean.bytes), y(mean.accuracy), "fill=\"#1f5fbf\"", figures(all[i]));
    picture.words(x(mean.bytes) + 6, y(mean.accuracy) - 5, std::to_string(i + 1));
  }
}

inline void draw_blocks(gatefold::svg::Picture& picture, const std::vector<Drawn>& all, const Blocks& blocks) {
  picture.words(kBlocks, 24, "Zeros by block, %", "font-weight=\"bold\" font-size=\"14\"");
  for (std::size_t i = 0; i < all.size(); ++i)
    picture.words(kBlocks + kCell * (static_cast<double>(i) + 0.5), 42, std::to_string(i + 1),
                  "text-anchor=\"middle\"");
  double at = kTop;
  for (const auto& [block, unused] : blocks) {
    picture.words(kBlocks - 8, at + 14, block, "text-anchor=\"end\" font-size=\"10\"");
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto found = all[i].blocks.find(block);
      const double left = kBlocks + kCell * static_cast<double>(i);
      if (found == all[i].blocks.end()) {
        picture.words(left + kCell / 2, at + 14, "–", "text-anchor=\"middle\" fill=\"#666\"");
        continue;
      }
      const double share = found->second.zeros / found->second.numbers;
      picture.bar(left, at, kCell - 2, kRow - 2, text("fill=\"#1f5fbf\" fill-opacity=\"%.3f\"", share).c_str(),
                  all[i].name + " " + block + text(": %.1f %%", 100 * share));
      picture.words(left + kCell / 2 - 1, at + 14, text("%.0f", 100 * share),
                    share > 0.6 ? "text-anchor=\"middle\" fill=\"white\"" : "text-anchor=\"middle\"");
    }
    at += kRow;
  }
}

inline std::string drawing_of(const std::vector<Drawn>& all) {
  Blocks blocks;
  for (const auto& drawn : all) blocks.insert(drawn.blocks.begin(), drawn.blocks.end());
  const double legend = std::max(kBottom + 60, kTop + kRow * static_cast<double>(blocks.size()) + 30);
  gatefold::svg::Picture picture(std::max(kRight + 40, kBlocks + kCell * static_cast<double>(all.size()) + 20),
                                 legend + 18 * static_cast<double>(all.size()));
  draw_accuracy(picture, all);
  if (!blocks.empty()) draw_blocks(picture, all, blocks);
  for (std::size_t i = 0; i < all.size(); ++i)
    picture.words(kLeft, legend + 18 * static_cast<double>(i), std::to_string(i + 1) + "  " + figures(all[i]));
  return picture.finish();
}

}  // namespace run_drawing
