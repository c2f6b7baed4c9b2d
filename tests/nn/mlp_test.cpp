#include "gatefold/nn/mlp.hpp"

#include "tests/support/layer_contract.hpp"
#include "tests/support/refused.hpp"

namespace gatefold {
namespace {

template <class Act>
void check(Bias bias, const std::vector<std::string>& paths) {
  test::check_layer(
      [=](auto type) { return Mlp<typename decltype(type)::type, Act>({.width = 3, .hidden = 5, .bias = bias}); },
      {.in = 3, .out = 3, .rows = 4, .paths = paths, .copies = 1700});
}

TEST(Mlp, KeepsTheContractOfALayer) {
  check<Gelu>(Bias::zero, {"up.weight", "up.bias", "down.weight", "down.bias"});
  check<Relu>(Bias::none, {"up.weight", "down.weight"});
}

TEST(Mlp, AHandComputedRow) {
  // up = (2, -3) x + (1, 1), relu, down = (10, 100) . + 5, at x = 4: relu(9, -11) = (9, 0) -> 95; at x = -1: (0, 4).
  Mlp<float, Relu> mlp({.width = 1, .hidden = 2});
  mlp.up.weight.flat()[0] = 2, mlp.up.weight.flat()[1] = -3;
  std::ranges::fill(mlp.up.bias.flat(), 1.0f);
  mlp.down.weight.flat()[0] = 10, mlp.down.weight.flat()[1] = 100;
  mlp.down.bias.flat()[0] = 5;
  Tensor<float, 2> x({2, 1}), y({2, 1});
  x.flat()[0] = 4, x.flat()[1] = -1;
  Context ctx;
  infer<Mlp<float, Relu>>(mlp, x, y, ctx);
  EXPECT_THAT(y.flat(), testing::ElementsAre(95, 405));
}

constexpr auto kExpert = [](auto type) { return Mlp<typename decltype(type)::type>({.width = 6, .hidden = 19}); };

TEST(Mlp, ManyInOneGoAreTheSameAsOneByOne) {
  test::check_grouped(kExpert, {.width = 6, .counts = {3, 0, 40, 1, 9}, .tokens = 30});
  test::check_grouped(kExpert, {.width = 6, .counts = {0, 0, 23}});
  test::check_grouped(kExpert, {.width = 6, .counts = {1}, .tokens = 5});
  test::check_grouped(kExpert, {.width = 6, .counts = {0, 0}, .tokens = 3});
}

TEST(Mlp, ManyWideOnesInOneGoAreTheSameAsOneByOne) {
  test::check_grouped([](auto type) { return Mlp<typename decltype(type)::type, Relu>({.width = 33, .hidden = 140}); },
                      {.width = 33, .counts = {70, 1, 0, 8}, .tokens = 60});
}

TEST(Mlp, MayBePacked) {
  Mlp<float> mlp({.width = 70, .hidden = 530});
  test::disturb(mlp, 1, 0.1);
  test::check_packed(mlp, {.in = 70, .out = 70, .products = 2});
  test::check_packed(mlp, {.in = 70, .out = 70, .rows = 230, .products = 2});
  for (const Index out : {30, 150}) {  // narrower and wider than it came
    auto other = mlp;
    other.down = Linear<float>({.in = mlp.up.out(), .out = out});
    test::disturb(other.down, 2, 0.1);
    for (const Index rows : {1, 37})
      test::check_packed_as<bf16>(other, {.in = 70, .out = out, .rows = rows, .products = 2});
  }
}

TEST(Mlp, ManyPackedOnesInOneGoAreTheSameAsOneByOne) {
  Mlp<float> mlp({.width = 40, .hidden = 70});
  std::vector<Mlp<float, Gelu, Packed<int8>>> experts;
  for (std::uint64_t e = 0; e < 3; ++e) {
    test::disturb(mlp, e);
    experts.push_back(pack<int8>(mlp));
  }
  const auto x = test::random_matrix<float>({9, 40}, 4);
  const Index offset[] = {0, 5, 5, 12}, token[] = {8, 0, 0, 3, 7, 1, 2, 3, 4, 8, 8, 5};
  Tensor<float, 2> ys({12, 40}), alone({1, 40}), one({1, 40});
  Context ctx;
  (void)Mlp<float, Gelu, Packed<int8>>::forward_grouped(experts, x, {{offset, {4}}, {token, {12}}}, ys, ctx);
  for (Index n = 0; n < 12; ++n) {
    std::copy_n(&x.view()(token[n], 0), 40, one.data());
    infer(experts[n < 5 ? 0 : 2], std::as_const(one).view(), alone.view(), ctx);
    EXPECT_TRUE(test::same_bits<float>(alone.flat(), ys.flat().subspan(static_cast<std::size_t>(n) * 40, 40))) << n;
  }
}

/// Experts of any hidden width each.
constexpr auto kUnlike = [](auto type, std::size_t e) {
  constexpr Index kHidden[] = {19, 7, 140, 1, 64};
  return Mlp<typename decltype(type)::type>({.width = 6, .hidden = kHidden[e]});
};

TEST(Mlp, UnlikeOnesInOneGoAreTheSameAsOneByOne) {
  test::check_grouped(kUnlike, {.width = 6, .counts = {3, 0, 40, 1, 9}, .tokens = 30});
  test::check_grouped(kUnlike, {.width = 6, .counts = {70, 80, 0, 5}});
}

TEST(Mlp, OfManyEachMustFit) {
  const auto make = [](Index width, Index hidden) { return Mlp<float>({.width = width, .hidden = hidden}); };
  std::vector nets{make(8, 16), make(8, 4)};
  Mlp<float>::expect_fit(nets);
  const auto refused = [&](std::string_view text) {
    test::expect_shape_error([&] { Mlp<float>::expect_fit(nets); }, text);
    const Tensor<float, 2> x({2, 8});
    Tensor<float, 2> ys({2, 8});
    const Index offset[] = {0, 1, 2};
    Context ctx;
    test::expect_shape_error([&] { (void)Mlp<float>::forward_grouped(nets, x, {{offset, {3}}, {}}, ys, ctx); }, text);
  };
  nets[1] = make(6, 4);
  refused("Mlp: experts[1].up.weight has shape [4, 6], expected [4, 8]");
  nets[1] = make(8, 4);
  nets[1].down = Linear<float>({.in = 5, .out = 8});
  refused("Mlp: experts[1].down.weight has shape [8, 5], expected [8, 4]");
  nets[1] = make(8, 4);
  nets[1].up.bias = Tensor<float, 1>({3});
  refused("Mlp: experts[1].up.bias has shape [3], expected [4]");
  nets.resize(1, make(8, 4));
  nets[0].down.weight = Tensor<float, 2>({8, 9});
  test::expect_shape_error([&] { Mlp<float>::expect_fit(nets); },
                           "Mlp: down.weight has shape [8, 9], expected [8, 16]");
}

TEST(Mlp, AGradientOfAnotherNetIsRefused) {
  const Mlp<float> net({.width = 3, .hidden = 5});
  Mlp<float> grad({.width = 3, .hidden = 4});
  const Tensor<float, 2> x({2, 3});
  Tensor<float, 2> y({2, 3}), dx({2, 3});
  Context ctx;
  const auto saved = net.forward(x, y, ctx);
  test::expect_shape_error([&] { net.backward(saved, y, dx, grad, ctx); },
                           "Mlp::backward: the gradient of up.weight has shape [4, 3], expected [5, 3]");
}

TEST(Mlp, NamesTheSizeThatIsNone) {
  test::expect_option_error([] { Mlp<float> net({.width = 0, .hidden = 5}); }, "Mlp: width is 0, expected at least 1");
  test::expect_option_error([] { Mlp<float> net({.width = -1, .hidden = 5}); }, "Mlp: width is -1");
  test::expect_option_error([] { Mlp<float> net({.width = 8, .hidden = 0}); }, "Mlp: hidden is 0");
}

}  // namespace
}  // namespace gatefold
