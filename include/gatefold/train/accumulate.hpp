#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "gatefold/core/context.hpp"
#include "gatefold/core/error.hpp"
#include "gatefold/core/scalar.hpp"

namespace gatefold {

/// The gradient of a contrastive loss over a batch that does not fit into memory at once, with the whole batch as
/// negatives (GradCache: Gao et al. 2021; BASIC: Pham et al. 2021). Each chunk is encoded twice: first for its
/// embeddings only, then, when the loss has told their gradient, for the backward pass. Peak memory is that of one
/// chunk; the price is one more forward pass, 4/3 of the work.
///
///   chunks                          a range that can be walked twice
///   encode(chunk) -> [r, P]         embeddings of the chunk: a tensor, or a view that lives until the next call
///   loss_backward(e, de) -> loss    e [B, P] of all chunks, in order; writes de [B, P]
///   backward(chunk, de)             forward again, then backward with de [r, P], adding to the parameters' gradient
///
/// A row is one example; where an example has an image and a text, put both side by side and take them apart with
/// columns(). What is taken from the workspace in a call goes back after it. ctx.rng stands in the second pass of a
/// chunk where it stood in the first, so routing noise repeats; ctx.report sees the second pass only. Routing groups
/// must not cross chunks. A penalty on the routing is one of each chunk by itself, not of the batch, and backward adds
/// each of them whole: give it 1 / number of chunks of its weight (Clip::set_balance) for their mean. Throws ShapeError
/// if the chunks' embeddings differ in width.
template <Real T, class Chunks, class Encode, class LossBackward, class Backward>
auto accumulate_contrastive(Chunks&& chunks, Encode&& encode, LossBackward&& loss_backward, Backward&& backward,
                            Context& ctx) {
  std::vector<T> gathered;
  std::vector<Index> rows_of;
  std::vector<Rng> rng_of;
  Index width = 0, total = 0;  // P, B

  RoutingReport* const report = std::exchange(ctx.report, nullptr);
  struct Restore {
    Context& ctx;
    RoutingReport* report;
    ~Restore() { ctx.report = report; }
  };
  {
    const Restore restore{ctx, report};
    for (auto&& chunk : chunks) {
      const auto scope = ctx.workspace.scope();
      if (ctx.rng) rng_of.push_back(*ctx.rng);
      const auto& result = encode(chunk);
      const Rows<const T> embeddings = result;
      if (rows_of.empty()) width = embeddings.extent(1);
      expect_shape(embeddings, {embeddings.extent(0), width}, "accumulate_contrastive: embeddings of a chunk");
      for (Index r = 0; r < embeddings.extent(0); ++r)
        gathered.insert(gathered.end(), embeddings[r].data(), embeddings[r].data() + width);
      rows_of.push_back(embeddings.extent(0));
      total += embeddings.extent(0);
    }
  }

  std::vector<T> gradient(gathered.size());
  const Rows<T> d_embeddings(gradient.data(), {total, width});
  const auto loss = [&] {
    const auto scope = ctx.workspace.scope();
    return loss_backward(Rows<const T>(gathered.data(), {total, width}), d_embeddings);
  }();

  const auto rng_after = ctx.rng ? std::optional(*ctx.rng) : std::nullopt;
  std::size_t i = 0;
  Index begin = 0;
  for (auto&& chunk : chunks) {
    const auto scope = ctx.workspace.scope();
    if (ctx.rng) *ctx.rng = rng_of[i];
    backward(chunk, Rows<const T>(d_embeddings.rows(begin, begin + rows_of[i])));
    begin += rows_of[i++];
  }
  if (ctx.rng) *ctx.rng = *rng_after;
  return loss;
}

}  // namespace gatefold
