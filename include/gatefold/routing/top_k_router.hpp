#pragma once
#include "gatefold/routing/gating.hpp"
#include "gatefold/routing/plan_top_k.hpp"

namespace gatefold {

/// By what the gates of a token are divided to become combine weights.
enum class Renormalise {
  none,             ///< Nothing: the weights sum to at most 1 (V-MoE, LIMoE, Switch).
  before_dropping,  ///< The sum of the K selected gates (GShard, CLIP-MoE: softmax over the selected logits).
  after_dropping,   ///< The sum of the gates that got a seat (DeepSpeed): softmax over the logits of the seated.
};

/// The experts in groups of neighbours, of which only the best `kept` may be chosen from (DeepSeek-V2, V3).
struct ExpertGroups {
  Index count = 1, kept = 1;
  GroupScore score = GroupScore::best;
};

/// See TopKRouter. What contradicts itself is refused by name when a router is made, and again in each pass.
struct TopKRouterOptions {
  Index width = 0, num_experts = 0, num_selected = 1;  // D, E, K
  RouterScore score = RouterScore::softmax;
  bool bias = false;            ///< Of the logits; starts at 0.
  bool selection_bias = false;  ///< Added to the scores for the choice only; starts at 0 (update_selection_bias).
  ExpertGroups groups{};
  double min_p = 0;          ///< Chosen experts below this share of the best chosen one's score are not asked.
  bool by_sequence = false;  ///< One choice for all tokens of a sequence of the layout, by the mean of their logits.
  Capacity capacity{};
  ClaimOrder claim_order = ClaimOrder::rank_major;
  Priority priority = Priority::position;
  Renormalise renormalise = Renormalise::none;
  double epsilon = 0, floor = 0;  ///< Of the sum that renormalised gates are divided by.
  double scale = 1;               ///< Of all combine weights.
  Index zeros = 0;                ///< The last so many experts, if chosen, have the weight 0; the rest share (MoE++).
  double noise = 0;               ///< Training: the logits get N(0, (noise / E)^2).
  double jitter = 0;              ///< Training: the router's view of x is multiplied by U(1 - jitter, 1 + jitter).
  Index group_size = 0;           ///< Consecutive rows that share the seats; 0 means all rows of a call.

  /// Itself. Throws OptionError if the options contradict each other.
  const TopKRouterOptions& checked() const {
    const std::string_view who = "TopKRouter";
    expect_size(who, "width", width);
    expect_size(who, "num_experts", num_experts);
    if (num_selected < 1 || num_selected > num_experts)
      throw OptionError("TopKRouter: num_selected is " + std::to_string(num_selected) + ", expected 1.." +
                        std::to_string(num_experts));
    if (num_selected == 1 && renormalise != Renormalise::none)
      throw OptionError(
          "TopKRouter: one expert per token with renormalised gates; the gate is then constantly 1, so the router gets "
          "no gradient. Expected num_selected of at least 2 or Renormalise::none");
    check_groups();
    expect_option(min_p >= 0 && min_p <= 1, who, "min_p", min_p, "a share from 0 to 1");
    expect_rate(who, "epsilon", epsilon);
    expect_rate(who, "floor", floor);
    if (renormalise == Renormalise::none && (epsilon > 0 || floor > 0))
      throw OptionError(
          "TopKRouter: epsilon or floor of the sum that gates are divided by, without a division; expected 0, or "
          "Renormalise::before_dropping or after_dropping");
    expect_option(zeros >= 0 && zeros < num_experts, who, "zeros", zeros, "0 to fewer than all experts");
    expect_option(zeros == 0 || renormalise != Renormalise::none, who, "zeros", zeros,
                  "0 where weights are not renormalised: what gives 0 needs no weight of 0");
    expect_option(scale > 0 && std::isfinite(scale), who, "scale", scale, "a finite number above 0");
    expect_option(group_size >= 0, who, "group_size", group_size, "0 (all rows) or more");
    expect_option(!by_sequence || noise == 0, who, "noise", noise, "0 where the tokens of a sequence choose together");
    capacity.check();
    detail::check_router_noise({.normal = noise, .jitter = jitter}, who);
    return *this;
  }

 private:
  void check_groups() const {
    if (groups.count < 1 || num_experts % groups.count != 0)
      throw OptionError("TopKRouter: groups.count is " + std::to_string(groups.count) + ", expected a divisor of the " +
                        std::to_string(num_experts) + " experts");
    const Index size = num_experts / groups.count;
    if (groups.kept < 1 || groups.kept > groups.count)
      throw OptionError("TopKRouter: groups.kept is " + std::to_string(groups.kept) + ", expected 1.." +
                        std::to_string(groups.count));
    if (num_selected > groups.kept * size)
      throw OptionError("TopKRouter: num_selected is " + std::to_string(num_selected) + ", expected at most " +
                        std::to_string(groups.kept * size) + ", the experts of the groups that are kept");
    expect_option(groups.score == GroupScore::best || size >= 2, "TopKRouter", "groups.count", groups.count,
                  "groups of two experts or more where the two best of each speak for it");
  }
};

/// Each token asks for its K best experts; a full expert turns the token away. With z = x weightT (+ bias):
///   s = score(z)                   by default softmax(z) over all E, before the selection, so that K = 1 learns
///   T = the K largest s (+ selection_bias) among the best groups, less those below min_p of the best of T
///   w = scale s / (sum of s over T, at least floor, + epsilon)   or, not renormalised, scale s
/// Equal ones: the smaller index first. The weight is made of s alone: what decides on T besides has no gradient, nor
/// has a choice that RoutingTape replays. Keeps logits, gates and, of a softmax, its logarithm, 3 S E (one more with
/// noise); with jitter also 2 S D, with padding S D. 2 S D E flops forward, twice that backward. (Riquelme et al. 2021,
/// «Scaling vision with sparse mixture of experts»; Mustafa et al. 2022, LIMoE; DeepSeek-AI 2024, «DeepSeek-V3
/// technical report».)
///
/// What published models set beside width, num_experts and num_selected; capacity stays unlimited. (What their files
/// are called and how they are read: models/mixture_family.hpp.)
///   Switch, V-MoE, LIMoE      nothing, but a capacity; noise or jitter in training
///   OLMoE, Qwen2-MoE, nomic   nothing
///   Mixtral, Qwen3-MoE, Granite, DBRX (its norm's p is 1), softmax over the selected logits
///                             renormalise
///   GPT-OSS                   renormalise, bias
///   DeepSeek-V2               groups {n_group, topk_group, best}, scale routed_scaling_factor
///   DeepSeek-V3, GLM-4.5, Kimi-K2
///                             score sigmoid, selection_bias, groups {n_group, topk_group, two_best}, renormalise,
///                             epsilon 1e-20, scale 2.5
///   DeepSeek-V4               score sqrt_softplus, selection_bias, renormalise, epsilon 1e-20, scale
///   MiniMax-M2                score sigmoid, selection_bias, renormalise
///   LFM2-MoE, AFMoE           score sigmoid, selection_bias, renormalise, epsilon 1e-6, scale
///   Ernie 4.5                 selection_bias, renormalise, floor moe_norm_min
///   LongCat                   selection_bias, scale; its last experts are CopyExperts (free_experts.hpp)
///   Llama-4                   score sigmoid, K = 1, and SparseMlp::weighed = Weighed::inputs (where several logits
///                             are above 17, whose sigmoids are all 1 in float, the first of these is taken)
///   Phi-3.5-MoE               another router: SparseMixerRouter
///   Task-MoE                  by_sequence; by a given task: RoutingTape and expert_table.hpp
///   ReMoE                     score relu, num_selected = num_experts; ReluSparsity and SparsityControl
///   MoE++                     renormalise, zeros 1 with a ZeroExpert last (free_experts.hpp); that a layer's logits
///   add
///                             to the next one's is not built
/// where «renormalise» is Renormalise::before_dropping. Models that choose without groups have {1, 1}.
template <Real T>
struct TopKRouter {
  using Scalar = T;
  using Options = TopKRouterOptions;
  struct Saved : Routing<T> {
    Gating<T> gating;
    View<const T, 1> divisor;  // [S] with renormalised gates
  };

  Options options;
  Tensor<T, 2> weight;          // [E, D]
  Tensor<T, 1> bias;            // [E], or [0] without one
  Buffer<T, 1> selection_bias;  // [E], or [0] without one; never learnt by a gradient

  /// Throws OptionError if the options contradict each other.
  explicit TopKRouter(const Options& o)
      : options(o.checked()),
        weight({o.num_experts, o.width}),
        bias({o.bias ? o.num_experts : 0}),
        selection_bias({o.selection_bias ? o.num_experts : 0}) {}

  static void visit(auto& v, auto&... self) {
    v("weight", self.weight...);
    if (detail::all_have("bias", self.bias.size()...)) v("bias", self.bias...);
    if (detail::all_have("selection_bias", self.selection_bias.size()...)) v("selection_bias", self.selection_bias...);
  }
  Index num_experts() const { return options.num_experts; }

  Saved forward(Rows<const T> x, Context& ctx) const {
    options.checked();  // anew, since they may be assigned
    const Index rows = x.extent(0);
    expect_shape(x, {rows, options.width}, "TopKRouter::forward: x");
    expect_shape(weight.view(), {options.num_experts, options.width}, "TopKRouter::forward: weight");
    expect_shape(bias.view(), {options.bias ? options.num_experts : 0}, "TopKRouter::forward: bias");
    expect_shape(selection_bias.view(), {options.selection_bias ? options.num_experts : 0},
                 "TopKRouter::forward: selection_bias");
    detail::expect_layout(ctx.layout, rows, "TopKRouter::forward: ctx.layout->modality");
    auto& ws = ctx.workspace;
    Saved saved;
    auto choice = ws.take<Index>(rows, options.num_selected);
    saved.gating = gate_forward<T>(x, gate(), choice, ctx);
    saved.gates = saved.gating.gates;
    saved.scores = saved.gating.scores(choice, options.group_size);
    const SeatingOptions seating{.capacity = options.capacity,
                                 .claim_order = options.claim_order,
                                 .priority = options.priority,
                                 .group_size = options.group_size};
    saved.plan = plan_top_k<T>(saved.gates, choice, seating, ctx);

    auto combine = ws.take<T>(saved.plan.num_slots());
    const bool renormalised = options.renormalise != Renormalise::none;
    const T scale = T(options.scale), floor = T(options.floor), epsilon = T(options.epsilon);
    auto divisor = renormalised ? ws.take<T>(rows) : View<T, 1>();
    saved.divisor = divisor;
    if (!renormalised && options.scale == 1)
      slot_gates<T>(saved.gates, saved.plan, combine, ctx);
    else
      kernels::for_each_row(rows, options.num_selected, ctx, [&](Index row) {
        const auto slots = saved.plan.slots_of_token(row);
        const auto gate_of = [&](Index i) { return shared_gate(saved, row, saved.plan.expert[slots[i]]); };
        if (!renormalised) {
          for (Index i = 0; i < slots.extent(0); ++i) combine[slots[i]] = gate_of(i) * scale;
          return;
        }
        T sum(0);
        if (options.renormalise == Renormalise::before_dropping)
          for (Index k = 0; k < saved.plan.requested[row]; ++k) sum = sum + shared_gate(saved, row, choice(row, k));
        else
          for (Index i = 0; i < slots.extent(0); ++i) sum = sum + gate_of(i);
        if (sum < floor) sum = floor;
        sum = sum + epsilon;
        if (to_double(sum) == 0 && options.score == RouterScore::relu) sum = T(1);  // replayed choices, of scores 0
        divisor[row] = sum;
        // Where the best experts turned the token away, the gates of the seated may have lost their digits, or all be
        // 0.
        const bool vanished = vanishes(saved, row);
        for (Index i = 0; i < slots.extent(0); ++i)
          combine[slots[i]] =
              (vanished ? share_by_logits(saved, row, saved.plan.expert[slots[i]]) : gate_of(i) / sum) * scale;
      });
    saved.weight = combine;
    return saved;
  }

  /// The only way back is through the combine weights and the auxiliary losses. Overwrites dx; dlogits may be empty.
  void backward(const Saved& saved, View<const T, 1> dweight, Rows<const T> dlogits, Rows<T> dx, TopKRouter& grad,
                Context& ctx) const {
    const Index rows = saved.gates.extent(0);
    expect_shape(dweight, {saved.plan.num_slots()}, "TopKRouter::backward: dweight");
    if (dlogits.size()) expect_shape(dlogits, saved.gates.shape(), "TopKRouter::backward: dlogits");
    expect_shape(dx, {rows, options.width}, "TopKRouter::backward: dx");
    expect_shape(grad.weight.view(), weight.shape(), "TopKRouter::backward: grad.weight");
    expect_shape(grad.bias.view(), bias.shape(), "TopKRouter::backward: grad.bias");
    const auto scope = ctx.workspace.scope();
    auto dscores = ctx.workspace.take<T>(rows, options.num_experts);
    const bool softmax = options.score == RouterScore::softmax, renormalised = options.renormalise != Renormalise::none;
    // A softmax over some of the logits is one of all of them: its gradient by log s is that by the logits.
    const bool sums_to_one = renormalised && options.epsilon == 0 && options.floor == 0;
    const T scale = T(options.scale), unscaled = T(1) / scale, smallest = T(options.floor) + T(options.epsilon);
    const auto by = !softmax       ? GradientBy::log_gates
                    : sums_to_one  ? GradientBy::logits
                    : renormalised ? GradientBy::log_gates
                                   : GradientBy::gates;
    kernels::for_each_row(rows, options.num_experts, ctx, [&](Index row) {
      std::fill_n(dscores[row].data(), options.num_experts, T(0));
      const auto slots = saved.plan.slots_of_token(row);
      if (!renormalised) {
        for (Index i = 0; i < slots.extent(0); ++i)
          dscores(row, saved.plan.expert[slots[i]]) = dweight[slots[i]] * (softmax ? scale : saved.weight[slots[i]]);
        return;
      }
      if (slots.extent(0) == 0) return;
      // w_i = scale s_i / sum: by log s_i, w_i (dw_i - sum_j w_j dw_j / scale), where dw = 0 for those turned away. A
      // floor in the sum's place has no derivative.
      const bool fixed = options.floor > 0 && !(smallest < saved.divisor[row]);
      T mean(0);
      for (Index i = 0; i < slots.extent(0) && !fixed; ++i) mean = mean + saved.weight[slots[i]] * dweight[slots[i]];
      mean = mean * unscaled;
      if (options.renormalise == Renormalise::before_dropping) {
        const bool vanished = vanishes(saved, row);
        for (Index k = 0; k < saved.plan.requested[row]; ++k) {
          const Index e = saved.scores.choice(row, k);
          const T share =
              vanished ? share_by_logits(saved, row, e) : T(shared_gate(saved, row, e) / saved.divisor[row]);
          dscores(row, e) = share * scale * (T(0) - mean);
        }
      }
      for (Index i = 0; i < slots.extent(0); ++i)
        dscores(row, saved.plan.expert[slots[i]]) = saved.weight[slots[i]] * (dweight[slots[i]] - mean);
    });
    gate_backward<T>(saved.gating, weight, dscores, dlogits, dx, grad.weight, grad.bias, ctx, by);
  }

 private:
  using Limits = std::numeric_limits<std::conditional_t<std::is_floating_point_v<T>, T, double>>;
  /// Gates that sum to less are made again from their logits: beside such a sum, what exp rounds to 0 would count.
  static constexpr double kVanishing = double{Limits::min()} / (double{Limits::epsilon()} * double{Limits::epsilon()});

  Gate<T> gate() const {
    return {.weight = weight,
            .bias = bias,
            .score = options.score,
            .choosing = {.bias = selection_bias,
                         .num_groups = options.groups.count,
                         .groups_kept = options.groups.kept,
                         .group_score = options.groups.score},
            .min_p = options.min_p,
            .by_sequence = options.by_sequence,
            .noise = {.normal = options.noise, .jitter = options.jitter}};
  }

  /// The experts among whom the weight of 1 is shared.
  Index num_sharing(const Saved& saved, Index row) const {
    const bool all = options.renormalise == Renormalise::before_dropping;
    return all ? saved.plan.requested[row] : saved.plan.slots_of_token(row).extent(0);
  }
  Index sharing(const Saved& saved, Index row, Index i) const {
    const bool all = options.renormalise == Renormalise::before_dropping;
    return all ? saved.scores.choice(row, i) : saved.plan.expert[saved.plan.slots_of_token(row)[i]];
  }
  bool is_zero(Index expert) const { return expert >= options.num_experts - options.zeros; }
  T shared_gate(const Saved& saved, Index row, Index expert) const {
    return is_zero(expert) ? T(0) : saved.gates(row, expert);
  }
  bool vanishes(const Saved& saved, Index row) const {
    return to_double(saved.divisor[row]) < kVanishing && options.score != RouterScore::relu;
  }
  /// s_e / sum s where the scores themselves vanish: they are then e^z times the same for all, or the root of that.
  T share_by_logits(const Saved& saved, Index row, Index expert) const {
    if (is_zero(expert)) return T(0);
    const View<const T, 1> logit = saved.gating.noisy_logits[row];
    const T power(options.score == RouterScore::sqrt_softplus ? 0.5 : 1.0);
    T most = logit[expert], sum(0);
    for (Index i = 0; i < num_sharing(saved, row); ++i)
      if (const Index e = sharing(saved, row, i); !is_zero(e) && most < logit[e]) most = logit[e];
    for (Index i = 0; i < num_sharing(saved, row); ++i)
      if (const Index e = sharing(saved, row, i); !is_zero(e)) sum = sum + kernels::exp(T((logit[e] - most) * power));
    return kernels::exp(T((logit[expert] - most) * power)) / sum;
  }
};

}  // namespace gatefold
