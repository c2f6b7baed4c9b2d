#include "gatefold/products/panel_nm.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/nn/activation.hpp"
#include "gatefold/products/packed_ffn.hpp"
#include "tests/support/alloc_guard.hpp"
#include "tests/support/packed.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::panel_nm_test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class F>
struct Of;
template <class T, int N, int M>
struct Of<Nm<T, N, M>> {
  using Dense = T;
  static constexpr int kKept = N, kOf = M;
};

/// Normal numbers, of which N of each M are kept, drawn anew for each group; some groups keep fewer.
template <class F>
Tensor<float, 2> pruned(Index n, Index k, std::uint64_t seed) {
  Rng rng(seed);
  Tensor<float, 2> w({n, k});
  for (float& v : w.flat()) v = 0;
  for (Index j = 0; j < n; ++j)
    for (Index k0 = 0; k0 < k; k0 += Of<F>::kOf) {
      Index left = rng.below(8) ? Of<F>::kKept : Of<F>::kKept - 1;
      for (Index i = 0; i < Of<F>::kOf; ++i)
        if (static_cast<Index>(rng.below(static_cast<std::uint64_t>(Of<F>::kOf - i))) < left) {
          const auto value = static_cast<float>(rng.normal());
          if (k0 + i < k) w.view()(j, k0 + i) = value;
          --left;
        }
    }
  return w;
}
Tensor<float, 2> normal(Shape<2> shape, std::uint64_t seed) {
  Rng rng(seed);
  Tensor<float, 2> x(shape);
  for (float& v : x.flat()) v = static_cast<float>(rng.normal());
  return x;
}
Context context(Isa isa, Index workers = 1) {
  Context ctx;
  ctx.isa = isa;
  if (workers > 1) ctx.parallel_for = test::threads(workers);
  return ctx;
}
bool same_bits(Rows<const float> a, Rows<const float> b) {
  for (Index i = 0; i < a.extent(0); ++i)
    if (a.extent(1) && std::memcmp(&a(i, 0), &b(i, 0), static_cast<std::size_t>(a.extent(1)) * sizeof(float)) != 0)
      return false;
  return a.shape() == b.shape();
}
template <class F>
Tensor<float, 2> multiply(const Packed<F>& w, const Tensor<float, 2>& x, Context& ctx, const float* bias = nullptr) {
  Tensor<float, 2> y({x.extent(0), w.extent(0)});
  w.multiply(x, y, ctx, bias);
  return y;
}

template <class F>
class PanelNm : public testing::Test {};
using Formats = testing::Types<Nm<float, 2, 4>, Nm<bf16, 2, 4>, Nm<int8, 2, 4>, Nm<float, 4, 8>, Nm<bf16, 4, 8>,
                               Nm<int8, 4, 8>, Nm<int8, 3, 16>, Nm<bf16, 1, 2>>;
TYPED_TEST_SUITE(PanelNm, Formats);

TYPED_TEST(PanelNm, HoldsTheDenseFormatsWeightsInFewerBytes) {
  using F = TypeParam;
  using V = kernels::NmElement<F>;
  for (const auto& [n, k] : {std::pair<Index, Index>{70, 200}, {32, 64}, {1, 1}, {33, 65}, {5, 0}}) {
    const auto w = pruned<F>(n, k, 1);
    const Packed<typename Of<F>::Dense> dense(w);
    const Packed<F> packed(w);
    EXPECT_EQ(test::unpacked(packed), test::unpacked(dense));
    const Index weights = (n + kernels::kPanel - 1) / kernels::kPanel * kernels::kPanel * kernels::padded_depth(k);
    EXPECT_EQ(packed.values.size(), weights / 8 * (8 * Index{sizeof(V)} * Of<F>::kKept + Of<F>::kOf) / Of<F>::kOf);
    EXPECT_EQ(packed.scale.flat().size(), dense.scale.flat().size());
  }
}

/// Every way to put the zeros back gives the dense panel, though what lies behind it is not written.
TYPED_TEST(PanelNm, ExpandsToTheDensePanelOnEveryPath) {
  using F = TypeParam;
  using Block = kernels::NmBlockOf<F>;
  using V = kernels::NmElement<F>;
  const auto w = pruned<F>(32, 192, 2);
  const Packed<typename Of<F>::Dense> dense(w);
  const Packed<F> packed(w);
  const auto* const blocks = reinterpret_cast<const std::byte*>(packed.values.data());
  const auto check = [&](const char* what, auto&& expand) {
    std::vector<V> to(3 * Block::kElements + 1, V(77));
    expand(to.data());
    EXPECT_EQ(std::memcmp(to.data(), dense.values.data(), 3 * Block::kElements * sizeof(V)), 0) << what;
    EXPECT_TRUE(to.back() == V(77)) << what;
  };
  check("portable", [&](V* to) { kernels::detail::expand_portable<Block>(blocks, 3, to); });
#if defined(__x86_64__)
  if (cpu().has(kX86V2)) check("ssse3", [&](V* to) { kernels::detail::expand_ssse3<Block>(blocks, 3, to); });
  if (cpu().has(kX86V4) && kernels::avx512::expands_lines<V>())
    check("avx512", [&](V* to) { kernels::avx512::expand_nm<Block>(blocks, 3, to); });
#endif
  for (const Isa isa : isas_here())
    check(std::string(name(isa)).c_str(), [&](V* to) { kernels::expand_nm<Block>(isa, blocks, 3, to); });
}

/// Bit for bit those of the dense format: few rows in streams of panels, panels that are left over, more rows, none.
TYPED_TEST(PanelNm, ProductsAreThoseOfTheDenseFormat) {
  using F = TypeParam;
  for (const auto& [m, n, k] : std::initializer_list<std::array<Index, 3>>{
           {1, 300, 65}, {2, 290, 130}, {3, 235, 33}, {4, 230, 70}, {5, 40, 200}, {17, 70, 513}, {113, 65, 64},
           {1, 32, 1}, {3, 5, 0}, {0, 33, 64}, {1, 129, 512}, {2, 0, 5}}) {
    const auto w = pruned<F>(n, k, 3);
    const Packed<typename Of<F>::Dense> dense(w);
    const Packed<F> packed(w);
    auto x = normal({m, k}, 4);
    if (m > 2 && k > 9) x.view()(1, 9) = kNan, x.view()(2, 3) = -std::numeric_limits<float>::infinity();
    const auto bias = normal({1, n}, 5);
    for (const Isa isa : isas_here())
      for (const float* const b : {static_cast<const float*>(nullptr), bias.data()}) {
        auto ctx = context(isa);
        const auto wanted = multiply(dense, x, ctx, b), y = multiply(packed, x, ctx, b);
        for (Index i = 0; i < m; ++i)
          for (Index j = 0; j < n; ++j) {
            const float came = y.view()(i, j), want = wanted.view()(i, j);
            ASSERT_TRUE(std::isnan(want) ? std::isnan(came) : std::bit_cast<std::uint32_t>(came) ==
                                                                  std::bit_cast<std::uint32_t>(want))
                << name(isa) << ", " << m << " x " << n << " x " << k << ": row " << i << ", output " << j;
          }
        for (const Index workers : {2, 7}) {
          auto parallel = context(isa, workers);
          if (m == 1 || m == 113) {
            ASSERT_TRUE(same_bits(multiply(packed, x, parallel, b), y)) << name(isa);
          }
        }
      }
  }
}

TYPED_TEST(PanelNm, ARowIsTheSameAloneAndAmongOthers) {
  using F = TypeParam;
  const Packed<F> w(pruned<F>(140, 200, 6));
  const auto x = normal({40, 200}, 7);
  for (const Isa isa : isas_here()) {
    auto ctx = context(isa);
    const auto all = multiply(w, x, ctx);
    for (Index rows = 1; rows < 40; rows += rows < 6 ? 1 : 11) {
      Tensor<float, 2> some({rows, 200});
      std::copy_n(&x.view()(40 - rows, 0), rows * 200, some.data());
      ASSERT_TRUE(same_bits(multiply(w, some, ctx), all.view().rows(40 - rows, 40))) << name(isa) << ", " << rows;
    }
  }
}

TYPED_TEST(PanelNm, NoAllocationAfterWarmUp) {
  using F = TypeParam;
  const Packed<F> w(pruned<F>(140, 130, 8));
  for (const Isa isa : isas_here())
    for (const Index rows : {1, 4, 60}) {
      auto ctx = context(isa);
      const auto x = normal({rows, 130}, 9);
      Tensor<float, 2> y({rows, 140});
      w.multiply(x, y, ctx);
      const test::AllocGuard guard;
      w.multiply(x, y, ctx);
      EXPECT_EQ(guard.count(), 0);
    }
}

TYPED_TEST(PanelNm, RefusesWeightsThatKeepMoreAndNamesThem) {
  using F = TypeParam;
  auto w = pruned<F>(70, 200, 10);
  const Index k0 = 128 / Of<F>::kOf * Of<F>::kOf;
  for (Index i = 0; i < Of<F>::kOf; ++i) w.view()(41, k0 + i) = i > Of<F>::kKept ? 0 : i ? 1e-30f : kNan;
  try {
    const Packed<F> packed(w);
    FAIL() << "packed all the same";
  } catch (const PatternError& error) {
    EXPECT_THAT(error.what(),
                testing::StartsWith("Packed: row 41, inputs " + std::to_string(k0) + ".." +
                                    std::to_string(k0 + Of<F>::kOf - 1) + " have " + std::to_string(Of<F>::kKept + 1) +
                                    " weights other than zero, expected at most " + std::to_string(Of<F>::kKept) +
                                    " of " + std::to_string(Of<F>::kOf)));
  }
}

/// What a checkpoint asks before it takes a file's panels over: each bit that is turned breaks a mask.
TYPED_TEST(PanelNm, FindsEveryBrokenMask) {
  using F = TypeParam;
  using Block = kernels::NmBlockOf<F>;
  const Packed<F> w(pruned<F>(64, 128, 11));
  const auto bytes = std::as_bytes(w.values.flat());
  std::vector<std::byte> broken(bytes.begin(), bytes.end());
  EXPECT_EQ(w.values.fault(broken), "");
  for (Index bit = 0; bit < Block::kElements; bit += 7) {
    auto& byte = broken[static_cast<std::size_t>(3 * Block::kBytes + Block::kValueBytes + bit / 8)];
    byte ^= std::byte{1} << bit % 8;
    ASSERT_THAT(w.values.fault(broken), testing::StartsWith("the mask of outputs 32.., inputs 64.. does not keep "));
    byte ^= std::byte{1} << bit % 8;
  }
}

/// A net of packed weights gives the bits of the dense format, with pieces of the hidden units and few and many rows.
template <class F>
void nets_are_those_of_the_dense_format() {
  using Dense = typename Of<F>::Dense;
  const Index width = 70, hidden = 1200;
  const auto up = pruned<F>(hidden, width, 12), down = pruned<F>(width, hidden, 13);
  const Packed<F> up_nm(up), down_nm(down);
  const Packed<Dense> up_dense(up), down_dense(down);
  const kernels::PackedFfn<F> nm{.up = &up_nm, .down = &down_nm};
  const kernels::PackedFfn<Dense> dense{.up = &up_dense, .down = &down_dense};
  for (const Isa isa : isas_here())
    for (const Index rows : {1, 3, 60, 230}) {
      auto ctx = context(isa, 2);
      const auto x = normal({rows, width}, 14);
      Tensor<float, 2> y({rows, width}), wanted({rows, width});
      const Index offset[] = {0, rows};
      kernels::packed_ffn<Gelu, F>({&nm, {1}}, x, {{offset, {2}}, {}}, y, ctx);
      kernels::packed_ffn<Gelu, Dense>({&dense, {1}}, x, {{offset, {2}}, {}}, wanted, ctx);
      ASSERT_TRUE(same_bits(y, wanted)) << name(isa) << ", " << rows;
    }
}
TEST(PanelNmNets, AreThoseOfTheDenseFormat) {
  nets_are_those_of_the_dense_format<Nm<bf16, 2, 4>>();
  nets_are_those_of_the_dense_format<Nm<int8, 4, 8>>();
}

}  // namespace
}  // namespace gatefold::panel_nm_test
