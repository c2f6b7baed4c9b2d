#include "gatefold/losses/aux_losses.hpp"

#include <gtest/gtest.h>

#include "gatefold/losses/balance.hpp"
#include "gatefold/losses/importance.hpp"
#include "gatefold/losses/z_loss.hpp"
#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace test;

using Three = AuxLosses<Importance, Balance, ZLoss>;

/// What must not be looked at.
struct Poison {
  static constexpr std::string_view kName = "poison";
  template <Real T>
  T value(const RouterScores<T>&, Context&) const {
    return T(std::nan(""));
  }
  template <Real T>
  void add_gradient(const RouterScores<T>&, std::type_identity_t<T>, std::type_identity_t<Rows<T>> dlogits,
                    Context&) const {
    dlogits(0, 0) = T(std::nan(""));
  }
};

TEST(AuxLosses, SumsWeightedValues) {
  const auto c = vmoe_case();
  const Three losses{.terms = {{.weight = .5}, {.weight = .01}, {.weight = 2}}};
  const double z = value_of<double>(ZLoss{}, c);
  EXPECT_NEAR(value_of<double>(losses, c), .5 * .03875 + .01 * 1.0875 + 2 * z, 1e-14);
}

TEST(AuxLosses, MeanDividesByTheActiveOnes) {
  const auto c = vmoe_case();
  const Three losses{.terms = {{}, {.weight = 0}, {}}, .reduction = Three::Reduction::mean, .coefficient = .04};
  EXPECT_EQ(losses.num_active(), 2);
  EXPECT_NEAR(value_of<double>(losses, c), .04 * (.03875 + value_of<double>(ZLoss{}, c)) / 2, 1e-15);
}

TEST(AuxLosses, TermsThatAreOffAreNotLookedAt) {
  for (const double off : {0., -1., std::nan("")}) {
    const AuxLosses<Importance, Poison> losses{.terms = {{}, {.weight = off}}};
    EXPECT_NEAR(value_of<double>(losses, vmoe_case()), .03875, 1e-15);
    EXPECT_EQ(gradient_of(losses, vmoe_case()), gradient_of(Importance{}, vmoe_case()));
  }
}

TEST(AuxLosses, WithNothingOnValueAndGradientAreZero) {
  const Three losses{.terms = {{.weight = 0}, {.weight = 0}, {.weight = 0}}, .reduction = Three::Reduction::mean};
  EXPECT_EQ(value_of<double>(losses, vmoe_case()), 0);
  expect_zero(gradient_of(losses, vmoe_case()));
  EXPECT_EQ(value_of<double>(NoAux{}, vmoe_case()), 0);
  expect_zero(gradient_of(NoAux{}, vmoe_case()));
}

TEST(AuxLosses, NamesEachContribution) {
  Context ctx;
  Scored<double> s;
  look_at(vmoe_case(), s);
  const Three losses{.terms = {{.weight = 2}, {.weight = 0}, {.weight = 1, .name = "router_z"}}, .coefficient = 10};
  std::vector<std::string> names;
  double sum = 0;
  losses.for_each(s.scores, ctx, [&](std::string_view name, double x) {
    names.emplace_back(name);
    sum += x;
  });
  EXPECT_EQ(names, (std::vector<std::string>{"importance", "router_z"}));
  EXPECT_EQ(sum, losses.value(s.scores, ctx));
}

TEST(AuxLosses, NestsAndObeysTheLawsOfRouterLosses) {
  using Nested = AuxLosses<AuxLosses<Importance, ZLoss>, Balance>;
  const Nested losses{.terms = {{.loss = {.terms = {{.weight = .3}, {.weight = .7}}}, .weight = 2}, {.weight = .1}}};
  expect_router_loss_laws(losses);
  const double flat = .6 * .03875 + 1.4 * value_of<double>(ZLoss{}, vmoe_case()) + .1 * 1.0875;
  EXPECT_NEAR(value_of<double>(losses, vmoe_case()), flat, 1e-14);
}

}  // namespace
}  // namespace gatefold
