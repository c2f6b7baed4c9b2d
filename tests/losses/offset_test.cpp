#include <gtest/gtest.h>

#include "gatefold/kernels/top_k.hpp"
#include "gatefold/losses/balance.hpp"
#include "gatefold/losses/limoe_losses.hpp"
#include "tests/losses/router_case.hpp"

// What all logits of a token have in common costs no loss its digits, from the router's log-probabilities on.
namespace gatefold {
namespace {

constexpr Index kTokens = 40, kExperts = 8;

/// The scores of one batch in float as the router makes them, and the same numbers in double from the definition.
struct Offset {
  Tensor<float, 2> logits{{kTokens, kExperts}}, noisy{{kTokens, kExperts}}, log_probs{{kTokens, kExperts}},
      gates{{kTokens, kExperts}};
  Tensor<double, 2> exact_logits{{kTokens, kExperts}}, exact_noisy{{kTokens, kExperts}},
      exact_log_probs{{kTokens, kExperts}};
  Tensor<Index, 2> choice{{kTokens, 2}};
  std::vector<std::uint8_t> modality;
  TokenLayout layout;

  Offset(double offset, Isa isa) {
    Rng rng(1);
    for (float& l : logits.flat()) l = static_cast<float>(offset + rng.normal());
    for (std::size_t i = 0; i < noisy.flat().size(); ++i)
      noisy.flat()[i] = logits.flat()[i] + static_cast<float>(.25 * rng.normal());
    for (Index t = 0; t < kTokens; ++t) modality.push_back(t % 3 == 0);
    layout = {.offset = {}, .modality = {modality.data(), {kTokens}}, .num_modalities = 2};
    Context ctx;
    ctx.isa = isa;
    kernels::softmax_top_k_rows<float>(logits, {.log_probs = log_probs}, ctx);
    kernels::softmax_top_k_rows<float>(noisy, {.gates = gates, .choice = choice}, ctx);
    std::ranges::copy(logits.flat(), exact_logits.flat().begin());
    std::ranges::copy(noisy.flat(), exact_noisy.flat().begin());
    for (Index t = 0; t < kTokens; ++t) {
      const auto row = exact_logits.view()[t];
      const double most = *std::max_element(row.data(), row.data() + kExperts);
      double sum = 0;
      for (Index e = 0; e < kExperts; ++e) sum += std::exp(row[e] - most);
      for (Index e = 0; e < kExperts; ++e) exact_log_probs.view()(t, e) = (row[e] - most) - std::log(sum);
    }
  }
  template <class T>
  RouterScores<T> scores(Rows<const T> l, Rows<const T> log_p, Rows<const T> n) const {
    return {.logits = l, .log_probs = log_p, .noisy_logits = n, .choice = choice, .noise_std = .25, .layout = &layout};
  }
  RouterScores<float> in_float() const { return scores<float>(logits, log_probs, noisy); }
  RouterScores<double> in_double() const { return scores<double>(exact_logits, exact_log_probs, exact_noisy); }
};

/// A log-probability is off by the roundings of x - largest, of the last difference (both below 8 here) and of the
/// logarithm of a sum of 8: 24 units of 2^-24, as a relative error of the probability. The entropies weigh it with
/// log p, up to 8 times; a gradient differs from its terms by less than a factor of 4.
constexpr double kError = 24 * 8 * 4 * 0x1p-24;

template <class L>
void expect_no_digits_lost(const L& loss) {
  for (const double offset : {0., 1e2, 1e3, 1e4})
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      const Offset at(offset, isa);
      Context ctx;
      const double value = loss.value(at.in_double(), ctx);
      EXPECT_NEAR(loss.value(at.in_float(), ctx), value, kError * std::abs(value)) << offset;
      Tensor<double, 2> wanted({kTokens, kExperts});
      Tensor<float, 2> got({kTokens, kExperts});
      loss.add_gradient(at.in_double(), 1, wanted, ctx);
      loss.add_gradient(at.in_float(), 1, got, ctx);
      double largest = 0;
      for (const double d : wanted.flat()) largest = std::max(largest, std::abs(d));
      for (std::size_t i = 0; i < wanted.flat().size(); ++i)
        EXPECT_NEAR(got.flat()[i], wanted.flat()[i], kError * largest) << "offset " << offset << ", logit " << i;
    }
}

TEST(OffsetOfLogits, CostsNoLossItsDigits) {
  expect_no_digits_lost(Importance{});
  expect_no_digits_lost(Load{});
  expect_no_digits_lost(ZLoss{});
  expect_no_digits_lost(LocalEntropy{.modality = 1});
  expect_no_digits_lost(GlobalEntropy{.modality = 0});
  expect_no_digits_lost(GlobalEntropy{.modality = 1, .threshold = std::log(7.99)});
  for (const auto picks : {Balance::Picks::first, Balance::Picks::any, Balance::Picks::any_over_k})
    for (const auto probs : {Balance::Probs::clean, Balance::Probs::noisy})
      expect_no_digits_lost(Balance{.picks = picks, .probs = probs});
  expect_no_digits_lost(limoe_losses({.min_image_experts = 8, .min_text_experts = 8}));
}

}  // namespace
}  // namespace gatefold
