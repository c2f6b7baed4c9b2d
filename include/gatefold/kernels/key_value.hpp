#pragma once
#include "gatefold/simd/map.hpp"

/// How keys and values that are kept between calls lie in memory: so that a query that meets all of them reads each
/// byte once, in the order of addresses, and sums in the order of attention.hpp.
namespace gatefold::kernels {

/// Positions of a panel of keys, columns of a panel of values: one cache line of float, whatever the vectors.
inline constexpr Index kKeyPanel = 16;

/// How many neighbours of a column share a word: two of bf16, which a shift and a mask take apart.
template <class F>
inline constexpr Index kPerWord = std::is_same_v<F, bf16> ? 2 : 1;

/// Keys and values of several sequences. Keys lie in panels of kKeyPanel positions, each column by column, so that a
/// vector holds one column of as many positions; values in panels of kKeyPanel columns, each position by position. Of
/// bf16, two columns of a key, or two positions of a value, stand side by side.
template <class F>
struct KeyValues {
  struct Size {
    Index sequences, heads, capacity, key_width, value_width;

    static constexpr Index padded(Index n, Index step) { return (n + step - 1) / step * step; }
    Index positions() const { return padded(capacity, kKeyPanel); }
    Index key_columns() const { return padded(key_width, kPerWord<F>); }
    Index value_columns() const { return padded(value_width, kKeyPanel); }
    Index keys_of_head() const { return positions() * key_columns(); }
    Index values_of_head() const { return positions() * value_columns(); }
  };
  Size size;
  F *key, *value;               // [B, G, positions / 16, key_columns, 16], [B, G, value_columns / 16, positions, 16]
  View<const Index, 1> length;  // [B] positions that are taken

  F* keys(Index sequence, Index head) const { return key + (sequence * size.heads + head) * size.keys_of_head(); }
  F* values(Index sequence, Index head) const { return value + (sequence * size.heads + head) * size.values_of_head(); }
  /// Where one number lies, counted from keys() and values().
  Index key_at(Index position, Index column) const {
    constexpr Index kWord = kPerWord<F>;
    return position / kKeyPanel * kKeyPanel * size.key_columns() + column / kWord * kWord * kKeyPanel +
           position % kKeyPanel * kWord + column % kWord;
  }
  Index value_at(Index position, Index column) const {
    constexpr Index kWord = kPerWord<F>;
    return (column / kKeyPanel * size.positions() + position / kWord * kWord) * kKeyPanel + column % kKeyPanel * kWord +
           position % kWord;
  }
};

/// Puts the rows row[offset[b]..offset[b+1]) behind the positions that sequence b has; `length` stays as it is. There
/// must be room. // key [R, G key_width], value [R, G value_width], offset [B+1], row [tokens]
template <Real T, class F>
void append_key_values(Rows<const T> key, Rows<const T> value, View<const Index, 1> offset, View<const Index, 1> row,
                       const KeyValues<F>& to, Context& ctx) {
  const auto& size = to.size;
  ctx.parallel_for(size.sequences * size.heads, [&](Index begin, Index end, Index) {
    for (Index task = begin; task < end; ++task) {
      const Index b = task / size.heads, head = task % size.heads;
      F *const keys = to.keys(b, head), *const values = to.values(b, head);
      for (Index i = offset[b], at = to.length[b]; i < offset[b + 1]; ++i, ++at) {
        const T* const k = key.data() + row[i] * key.stride(0) + head * size.key_width;
        const T* const v = value.data() + row[i] * value.stride(0) + head * size.value_width;
        for (Index c = 0; c < size.key_width; ++c) keys[to.key_at(at, c)] = F(k[c]);
        for (Index c = 0; c < size.value_width; ++c) values[to.value_at(at, c)] = F(v[c]);
      }
    }
  });
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void append_key_values<float, float>(Rows<const float>, Rows<const float>, View<const Index, 1>,
                                                       View<const Index, 1>, const KeyValues<float>&, Context&);
GATEFOLD_COMPILED void append_key_values<float, bf16>(Rows<const float>, Rows<const float>, View<const Index, 1>,
                                                      View<const Index, 1>, const KeyValues<bf16>&, Context&);

}  // namespace gatefold::kernels
#endif
