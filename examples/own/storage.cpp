// A weight storage of one's own: each weight is -1, 0 or 1 times one scale for its output (BitNet b1.58, Ma et al.
// 2024). For inference, in any layer that has weights.
#include "check.hpp"
#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/init.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace own {

struct Ternary {
  Tensor<std::int8_t, 2> sign;  // [N, K]
  Tensor<float, 1> scale;       // [N]

  // Of this shape but without content, until a checkpoint is read into it. // [N, K]
  explicit Ternary(Shape<2> shape) : sign(shape), scale({shape[0]}) {}
  // What pack<Ternary>(model) calls.
  explicit Ternary(Rows<const float> w) : Ternary(w.shape()) {
    for (Index n = 0; n < w.extent(0); ++n) {
      float mean = 0;
      for (Index k = 0; k < w.extent(1); ++k) mean += std::abs(w(n, k)) / static_cast<float>(w.extent(1));
      scale.data()[n] = mean;
      for (Index k = 0; k < w.extent(1); ++k)
        sign.view()(n, k) =
            static_cast<std::int8_t>(mean > 0 ? std::clamp(std::round(w(n, k) / mean), -1.f, 1.f) : 0.f);
    }
  }
  static void visit(auto& v, auto&... self) { v("sign", self.sign...), v("scale", self.scale...); }
  Index extent(std::size_t axis) const { return sign.extent(axis); }

  // y = x wᵀ (+ bias); bias may be null.
  void multiply(Rows<const float> x, Rows<float> y, Context& ctx, const float* bias) const {
    kernels::for_each_row(x.extent(0), extent(0) * extent(1), ctx, [&](Index r) {
      for (Index n = 0; n < extent(0); ++n) {
        float sum = 0;
        for (Index k = 0; k < extent(1); ++k) sum += static_cast<float>(sign.view()(n, k)) * x(r, k);
        y(r, n) = scale.data()[n] * sum + (bias ? bias[n] : 0);
      }
    });
  }
};
static_assert(WeightStorage<Ternary, float>);
static_assert(ForwardLayer<Mlp<float, Gelu, Ternary>>);

}  // namespace own

int main() {
  using namespace own;
  Rng rng(5);
  EncoderBlock block({.width = 8, .num_heads = 2},
                     SparseMlp(TopKRouter<float>({.width = 8, .num_experts = 4, .num_selected = 2}),
                               Mlp<float>({.width = 8, .hidden = 16})));
  init::truncated_normal(block, rng);
  const auto small = pack<Ternary>(block);  // attention and experts; the router stays as it is
  // The same block with dense weights of the same values.
  const auto round = [](Linear<float>& linear) {
    const Ternary rounded(linear.weight);
    for (Index n = 0; n < linear.out(); ++n)
      for (Index k = 0; k < linear.in(); ++k)
        linear.weight.view()(n, k) = rounded.scale.data()[n] * static_cast<float>(rounded.sign.view()(n, k));
  };
  round(block.attention.inner.qkv), round(block.attention.inner.out);
  for (auto& expert : block.ffn.inner.experts) round(expert.up), round(expert.down);

  Tensor<float, 2> x({20, 8}), y({20, 8}), wanted({20, 8});
  for (float& value : x.flat()) value = static_cast<float>(rng.normal());
  Context ctx;
  infer(small, std::as_const(x).view(), y.view(), ctx);
  infer(block, std::as_const(x).view(), wanted.view(), ctx);
  bool same = true;
  for (std::size_t i = 0; i < y.flat().size(); ++i) same &= is_near(y.flat()[i], wanted.flat()[i], 1e-5);
  expect(same, "an encoder block over it");
  return status();
}
