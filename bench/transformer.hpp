#pragma once
#include "bench/session.hpp"
#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

/// The transformer block of bench_block and bench_train_step.
namespace gatefold::bench {

using Sparse = SparseMlp<TopKRouter<float>, Mlp<float>>;

inline EncoderBlock<Mlp<float>> dense_block(const BlockCase& c) {
  return filled(EncoderBlock<Mlp<float>>({.width = c.width, .num_heads = c.heads},
                                         Mlp<float>({.width = c.width, .hidden = c.hidden})));
}
inline EncoderBlock<Sparse> sparse_block(const BlockCase& c) {
  return filled(EncoderBlock<Sparse>(
      {.width = c.width, .num_heads = c.heads},
      Sparse(TopKRouter<float>({.width = c.width, .num_experts = c.experts, .num_selected = c.selected}),
             Mlp<float>({.width = c.width, .hidden = c.hidden}))));
}

/// Sequences of equal length, of one modality.
struct Sequences {
  std::vector<Index> offset;
  std::vector<std::uint8_t> modality;
  explicit Sequences(const BlockCase& c) : modality(static_cast<std::size_t>(c.tokens())) {
    for (Index b = 0; b <= c.sequences; ++b) offset.push_back(b * c.length);
  }
  TokenLayout layout() const {
    return {.offset = View<const Index, 1>(offset.data(), {std::ssize(offset)}),
            .modality = View<const std::uint8_t, 1>(modality.data(), {std::ssize(modality)})};
  }
};

/// Products of a forward pass; the softmax and the norms are not counted.
inline double block_flops(const BlockCase& c) {
  const double tokens = static_cast<double>(c.tokens()), d = static_cast<double>(c.width);
  const double nets = c.experts ? static_cast<double>(c.selected) : 1;
  return tokens * (8 * d * d + 4 * d * static_cast<double>(c.length) + 4 * nets * d * static_cast<double>(c.hidden));
}

inline std::string block_name(const std::string& prefix, const BlockCase& c) {
  return row_name(prefix + "/" + name(c.format), {{"tokens", c.tokens()},
                                                  {"width", c.width},
                                                  {"experts", c.experts},
                                                  {"selected", c.selected},
                                                  {"threads", c.threads}});
}

}  // namespace gatefold::bench
