#pragma once
#include "gatefold/kernels/score_top_k.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/routing/routing.hpp"
#include "gatefold/routing/routing_tape.hpp"
#include "gatefold/simd/long_sum.hpp"

namespace gatefold {

/// Randomness of a router in training; without ctx.rng there is none.
struct RouterNoise {
  double normal = 0;  ///< The logits get N(0, (normal / E)^2), as in V-MoE.
  double jitter = 0;  ///< The router's view of x is multiplied by U(1 - jitter, 1 + jitter), as in Switch.
};

/// What gates are made with: z = x weightT + bias + noise, the scores of z, and what decides on the choice.
template <Real T>
struct Gate {
  Rows<const T> weight;     // [E, D]
  View<const T, 1> bias{};  // [E] or empty
  RouterScore score = RouterScore::softmax;
  kernels::Choosing<T> choosing{};
  double min_p = 0;  ///< Chosen experts are dropped whose score is below this share of the best one's that was chosen.
  bool by_sequence = false;  ///< Each row of a sequence of the layout has the mean of its rows' logits.
  RouterNoise noise{};
};

/// The gates of a pass, with what the way back and the auxiliary losses need.
template <Real T>
struct Gating {
  Rows<const T> x;             // [S, D] as the router saw it: with jitter, and 0 for padding
  Rows<const T> jitter;        // [S, D] its factors; empty without
  Rows<const T> logits;        // [S, E]
  Rows<const T> log_probs;     // [S, E] of a softmax, else empty
  Rows<const T> noisy_logits;  // [S, E]
  Rows<const T> gates;         // [S, E] the scores of the noisy logits
  double noise_std = 0;
  const TokenLayout* layout = nullptr;
  RouterScore score = RouterScore::softmax;
  bool chosen_by_logits = true, by_sequence = false;

  RouterScores<T> scores(View<const Index, 2> choice, Index group_size) const {
    return {.logits = logits,
            .log_probs = log_probs,
            .noisy_logits = noisy_logits,
            .choice = choice,
            .noise_std = noise_std,
            .group_size = group_size ? group_size : logits.extent(0),
            .layout = layout,
            .score = score,
            .chosen_by_logits = chosen_by_logits};
  }
};

namespace detail {

inline void check_router_noise(const RouterNoise& noise, std::string_view who) {
  expect_rate(who, "noise", noise.normal);
  expect_option(noise.jitter >= 0 && noise.jitter < 1, who, "jitter", noise.jitter, "a number in [0, 1)");
}

/// Drops the chosen whose score is below min_p times the largest of the chosen, wherever they stand.
template <Real T>
void drop_improbable(Rows<const T> scores, double min_p, View<Index, 2> choice) {
  const Index selected = choice.extent(1);
  for (Index row = 0; row < choice.extent(0); ++row) {
    double most = 0;
    for (Index k = 0; k < selected && choice(row, k) >= 0; ++k)
      most = std::max(most, to_double(scores(row, choice(row, k))));
    Index kept = 0;
    for (Index k = 0; k < selected && choice(row, k) >= 0; ++k)
      if (!(to_double(scores(row, choice(row, k))) < min_p * most)) choice(row, kept++) = choice(row, k);
    std::fill_n(choice[row].data() + kept, selected - kept, Index{-1});
  }
}

/// Each row becomes the mean of its sequence (without a layout, of all rows), padding aside: the way forward, and back.
template <Real T>
void average_sequences(Rows<T> rows, const TokenLayout* layout) {
  const bool split = layout && layout->offset.extent(0) > 1;
  for (Index b = 0; b < (split ? layout->num_sequences() : 1); ++b) {
    const Index begin = split ? layout->offset[b] : 0, end = split ? layout->offset[b + 1] : rows.extent(0);
    Index first = begin, count = 0;
    while (first < end && is_padding(layout, first)) ++first;
    for (Index row = first; row < end; ++row) {
      if (is_padding(layout, row)) continue;
      ++count;
      for (Index e = 0; e < rows.extent(1) && row != first; ++e) rows(first, e) = rows(first, e) + rows(row, e);
    }
    for (Index e = 0; e < rows.extent(1) && count > 0; ++e)
      rows(first, e) = rows(first, e) / T(static_cast<double>(count));
    for (Index row = first + 1; row < end; ++row)
      if (!is_padding(layout, row)) std::copy_n(rows[first].data(), rows.extent(1), rows[row].data());
  }
}

}  // namespace detail

/// 2 S D E flops. The noise of an element depends on (seed, stream, row, column) only, never on the threads. `choice`
/// gets the K best experts as select_top_k gives them (kernels::score_top_k_rows where the scores are no softmax or not
/// alone in deciding), in the same pass, or what ctx.tape replays; it may be empty. // x [S, D], choice [S, K]
template <Real T>
Gating<T> gate_forward(Rows<const T> x, const Gate<T>& gate, View<Index, 2> choice, Context& ctx) {
  const Index rows = x.extent(0), width = x.extent(1), num_experts = gate.weight.extent(0);
  const RouterNoise& noise = gate.noise;
  auto& ws = ctx.workspace;
  Gating<T> out;
  out.x = x;
  out.layout = keep_layout(ctx);
  out.score = gate.score;
  out.chosen_by_logits = gate.choosing.by_scores_alone() && gate.min_p == 0 && gate.score != RouterScore::relu;
  const bool jitter = ctx.rng && noise.jitter > 0, normal = ctx.rng && noise.normal > 0;
  bool padded = false;
  for (Index row = 0; row < rows && !padded; ++row) padded = detail::is_padding(ctx.layout, row);

  if (jitter || padded) {
    auto seen = ws.take<T>(rows, width);
    auto factor = jitter ? ws.take<T>(rows, width) : Rows<T>();
    const Rng stream = jitter ? ctx.rng->next_stream() : Rng(0);
    kernels::for_each_row(rows, width, ctx, [&](Index row) {
      const bool padding = detail::is_padding(ctx.layout, row);  // whose content may be anything, NaN included
      for (Index d = 0; d < width; ++d) {
        seen(row, d) = padding ? T(0) : x(row, d);
        if (!jitter) continue;
        factor(row, d) = T(stream.uniform_at(row * width + d, 1 - noise.jitter, 1 + noise.jitter));
        seen(row, d) = seen(row, d) * factor(row, d);
      }
    });
    out.x = seen;
    out.jitter = factor;
  }

  const bool softmax = gate.score == RouterScore::softmax;
  auto logits = ws.take<T>(rows, num_experts);
  auto log_probs = softmax ? ws.take<T>(rows, num_experts) : Rows<T>();
  auto gates = ws.take<T>(rows, num_experts), noisy = normal ? ws.take<T>(rows, num_experts) : logits;
  // A token's experts shall not depend on what else is in the batch, where two of them are nearly as good.
  kernels::matmul<T>(out.x, gate.weight, logits, ctx, gate.bias.size() ? gate.bias.data() : nullptr,
                     kernels::SumOrder::alike);
  out.by_sequence = gate.by_sequence;
  if (gate.by_sequence) detail::average_sequences<T>(logits, ctx.layout);
  out.noise_std = normal ? noise.normal / static_cast<double>(num_experts) : 0;
  if (normal) {
    const Rng stream = ctx.rng->next_stream();
    kernels::for_each_row(rows, num_experts, ctx, [&](Index row) {
      for (Index e = 0; e < num_experts; ++e)
        noisy(row, e) = logits(row, e) + T(out.noise_std * stream.normal_at(row * num_experts + e));
    });
  }
  if (normal && softmax) kernels::softmax_top_k_rows<T>(logits, {.log_probs = log_probs}, ctx);
  const bool taped = ctx.tape && choice.extent(1) > 0, given = taped && ctx.tape->take(choice, num_experts);
  kernels::score_top_k_rows<T>(
      gate.score, noisy, gate.choosing,
      {.scores = gates, .choice = given ? View<Index, 2>() : choice, .log_probs = normal ? Rows<T>() : log_probs}, ctx);
  if (gate.min_p > 0 && !given) detail::drop_improbable<T>(gates, gate.min_p, choice);
  detail::forget_padding(choice, ctx.layout);
  if (taped) ctx.tape->keep(choice);
  out.chosen_by_logits = out.chosen_by_logits && !given;
  out.logits = logits;
  out.log_probs = log_probs;
  out.noisy_logits = noisy;
  out.gates = gates;
  return out;
}

/// By what a router's own gradient is: the gates of a softmax, the logits, or the logarithms of the gates.
enum class GradientBy { gates, logits, log_gates };

/// Overwrites dx, adds to dweight and, where the gate has one, to dbias. `dscores`, the gradient by what `by` says, is
/// consumed: it turns into that by the logits, to which `dlogits` of the auxiliary losses (may be empty) is added.
/// Noise is a constant shift, so all logits share one gradient, and what only decides on the choice has none. Padding
/// gives and takes nothing. // dscores, dlogits [S, E], dbias [E] or empty
template <Real T>
void gate_backward(const Gating<T>& saved, Rows<const T> weight, Rows<T> dscores, Rows<const T> dlogits, Rows<T> dx,
                   Rows<T> dweight, View<T, 1> dbias, Context& ctx, GradientBy by = GradientBy::gates) {
  const Index num_experts = saved.gates.extent(1);
  kernels::for_each_row(saved.gates.extent(0), num_experts, ctx, [&](Index row) {
    T* const out = dscores[row].data();
    if (detail::is_padding(saved.layout, row)) {
      std::fill_n(out, num_experts, T(0));
      return;
    }
    if (by == GradientBy::gates)
      kernels::softmax_row_grad<T>(ctx.isa, num_experts, T(1), saved.gates[row].data(), out, out);
    if (by == GradientBy::log_gates)
      kernels::log_score_grad_row<T>(ctx.isa, saved.score, num_experts, saved.gates[row].data(),
                                     saved.noisy_logits[row].data(), out);
    if (dlogits.size())
      for (Index e = 0; e < num_experts; ++e) out[e] = out[e] + dlogits(row, e);
  });
  if (saved.by_sequence) detail::average_sequences<T>(dscores, saved.layout);
  kernels::matmul_grad_input<T>(dscores, weight, dx, ctx);
  kernels::add_matmul_grad_weight<T>(dscores, saved.x, dweight, ctx);
  if (dbias.size()) kernels::add_column_sums<T>(dscores, dbias, ctx);
  if (saved.jitter.size())
    kernels::map_rows<T>(
        dx, ctx, [](auto a, auto b) { return a * b; }, dx, saved.jitter);
}

}  // namespace gatefold

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold {

GATEFOLD_COMPILED Gating<float> gate_forward<float>(Rows<const float>, const Gate<float>&, View<Index, 2>, Context&);
GATEFOLD_COMPILED void gate_backward<float>(const Gating<float>&, Rows<const float>, Rows<float>, Rows<const float>,
                                            Rows<float>, Rows<float>, View<float, 1>, Context&, GradientBy);

}  // namespace gatefold
#endif
