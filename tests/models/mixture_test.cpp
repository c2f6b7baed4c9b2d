#include "gatefold/models/mixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/blocks/sparse_layers.hpp"
#include "gatefold/module/ops.hpp"
#include "tests/support/refused.hpp"

namespace gatefold {
namespace {

using ::testing::ElementsAre;

static_assert(Layer<Mixture<float>>);
static_assert(ForwardLayer<Mixture<float, Packed<bf16>>> && !Layer<Mixture<float, Packed<bf16>>>);

std::vector<std::string> paths(const MixtureOptions& options) {
  const auto mixture = make_mixture<float>(options);
  std::vector<std::string> all;
  for_each_param([&](std::string_view path, const auto&) { all.emplace_back(path); }, mixture);
  return all;
}

TEST(Mixture, IsMadeOfThePartsThatOptionsName) {
  MixtureOptions o{.router = TopKRouterOptions{.width = 4, .num_experts = 1, .bias = true}, .hidden = 3};
  EXPECT_THAT(paths(o), ElementsAre("router.weight", "router.bias", "experts.0.gate.weight", "experts.0.up.weight",
                                    "experts.0.down.weight"));
  o.bias = true;
  o.activation = ExpertActivation::gpt_oss;
  EXPECT_THAT(paths(o),
              ElementsAre("router.weight", "router.bias", "experts.0.gate.weight", "experts.0.gate.bias",
                          "experts.0.up.weight", "experts.0.up.bias", "experts.0.down.weight", "experts.0.down.bias"));
  o = {.router = SparseMixerRouterOptions{.width = 4, .num_experts = 1, .num_selected = 1},
       .hidden = 3,
       .shared = SharedExpert::plain,
       .shared_hidden = 2};
  EXPECT_THAT(paths(o), ElementsAre("a.router.weight", "a.experts.0.gate.weight", "a.experts.0.up.weight",
                                    "a.experts.0.down.weight", "b.gate.weight", "b.up.weight", "b.down.weight"));
  o.shared = SharedExpert::gated;
  EXPECT_THAT(paths(o), ElementsAre("a.router.weight", "a.experts.0.gate.weight", "a.experts.0.up.weight",
                                    "a.experts.0.down.weight", "b.gate.weight", "b.inner.gate.weight",
                                    "b.inner.up.weight", "b.inner.down.weight"));
}

TEST(Mixture, ItsSparseLayerIsFound) {
  for (const bool mixer : {false, true})
    for (const auto shared : {SharedExpert::none, SharedExpert::plain, SharedExpert::gated}) {
      MixtureOptions o{.hidden = 3, .shared = shared, .shared_hidden = 2};
      if (mixer)
        o.router = SparseMixerRouterOptions{.width = 4, .num_experts = 5};
      else
        o.router = TopKRouterOptions{.width = 4, .num_experts = 5};
      EXPECT_EQ(o.width(), 4);
      EXPECT_EQ(o.num_experts(), 5);
      const auto mixture = make_mixture<float>(o);
      std::vector<std::string> found;
      for_each_sparse(mixture, [&](std::string_view path, const auto& layer) {
        found.emplace_back(path);
        EXPECT_EQ(layer.router.num_experts(), 5);
      });
      EXPECT_THAT(found, ElementsAre(shared == SharedExpert::none ? "" : "a"));
    }
}

TEST(Mixture, RefusesWhatItsPartsRefuse) {
  MixtureOptions o{.router = TopKRouterOptions{.width = 4, .num_experts = 2, .num_selected = 3}, .hidden = 3};
  test::expect_option_error([&] { (void)make_mixture<float>(o); }, "num_selected is 3, expected 1..2");
  o.router = TopKRouterOptions{.width = 4, .num_experts = 2};
  o.hidden = 0;
  test::expect_option_error([&] { (void)make_mixture<float>(o); }, "GatedMlp: hidden");
}

}  // namespace
}  // namespace gatefold
