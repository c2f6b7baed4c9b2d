#pragma once
#include "gatefold/adapt/mask.hpp"
#include "gatefold/module/param_paths.hpp"
#include "gatefold/module/path_pattern.hpp"
#include "gatefold/nn/init.hpp"
#include "gatefold/nn/weight_storage.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// A dense weight that is never written, so that copies share it: what adapters stand on, and what a teacher has in
/// common with its student. pack<SharedWeight<float>>(model) freezes a model.
template <Real T>
struct SharedWeight {
  SharedTensor<T, 2> values;  // [N, K]

  explicit SharedWeight(Shape<2> shape) : values(shape) {}
  explicit SharedWeight(Rows<const T> w) : values(w.shape()) {
    Tensor<T, 2> copy(w.shape());
    for (Index n = 0; n < w.extent(0); ++n) std::copy_n(w[n].data(), w.extent(1), copy.view()[n].data());
    values = SharedTensor<T, 2>(std::move(copy));
  }
  static void visit(auto& v, auto&... self) { v("values", self.values...); }

  Index extent(std::size_t axis) const { return values.extent(axis); }
  const Shape<2>& shape() const { return values.shape(); }
  void multiply(Rows<const T> x, Rows<T> y, Context& ctx, const T* bias) const {
    kernels::matmul<T>(x, values.view(), y, ctx, bias);
  }
};

/// The weight (W + s B A) ⊙ M, in any layer in place of W: a frozen base, dense or packed (QLoRA), a change of rank r
/// that is trained (Hu et al. 2021, arXiv 2106.09685), and the mask of a pruned weight through which it is, so that
/// what was removed stays removed (SparseLoRA: RESSA, arXiv 2404.02424). Each pass makes the dense weight anew, 2 N K r
/// flops and N K numbers of the workspace while a layer runs, so that `merged`, which is that weight, gives the same
/// bits. The gradient by it is dense too, before it meets the mask: forming it on the kept half alone is slower on a
/// CPU.
template <Real T, class Base = SharedWeight<T>>
struct Lora {
  struct Options {
    Index rank;    // r
    double alpha;  ///< s = alpha / r.
  };

  Base base;                              // [N, K]
  Mask mask{Shape<2>{0, 0}};              // [N, K], or [0, 0] where nothing is removed
  Tensor<T, 2> a, b;                      // [r, K], [N, r]
  SharedTensor<T, 1> scale{Shape<1>{1}};  // s

  /// Of this shape and without content.
  explicit Lora(Shape<2> shape) : base(shape), a({0, shape[1]}), b({shape[0], 0}) {}
  /// A is uniform within 1 / √K, B is 0: nothing has changed yet. Throws OptionError for a negative rank, one of 0 with
  /// an alpha, or an alpha that is no number; ShapeError for a mask of another shape.
  Lora(Base w, const Options& o, Rng rng, Mask m = Mask(Shape<2>{0, 0}))
      : base(std::move(w)), mask(std::move(m)), a({checked(o).rank, base.extent(1)}), b({base.extent(0), o.rank}) {
    if (mask.size()) expect_shape(mask.view(), shape(), "Lora: mask");
    const double limit = 1 / std::sqrt(static_cast<double>(base.extent(1)));
    for (T& v : a.flat()) v = T(rng.uniform(-limit, limit));
    Tensor<T, 1> s({1});
    s.flat()[0] = T(o.rank ? o.alpha / static_cast<double>(o.rank) : 0);
    scale = SharedTensor<T, 1>(std::move(s));
  }
  static void visit(auto& v, auto&... self) {
    v("base", self.base...);
    if (detail::all_have("mask", self.mask.size()...)) v("mask", self.mask...);
    v("a", self.a...);
    v("b", self.b...);
    v("scale", self.scale...);
  }

  Index extent(std::size_t axis) const { return base.extent(axis); }
  const Shape<2>& shape() const { return base.shape(); }
  Index rank() const { return a.extent(0); }

  void multiply(Rows<const T> x, Rows<T> y, Context& ctx, const T* bias) const {
    const auto scope = ctx.workspace.scope();
    kernels::matmul<T>(x, dense(ctx), y, ctx, bias);
  }

  Rows<const T> dense(Context& ctx) const {
    const Index rows = extent(0), columns = extent(1);
    auto w = ctx.workspace.take<T>(rows, columns);
    const auto scope = ctx.workspace.scope();
    auto change = ctx.workspace.take<T>(rows, columns);
    constexpr bool kPacked = !std::same_as<Base, SharedWeight<T>>;
    if constexpr (kPacked) base.unpack(w);
    const Rows<const T> left = b, right = a;
    kernels::multiply<T>({.a = left, .b = right, .c = change, .store = kernels::Store::overwrite}, ctx);
    const T s = scale.data()[0];
    kernels::for_each_row(rows, columns, ctx, [&](Index n) {
      const T* const add = change[n].data();
      const std::uint8_t* const stays = mask.size() ? mask.view()[n].data() : nullptr;
      T* const to = w[n].data();
      const T* from = to;
      if constexpr (!kPacked) from = base.values.view()[n].data();
      for (Index k = 0; k < columns; ++k)
        to[k] = stays && !stays[k] ? T(0) : rank() ? T(from[k] + s * add[k]) : from[k];
    });
    return w;
  }

  /// dB += s (G ⊙ M) Aᵀ, dA += s Bᵀ (G ⊙ M). // dweight = G [N, K], overwritten
  void backward(Rows<T> dweight, Lora& grad, Context& ctx) const {
    expect_shape(grad.a.view(), a.shape(), "Lora::backward: grad.a");
    expect_shape(grad.b.view(), b.shape(), "Lora::backward: grad.b");
    if (rank() == 0) return;
    const T s = scale.data()[0];
    kernels::for_each_row(extent(0), extent(1), ctx, [&](Index n) {
      const std::uint8_t* const stays = mask.size() ? mask.view()[n].data() : nullptr;
      T* const to = dweight[n].data();
      for (Index k = 0; k < extent(1); ++k) to[k] = stays && !stays[k] ? T(0) : T(s * to[k]);
    });
    using kernels::Operand, kernels::Store;
    const Operand<T> g(dweight), left(b.view()), right(a.view());
    kernels::multiply<T>({.a = g, .b = transpose(right), .c = grad.b, .store = Store::add}, ctx);
    kernels::multiply<T>({.a = transpose(left), .b = g, .c = grad.a, .store = Store::add}, ctx);
  }

  /// The weight that it stands for, of its own.
  Tensor<T, 2> merged(Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const auto w = dense(ctx);
    Tensor<T, 2> copy(shape());
    std::copy_n(w.data(), w.size(), copy.data());
    return copy;
  }

 private:
  static const Options& checked(const Options& o) {
    expect_option(o.rank >= 0, "Lora", "rank", o.rank, "at least 0");
    expect_rate("Lora", "alpha", o.alpha);
    return o;
  }
};

/// What adapters the weights get whose path matches; the first rule that does counts.
struct LoraRule {
  std::string weights = "*";  ///< See PathPattern.
  Index rank = 8;
  double alpha = 16;
};

namespace detail {
struct LoraTo {
  const ParamPaths& path;
  const std::vector<LoraRule>& rules;
  const Masks& masks;
  Rng::State at;

  template <Real T>
  auto operator()(const Tensor<T, 2>& w) const {
    return adapted<T>(SharedWeight<T>(w), path(&w));
  }
  template <Real T>
  auto operator()(const SharedWeight<T>& w) const {
    return adapted<T>(w, without_values(path(&w.values)));
  }
  template <PackedFormat F>
  auto operator()(const Packed<F>& w) const {
    return adapted<float>(w, without_values(path(&w.values)));
  }

 private:
  static std::string_view without_values(std::string_view path) { return path.substr(0, path.rfind('.')); }

  template <Real T, class Base>
  Lora<T, Base> adapted(Base base, std::string_view name) const {
    typename Lora<T, Base>::Options options{.rank = 0, .alpha = 0};
    for (const LoraRule& rule : rules)
      if (PathPattern(rule.weights).matches(name)) {
        options = {.rank = rule.rank, .alpha = rule.alpha};
        break;
      }
    const Mask* const mask = masks.find(name);
    return Lora<T, Base>(std::move(base), options, Rng(at.seed, init::detail::stream_of(name, at.stream)),
                         mask ? *mask : Mask(Shape<2>{0, 0}));
  }
};

struct LoraMerge {
  Context& ctx;
  template <Real T, class Base>
  Tensor<T, 2> operator()(const Lora<T, Base>& w) const {
    return w.merged(ctx);
  }
};
}  // namespace detail

/// The model with adapters in place of its weights: dense, frozen or packed ones. Frozen and packed weights are shared
/// with the model. A weight that no rule matches gets rank 0: it is frozen, and masked. What else the model has can be
/// trained as before, unless Trainable::only(lora_parameters()) says otherwise. Draws one stream.
template <class M>
auto add_lora(const M& model, const std::vector<LoraRule>& rules, const Masks& masks, Rng& rng) {
  const ParamPaths paths(model);
  return with_weights(model, detail::LoraTo{paths, rules, masks, rng.next_stream().state()});
}

/// For Trainable::only.
inline std::vector<std::string> lora_parameters() { return {"*.a", "*.b"}; }

/// The model with dense weights again, the adapters in them; what the masks removed is 0. Results stay as they were, to
/// the bit.
template <class M>
auto merge_lora(const M& model, Context& ctx) {
  return with_weights(model, detail::LoraMerge{ctx});
}

}  // namespace gatefold
