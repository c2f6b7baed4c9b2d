#pragma once
#include "gatefold/simd/map.hpp"

/// Rotary positions (Su et al. 2021, arXiv 2104.09864): pairs of columns of a query or key are turned by an angle that
/// grows with the token's place, so that scores depend on how far apart two tokens are.
namespace gatefold {

/// How the heads of queries and keys are turned. The angle of pair j at place p is p base^(-2 j / width).
struct Rotary {
  /// Which columns make pair j: j and j + width / 2 (NeoX, LLaMA in transformers, Qwen, nomic), or 2 j and 2 j + 1
  /// (GPT-J, DeepSeek, Llama-4).
  enum class Pairs { halves, neighbours };
  Index width = 0;  ///< Columns of each head that turn, the first ones, an even number; 0: none.
  double base = 10000;
  Pairs pairs = Pairs::halves;
};

namespace kernels {

/// cos | sin of every place, each width / 2 numbers. // table [places, width]
template <Real T>
void rotary_table(const Rotary& rotary, Rows<T> table, Context& ctx) {
  const Index pairs = rotary.width / 2;
  auto frequency = ctx.workspace.take<double>(pairs);
  for (Index j = 0; j < pairs; ++j)
    frequency[j] = std::pow(rotary.base, -2 * static_cast<double>(j) / static_cast<double>(rotary.width));
  constexpr Index kCost = 32;  // of a sine and a cosine, in multiplications
  for_each_row(table.extent(0), kCost * rotary.width, ctx, [&](Index place) {
    for (Index j = 0; j < pairs; ++j) {
      const double angle = static_cast<double>(place) * frequency[j];
      table(place, j) = T(std::cos(angle));
      table(place, pairs + j) = T(std::sin(angle));
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
