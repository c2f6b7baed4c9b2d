#include "gatefold/nn/weight_storage.hpp"

#include "gatefold/nn/attention.hpp"
#include "gatefold/nn/attention_pool.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/patch_embed.hpp"
#include "tests/support/layer_contract.hpp"

// A storage of somebody else, who knows nothing but the headers above: the transpose, by plain loops.
namespace foreign {

using gatefold::Context, gatefold::Index, gatefold::Rows, gatefold::Shape, gatefold::Tensor;

struct Columns {
  Tensor<float, 2> values;  // [K, N]

  explicit Columns(Shape<2> shape) : values({shape[1], shape[0]}) {}
  explicit Columns(Rows<const float> w) : Columns(w.shape()) {
    for (Index n = 0; n < extent(0); ++n)
      for (Index k = 0; k < extent(1); ++k) values.view()(k, n) = w(n, k);
  }
  static void visit(auto& v, auto&... self) { v("columns", self.values...); }
  Index extent(std::size_t axis) const { return values.extent(1 - axis); }

  void multiply(Rows<const float> x, Rows<float> y, Context&, const float* bias) const {
    for (Index r = 0; r < x.extent(0); ++r)
      for (Index n = 0; n < extent(0); ++n) {
        double sum = bias ? static_cast<double>(bias[n]) : 0;
        for (Index k = 0; k < extent(1); ++k) sum += static_cast<double>(x(r, k) * values.view()(k, n));
        y(r, n) = static_cast<float>(sum);
      }
  }
};

}  // namespace foreign

namespace gatefold {
namespace {

using foreign::Columns;

static_assert(WeightStorage<Columns, float> && !WeightStorage<Columns, double> && !TrainableStorage<Columns, float>);
static_assert(WeightStorage<Packed<mxfp4>, float> && WeightStorage<Packed<fp8>, float>);
static_assert(WeightStorage<Packed<int4>, float> && !WeightStorage<Packed<int4>, double>);
static_assert(PackedAs<Columns, float> && PackedAs<bf16, float> && !PackedAs<double, float>);
static_assert(ForwardLayer<Linear<float, Columns>> && !Layer<Linear<float, Columns>>);
static_assert(GroupedExpert<Mlp<float, Gelu, Columns>> && !Layer<Mlp<float, Gelu, Columns>>);

/// A layer over the foreign storage gives what it gives over dense weights.
template <class L>
void expect_same_results(L layer, Index width, Index out, const TokenLayout* layout = nullptr) {
  test::disturb(layer, 3);
  const auto foreign = pack<Columns>(layer);
  const auto x = test::random_matrix<float>({6, width}, 1);
  Tensor<float, 2> y({out, width}), wanted({out, width});
  Context ctx;
  ctx.layout = layout;
  const auto scope = ctx.workspace.scope();
  (void)layer.forward(x, wanted, ctx);
  (void)foreign.forward(x, y, ctx);
  test::expect_near<float, float>(y.flat(), wanted.flat(), 100, "y");
}

TEST(WeightStorage, OfSomebodyElseServesEveryLayer) {
  expect_same_results(Linear<float>({.in = 8, .out = 8}), 8, 6);
  expect_same_results(Linear<float>({.in = 8, .out = 8, .bias = Bias::none}), 8, 6);
  expect_same_results(Mlp<float>({.width = 8, .hidden = 20}), 8, 6);
  expect_same_results(GatedMlp<float>({.width = 8, .hidden = 20}), 8, 6);
  expect_same_results(Attention<float>({.width = 8, .num_heads = 2}), 8, 6);
  test::OwnedLayout two;
  two.offset = {0, 4, 6};
  two.modality = {0, 0, 0, 0, 0, 0};
  const auto layout = two.view();
  expect_same_results(AttentionPool<float>({.width = 8, .num_heads = 2, .hidden = 20}), 8, 2, &layout);
}

TEST(WeightStorage, OfSomebodyElseServesPatches) {
  PatchEmbed<float> embed({.patch = 2, .channels = 1, .width = 5});
  test::disturb(embed, 3);
  Tensor<float, 4> images({2, 4, 4, 1});
  Rng rng(5);
  for (float& v : images.flat()) v = static_cast<float>(rng.normal());
  Tensor<float, 2> y({8, 5}), wanted({8, 5});
  Context ctx;
  (void)embed.forward(images, wanted, ctx);
  (void)pack<Columns>(embed).forward(images, y, ctx);
  test::expect_near<float, float>(y.flat(), wanted.flat(), 20, "y");
}

TEST(WeightStorage, ManyNetsInOneGoAreTheSameAsOneByOne) {
  const Index offset[] = {0, 2, 2, 5}, token[] = {3, 0, 3, 1, 2};
  const auto check = [&]<class Net>(Net net) {
    std::vector<decltype(pack<Columns>(net))> experts;
    for (std::uint64_t e = 0; e < 3; ++e) {
      test::disturb(net, e);
      experts.push_back(pack<Columns>(net));
    }
    const auto x = test::random_matrix<float>({4, 6}, 4);
    Tensor<float, 2> ys({5, 6}), wanted({5, 6});
    Context ctx;
    (void)std::remove_cvref_t<decltype(experts[0])>::forward_grouped(experts, x, {{offset, {4}}, {token, {5}}}, ys,
                                                                     ctx);
    for (Index n = 0; n < 5; ++n)
      (void)experts[n < 2 ? 0 : 2].forward(x.view().rows(token[n], token[n] + 1), wanted.view().rows(n, n + 1), ctx);
    EXPECT_TRUE(test::same_bits<float>(ys.flat(), wanted.flat()));
  };
  check(Mlp<float>({.width = 6, .hidden = 9}));
  check(GatedMlp<float>({.width = 6, .hidden = 9}));
}

}  // namespace
}  // namespace gatefold
