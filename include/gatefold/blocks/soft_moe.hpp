#pragma once
#include <vector>

#include "gatefold/kernels/dispatch.hpp"
#include "gatefold/kernels/softmax.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/simd/long_sum.hpp"

namespace gatefold {

/// Soft mixture of experts (Puigcerver et al. 2024): an expert's slot reads a convex mix of all tokens of a sequence,
/// and a token a convex mix of all slots, so nothing is dropped and nothing is sorted. With x^ and mu^ normalised over
/// D, logits a = scale <x^, mu^>; dispatch = softmax of a over the tokens of a sequence, combine = softmax of a over
/// the slots. The slots read x itself, not x^. Padding is neither read nor written: its y is 0.
///
/// Sequences are those of ctx.layout, else all rows are one. A NaN spreads through its own sequence, since tokens mix,
/// and no further. 8 R N D flops forward besides the experts; keeps x^ [R, D], 3 R N and 2 B N D. Here N = E * slots
/// of each expert, expert-major.
template <class L>
struct SoftMoe {
  static_assert(Expert<L>, "SoftMoe: an expert is a layer that can be trained");
  using T = typename L::Scalar;
  using Scalar = T;
  static constexpr bool kMixesRows = true;
  struct Options {
    Index width = 0, num_experts = 0, slots_per_expert = 1;  // D, E
  };
  struct Saved {
    Rows<const T> x;                              // [R, D] 0 for padding
    Rows<const T> unit_x;                         // [R, D]
    Rows<const T> unit_mu;                        // [N, D]
    View<const T, 1> norm_x;                      // [R] 1 / the norm
    View<const T, 1> norm_mu;                     // [N]
    Rows<const T> cosine;                         // [R, N]
    Rows<const T> dispatch;                       // [R, N]
    Rows<const T> combine;                        // [R, N]
    Rows<const T> ys;                             // [B N, D] outputs of the slots, by sequence
    View<const Index, 1> by_expert, by_sequence;  // [B N] the row of one order in the other
    View<typename L::Saved, 1> experts;           // [E]
    const TokenLayout* layout = nullptr;
  };

  Options options;
  Tensor<T, 2> mu;         // [N, D]
  Tensor<T, 1> scale;      // [1]
  std::vector<L> experts;  // [E]

  /// All experts start as copies of one, mu at 0, scale at 1. Throws OptionError for sizes below 1.
  SoftMoe(const Options& o, const L& prototype)
      : options(checked(o)),
        mu({o.num_experts * o.slots_per_expert, o.width}),
        scale({1}),
        experts(static_cast<std::size_t>(o.num_experts), prototype) {
    scale.data()[0] = T(1);
  }

  static void visit(auto& v, auto&... self) {
    v("mu", self.mu...);
    v("scale", self.scale...);
    v("experts", self.experts...);
  }
  Index num_slots() const { return mu.extent(0); }

  /// x, y [R, D]
  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    const Index rows = x.extent(0), slots = num_slots(), width = options.width;
    expect_shape(x, {rows, width}, "SoftMoe::forward: x");
    expect_shape(y, {rows, width}, "SoftMoe::forward: y");
    expect_own_shapes();
    if (ctx.layout) {
      expect_shape(ctx.layout->modality, {rows}, "SoftMoe::forward: ctx.layout->modality");
      const Index first = ctx.layout->offset[0], last = ctx.layout->offset[ctx.layout->num_sequences()];
      if (first != 0 || last != rows)
        throw ShapeError("SoftMoe::forward: the sequences of ctx.layout own the rows [" + std::to_string(first) + ", " +
                         std::to_string(last) + "), expected [0, " + std::to_string(rows) + ")");
    }
    auto& ws = ctx.workspace;
    Saved saved;
    saved.layout = keep_layout(ctx);
    saved.x = without_padding(x, saved, ctx);
    auto unit_x = ws.template take<T>(rows, width), unit_mu = ws.template take<T>(slots, width);
    auto norm_x = ws.template take<T>(rows), norm_mu = ws.template take<T>(slots);
    normalise(saved.x, unit_x, norm_x, ctx);
    normalise(mu, unit_mu, norm_mu, ctx);
    saved.unit_x = unit_x, saved.unit_mu = unit_mu, saved.norm_x = norm_x, saved.norm_mu = norm_mu;

    auto cosine = ws.template take<T>(rows, slots), combine = ws.template take<T>(rows, slots);
    auto dispatch = ws.template take<T>(rows, slots);
    kernels::matmul<T>(unit_x, unit_mu, cosine, ctx);
    const T gamma = scale.data()[0];
    kernels::for_each_row(rows, slots, ctx, [&](Index row) {
      if (padding(saved, row)) return void(std::fill_n(combine[row].data(), slots, T(0)));
      for (Index n = 0; n < slots; ++n) combine(row, n) = gamma * cosine(row, n);
      kernels::softmax_row<T>(ctx.isa, slots, T(1), combine[row].data(), combine[row].data());
    });
    softmax_over_tokens(saved, cosine, dispatch, ctx);
    saved.cosine = cosine, saved.combine = combine, saved.dispatch = dispatch;

    const Index sequences = num_sequences(saved), all = sequences * slots;
    order_slots(saved, ctx);
    saved.experts = ws.template take<typename L::Saved>(options.num_experts);
    auto ys = ws.template take<T>(all, width), expert_x = ws.template take<T>(all, width);
    saved.ys = ys;
    auto expert_y = ws.template take<T>(all, width), mixed = ws.template take_zeroed<T>(all, width);
    for (Index b = 0; b < sequences; ++b) {
      const auto [begin, end] = sequence(saved, b);
      kernels::add_matmul_grad_weight<T>(dispatch.rows(begin, end), saved.x.rows(begin, end),
                                         mixed.rows(b * slots, (b + 1) * slots), ctx);
    }
    kernels::gather_rows<T>(mixed, saved.by_expert, expert_x, ctx);
    for (Index e = 0; e < options.num_experts; ++e) {
      const auto [begin, end] = slots_of_expert(saved, e);
      saved.experts[e] = expert(e).forward(expert_x.rows(begin, end), expert_y.rows(begin, end), ctx);
    }
    kernels::gather_rows<T>(expert_y, saved.by_sequence, ys, ctx);
    for (Index b = 0; b < sequences; ++b) {
      const auto [begin, end] = sequence(saved, b);
      kernels::matmul_grad_input<T>(combine.rows(begin, end), ys.rows(b * slots, (b + 1) * slots), y.rows(begin, end),
                                    ctx);
    }
    clear_padding(y, saved, ctx);
    return saved;
  }

  /// dy, dx [R, D]
  void backward(const Saved& saved, Rows<const T> dy_in, Rows<T> dx, SoftMoe& grad, Context& ctx) const {
    const Index rows = saved.x.extent(0), slots = num_slots(), width = options.width;
    expect_shape(dy_in, {rows, width}, "SoftMoe::backward: dy");
    expect_shape(dx, {rows, width}, "SoftMoe::backward: dx");
    grad.expect_own_shapes();
    auto& ws = ctx.workspace;
    const auto scope = ws.scope();
    const Index sequences = num_sequences(saved), all = sequences * slots;
    const auto dy = without_padding(dy_in, saved, ctx);
    auto dcosine = ws.template take<T>(rows, slots), ddispatch = ws.template take<T>(rows, slots);
    auto dys = ws.template take_zeroed<T>(all, width), dmixed = ws.template take<T>(all, width);
    auto expert_dy = ws.template take<T>(all, width), expert_dx = ws.template take<T>(all, width);
    for (Index b = 0; b < sequences; ++b) {
      const auto [begin, end] = sequence(saved, b);
      const auto part = dys.rows(b * slots, (b + 1) * slots);
      kernels::matmul<T>(dy.rows(begin, end), saved.ys.rows(b * slots, (b + 1) * slots), dcosine.rows(begin, end), ctx);
      kernels::add_matmul_grad_weight<T>(saved.combine.rows(begin, end), dy.rows(begin, end), part, ctx);
    }
    kernels::gather_rows<T>(dys, saved.by_expert, expert_dy, ctx);
    for (Index e = 0; e < options.num_experts; ++e) {
      const auto [begin, end] = slots_of_expert(saved, e);
      expert(e).backward(saved.experts[e], expert_dy.rows(begin, end), expert_dx.rows(begin, end),
                         grad.experts[static_cast<std::size_t>(e)], ctx);
    }
    kernels::gather_rows<T>(expert_dx, saved.by_sequence, dmixed, ctx);
    for (Index b = 0; b < sequences; ++b) {
      const auto [begin, end] = sequence(saved, b);
      const auto part = dmixed.rows(b * slots, (b + 1) * slots);
      kernels::matmul<T>(saved.x.rows(begin, end), part, ddispatch.rows(begin, end), ctx);
      kernels::matmul_grad_input<T>(saved.dispatch.rows(begin, end), part, dx.rows(begin, end), ctx);
    }

    // From both softmaxes to their common logits, a = scale * cosine, and on to scale and cosine.
    softmax_over_tokens_grad(saved, ddispatch, ctx);
    auto dscale = ws.template take<T>(rows);
    const T gamma = scale.data()[0];
    kernels::for_each_row(rows, slots, ctx, [&](Index row) {
      T* const da = dcosine[row].data();
      dscale[row] = T(0);
      if (padding(saved, row)) return void(std::fill_n(da, slots, T(0)));
      kernels::softmax_row_grad<T>(ctx.isa, slots, T(1), saved.combine[row].data(), da, da);
      for (Index n = 0; n < slots; ++n) {
        da[n] = da[n] + ddispatch(row, n);
        dscale[row] = dscale[row] + da[n] * saved.cosine(row, n);
        da[n] = gamma * da[n];
      }
    });
    kernels::LongSum<T> dscale_sum;
    for (Index row = 0; row < rows; ++row) dscale_sum.add(dscale[row]);
    grad.scale.data()[0] = grad.scale.data()[0] + dscale_sum.value();

    auto dunit_x = ws.template take<T>(rows, width), dunit_mu = ws.template take_zeroed<T>(slots, width);
    kernels::matmul_grad_input<T>(dcosine, saved.unit_mu, dunit_x, ctx);
    kernels::add_matmul_grad_weight<T>(dcosine, saved.unit_x, dunit_mu, ctx);
    add_normalise_grad(saved.unit_x, saved.norm_x, dunit_x, dx, ctx);
    add_normalise_grad(saved.unit_mu, saved.norm_mu, dunit_mu, grad.mu, ctx);
    clear_padding(dx, saved, ctx);
  }

 private:
  static const Options& checked(const Options& o) {
    expect_size("SoftMoe", "width", o.width);
    expect_size("SoftMoe", "num_experts", o.num_experts);
    expect_size("SoftMoe", "slots_per_expert", o.slots_per_expert);
    return o;
  }
  /// Parameters that were assigned, or moved from.
  void expect_own_shapes() const {
    expect_shape(mu.view(), {options.num_experts * options.slots_per_expert, options.width}, "SoftMoe: mu");
    expect_shape(scale.view(), {1}, "SoftMoe: scale");
    expect_one_expert_each(experts);
  }
  void expect_one_expert_each(const std::vector<L>& those) const {
    expect_option(static_cast<Index>(those.size()) == options.num_experts, "SoftMoe", "the number of experts",
                  those.size(), "num_experts");
  }

  const L& expert(Index e) const { return experts[static_cast<std::size_t>(e)]; }
  static bool padding(const Saved& saved, Index row) { return saved.layout && saved.layout->modality[row] == kPadding; }
  static Index num_sequences(const Saved& saved) { return saved.layout ? saved.layout->num_sequences() : 1; }
  static std::pair<Index, Index> sequence(const Saved& saved, Index b) {
    if (!saved.layout) return {0, saved.x.extent(0)};
    return {saved.layout->offset[b], saved.layout->offset[b + 1]};
  }
  std::pair<Index, Index> slots_of_expert(const Saved& saved, Index e) const {
    const Index n = num_sequences(saved) * options.slots_per_expert;
    return {e * n, (e + 1) * n};
  }

  /// The experts want their slots of all sequences side by side, the products with tokens those of one sequence.
  void order_slots(Saved& saved, Context& ctx) const {
    const Index sequences = num_sequences(saved), slots = num_slots(), each = options.slots_per_expert;
    auto by_expert = ctx.workspace.template take<Index>(sequences * slots);
    auto by_sequence = ctx.workspace.template take<Index>(sequences * slots);
    for (Index b = 0; b < sequences; ++b)
      for (Index n = 0; n < slots; ++n) {
        const Index in_expert = ((n / each) * sequences + b) * each + n % each;
        by_expert[in_expert] = b * slots + n;
        by_sequence[b * slots + n] = in_expert;
      }
    saved.by_expert = by_expert, saved.by_sequence = by_sequence;
  }

  /// x, or a copy whose padding is 0, whatever it held.
  static Rows<const T> without_padding(Rows<const T> x, const Saved& saved, Context& ctx) {
    if (!saved.layout) return x;
    auto copy = ctx.workspace.template take<T>(x.extent(0), x.extent(1));
    kernels::copy_rows<T>(x, copy, ctx);
    clear_padding(copy, saved, ctx);
    return copy;
  }
  static void clear_padding(Rows<T> x, const Saved& saved, Context& ctx) {
    if (!saved.layout) return;
    kernels::for_each_row(x.extent(0), x.extent(1), ctx, [&](Index row) {
      if (padding(saved, row)) std::fill_n(x[row].data(), x.extent(1), T(0));
    });
  }

  static constexpr double kEpsilon = 1e-6;  // as in the reference; a zero row gives a zero unit row

  /// u = v r with r = (sum v^2 + eps)^(-1/2).
  static void normalise(Rows<const T> v, Rows<T> unit, View<T, 1> r, Context& ctx) {
    kernels::for_each_row(v.extent(0), v.extent(1), ctx, [&](Index row) {
      using std::sqrt;
      const T squares = kernels::simd::sum<T>(
          ctx.isa, v.extent(1), [](auto a) { return a * a; }, v[row].data());
      const T inverse = T(1) / sqrt(squares + T(kEpsilon));
      r[row] = inverse;
      for (Index d = 0; d < v.extent(1); ++d) unit(row, d) = v(row, d) * inverse;
    });
  }
  /// dv += r (du - u <u, du>), exact including eps.
  static void add_normalise_grad(Rows<const T> unit, View<const T, 1> r, Rows<const T> dunit, Rows<T> dv,
                                 Context& ctx) {
    kernels::for_each_row(unit.extent(0), unit.extent(1), ctx, [&](Index row) {
      const T along = kernels::simd::sum<T>(
          ctx.isa, unit.extent(1), [](auto a, auto b) { return a * b; }, unit[row].data(), dunit[row].data());
      for (Index d = 0; d < unit.extent(1); ++d)
        dv(row, d) = dv(row, d) + r[row] * (dunit(row, d) - unit(row, d) * along);
    });
  }

  // Columns are cut into strips of kStrip, so that reading row after row stays within cache lines.
  static constexpr Index kStrip = 16;
  /// body(first row, end row, first column, end column) for each strip of each sequence, in parallel.
  void for_each_strip(const Saved& saved, Context& ctx, auto&& body) const {
    const Index strips = (num_slots() + kStrip - 1) / kStrip;
    ctx.parallel_for(num_sequences(saved) * strips, [&](Index first, Index last, Index) {
      for (Index i = first; i < last; ++i) {
        const auto [begin, end] = sequence(saved, i / strips);
        const Index n = i % strips * kStrip;
        body(begin, end, n, std::min(n + kStrip, num_slots()));
      }
    });
  }

  /// total[i] += the sum over the rows [begin, end) of term(row, i).
  static void add_chains(Index begin, Index end, std::array<T, kStrip>& total, auto&& term) {
    for (Index row0 = begin; row0 < end; row0 += kernels::kChain) {
      std::array<T, kStrip> chain{};
      for (Index row = row0; row < std::min(end, row0 + kernels::kChain); ++row)
        for (std::size_t i = 0; i < chain.size(); ++i) chain[i] = chain[i] + term(row, i);
      for (std::size_t i = 0; i < chain.size(); ++i) total[i] = total[i] + chain[i];
    }
  }

  void softmax_over_tokens(const Saved& saved, Rows<const T> cosine, Rows<T> dispatch, Context& ctx) const {
    const T gamma = scale.data()[0];
    for_each_strip(saved, ctx, [&](Index begin, Index end, Index n0, Index n1) {
      using std::exp;
      std::array<T, kStrip> most{}, total{};
      bool first = true;
      for (Index row = begin; row < end; ++row) {
        if (padding(saved, row)) continue;
        for (Index n = n0; n < n1; ++n) {
          auto& m = most[static_cast<std::size_t>(n - n0)];
          const T a = gamma * cosine(row, n);
          if (first || m < a) m = a;
        }
        first = false;
      }
      add_chains(begin, end, total, [&](Index row, std::size_t i) {
        const Index n = n0 + static_cast<Index>(i);
        if (n >= n1) return T(0);
        return dispatch(row, n) = padding(saved, row) ? T(0) : T(exp(gamma * cosine(row, n) - most[i]));
      });
      for (Index row = begin; row < end; ++row) {
        if (padding(saved, row)) continue;
        for (Index n = n0; n < n1; ++n) dispatch(row, n) = dispatch(row, n) / total[static_cast<std::size_t>(n - n0)];
      }
    });
  }
  /// d becomes dispatch (d - sum over tokens of dispatch d).
  void softmax_over_tokens_grad(const Saved& saved, Rows<T> d, Context& ctx) const {
    for_each_strip(saved, ctx, [&](Index begin, Index end, Index n0, Index n1) {
      std::array<T, kStrip> mean{};
      add_chains(begin, end, mean, [&](Index row, std::size_t i) {
        const Index n = n0 + static_cast<Index>(i);
        return n < n1 ? saved.dispatch(row, n) * d(row, n) : T(0);
      });
      for (Index row = begin; row < end; ++row)
        for (Index n = n0; n < n1; ++n)
          d(row, n) = saved.dispatch(row, n) * (d(row, n) - mean[static_cast<std::size_t>(n - n0)]);
    });
  }
};

}  // namespace gatefold
