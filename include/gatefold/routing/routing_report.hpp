#pragma once
#include <string>
#include <vector>

#include "gatefold/kernels/router_score.hpp"
#include "gatefold/routing/routing.hpp"

namespace gatefold {

/// What the routers of a model did: who asked for which expert, who was turned away, how sure and how varied the
/// choices were, for each sparse layer and modality. Point Context::report at one, and call `begin_batch` before each
/// batch that is to be added up; without it every layer that runs counts as a further layer. Counts are kept as
/// doubles, so that they add up over any run. Allocates: not for hot paths.
class RoutingReport {
 public:
  /// `tokens` also keeps the choices of every token, for pictures. `counts` only has how often each expert was asked
  /// and seated, over all modalities, as the plan knows it: O(E) a layer, nothing beside the pass.
  enum class Detail { counts, totals, tokens };

  /// Sums over the tokens of one modality; padding is not among them.
  struct Usage {
    double tokens = 0;
    double nan_tokens = 0;              ///< Tokens with a NaN score; they enter no average of probabilities,
    double closed_tokens = 0;           ///< nor do those to whom every expert is closed: logits -inf, or ReLU's 0.
    double unseated = 0;                ///< Tokens with no seat at all.
    double confidence = 0;              ///< Sum of the largest probability p = s / sum s.
    std::vector<double> requests{};     // [E] before dropping
    std::vector<double> seated{};       // [E]
    std::vector<double> probability{};  // [E] sum of the clean p

    double success_rate() const { return sum(requests) > 0 ? sum(seated) / sum(requests) : 1; }
    double drop_fraction() const { return 1 - success_rate(); }
    double mean_confidence() const {
      const double with_probabilities = tokens - nan_tokens - closed_tokens;
      return with_probabilities > 0 ? confidence / with_probabilities : 0;
    }
    /// exp(H(mean probability)): between 1, all tokens alike and sure, and E. (LIMoE, Mustafa et al. 2022.)
    double effective_experts() const {
      const double total = sum(probability);
      double entropy = 0;
      for (const double p : probability)
        if (p > 0) entropy -= p / total * std::log(p / total);
      return total > 0 ? std::exp(entropy) : 0;
    }

   private:
    friend class RoutingReport;
    static double sum(const std::vector<double>& values) {
      double total = 0;
      for (const double x : values) total += x;
      return total;
    }
    void resize(Index num_experts) {
      for (auto* values : {&requests, &seated, &probability}) values->resize(static_cast<std::size_t>(num_experts));
    }
    void add(const Usage& other) {
      tokens += other.tokens, nan_tokens += other.nan_tokens, closed_tokens += other.closed_tokens;
      unseated += other.unseated, confidence += other.confidence;
      for (std::size_t e = 0; e < requests.size(); ++e) {
        requests[e] += other.requests[e], seated[e] += other.seated[e];
        probability[e] += other.probability[e];
      }
    }
  };
  struct RankUsage {
    double requests = 0, seated = 0;
    double drop_fraction() const { return requests > 0 ? 1 - seated / requests : 0; }
  };
  struct Loss {
    std::string name;
    double sum = 0, batches = 0;
    double mean() const { return sum / batches; }
  };
  struct Choice {
    Index expert = 0;
    double gate = 0;
    double weight = 0;  ///< 0 if the expert turned the token away.
    bool seated = false;
  };
  struct Token {
    Index modality = 0;             ///< kPadding for padding.
    std::vector<Choice> choices{};  // best first; expert choice: the experts that took it
  };
  struct Layer {
    Index num_experts = 0;
    double batches = 0;
    std::vector<Usage> modalities{};  // [M]
    std::vector<RankUsage> ranks{};   // [K]; expert choice: the first, second... expert that took a token
    std::vector<Loss> losses{};
    std::vector<Token> tokens{};  // of all batches, with Detail::tokens

    Usage total() const {
      Usage all;
      all.resize(num_experts);
      for (const Usage& usage : modalities) all.add(usage);
      return all;
    }
  };

  // A template, so that only a program with a report compiles what it takes to fill one: a good part of all that a
  // sparse layer is.
  template <class Made = void>
  explicit RoutingReport(Detail detail = Detail::totals)
      : detail_(detail), record_float_(&RoutingReport::record<float>), record_double_(&RoutingReport::record<double>) {}

  const std::vector<Layer>& layers() const { return layers_; }
  void clear() {
    layers_.clear();
    next_ = 0;
  }
  /// The next record is the model's first sparse layer again.
  void begin_batch() { next_ = 0; }

  /// Called by each sparse layer: `record`.
  template <Real T>
  void record_pass(const Routing<T>& routing) {
    if constexpr (std::same_as<T, float>)
      (this->*record_float_)(routing);
    else if constexpr (std::same_as<T, double>)
      (this->*record_double_)(routing);
    else
      record(routing);
  }

  /// Throws ShapeError if the layer in this place had another number of experts.
  template <Real T>
  [[gnu::cold]] void record(const Routing<T>& routing) {
    using std::exp;
    const DispatchPlan& plan = routing.plan;
    const auto& scores = routing.scores;
    const bool split = scores.layout && detail_ != Detail::counts;
    Layer& layer = next_layer(plan.num_experts(), split ? scores.layout->num_modalities : 1);
    layer.batches += 1;
    if (detail_ == Detail::counts) {
      Usage& usage = layer.modalities[0];
      for (Index e = 0; e < plan.num_experts(); ++e) {
        usage.requests[static_cast<std::size_t>(e)] += static_cast<double>(plan.demand[e]);
        usage.seated[static_cast<std::size_t>(e)] += static_cast<double>(plan.offset[e + 1] - plan.offset[e]);
      }
      return;
    }
    std::vector<double> p(static_cast<std::size_t>(plan.num_experts()));
    for (Index row = 0; row < plan.num_tokens(); ++row) {
      const bool padding = scores.is_padding(row);
      if (!padding) {
        Usage& usage = layer.modalities.at(static_cast<std::size_t>(scores.modality(row)));
        usage.tokens += 1;
        double most = 0, total = 0;
        fill_probabilities(scores, row, p);
        for (const double each : p) {
          most = std::max(most, each);
          total += each;
        }
        const bool none_asked = plan.requested[row] == 0 && scores.choice.extent(1) > 0;  // of scores that are 0
        if (!detail::any_open<T>(scores.logits[row]) || none_asked) {
          usage.closed_tokens += 1;
        } else if (std::isnan(total)) {
          usage.nan_tokens += 1;
        } else {
          usage.confidence += most;
          for (std::size_t e = 0; e < p.size(); ++e) usage.probability[e] += p[e];
        }
        usage.unseated += plan.slots_of_token(row).extent(0) == 0;
        for (Index k = 0; k < plan.requested[row]; ++k)
          usage.requests[static_cast<std::size_t>(asked(routing, row, k))] += 1;
        for (Index k = 0; k < plan.requested[row]; ++k) rank(layer, k).requests += 1;
        const auto slots = plan.slots_of_token(row);
        for (Index i = 0; i < slots.extent(0); ++i) {
          usage.seated[static_cast<std::size_t>(plan.expert[slots[i]])] += 1;
          rank(layer, plan.rank[slots[i]]).seated += 1;
        }
      }
      if (detail_ == Detail::tokens) layer.tokens.push_back(token(routing, row));
    }
  }

  /// A penalty of the layer that was recorded last.
  void record_loss(std::string_view name, double value) {
    auto& losses = layers_.at(next_ - 1).losses;
    auto at = std::find_if(losses.begin(), losses.end(), [&](const Loss& loss) { return loss.name == name; });
    if (at == losses.end()) at = losses.insert(at, {.name = std::string(name)});
    at->sum += value;
    at->batches += 1;
  }

 private:
  [[gnu::cold]] Layer& next_layer(Index num_experts, Index num_modalities) {
    if (next_ == layers_.size()) layers_.push_back({.num_experts = num_experts});
    Layer& layer = layers_[next_];
    if (layer.num_experts != num_experts)
      throw ShapeError("RoutingReport::record: sparse layer " + std::to_string(next_) + " has " +
                       std::to_string(num_experts) + " experts, expected " + std::to_string(layer.num_experts) +
                       " as in the batch before");
    ++next_;
    if (layer.modalities.size() < static_cast<std::size_t>(num_modalities))
      layer.modalities.resize(static_cast<std::size_t>(num_modalities));
    for (Usage& usage : layer.modalities) usage.resize(num_experts);
    return layer;
  }
  /// p_e = s_e / sum s of the clean logits.
  template <Real T>
  static void fill_probabilities(const RouterScores<T>& scores, Index row, std::vector<double>& p) {
    const bool softmax = scores.score == RouterScore::softmax;
    double sum = softmax ? 1 : 0;
    for (std::size_t e = 0; e < p.size(); ++e) {
      const auto at = static_cast<Index>(e);
      if (softmax) {
        p[e] = std::exp(to_double(scores.log_probs(row, at)));
      } else {
        kernels::with_score(scores.score,
                            [&]<class Score>(Score) { p[e] = Score::value(to_double(scores.logits(row, at))); });
        sum += p[e];
      }
    }
    for (double& each : p) each /= sum;
  }
  static RankUsage& rank(Layer& layer, Index k) {
    if (layer.ranks.size() <= static_cast<std::size_t>(k)) layer.ranks.resize(static_cast<std::size_t>(k) + 1);
    return layer.ranks[static_cast<std::size_t>(k)];
  }
  /// The expert of a token's k-th request. Where experts choose, a request is what was granted.
  template <Real T>
  static Index asked(const Routing<T>& routing, Index row, Index k) {
    if (k < routing.scores.choice.extent(1)) return routing.scores.choice(row, k);
    return routing.plan.expert[routing.plan.slots_of_token(row)[k]];
  }
  template <Real T>
  [[gnu::cold]] static Token token(const Routing<T>& routing, Index row) {
    const DispatchPlan& plan = routing.plan;
    Token out{.modality = routing.scores.modality(row)};
    for (Index k = 0; k < plan.requested[row]; ++k) {
      const Index e = asked(routing, row, k);
      out.choices.push_back({.expert = e, .gate = to_double(routing.gates(row, e))});
    }
    const auto slots = plan.slots_of_token(row);
    for (Index i = 0; i < slots.extent(0); ++i) {
      Choice& choice = out.choices[static_cast<std::size_t>(plan.rank[slots[i]])];
      choice.weight = to_double(routing.weight[slots[i]]);
      choice.seated = true;
    }
    return out;
  }

  Detail detail_;
  std::vector<Layer> layers_;
  std::size_t next_ = 0;
  void (RoutingReport::*record_float_)(const Routing<float>&);
  void (RoutingReport::*record_double_)(const Routing<double>&);
};

/// How evenly the tokens of one pass were served, which is the question where experts choose (V-MoE's metrics).
struct SeatSpread {
  Index fewest_experts = 0, most_experts = 0;  ///< Of one token.
  double smallest_weight = 0, largest_weight = 0;
  std::vector<double> tokens_with;  // [E+1] fraction of tokens with at least so many experts
};

template <Real T>
SeatSpread seat_spread(const Routing<T>& routing) {
  const DispatchPlan& plan = routing.plan;
  SeatSpread out;
  out.tokens_with.resize(static_cast<std::size_t>(plan.num_experts()) + 1);
  double tokens = 0;
  for (Index row = 0; row < plan.num_tokens(); ++row) {
    if (routing.scores.is_padding(row)) continue;
    const Index experts = plan.slots_of_token(row).extent(0);
    out.fewest_experts = tokens > 0 ? std::min(out.fewest_experts, experts) : experts;
    out.most_experts = std::max(out.most_experts, experts);
    for (std::size_t n = 0; n <= static_cast<std::size_t>(experts); ++n) out.tokens_with[n] += 1;
    tokens += 1;
  }
  for (double& count : out.tokens_with) count = tokens > 0 ? count / tokens : 0;
  for (Index n = 0; n < plan.num_slots(); ++n) {
    const double weight = to_double(routing.weight[n]);
    out.smallest_weight = n > 0 ? std::min(out.smallest_weight, weight) : weight;
    out.largest_weight = std::max(out.largest_weight, weight);
  }
  return out;
}

}  // namespace gatefold
