// An auxiliary loss of one's own: E Σ_e (mean over tokens of p_e - 1 / E)^2, zero where all experts are equally likely.
#include "check.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/losses/token_groups.hpp"
#include "gatefold/losses/z_loss.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace own {

struct Flatness {
  static constexpr std::string_view kName = "flatness";  // for reports

  template <Real T>
  T value(const RouterScores<T>& scores, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    T sum(0);
    const auto excess = mean_excess(scores, tokens(scores, ctx), ctx);
    for (Index e = 0; e < scores.num_experts(); ++e) sum = sum + excess[e] * excess[e];
    return sum * T(static_cast<double>(scores.num_experts()));
  }

  // Adds scale * d value / d logits, which goes through the softmax: dp_j / dl_e = p_j (δ_je - p_e).
  template <Real T>
  void add_gradient(const RouterScores<T>& scores, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    using std::exp;
    const auto scope = ctx.workspace.scope();
    const auto rows = tokens(scores, ctx);
    const auto excess = mean_excess(scores, rows, ctx);
    const Index experts = scores.num_experts();
    for (const Index t : rows) {
      const T factor = scale * T(2.0 * static_cast<double>(experts) / static_cast<double>(rows.size()));
      T mean(0);
      for (Index e = 0; e < experts; ++e) mean = mean + exp(scores.log_probs(t, e)) * excess[e];
      for (Index e = 0; e < experts; ++e)
        dlogits(t, e) = dlogits(t, e) + factor * exp(scores.log_probs(t, e)) * (excess[e] - mean);
    }
  }

 private:
  // The rows that count: no padding, and none with a NaN.
  template <Real T>
  static std::span<const Index> tokens(const RouterScores<T>& scores, Context& ctx) {
    const auto groups = token_groups(scores, {.scope = LossScope::batch}, ctx);
    return groups.count ? groups[0] : std::span<const Index>();
  }
  template <Real T>
  static View<T, 1> mean_excess(const RouterScores<T>& scores, std::span<const Index> rows, Context& ctx) {  // [E]
    using std::exp;
    auto excess = ctx.workspace.take_zeroed<T>(scores.num_experts());
    const T count(static_cast<double>(rows.size())), fair(1.0 / static_cast<double>(scores.num_experts()));
    for (Index e = 0; e < scores.num_experts() && !rows.empty(); ++e) {
      for (const Index t : rows) excess[e] = excess[e] + exp(scores.log_probs(t, e)) / count;
      excess[e] = excess[e] - fair;
    }
    return excess;
  }
};
static_assert(AuxLoss<Flatness, float> && AuxLoss<Flatness, double>);

}  // namespace own

int main() {
  using namespace own;
  const TopKRouter<double> router({.width = 4, .num_experts = 3, .num_selected = 2});
  const Mlp<double> net({.width = 4, .hidden = 3});
  check_gradient(SparseMlp(router, net, Flatness{}), {6, 4}, 4, "the gradient of a mixture that is penalised by it");
  check_gradient(SparseMlp(router, net, AuxLosses<Flatness, ZLoss>{}), {6, 4}, 4, "and by it among others");

  // Gates of 1/2, 1/4, 1/4 for the only token that is no padding: 3 (1/36 + 1/144 + 1/144) = 1/8.
  const double log_probs[] = {std::log(0.5), std::log(0.25), std::log(0.25), 0, -1, -2};
  const Index offset[] = {0, 2};
  const std::uint8_t modality[] = {0, kPadding};
  const TokenLayout layout{.offset = {offset, {2}}, .modality = {modality, {2}}};
  const Rows<const double> rows(log_probs, {2, 3});
  Context ctx;
  const RouterScores<double> scores{
      .logits = rows, .log_probs = rows, .noisy_logits = rows, .choice = {}, .layout = &layout};
  expect(is_near(Flatness().value(scores, ctx), 0.125, 1e-15), "a value computed by hand");
  return status();
}
