#include "gatefold/module/visit.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/module/module.hpp"

namespace gatefold {
namespace {

struct Leaf {
  Tensor<float, 2> weight{{2, 3}};
  Tensor<double, 1> scale{Shape<1>{2}};
  static void visit(auto& v, auto&... self) {
    v("weight", self.weight...);
    v("scale", self.scale...);
  }
};

struct Tree {
  Leaf stem;
  std::vector<Leaf> leaves = std::vector<Leaf>(2);
  std::array<Tensor<int, 1>, 2> pair{Tensor<int, 1>({1}), Tensor<int, 1>({2})};
  std::vector<std::vector<Leaf>> nested;
  std::optional<Leaf> perhaps;
  std::optional<Tensor<float, 1>> mask;
  std::optional<std::vector<Leaf>> many;
  static void visit(auto& v, auto&... self) {
    v("stem", self.stem...);
    v("leaves", self.leaves...);
    v("pair", self.pair...);
    v("nested", self.nested...);
    v("perhaps", self.perhaps...);
    v("mask", self.mask...);
    v("many", self.many...);
  }
};
static_assert(Module<Leaf> && Module<Tree> && !Module<int>);

struct Empty {
  static void visit(auto&, auto&...) {}
};
static_assert(Module<Empty>);

template <class M>
std::vector<std::string> paths(M& module) {
  std::vector<std::string> all;
  for_each_param([&](std::string_view path, auto&) { all.emplace_back(path); }, module);
  return all;
}

TEST(Visit, NamesEveryTensorInTheOrderOfTheFields) {
  Tree tree;
  const std::vector<std::string> always{"stem.weight",     "stem.scale",     "leaves.0.weight", "leaves.0.scale",
                                        "leaves.1.weight", "leaves.1.scale", "pair.0",          "pair.1"};
  EXPECT_EQ(paths(tree), always);
  EXPECT_EQ(paths(std::as_const(tree)), always);

  tree.nested = {{Leaf()}, {}, {Leaf()}};
  tree.perhaps.emplace();
  tree.mask.emplace(Shape<1>{4});
  tree.many.emplace(1);
  auto wanted = always;
  for (const char* path : {"nested.0.0.weight", "nested.0.0.scale", "nested.2.0.weight", "nested.2.0.scale",
                           "perhaps.weight", "perhaps.scale", "mask", "many.0.weight", "many.0.scale"})
    wanted.emplace_back(path);
  EXPECT_EQ(paths(tree), wanted);
}

TEST(Visit, GoesThroughSeveralModulesTogether) {
  Leaf a;
  const Leaf b = [] {
    Leaf leaf;
    std::ranges::fill(leaf.weight.flat(), 2.0f);
    std::ranges::fill(leaf.scale.flat(), 3.0);
    return leaf;
  }();
  Leaf c = b;
  for_each_param(
      [](std::string_view, auto& x, const auto& y, auto& z) {
        for (std::size_t i = 0; i < x.flat().size(); ++i) x.flat()[i] = y.flat()[i] * z.flat()[i];
      },
      a, b, c);
  EXPECT_THAT(a.weight.flat(), testing::Each(4));
  EXPECT_THAT(a.scale.flat(), testing::Each(9));
}

TEST(Visit, RefusesModulesOfDifferentStructure) {
  const auto message = [](Tree& a, Tree& b) -> std::string {
    try {
      for_each_param([](std::string_view, auto&, auto&) {}, a, b);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "accepted";
  };
  Tree a, b;
  EXPECT_EQ(message(a, b), "accepted");
  b.leaves.resize(3);
  EXPECT_EQ(message(a, b), "leaves: the modules visited together differ in length");
  EXPECT_EQ(message(b, a), "leaves: the modules visited together differ in length");
  b.leaves.resize(2);
  b.perhaps.emplace();
  EXPECT_EQ(message(a, b), "perhaps: only some of the modules visited together have it");
  EXPECT_EQ(message(b, a), "perhaps: only some of the modules visited together have it");
}

}  // namespace
}  // namespace gatefold
