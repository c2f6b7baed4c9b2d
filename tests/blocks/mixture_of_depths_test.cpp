#include "gatefold/blocks/mixture_of_depths.hpp"

#include <cmath>
#include <map>

#include "gatefold/blocks/encoder.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/blocks/exact_gradient.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold::mixture_of_depths_test {
namespace {

using Options = MixtureOfDepthsOptions;
constexpr auto kCausal = kernels::AttentionMask::causal;

template <class T>
using Decoder = EncoderBlock<GatedMlp<T>, Attention<T>>;
template <class T>
Decoder<T> decoder(Index width = 4) {
  return Decoder<T>({.width = width, .num_heads = 2, .mask = kCausal, .rotary = {.width = 2}},
                    GatedMlp<T>({.width = width, .hidden = 3}));
}
template <class T>
auto layer(const Options& o) {
  return MixtureOfDepths(o, decoder<T>(o.width));
}
auto& at(auto& tensor, Index i, Index c) { return tensor.data()[i * tensor.extent(1) + c]; }
const test::OwnedLayout kLayout{.offset = {0, 4, 10}, .modality = {0, 0, 0, 1, 0, 0, kPadding, 0, 0, 1}};

TEST(MixtureOfDepths, KeepsTheContractOfALayer) {
  for (const auto gate : {Options::Gate::net, Options::Gate::block}) {
    const auto make = [&](auto type) {
      return layer<typename decltype(type)::type>({.width = 4, .always = 2, .gate = gate, .aux_weight = 0});
    };
    test::check_layer(
        make, {.in = 4,
               .out = 4,
               .rows = 10,
               .paths = {"router.weight", "attention.norm.gain", "attention.norm.bias", "attention.inner.qkv.weight",
                         "attention.inner.qkv.bias", "attention.inner.out.weight", "attention.inner.out.bias",
                         "ffn.norm.gain", "ffn.norm.bias", "ffn.inner.gate.weight", "ffn.inner.gate.bias",
                         "ffn.inner.up.weight", "ffn.inner.up.bias", "ffn.inner.down.weight", "ffn.inner.down.bias"},
               .layout = &kLayout,
               .copies = 60});
  }
}

TEST(MixtureOfDepths, TheGradientIsExactWithItsPenalty) {
  const TokenLayout layout = kLayout.view();
  const auto x = test::random_matrix<double>({10, 4}, 5);
  for (const auto gate : {Options::Gate::net, Options::Gate::block})
    for (const double skipped : {0.0, 0.5, 1.0})
      for (const auto places : {Options::Places::renumbered, Options::Places::kept}) {
        const Options o{.width = 4, .skipped = skipped, .always = 2, .gate = gate, .places = places, .aux_weight = 0.7};
        auto net = layer<double>(o);
        test::disturb(net, 1);
        auto lifted = layer<Dual>(o);
        expect_exact_gradient(net, lifted, x, {.layout = &layout});
      }
}

TEST(MixtureOfDepths, RunsAroundALayerThatIsNoBlockOfBranches) {
  const Options o{.width = 4, .aux_weight = 0.7};
  MixtureOfDepths net(o, Mlp<double>({.width = 4, .hidden = 3}));
  EXPECT_EQ(net.options.gate, Options::Gate::block);
  test::disturb(net, 1);
  MixtureOfDepths lifted(o, Mlp<Dual>({.width = 4, .hidden = 3}));
  expect_exact_gradient(net, lifted, test::random_matrix<double>({5, 4}, 5));
}

/// The slow way: every sequence by itself, its tokens sorted by score, a compact copy through the block's two branches.
Tensor<double, 2> slowly(const MixtureOfDepths<Decoder<double>>& net, const Tensor<double, 2>& x,
                         const test::OwnedLayout& layout) {
  const Index width = x.extent(1);
  Tensor<double, 2> y = x;
  for (std::size_t b = 0; b + 1 < layout.offset.size(); ++b) {
    std::vector<std::pair<double, Index>> may;
    std::vector<Index> run;
    std::map<Index, double> score;
    for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i) {
      if (layout.modality[static_cast<std::size_t>(i)] == kPadding) continue;
      double mean = 0, square = 0, z = 0;
      for (Index c = 0; c < width; ++c) mean += at(x, i, c) / static_cast<double>(width);
      for (Index c = 0; c < width; ++c) square += std::pow(at(x, i, c) - mean, 2) / static_cast<double>(width);
      const auto& norm = net.block.attention.norm;
      for (Index c = 0; c < width; ++c)
        z += net.router.weight.data()[c] *
             ((at(x, i, c) - mean) / std::sqrt(square + norm.epsilon) * norm.gain.data()[c] + norm.bias.data()[c]);
      score[i] = 1 / (1 + std::exp(-z));
      if (net.options.always >> layout.modality[static_cast<std::size_t>(i)] & 1)
        run.push_back(i);
      else if (net.options.choice == Options::Choice::share)
        may.emplace_back(-z, i);
      else if (score[i] > net.options.threshold)
        run.push_back(i);
    }
    std::ranges::sort(may);
    may.resize(may.size() - static_cast<std::size_t>(net.options.skipped * static_cast<double>(may.size())));
    for (const auto& [_, i] : may) run.push_back(i);
    std::ranges::sort(run);
    if (run.empty()) continue;
    Tensor<double, 2> from({std::ssize(run), width}), mid = from, to = from;
    for (std::size_t j = 0; j < run.size(); ++j)
      for (Index c = 0; c < width; ++c) at(from, static_cast<Index>(j), c) = at(x, run[j], c);
    Context ctx;
    std::vector<Index> offset{0, std::ssize(run)}, place;
    for (const Index i : run)
      place.push_back(net.options.places == Options::Places::kept
                          ? std::count_if(layout.modality.begin() + layout.offset[b], layout.modality.begin() + i,
                                          [](auto m) { return m != kPadding; })
                          : std::ssize(place));
    const std::vector<std::uint8_t> modality(run.size());
    const TokenLayout compact{.offset = {offset.data(), {2}},
                              .modality = {modality.data(), {std::ssize(modality)}},
                              .place = {place.data(), {std::ssize(place)}}};
    ctx.layout = &compact;
    infer(net.block.attention, from, mid, ctx);
    infer(net.block.ffn, mid, to, ctx);
    const bool all = net.options.gate == Options::Gate::block;
    for (std::size_t j = 0; j < run.size(); ++j)
      for (Index c = 0; c < width; ++c) {
        const auto k = static_cast<Index>(j);
        const double a = all ? at(from, k, c) : at(mid, k, c);
        at(y, run[j], c) = a + score[run[j]] * (at(to, k, c) - a);
      }
  }
  return y;
}

TEST(MixtureOfDepths, AgreesWithTheSlowWay) {
  const TokenLayout layout = kLayout.view();
  for (const auto gate : {Options::Gate::net, Options::Gate::block})
    for (const auto choice : {Options::Choice::share, Options::Choice::threshold})
      for (const auto places : {Options::Places::renumbered, Options::Places::kept})
        for (const double skipped : {0.0, 0.34, 0.5, 1.0}) {
          auto net = layer<double>(
              {.width = 4, .skipped = skipped, .always = 2, .choice = choice, .gate = gate, .places = places});
          test::disturb(net, 3);
          const auto x = test::random_matrix<double>({10, 4}, 6);
          Tensor<double, 2> y({10, 4});
          Context ctx;
          ctx.layout = &layout;
          infer(net, x, y, ctx);
          const auto slow = slowly(net, x, kLayout);
          for (std::size_t i = 0; i < y.flat().size(); ++i) EXPECT_NEAR(y.flat()[i], slow.flat()[i], 1e-12);
        }
}

TEST(MixtureOfDepths, SkipsTheShareOfWhatMayBeSkippedAndLeavesItAsItIs) {
  auto net = layer<float>({.width = 4, .skipped = 0.5, .always = 2, .first_always = true});
  test::disturb(net, 1);
  const TokenLayout layout = kLayout.view();
  const auto x = test::random_matrix<float>({10, 4}, 2);
  Tensor<float, 2> y({10, 4});
  Context ctx;
  ctx.layout = &layout;
  const auto scope = ctx.workspace.scope();
  const auto saved = net.forward(x, y, ctx);
  // Of sequence 0 tokens 1 and 2 may be skipped, of sequence 1 tokens 5, 7 and 8: the first and modality 1 never.
  EXPECT_EQ(std::count(saved.slot.data(), saved.slot.data() + 10, net.kSkipped), 2);
  for (const Index i : {0, 3, 4, 9}) EXPECT_GE(saved.slot[i], 0);
  EXPECT_EQ(saved.slot[6], net.kNoToken);
  for (Index i = 0; i < 10; ++i)
    for (Index c = 0; c < 4 && saved.slot[i] < 0; ++c) EXPECT_EQ(at(y, i, c), at(x, i, c));
}

TEST(MixtureOfDepths, ThresholdsOfNoughtAndOneRunAllAndNone) {
  auto net = layer<float>({.width = 4, .choice = Options::Choice::threshold});
  test::disturb(net, 1);
  const auto x = test::random_matrix<float>({6, 4}, 2);
  Tensor<float, 2> y({6, 4});
  Context ctx;
  const auto scope = ctx.workspace.scope();
  net.options.threshold = 1;
  EXPECT_EQ(net.forward(x, y, ctx).row.extent(0), 0);
  EXPECT_EQ(y, x);
  net.options.threshold = 0;
  EXPECT_EQ(net.forward(x, y, ctx).row.extent(0), 6);
}

TEST(MixtureOfDepths, NotANumberStaysInItsToken) {
  auto net = layer<float>({.width = 4, .skipped = 0.25});
  test::disturb(net, 1);
  auto x = test::random_matrix<float>({8, 4}, 2);
  at(x, 2, 1) = std::numeric_limits<float>::quiet_NaN();
  Tensor<float, 2> y({8, 4});
  for (const auto choice : {Options::Choice::share, Options::Choice::threshold}) {
    net.options.choice = choice;
    net.options.threshold = 0.1;
    Context ctx;
    infer(net, x, y, ctx);
    for (Index i = 0; i < 8; ++i)
      for (Index c = 0; c < 4; ++c) EXPECT_EQ(std::isnan(at(y, i, c)), i == 2 && c == 1) << i;
  }
}

TEST(MixtureOfDepths, ASequenceAloneGetsWhatItGetsAmongOthers) {
  for (const auto choice : {Options::Choice::share, Options::Choice::threshold}) {
    auto net = layer<float>({.width = 32, .choice = choice});
    test::disturb(net, 1, 0.2);
    const auto packed = pack<float>(net);  // whose products do not depend on the number of rows
    const auto x = test::random_matrix<float>({12, 32}, 2);
    const test::OwnedLayout three{.offset = {0, 5, 5, 12}, .modality = std::vector<std::uint8_t>(12)};
    const TokenLayout layout = three.view();
    Tensor<float, 2> all({12, 32}), one({5, 32}), other({7, 32});
    Context ctx;
    infer(packed, x.view().rows(0, 5), one, ctx);
    infer(packed, x.view().rows(5, 12), other, ctx);
    ctx.layout = &layout;
    infer(packed, x, all, ctx);
    EXPECT_TRUE(std::ranges::equal(one.flat(), all.flat().first(5 * 32)));
    EXPECT_TRUE(std::ranges::equal(other.flat(), all.flat().last(7 * 32)));
  }
}

TEST(MixtureOfDepths, DecodesWhatForwardGivesAndRemembersWhatItRan) {
  for (const auto places : {Options::Places::renumbered, Options::Places::kept})
    for (const auto gate : {Options::Gate::net, Options::Gate::block}) {
      auto net = layer<double>(
          {.width = 4, .choice = Options::Choice::threshold, .threshold = 0.5, .gate = gate, .places = places});
      test::disturb(net, 1);
      const auto x = test::random_matrix<double>({9, 4}, 2);
      Tensor<double, 2> whole({9, 4}), y({9, 4});
      Context ctx;
      const auto scope = ctx.workspace.scope();
      const auto saved = net.forward(x, whole, ctx);
      const Index run = saved.row.extent(0);
      ASSERT_GT(run, 1);
      ASSERT_LT(run, 9);
      auto cache = make_cache(net, {.capacity = 9});
      for (const auto& [begin, end] : {std::pair<Index, Index>{0, 4}, {4, 4}, {4, 5}, {5, 9}})
        decode(net, x.view().rows(begin, end), y.view().rows(begin, end), cache, ctx);
      test::expect_near<double, double>(y.flat(), whole.flat(), 100, "y");
      EXPECT_EQ(std::get<0>(std::get<0>(cache)).length[0], run);
      EXPECT_EQ(std::get<1>(cache)[0], 9);
    }
}

TEST(MixtureOfDepths, AnEncoderSumsItsPenalties) {
  Encoder<MixtureOfDepths<Decoder<double>>> encoder(
      {.width = 4}, 2, [](Index) { return layer<double>({.width = 4, .aux_weight = 0.5}); });
  test::disturb(encoder, 1);
  const auto x = test::random_matrix<double>({6, 4}, 2);
  Tensor<double, 2> y({6, 4});
  Context ctx;
  const auto scope = ctx.workspace.scope();
  const auto saved = encoder.forward(x, y, ctx);
  double sum = 0;
  for (std::size_t l = 0; l < 2; ++l) {
    const auto& kept = saved.blocks[static_cast<Index>(l)];
    for (Index i = 0; i < 6; ++i) sum -= 0.5 / 6 * std::log(kept.slot[i] >= 0 ? kept.score[i] : 1 - kept.score[i]);
  }
  EXPECT_NEAR(aux_loss(encoder, saved, ctx), sum, 1e-12);
}

TEST(MixtureOfDepths, StandsAroundABlockOfExperts) {
  const auto make = [](auto type, Index experts) {
    using T = typename decltype(type)::type;
    using Net = SparseMlp<TopKRouter<T>, Mlp<T>>;
    return MixtureOfDepths({.width = 4, .aux_weight = 0.7},
                           EncoderBlock<Net>({.width = 4, .num_heads = 2},
                                             Net(TopKRouter<T>({.width = 4, .num_experts = experts, .num_selected = 2}),
                                                 Mlp<T>({.width = 4, .hidden = 3}))));
  };
  auto net = make(std::type_identity<double>{}, 3);
  test::disturb(net, 1);
  auto lifted = make(std::type_identity<Dual>{}, 3);
  expect_exact_gradient(net, lifted, test::random_matrix<double>({6, 4}, 5));
  std::vector<std::string> sparse, routed;
  for_each_sparse(net, [&](std::string_view path, auto&) { sparse.emplace_back(path); });
  for_each_routed(net, [&](std::string_view path, auto&) { routed.emplace_back(path); });
  EXPECT_THAT(sparse, ::testing::ElementsAre("ffn.inner"));
  EXPECT_THAT(routed, ::testing::ElementsAre("", "ffn.inner"));
}

TEST(MixtureOfDepths, RefusesWhatItCannotBe) {
  for (const Options& o :
       {Options{.width = 0}, Options{.width = 4, .skipped = 1.5}, Options{.width = 4, .skipped = NAN},
        Options{.width = 4, .threshold = -1}, Options{.width = 4, .aux_weight = -1}})
    EXPECT_THROW(layer<float>(o), OptionError);
}

}  // namespace
}  // namespace gatefold::mixture_of_depths_test
