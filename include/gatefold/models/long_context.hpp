#pragma once
#include "gatefold/models/clip.hpp"

namespace gatefold {

/// Long-CLIP's stretch of the positions of texts (Zhang et al. 2024, arXiv 2403.15378, «knowledge-preserved
/// stretching»; CLIP-MoE begins with it): the first `kept` stay, which is what captions of the web have trained;
/// between two others `factor` - 1 new ones are put, linearly, and as many behind the last, as the last two go on. 77
/// become 248.
struct StretchOptions {
  Index kept = 20, factor = 4;
};

/// Throws OptionError for a factor below 1, and unless two positions at least are stretched. // table [T, D], result
/// [kept + factor (T - kept), D]
template <Real T>
Tensor<T, 2> stretch_positions(const Tensor<T, 2>& table, const StretchOptions& o = {}) {
  const Index context = table.extent(0), width = table.extent(1), last = context - 1;
  expect_size("stretch_positions", "factor", o.factor);
  expect_option(0 <= o.kept && o.kept + 2 <= context, "stretch_positions", "kept", o.kept,
                "0.." + std::to_string(context - 2) + " of " + std::to_string(context) + " positions");
  Tensor<T, 2> longer({o.kept + o.factor * (context - o.kept), width});
  const auto from = table.view();
  for (Index row = 0; row < longer.extent(0); ++row) {
    const Index beyond = std::max<Index>(0, row - o.kept), step = beyond % o.factor;
    const Index at = std::min(row, o.kept) + beyond / o.factor;
    const T share = static_cast<T>(static_cast<double>(step) / static_cast<double>(o.factor));
    for (Index d = 0; d < width; ++d)
      longer.view()(row, d) = at < last ? T((T(1) - share) * from(at, d) + share * from(at + 1, d))
                                        : T(from(last, d) + share * (from(last, d) - from(last - 1, d)));
  }
  return longer;
}

/// A CLIP that reads texts of more words; texts that are no longer than what is kept keep their embeddings. Throws
/// likewise. Once only: a model whose positions are stretched already would be stretched again.
template <Real T>
Clip<T> stretch_context(Clip<T> model, const StretchOptions& o = {}) {
  model.text.position.table = stretch_positions(model.text.position.table, o);
  model.options.context = model.text.position.table.extent(0);
  return model;
}

}  // namespace gatefold
