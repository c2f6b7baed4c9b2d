#include "gatefold/nn/dropout.hpp"

#include "gatefold/nn/linear.hpp"
#include "gatefold/nn/residual.hpp"
#include "gatefold/nn/sequence.hpp"
#include "tests/support/layer_contract.hpp"
#include "tests/support/refused.hpp"

namespace gatefold {
namespace {

// Without random numbers, as in use, they are the identity.
TEST(Dropout, KeepsTheContractOfALayer) {
  test::check_layer(
      [](auto type) {
        using T = typename decltype(type)::type;
        return Sequence(Dropout<T>({.rate = 0.5}), Linear<T>({.in = 3, .out = 2}), DropPath<T>({.rate = 0.5}));
      },
      {.in = 3, .out = 2, .rows = 4, .paths = {"1.weight", "1.bias"}, .copies = 1500});
}

constexpr Index kRows = 403, kWidth = 301;

/// The pass of ones and of a gradient of ones: what remains of each number.
template <class L>
test::Pass<L> of_ones(const L& layer, Rng& rng, ParallelFor parallel_for, const TokenLayout* layout = nullptr) {
  Tensor<float, 2> ones({kRows, kWidth});
  std::ranges::fill(ones.flat(), 1.0f);
  Context ctx;
  ctx.parallel_for = std::move(parallel_for);
  ctx.rng = &rng;
  ctx.layout = layout;
  return test::run_pass(layer, ones, ones, ctx);
}

TEST(Dropout, DropsItsShareAndNothingElse) {
  const Dropout<float> layer({.rate = 0.2});
  Rng rng(1);
  const auto pass = of_ones(layer, rng, ParallelFor());
  EXPECT_EQ(pass.dx, pass.y) << "backward drops what forward dropped";
  double kept = 0;
  for (const float v : pass.y.flat()) {
    EXPECT_TRUE(v == 0 || v == 1.25f) << v;
    kept += v != 0;
  }
  // Of n draws the share errs by sqrt(0.8 * 0.2 / n): here 0.0011, of which five are allowed.
  EXPECT_NEAR(kept / double(kRows * kWidth), 0.8, 5 * std::sqrt(0.16 / double(kRows * kWidth)));
  for (Index j = 0; j + 4 < kWidth; ++j) {
    Index equal = 0;
    for (Index i = 0; i < kRows; ++i) equal += pass.y.view()(i, j) == pass.y.view()(i, j + 4);
    EXPECT_LT(equal, kRows) << "columns of one fate";
  }
  Rng same(1);
  EXPECT_EQ(of_ones(layer, same, test::threads(7)).y, pass.y);
  EXPECT_NE(of_ones(layer, same, test::threads(7)).y, pass.y) << "the next pass drops others";
}

TEST(DropPath, DropsWholeSequences) {
  std::vector<Index> offset{0};
  while (offset.back() < kRows) offset.push_back(std::min(kRows, offset.back() + 1 + std::ssize(offset) % 3));
  const std::vector<std::uint8_t> modality(kRows);
  const TokenLayout layout{.offset = {offset.data(), {std::ssize(offset)}}, .modality = {modality.data(), {kRows}}};
  const DropPath<float> layer({.rate = 0.25});
  Rng rng(1);
  const auto pass = of_ones(layer, rng, ParallelFor(), &layout);
  EXPECT_EQ(pass.dx, pass.y);
  double kept = 0;
  for (std::size_t b = 0; b + 1 < offset.size(); ++b) {
    const float first = pass.y.view()(offset[b], 0);
    EXPECT_TRUE(first == 0 || first == static_cast<float>(1 / 0.75));
    kept += first != 0;
    for (Index i = offset[b]; i < offset[b + 1]; ++i)
      for (Index j = 0; j < kWidth; ++j) ASSERT_EQ(pass.y.view()(i, j), first) << i;
  }
  const double sequences = static_cast<double>(offset.size() - 1);
  EXPECT_NEAR(kept / sequences, 0.75, 5 * std::sqrt(0.1875 / sequences));
}

TEST(DropPath, ADroppedBranchIsTheIdentity) {
  Linear<float> branch({.in = 3, .out = 3});
  test::disturb(branch, 1);
  const Residual layer({.width = 3}, Sequence(branch, DropPath<float>({.rate = 1 - 0x1p-32})));
  const auto x = test::random_matrix<float>({4, 3}, 2), dy = test::random_matrix<float>({4, 3}, 3);
  Context ctx;
  Rng rng(1);
  ctx.rng = &rng;
  const auto pass = test::run_pass(layer, x, dy, ctx);
  EXPECT_EQ(pass.y, x);
  EXPECT_EQ(pass.dx, dy);
  EXPECT_EQ(norm(pass.grad), 0);
}

TEST(Dropout, RefusesARateThatIsNone) {
  test::expect_option_error([] { Dropout<float> layer({.rate = 1}); },
                            "Dropout: rate is 1, expected a number in [0, 1)");
  test::expect_option_error([] { DropPath<float> layer({.rate = -0.1}); }, "DropPath: rate is -0.1");
}

}  // namespace
}  // namespace gatefold
