#include "gatefold/losses/limoe_losses.hpp"

#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace test;

LimoeLossOptions small() { return {.min_image_experts = 3, .min_text_experts = 2}; }

RouterCase images_and_text(double noise_std = .5) {
  return random_case({.seed = 3, .tokens = 20, .experts = 4, .noise_std = noise_std, .second_modality = .4});
}

TEST(LimoeLosses, IsTheMeanOfItsSixTermsTimesTheCoefficient) {
  const auto c = images_and_text();
  const double sum = value_of<double>(Importance{}, c) + value_of<double>(Load{}, c) + value_of<double>(ZLoss{}, c) +
                     value_of<double>(LocalEntropy{.modality = 1}, c) +
                     value_of<double>(GlobalEntropy{.modality = 0, .threshold = std::log(3.)}, c) +
                     value_of<double>(GlobalEntropy{.modality = 1, .threshold = std::log(2.)}, c);
  const auto losses = limoe_losses(small());
  EXPECT_EQ(losses.num_active(), 6);
  EXPECT_NEAR(value_of<double>(losses, c), .04 * sum / 6, 1e-15);
}

TEST(LimoeLosses, WithoutNoiseLoadIsNoTermOfTheMean) {
  const auto c = images_and_text(0);
  const double classic = value_of<double>(Importance{}, c) + value_of<double>(ZLoss{}, c);
  const double sum = classic + value_of<double>(LocalEntropy{.modality = 1}, c) +
                     value_of<double>(GlobalEntropy{.modality = 0, .threshold = std::log(3.)}, c) +
                     value_of<double>(GlobalEntropy{.modality = 1, .threshold = std::log(2.)}, c);
  EXPECT_NEAR(value_of<double>(limoe_losses(small()), c), .04 * sum / 5, 1e-15);
  EXPECT_NEAR(value_of<double>(limoe_losses(LimoeLossOptions::classic()), c), .04 * classic / 2, 1e-15);
  auto without = small();
  without.load = false;
  EXPECT_EQ(gradient_of(limoe_losses(small()), c), gradient_of(limoe_losses(without), c));
  EXPECT_EQ(
      gradient_of(
          limoe_losses(
              {.importance = false, .z = false, .local_text = false, .global_image = false, .global_text = false}),
          c),
      gradient_of(NoAux{}, c))
      << "nothing but load";

  Context ctx;
  Scored<double> s;
  look_at(c, s);
  EXPECT_EQ(limoe_losses(small()).num_active(), 6);
  EXPECT_EQ(limoe_losses(small()).num_acting(s.scores), 5);
  std::vector<std::string> names;
  limoe_losses(small()).for_each(s.scores, ctx, [&](std::string_view name, double) { names.emplace_back(name); });
  EXPECT_EQ(names, (std::vector<std::string>{"importance", "z", "local_entropy_text", "global_entropy_image",
                                             "global_entropy_text"}));
}

TEST(LimoeLosses, TooFewExpertsAreRefusedByTheOptionToChange) {
  const auto message = [](auto&& refused) -> std::string {
    try {
      refused();
    } catch (const OptionError& e) {
      return e.what();
    }
    return "nothing thrown";
  };
  const auto value = [&](const LimoeLossOptions& o) {
    return message([&] { value_of<double>(limoe_losses(o), images_and_text()); });
  };
  const LimoeLossOptions image{.min_image_experts = 5, .min_text_experts = 2}, text{.min_image_experts = 4};
  EXPECT_EQ(value(image), "LimoeLossOptions: min_image_experts is 5.000000, expected at most 4, the number of experts");
  EXPECT_EQ(message([&] { gradient_of(limoe_losses(image), images_and_text()); }), value(image));
  EXPECT_EQ(value(text), "LimoeLossOptions: min_text_experts is 9.000000, expected at most 4, the number of experts");
  EXPECT_EQ(value(LimoeLossOptions::classic()), "nothing thrown") << "what is off asks for nothing";
}

TEST(LimoeLosses, PresetsAreValuesOfOneType) {
  const auto c = images_and_text();
  LimoeLosses losses = limoe_losses(LimoeLossOptions::none());
  EXPECT_EQ(losses.num_active(), 0);
  EXPECT_EQ(value_of<double>(losses, c), 0);
  losses = limoe_losses(LimoeLossOptions::classic());
  EXPECT_EQ(losses.num_active(), 3);
  const double sum = value_of<double>(Importance{}, c) + value_of<double>(Load{}, c) + value_of<double>(ZLoss{}, c);
  EXPECT_NEAR(value_of<double>(losses, c), .04 * sum / 3, 1e-15);
}

TEST(LimoeLosses, NamesItsTermsApart) {
  Context ctx;
  Scored<double> s;
  look_at(images_and_text(), s);
  auto options = small();
  options.local_image = true;
  std::vector<std::string> names;
  limoe_losses(options).for_each(s.scores, ctx, [&](std::string_view name, double) { names.emplace_back(name); });
  EXPECT_EQ(names, (std::vector<std::string>{"importance", "load", "z", "local_entropy_image", "local_entropy_text",
                                             "global_entropy_image", "global_entropy_text"}));
}

TEST(LimoeLosses, RefusesContradictions) {
  for (const double coefficient : {-1.0, std::numeric_limits<double>::quiet_NaN()})
    EXPECT_THROW((void)limoe_losses({.coefficient = coefficient}), OptionError);
  EXPECT_THROW((void)limoe_losses({.min_text_experts = .5}), OptionError);
  EXPECT_THROW((void)limoe_losses({.image_modality = 1, .text_modality = 1}), OptionError);
  EXPECT_THROW(value_of<double>(limoe_losses(), images_and_text()), OptionError) << "20 of 4 experts";
  EXPECT_NO_THROW(value_of<double>(limoe_losses({.global_image = false, .global_text = false}), images_and_text()));
}

TEST(LimoeLosses, GradientIsExact) {
  for (const double noise_std : {.5, 0.}) expect_exact_gradient(limoe_losses(small()), images_and_text(noise_std));
}

TEST(LimoeLosses, OneModalityAloneIsFine) {
  auto c = images_and_text();
  for (auto& m : c.modality) m = 0;
  expect_exact_gradient(limoe_losses(small()), c);
  expect_float_agrees(limoe_losses(small()), c);
  expect_no_allocation_after_first(limoe_losses(small()));
}

}  // namespace
}  // namespace gatefold
