#pragma once
#include "gatefold/module/decode.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// y = a(x) + b(x): two branches side by side, such as a mixture and an expert that all tokens share
/// (Sum<SparseMlp<…>, GatedMlp<T>>, as DeepSeek-V3 has it). Keeps what the two keep; where one of them cannot be
/// trained, nothing.
template <class A, class B>
struct Sum {
  static_assert(ForwardLayer<A> && ForwardLayer<B>, "Sum is of two layers");
  static_assert(std::same_as<typename A::Scalar, typename B::Scalar>, "Sum: two layers of one scalar");
  using Scalar = typename A::Scalar;
  struct Kept {
    typename A::Saved a;
    typename B::Saved b;
  };
  static constexpr bool kTrainable = Layer<A> && Layer<B>, kMixesRows = MixesRows<A> || MixesRows<B>;
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  A a;
  B b;

  Sum(A first, B second) : a(std::move(first)), b(std::move(second)) {}
  static void visit(auto& v, auto&... self) {
    v("a", self.a...);
    v("b", self.b...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) {
    v("a", self.a, saved.a...);
    v("b", self.b, saved.b...);
  }

  Index out() const requires SaysWidth<A> { return a.out(); }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] {
      auto other = ctx.workspace.template take<Scalar>(y.extent(0), y.extent(1));
      const auto saved_a = a.forward(x, y, ctx);
      const auto saved_b = b.forward(x, other, ctx);
      kernels::add_rows<Scalar>(other, y, ctx);
      return Kept{saved_a, saved_b};
    });
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, Sum& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    auto other = ctx.workspace.template take<Scalar>(dx.extent(0), dx.extent(1));
    a.backward(saved.a, dy, dx, grad.a, ctx);
    b.backward(saved.b, dy, other, grad.b, ctx);
    kernels::add_rows<Scalar>(other, dx, ctx);
  }

  template <class F>
  auto cache(const CacheOptions& o) const requires(Remembers<A> || Remembers<B>) {
    return std::tuple(make_cache<F>(a, o), make_cache<F>(b, o));
  }
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache, Context& ctx) const
      requires(Remembers<A> || Remembers<B>) {
    auto other = ctx.workspace.template take<Scalar>(y.extent(0), y.extent(1));
    decode_part(a, x, y, std::get<0>(cache), ctx);
    decode_part(b, x, other, std::get<1>(cache), ctx);
    kernels::add_rows<Scalar>(other, y, ctx);
  }

  template <class To>
  auto over(const To& to) const {
    return Sum<decltype(with_weights_if_any(a, to)), decltype(with_weights_if_any(b, to))>(with_weights_if_any(a, to),
                                                                                           with_weights_if_any(b, to));
  }
};

}  // namespace gatefold
