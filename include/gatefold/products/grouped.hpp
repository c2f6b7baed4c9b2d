#pragma once
#include "gatefold/module/grouped_expert.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/simd/long_sum.hpp"

/// Products of many experts at once, each on its own rows: lists for multiply_all. An expert without rows has no entry.
namespace gatefold::kernels {

/// Rows of x that expert e reads. // [rows of e, D]
template <Real T>
Operand<T> expert_rows(Rows<const T> x, const SlotRows& slots, Index e) {
  const Index begin = slots.offset[e], end = slots.offset[e + 1];
  return slots.token.size() ? Operand<T>(x, slots.token.rows(begin, end)) : Operand<T>(x.rows(begin, end));
}

/// Where the hidden units of many experts lie, each as wide as its own net: first all rows of expert 0, then those of
/// expert 1. For experts of equal width this is one matrix [N, H].
class HiddenRows {
 public:
  HiddenRows() = default;
  /// Expert e has width_of(e) hidden units.
  template <class WidthOf>
  HiddenRows(const SlotRows& slots, WidthOf&& width_of, Workspace& workspace) : slot_(slots.offset) {
    auto begin = workspace.take<Index>(slots.num_experts() + 1);
    begin[0] = 0;
    for (Index e = 0; e < slots.num_experts(); ++e) begin[e + 1] = begin[e] + slots.count(e) * width_of(e);
    begin_ = begin;
  }

  Index num_experts() const { return slot_.extent(0) - 1; }
  Index num_rows() const { return slot_[num_experts()]; }
  /// Of all experts.
  Index num_units() const { return begin_[num_experts()]; }
  /// H_e, or 0 for an expert without rows.
  Index width(Index e) const {
    const Index rows = slot_[e + 1] - slot_[e];
    return rows ? (begin_[e + 1] - begin_[e]) / rows : 0;
  }
  /// The part of `units` // [num_units] that belongs to expert e. // [rows of e, H_e]
  template <class T>
  Rows<T> of(View<T, 1> units, Index e) const {
    return {units.data() + begin_[e], {slot_[e + 1] - slot_[e], width(e)}};
  }
  /// y = f(x...), element by element. // all [num_units]
  template <class T, class F, class... X>
  void map(View<T, 1> y, Context& ctx, F&& f, const X&... x) const {
    const Index rows = num_rows(), step = rows_per_task(rows ? num_units() / rows : 0);
    ctx.parallel_for((rows + step - 1) / step, [&](Index first, Index last, Index) {
      Index row = first * step;
      const Index end = std::min(rows, last * step);
      for (Index e = std::upper_bound(slot_.data(), slot_.data() + slot_.extent(0), row) - slot_.data() - 1; row < end;
           ++e) {
        const Index n = width(e);
        for (; row < std::min(end, slot_[e + 1]); ++row) {
          const Index at = begin_[e] + (row - slot_[e]) * n;
          simd::transform<T>(ctx.isa, n, f, y.data() + at, (x.data() + at)...);
        }
      }
    });
  }

 private:
  View<const Index, 1> slot_;   // [E+1] where the rows of each expert begin
  View<const Index, 1> begin_;  // [E+1] where their units do
};

/// Which of many nets a message speaks of.
struct NetOfMany {
  std::string_view place;  // «Mlp: »
  Index expert = 0, num_experts = 1;
};

/// Throws ShapeError «Mlp: experts[1].up.weight has shape [64, 24], expected [64, 32]» unless the shapes are equal. The
/// name comes in two parts, so that nothing is put together until it is needed.
template <std::size_t Rank>
void expect_part(const Shape<Rank>& shape, const std::type_identity_t<Shape<Rank>>& wanted, const NetOfMany& net,
                 std::string_view layer, std::string_view part) {
  if (shape == wanted) [[likely]]
    return;
  std::string text(net.place);
  if (net.num_experts > 1) text += "experts[" + std::to_string(net.expert) + "].";
  text.append(layer).append(part).append(" has shape ").append(to_string<Rank>(shape));
  throw ShapeError(text.append(", expected ").append(to_string<Rank>(wanted)));
}

/// Throws ShapeError unless the linear layer has this weight // [out, in] and a bias that fits it, or none.
template <class L>
void expect_linear(const L& linear, const Shape<2>& wanted, const NetOfMany& net, std::string_view name) {
  expect_part(Shape<2>{linear.out(), linear.in()}, wanted, net, name, ".weight");
  if (linear.bias.size()) expect_part(linear.bias.shape(), {wanted[0]}, net, name, ".bias");
}
/// Throws ShapeError unless the gradient has the shapes of its layer.
template <class L>
void expect_gradient(const L& grad, const L& linear, const NetOfMany& net, std::string_view name) {
  expect_part(grad.weight.shape(), linear.weight.shape(), net, name, ".weight");
  expect_part(grad.bias.shape(), linear.bias.shape(), net, name, ".bias");
}

/// A list of products that is filled and then run.
template <Real T>
class ProductList {
 public:
  ProductList(Index most, Workspace& workspace) : products_(workspace.take<Product<T>>(most)) {}

  void add(const Product<T>& product) { products_[size_++] = product; }
  /// Epilogue: done(product number in the order of `add`, its rows i0..i1 and columns j0..j1).
  template <class Done>
  void run(Context& ctx, Done&& done) const {
    multiply_all<T>({products_.data(), static_cast<std::size_t>(size_)}, ctx, done);
  }
  void run(Context& ctx) const {
    run(ctx, [](const ProductBlock&) {});
  }
  const Product<T>& operator[](std::size_t i) const { return products_.data()[i]; }

 private:
  View<Product<T>, 1> products_;
  Index size_ = 0;
};

}  // namespace gatefold::kernels
