#pragma once
#include <string_view>
#include <tuple>

#include "gatefold/module/router_scores.hpp"

namespace gatefold {

/// No penalty.
struct NoAux {
  static constexpr std::string_view kName = "none";
  template <Real T>
  T value(const RouterScores<T>&, Context&) const {
    return T(0.0);
  }
  template <Real T>
  void add_gradient(const RouterScores<T>&, std::type_identity_t<T>, std::type_identity_t<Rows<T>>, Context&) const {}
};

/// Whether a loss can be other than 0 on these scores at all. One that needs what a pass may lack (Load: noise) says so
/// by a member `acts(scores)`; the others always act.
template <class L, Real T>
bool acts(const L& loss, const RouterScores<T>& scores) {
  if constexpr (requires { loss.acts(scores); })
    return loss.acts(scores);
  else
    return true;
}

/// One term of a sum of losses. A weight that is not above 0 switches it off: it is not even computed.
template <class L>
struct WeightedLoss {
  L loss{};
  double weight = 1;
  std::string_view name = L::kName;  ///< For reports; not owned.

  bool active() const { return weight > 0; }
};

/// A weighted set of router losses, itself one: coefficient * sum of weight * value (V-MoE), or the same divided by the
/// number of terms that are active and act on these scores (LIMoE: 0.04 * mean). So Load, without noise, neither counts
/// in the mean nor appears in reports. Summing or averaging over layers is the caller's.
template <class... Ls>
struct AuxLosses {
  static constexpr std::string_view kName = "aux";
  enum class Reduction { sum, mean };

  std::tuple<WeightedLoss<Ls>...> terms{};
  Reduction reduction = Reduction::sum;
  double coefficient = 1;

  Index num_active() const {
    return std::apply([](const auto&... term) { return (Index{0} + ... + Index{term.active()}); }, terms);
  }
  /// How many of them act on these scores.
  template <Real T>
  Index num_acting(const RouterScores<T>& scores) const {
    return std::apply(
        [&](const auto&... term) {
          return (Index{0} + ... + Index{term.active() && gatefold::acts(term.loss, scores)});
        },
        terms);
  }
  template <Real T>
  bool acts(const RouterScores<T>& scores) const {
    return num_acting(scores) > 0;
  }

  /// fn(name, what the term adds to `value`) for each term that acts, in order.
  template <Real T, class Fn>
  requires(AuxLoss<Ls, T>&&...) void for_each(const RouterScores<T>& scores, Context& ctx, Fn&& fn) const {
    visit_acting(scores, [&](const auto& term, double factor) {
      fn(term.name, static_cast<T>(Wide<T>(factor) * Wide<T>(term.loss.value(scores, ctx))));
    });
  }

  template <Real T>
  requires(AuxLoss<Ls, T>&&...) T value(const RouterScores<T>& scores, Context& ctx)
  const {
    Wide<T> total(0.0);
    for_each(scores, ctx, [&](std::string_view, const T& x) { total += Wide<T>(x); });
    return static_cast<T>(total);
  }

  template <Real T>
  void add_gradient(const RouterScores<T>& scores, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    visit_acting(scores, [&](const auto& term, double factor) {
      term.loss.add_gradient(scores, static_cast<T>(Wide<T>(scale) * Wide<T>(factor)), dlogits, ctx);
    });
  }

 private:
  /// fn(term, its factor) for each term that acts.
  template <Real T, class Fn>
  void visit_acting(const RouterScores<T>& scores, Fn&& fn) const {
    const Index acting = num_acting(scores);
    const double share =
        reduction == Reduction::mean && acting > 0 ? coefficient / static_cast<double>(acting) : coefficient;
    const auto visit = [&](const auto& term) {
      if (term.active() && gatefold::acts(term.loss, scores)) fn(term, share * term.weight);
    };
    std::apply([&](const auto&... term) { (visit(term), ...); }, terms);
  }
};

}  // namespace gatefold
