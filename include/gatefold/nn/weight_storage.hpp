#pragma once
#include "gatefold/kernels/dispatch.hpp"
#include "gatefold/module/gather_weights.hpp"
#include "gatefold/module/grouped_expert.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/products/packed.hpp"

namespace gatefold {

namespace detail {
/// What Tensor<T, 2> would have as a storage, if core knew of products. Never defined: so the concept below is no «or»,
/// of which compilers do not say what is missing.
template <class T>
struct DenseModule {
  explicit DenseModule(Shape<2>);
  static void visit(auto&, auto&...);
  Index extent(std::size_t) const;
  void multiply(Rows<const T>, Rows<T>, Context&, const T*) const;
};
template <class W, class T>
using AsStorage = std::conditional_t<std::same_as<W, Tensor<T, 2>>, DenseModule<T>, W>;
}  // namespace detail

/// What a layer keeps a weight [N, K] in: a dense Tensor<T, 2>, or a module of shape (extent) [N, K], made of that
/// shape before a checkpoint is read into it, that multiplies by itself; Packed<F> is one. `multiply` overwrites y //
/// [R, N] with x weightᵀ (+ bias); x // [R, K], bias // [N] or null. One that is also made of dense weights (Rows<const
/// T>) can be had by pack<Storage>(model).
template <class W, class T>
concept WeightStorage = Module<detail::AsStorage<W, T>> && std::constructible_from<detail::AsStorage<W, T>, Shape<2>> &&
    requires(const detail::AsStorage<W, T>& weight, Rows<const T> x, Rows<T> y, Context& ctx, const T* bias) {
  { weight.extent(std::size_t{}) } -> std::convertible_to<Index>;
  { weight.multiply(x, y, ctx, bias) } -> std::same_as<void>;
};
template <class W, class T>
concept DenseStorage = std::same_as<W, Tensor<T, 2>>;

/// A storage that is trained without being a dense tensor: for each pass it makes the weight that it stands for, and it
/// takes the gradient by that. adapt/lora.hpp has one.
///   Rows<const T> dense(Context&) const;                      // [N, K] in the workspace
///   void backward(Rows<T> dweight, W& grad, Context&) const;  // adds to grad; may overwrite dweight // [N, K]
///   const Shape<2>& shape() const;
/// What of it is frozen is a SharedTensor: gradients and moments share it, and nothing that trains writes to it.
template <class W, class T>
concept DerivedStorage = WeightStorage<W, T> && requires(const W& weight, W& grad, Rows<T> dweight, Context& ctx) {
  { weight.dense(ctx) } -> std::same_as<Rows<const T>>;
  { weight.backward(dweight, grad, ctx) } -> std::same_as<void>;
  { weight.shape() } -> std::convertible_to<Shape<2>>;
};
/// Storages that a layer can be trained over; all others are for inference.
template <class W, class T>
concept TrainableStorage = DenseStorage<W, T> || DerivedStorage<W, T>;

namespace detail {
/// What a product takes of a weight; of a derived one, as long as the scope around the call lives. // [N, K]
template <Real T, TrainableStorage<T> W>
Rows<const T> dense_weight(const W& weight, Context& ctx) {
  if constexpr (DenseStorage<W, T>)
    return weight;
  else
    return weight.dense(ctx);
}
/// Where products add the gradient by a weight: the gradient itself or, of a derived one, zeros for take_gradient. //
/// [N, K]
template <Real T, TrainableStorage<T> W>
Rows<T> gradient_room(W& grad, Context& ctx) {
  if constexpr (DenseStorage<W, T>)
    return grad;
  else
    return ctx.workspace.take_zeroed<T>(grad.extent(0), grad.extent(1));
}
/// What was added there reaches the gradient.
template <Real T, TrainableStorage<T> W>
void take_gradient(const W& weight, Rows<T> dweight, W& grad, Context& ctx) {
  if constexpr (!DenseStorage<W, T>) weight.backward(dweight, grad, ctx);
}
}  // namespace detail

namespace detail {
template <class W>
inline constexpr bool is_packed = false;
template <class F>
inline constexpr bool is_packed<Packed<F>> = true;

template <class F>
struct StorageOf {
  using type = F;
};
template <PackedFormat F>
struct StorageOf<F> {
  using type = Packed<F>;
};
}  // namespace detail

/// The storages that come with the library: what weights under foreign names can be read into.
template <class W, class T>
concept BuiltInStorage = DenseStorage<W, T> || detail::is_packed<W>;

/// What pack<F>(model) keeps weights in: Packed<F>, or the storage F itself.
template <class F>
using StorageOf = typename detail::StorageOf<F>::type;
template <class F, class T>
concept PackedAs = WeightStorage<StorageOf<F>, T> && std::constructible_from<StorageOf<F>, Rows<const T>>;

/// What pack<F> makes of a dense weight.
template <class F>
struct PackTo {
  template <Real T>
  requires PackedAs<F, T> StorageOf<F>
  operator()(const Tensor<T, 2>& weight) const { return StorageOf<F>(weight); }
  /// The experts of a mixture, once they are all packed.
  void finish(auto& mixture) const { gather_weights(mixture); }
};

namespace detail {
/// Experts one after the other, for a storage that no kernel takes many of: run(e, the rows of x that it sees, the rows
/// of ys that it writes). // x [S, D], ys [N, D]
template <Real T, class Run>
void for_each_expert(Rows<const T> x, const SlotRows& slots, Rows<T> ys, Context& ctx, Run&& run) {
  for (Index e = 0; e < slots.num_experts(); ++e) {
    const Index begin = slots.offset[e], end = slots.offset[e + 1];
    if (begin == end) continue;
    const auto scope = ctx.workspace.scope();
    if (slots.token.size() == 0) {
      run(e, x.rows(begin, end), ys.rows(begin, end));
      continue;
    }
    auto seen = ctx.workspace.take<T>(end - begin, x.extent(1));
    kernels::gather_rows<T>(x, slots.token.rows(begin, end), seen, ctx);
    run(e, Rows<const T>(seen), ys.rows(begin, end));
  }
}
}  // namespace detail

}  // namespace gatefold
