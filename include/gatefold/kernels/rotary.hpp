#pragma once
#include <numbers>
#include <variant>

#include "gatefold/simd/map.hpp"

/// Rotary positions (Su et al. 2021, arXiv 2104.09864): pairs of columns of a query or key are turned by an angle that
/// grows with the token's place, so that scores depend on how far apart two tokens are.
namespace gatefold {

/// All angles divided by one number (position interpolation, arXiv 2306.15595).
struct LinearScaling {
  double factor;
};
/// Pairs that turn less than `slow` times over the length of training have their angles divided, those that turn more
/// than `fast` times keep them, with a blend in between (Llama 3.1).
struct Llama3Scaling {
  double factor;
  Index original_length;  ///< Of training.
  double slow = 1, fast = 4;
};
/// The same with a blend that is linear in the number of the pair (YaRN, arXiv 2309.00071, section 3.2), and larger
/// scores: queries and keys grow by `attention_factor` each.
struct YarnScaling {
  double factor;
  Index original_length;  ///< Of training.
  double slow = 1, fast = 32;
  /// Whether the blend begins and ends at whole pairs (GPT-OSS: no).
  enum class Ends { whole, exact } ends = Ends::whole;
  double attention_factor = 0;  ///< 0: 0.1 ln(factor) + 1.

  double attention() const { return attention_factor != 0 ? attention_factor : mscale(factor); }
  /// What DeepSeek's `mscale` makes of a factor; its softmax grows by the square of it.
  static double mscale(double factor, double times = 1) { return factor <= 1 ? 1 : 0.1 * times * std::log(factor) + 1; }
};

/// How the heads of queries and keys are turned. The angle of pair j at place p is p base^(-2 j / width), unless a
/// scaling stretches it for sequences longer than those of training.
struct Rotary {
  /// Which columns make pair j: j and j + width / 2 (NeoX, LLaMA in transformers, Qwen, nomic), or 2 j and 2 j + 1
  /// (GPT-J, DeepSeek, Llama-4).
  enum class Pairs { halves, neighbours };
  Index width = 0;  ///< Columns of each head that turn, the first ones, an even number; 0: none.
  double base = 10000;
  Pairs pairs = Pairs::halves;
  std::variant<std::monostate, LinearScaling, Llama3Scaling, YarnScaling> scaling{};

  /// Of pair j, in radians a place.
  double frequency(Index j) const {
    const double plain = std::pow(base, -2 * static_cast<double>(j) / static_cast<double>(width));
    return std::visit([&](const auto& how) { return scaled(how, plain, j); }, scaling);
  }
  /// What sines and cosines are multiplied by.
  double amplitude() const {
    const auto* const yarn = std::get_if<YarnScaling>(&scaling);
    return yarn ? yarn->attention() : 1;
  }
  /// Throws OptionError for what no head of `head_width` columns can be turned by.
  void expect_fit(std::string_view who, Index head_width) const {
    expect_option(width >= 0 && width <= head_width && width % 2 == 0, who, "rotary.width", width,
                  "an even number up to head_width");
    expect_option(base > 0 && std::isfinite(base), who, "rotary.base", base, "a finite number above 0");
    std::visit(
        [&](const auto& how) {
          if constexpr (requires { how.factor; })
            expect_option(how.factor > 0 && std::isfinite(how.factor), who, "rotary.scaling.factor", how.factor,
                          "a finite number above 0");
          if constexpr (requires { how.original_length; }) {
            expect_size(who, "rotary.scaling.original_length", how.original_length);
            expect_option(how.slow > 0 && std::isfinite(how.slow), who, "rotary.scaling.slow", how.slow,
                          "a finite number above 0");
            expect_option(how.fast > how.slow && std::isfinite(how.fast), who, "rotary.scaling.fast", how.fast,
                          "a finite number above slow");
          }
          if constexpr (requires { how.attention_factor; }) {
            expect_rate(who, "rotary.scaling.attention_factor", how.attention_factor);
            expect_option(base > 1, who, "rotary.base", base, "a number above 1, by which YaRN counts turns");
          }
        },
        scaling);
  }

 private:
  static double scaled(std::monostate, double plain, Index) { return plain; }
  static double scaled(const LinearScaling& how, double plain, Index) { return plain / how.factor; }
  static double scaled(const Llama3Scaling& how, double plain, Index) {
    const double turns = static_cast<double>(how.original_length) * plain / (2 * std::numbers::pi);
    const double kept = std::clamp((turns - how.slow) / (how.fast - how.slow), 0.0, 1.0);
    return (1 - kept) * plain / how.factor + kept * plain;
  }
  double scaled(const YarnScaling& how, double plain, Index j) const {
    const double d = static_cast<double>(width);
    // The pair that turns so many times, not a whole number.
    const auto pair = [&](double turns) {
      return d * std::log(static_cast<double>(how.original_length) / (turns * 2 * std::numbers::pi)) /
             (2 * std::log(base));
    };
    double first = pair(how.fast), last = pair(how.slow);
    if (how.ends == YarnScaling::Ends::whole) first = std::floor(first), last = std::ceil(last);
    first = std::max(first, 0.0);
    last = std::min(last, d - 1);
    if (first == last) last += 0.001;  // as the authors have it, so that nothing is divided by 0
    const double divided = std::clamp((static_cast<double>(j) - first) / (last - first), 0.0, 1.0);
    return divided * plain / how.factor + (1 - divided) * plain;
  }
};

namespace kernels {

/// cos | sin of every place in `place`, or of the places from 0 on where that is empty, each width / 2 numbers.
/// // place [rows], table [rows, width]
template <Real T>
void rotary_table(const Rotary& rotary, View<const Index, 1> place, Rows<T> table, Context& ctx) {
  const Index pairs = rotary.width / 2;
  auto frequency = ctx.workspace.take<double>(pairs);
  for (Index j = 0; j < pairs; ++j) frequency[j] = rotary.frequency(j);
  const double amplitude = rotary.amplitude();
  constexpr Index kCost = 32;  // of a sine and a cosine, in multiplications
  for_each_row(table.extent(0), kCost * rotary.width, ctx, [&](Index i) {
    for (Index j = 0; j < pairs; ++j) {
      const double angle = static_cast<double>(place.size() ? place[i] : i) * frequency[j];
      table(i, j) = T(amplitude * std::cos(angle));
      table(i, pairs + j) = T(amplitude * std::sin(angle));
    }
  });
}

enum class Turn { there, back };

/// Turns the heads of the listed rows in place: by the angle of their place or, for a gradient on its way back, by as
/// much the other way.
/// // x [R, heads * head_width]; row, place [tokens]; table [places, rotary.width]
template <Real T>
void rotate(const Rotary& rotary, Turn turn, View<const Index, 1> row, View<const Index, 1> place, Rows<const T> table,
            Index head_width, Rows<T> x, Context& ctx) {
  const Index pairs = rotary.width / 2;
  const bool back = turn == Turn::back;
  for_each_row(row.extent(0), x.extent(1), ctx, [&](Index i) {
    const T *const cos = &table(place[i], 0), *const sin = cos + pairs;
    for (Index column = 0; column < x.extent(1); column += head_width) {
      T* const head = x.data() + row[i] * x.stride(0) + column;
      if (rotary.pairs == Rotary::Pairs::halves && back)
        simd::update<T>(
            ctx.isa, pairs,
            [](auto a, auto b, auto c, auto s) {
              return std::array{a * c + b * s, b * c - a * s};
            },
            std::array{head, head + pairs}, cos, sin);
      else if (rotary.pairs == Rotary::Pairs::halves)
        simd::update<T>(
            ctx.isa, pairs,
            [](auto a, auto b, auto c, auto s) {
              return std::array{a * c - b * s, b * c + a * s};
            },
            std::array{head, head + pairs}, cos, sin);
      else
        for (Index j = 0; j < pairs; ++j) {
          const T a = head[2 * j], b = head[2 * j + 1], s = back ? -sin[j] : sin[j];
          head[2 * j] = a * cos[j] - b * s;
          head[2 * j + 1] = b * cos[j] + a * s;
        }
    }
  });
}

}  // namespace kernels
}  // namespace gatefold

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void rotate<float>(const Rotary&, Turn, View<const Index, 1>, View<const Index, 1>, Rows<const float>,
                                     Index, Rows<float>, Context&);

}  // namespace gatefold::kernels
#endif
