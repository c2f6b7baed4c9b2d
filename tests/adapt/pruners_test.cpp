#include "gatefold/adapt/pruners.hpp"

#include <fstream>
#include <sstream>

#include "gatefold/adapt/dsnot.hpp"
#include "gatefold/adapt/sparse_gpt.hpp"
#include "tests/support/layer_contract.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::pruners_test {
namespace {

constexpr Index kOutputs = 6, kInputs = 40, kRows = 50;

/// Number i of tests/data/make_pruning_goldens.py.
double drawn(std::uint64_t which, Index i) {
  std::uint64_t z = (static_cast<std::uint64_t>(i) + 1 + (which << 32)) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>(z >> 44) / 0x1p19 - 1;
}

struct Layer {
  Tensor<float, 2> weight = Tensor<float, 2>({kOutputs, kInputs});
  WeightStatistics seen{.path = "up.weight"};

  Layer() {
    for (Index i = 0; i < weight.size(); ++i)
      weight.flat()[static_cast<std::size_t>(i)] = static_cast<float>(drawn(1, i));
    Tensor<double, 2> x({kRows, kInputs});
    for (Index r = 0; r < kRows; ++r)
      for (Index k = 0; k < kInputs; ++k)
        x.view()(r, k) =
            static_cast<double>(static_cast<float>(drawn(2, r * kInputs + k) * (1 + drawn(3, k)) + 0.3 * drawn(4, k)));
    see(x);
  }
  void see(const Tensor<double, 2>& x) {
    const auto columns = static_cast<std::size_t>(x.extent(1));
    seen.rows = x.extent(0);
    seen.sum.assign(columns, 0), seen.squares.assign(columns, 0);
    seen.gram = Tensor<double, 2>({x.extent(1), x.extent(1)});
    for (Index r = 0; r < x.extent(0); ++r)
      for (Index k = 0; k < x.extent(1); ++k) {
        const double v = x.view()(r, k);
        seen.sum[static_cast<std::size_t>(k)] += v, seen.squares[static_cast<std::size_t>(k)] += v * v;
        for (Index j = 0; j < x.extent(1); ++j) seen.gram.view()(k, j) += v * x.view()(r, j);
      }
  }
};

struct Golden {
  std::string mask;
  std::vector<double> weights{};
};
Golden golden(const std::string& name) {
  std::ifstream file(test::test_data("pruning_goldens.txt"));
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string word;
    in >> word;
    if (word != name) continue;
    Golden found;
    in >> found.mask;
    for (double v; in >> v;) found.weights.push_back(v);
    return found;
  }
  ADD_FAILURE() << name << " is no golden";
  return {};
}
std::string text(const Tensor<std::uint8_t, 2>& mask) {
  std::string text;
  for (const auto stays : mask.flat()) text += stays ? '1' : '0';
  return text;
}

constexpr Sparsity kTwoOfFour = NOfM{.kept = 2, .of = 4}, kFourOfEight = NOfM{.kept = 4, .of = 8};
Sparsity share(double s, Scope scope = Scope::row) { return Unstructured{.share = s, .scope = scope}; }

void expect_golden(const std::string& name, const Pruner auto& pruner, const Sparsity& sparsity) {
  SCOPED_TRACE(name);
  const Golden wanted = golden(name);
  for (const Index workers : {1, 3}) {
    Layer layer;
    Context ctx;
    ctx.parallel_for = workers == 1 ? ParallelFor() : test::threads(workers);
    const auto before = layer.weight;
    const auto mask = pruner.prune(layer.weight, layer.seen, sparsity, ctx);
    EXPECT_EQ(text(mask), wanted.mask);
    if (wanted.weights.empty()) {
      EXPECT_EQ(layer.weight, before);
    } else {
      ASSERT_EQ(wanted.weights.size(), layer.weight.flat().size());
      for (std::size_t i = 0; i < wanted.weights.size(); ++i)  // rounded to float once
        EXPECT_NEAR(layer.weight.flat()[i], wanted.weights[i], 1e-7 * (1 + std::abs(wanted.weights[i]))) << i;
    }
    if (const auto* groups = std::get_if<NOfM>(&sparsity)) {
      for (std::size_t i = 0; i < mask.flat().size(); ++i) layer.weight.flat()[i] *= static_cast<float>(mask.flat()[i]);
      expect_n_of_m(layer.weight, *groups, "weight");
    }
  }
}

TEST(Pruners, KeepWhatThePublishedOnesKeep) {
  expect_golden("magnitude_tensor_50", Magnitude(), share(0.5, Scope::tensor));
  expect_golden("magnitude_2:4", Magnitude(), kTwoOfFour);
  expect_golden("wanda_row_50", Wanda(), share(0.5));
  expect_golden("wanda_row_70", Wanda(), share(0.7));
  expect_golden("wanda_tensor_70", Wanda(), share(0.7, Scope::tensor));
  expect_golden("wanda_2:4", Wanda(), kTwoOfFour);
  expect_golden("wanda_4:8", Wanda(), kFourOfEight);
  expect_golden("wanda_1:4", Wanda(), NOfM{.kept = 1, .of = 4});
}

TEST(SparseGpt, KeepsAndMakesGoodWhatThePublishedOneDoes) {
  expect_golden("sparsegpt_2:4_16", SparseGpt{.block = 16}, kTwoOfFour);
  expect_golden("sparsegpt_4:8_128", SparseGpt{}, kFourOfEight);
  expect_golden("sparsegpt_50_16", SparseGpt{.block = 16}, share(0.5, Scope::tensor));
  expect_golden("sparsegpt_70_128", SparseGpt{}, share(0.7, Scope::tensor));
}

TEST(Dsnot, SwapsWhatThePublishedOneSwaps) {
  for (const Index swaps : {1, 4}) {
    const auto n = std::to_string(swaps);
    const DsnotOptions free{.swaps = swaps, .threshold = 0.002};
    const DsnotOptions kept{.swaps = swaps, .threshold = 0.002, .sign = DsnotOptions::Sign::kept};
    expect_golden("dsnot_50_" + n, Dsnot<>{free}, share(0.5));
    expect_golden("dsnot_50_" + n + "_same_sign", Dsnot<>{kept}, share(0.5));
    expect_golden("dsnot_2:4_" + n + "_same_sign", Dsnot<>{free}, kTwoOfFour);
  }
  expect_golden("dsnot_magnitude_70_3", Dsnot<Magnitude>{{.swaps = 3, .threshold = 0.002}}, share(0.7));
}

TEST(Dsnot, LowersWhatTheRemovedGaveAndKeepsTheirNumber) {
  for (const Sparsity& sparsity : {share(0.5), kTwoOfFour}) {
    Layer layer;
    Context ctx;
    const auto error = [&](const Tensor<std::uint8_t, 2>& mask) {
      double all = 0;
      for (Index n = 0; n < kOutputs; ++n) {
        double row = 0;
        for (Index k = 0; k < kInputs; ++k)
          row += mask.view()(n, k) ? 0 : double{layer.weight.view()(n, k)} * layer.seen.mean(k);
        all += std::abs(row);
      }
      return all;
    };
    const auto before = Wanda().prune(layer.weight, layer.seen, sparsity, ctx);
    // More than there are candidates: it stops by itself.
    const auto after = Dsnot<>{{.swaps = 100, .threshold = 0}}.prune(layer.weight, layer.seen, sparsity, ctx);
    EXPECT_LT(error(after), error(before));
    for (Index n = 0; n < kOutputs; ++n)
      EXPECT_EQ(std::ranges::count(before.flat().subspan(static_cast<std::size_t>(n * kInputs), kInputs), 1),
                std::ranges::count(after.flat().subspan(static_cast<std::size_t>(n * kInputs), kInputs), 1));
  }
}

/// |(w - w') x| over what was seen, by the Gram matrix.
double loss(const Tensor<float, 2>& w, const Tensor<float, 2>& other, const WeightStatistics& seen) {
  double all = 0;
  for (Index n = 0; n < w.extent(0); ++n)
    for (Index i = 0; i < w.extent(1); ++i)
      for (Index j = 0; j < w.extent(1); ++j)
        all += double{w.view()(n, i) - other.view()(n, i)} * seen.gram.view()(i, j) *
               double{w.view()(n, j) - other.view()(n, j)};
  return all;
}

TEST(SparseGpt, LosesLessThanWandaAndFewRowsOrDeadInputsAreNoTrouble) {
  for (const Sparsity& sparsity : {share(0.5), share(0.5, Scope::tensor), kTwoOfFour, Sparsity(NOfM{3, 7})}) {
    const Layer dense;
    Layer wanda, gpt;
    Context ctx;
    const auto mask = Wanda().prune(wanda.weight, wanda.seen, sparsity, ctx);
    for (std::size_t i = 0; i < mask.flat().size(); ++i) wanda.weight.flat()[i] *= static_cast<float>(mask.flat()[i]);
    (void)SparseGpt().prune(gpt.weight, gpt.seen, sparsity, ctx);
    EXPECT_LT(loss(dense.weight, gpt.weight, dense.seen), loss(dense.weight, wanda.weight, dense.seen));
  }
  Layer few;
  Tensor<double, 2> x({5, kInputs});
  for (Index i = 0; i < x.size(); ++i) x.flat()[static_cast<std::size_t>(i)] = i % kInputs == 7 ? 0 : drawn(8, i);
  few.see(x);
  Context ctx;
  auto weight = few.weight;
  const auto mask = SparseGpt().prune(weight, few.seen, kTwoOfFour, ctx);
  EXPECT_TRUE(std::ranges::all_of(weight.flat(), [](float w) { return std::isfinite(w); }));
  for (Index n = 0; n < kOutputs; ++n) EXPECT_EQ(weight.view()(n, 7), 0);
  // Without damping the five rows do not tell 40 inputs apart.
  weight = few.weight;
  EXPECT_THAT(
      [&] { (void)SparseGpt{.damping = 0}.prune(weight, few.seen, kTwoOfFour, ctx); },
      ::testing::ThrowsMessage<OptionError>(::testing::HasSubstr("of up.weight depends on those behind it (5 rows of "
                                                                 "40 inputs were seen)")));
}

TEST(Pruners, WithoutARowItIsMagnitudeAndNaNIsRefused) {
  Layer layer;
  layer.seen.rows = 0;
  Context ctx;
  const auto wanted = text(Magnitude().prune(layer.weight, layer.seen, kTwoOfFour, ctx));
  const auto before = layer.weight;
  EXPECT_EQ(text(Wanda().prune(layer.weight, layer.seen, kTwoOfFour, ctx)), wanted);
  EXPECT_EQ(text(SparseGpt().prune(layer.weight, layer.seen, kTwoOfFour, ctx)), wanted);
  EXPECT_EQ(text(Dsnot<>().prune(layer.weight, layer.seen, kTwoOfFour, ctx)), wanted);
  EXPECT_EQ(layer.weight, before);
  Layer broken;
  broken.weight.flat()[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW((void)Wanda().prune(broken.weight, broken.seen, kTwoOfFour, ctx), OptionError);
  EXPECT_THROW((void)SparseGpt().prune(broken.weight, broken.seen, kTwoOfFour, ctx), OptionError);
}

}  // namespace
}  // namespace gatefold::pruners_test
