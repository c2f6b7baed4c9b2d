#include "gatefold/nn/one_of.hpp"

#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

template <class T>
using Either = OneOf<Mlp<T>, GatedMlp<T>>;

constexpr auto kFirst = [](auto type) {
  using T = typename decltype(type)::type;
  return Either<T>(Mlp<T>({.width = 2, .hidden = 3}));
};
constexpr auto kSecond = [](auto type) {
  using T = typename decltype(type)::type;
  return Either<T>(GatedMlp<T>({.width = 2, .hidden = 3}));
};

TEST(OneOf, KeepsTheContractOfALayerWhicheverItIs) {
  // The choice leaves no trace in the paths.
  test::check_layer(kFirst, {.in = 2, .out = 2, .paths = {"up.weight", "up.bias", "down.weight", "down.bias"}});
  test::check_layer(
      kSecond,
      {.in = 2, .out = 2, .paths = {"gate.weight", "gate.bias", "up.weight", "up.bias", "down.weight", "down.bias"}});
}

TEST(OneOf, DifferentChoicesAreNotVisitedTogether) {
  const auto a = kFirst(std::type_identity<float>{}), b = kSecond(std::type_identity<float>{});
  const auto nothing = [](std::string_view, const auto&...) {};
  EXPECT_THROW(for_each_param(nothing, a, b), std::invalid_argument);
  EXPECT_NO_THROW(for_each_param(nothing, a, a));
}

TEST(OneOf, PacksTheOneItIs) {
  const auto check = [](auto&& either) {
    test::disturb(either, 1, 0.3);
    test::check_packed(either, {.in = 40, .out = 40, .products = 3});
  };
  check(Either<float>(Mlp<float>({.width = 40, .hidden = 70})));
  check(Either<float>(GatedMlp<float>({.width = 40, .hidden = 70})));
}

}  // namespace
}  // namespace gatefold
