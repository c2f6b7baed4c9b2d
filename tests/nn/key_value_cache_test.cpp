// What an attention layer remembers, and decoding with it.
#include "gatefold/nn/key_value_cache.hpp"

#include "gatefold/nn/attention.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

using test::OwnedLayout;
using test::random_matrix;

template <class T>
Attention<T> decoder(QueryKeyNorm norm = QueryKeyNorm::head) {
  Attention<T> layer({.width = 32,
                      .num_heads = 4,
                      .mask = kernels::AttentionMask::causal,
                      .num_key_heads = 2,
                      .head_width = 16,
                      .window = 6,
                      .rotary = {.width = 16, .base = 50, .scaling = YarnScaling{.factor = 4, .original_length = 32}},
                      .norm = norm,
                      .sinks = Sinks::learnt});
  test::disturb(layer, 3, 0.2);
  return layer;
}

/// Each sequence in steps of so many rows: counts[step][sequence]. x holds the sequences one behind the other.
template <class L, class Cache>
auto in_steps(const L& layer, const test::Matrix<typename L::Scalar>& x, const std::vector<Index>& lengths,
              const std::vector<std::vector<Index>>& counts, Cache& cache, Context& ctx) {
  using T = typename L::Scalar;
  test::Matrix<T> y(x.shape());
  std::vector<Index> done(lengths.size());
  for (const auto& count : counts) {
    OwnedLayout now;
    std::vector<Index> from;
    Index start = 0;
    for (std::size_t b = 0; b < count.size(); start += lengths[b++]) {
      for (Index i = 0; i < count[b]; ++i) from.push_back(start + done[b]++);
      now.offset.push_back(std::ssize(from));
    }
    now.modality.resize(from.size());
    test::Matrix<T> in({std::ssize(from), x.extent(1)}), out(in.shape());
    for (std::size_t i = 0; i < from.size(); ++i)
      std::copy_n(&x.view()(from[i], 0), x.extent(1), &in.view()(static_cast<Index>(i), 0));
    const TokenLayout layout = now.view();
    ctx.layout = &layout;
    decode(layer, in, out, cache, ctx);
    ctx.layout = nullptr;
    for (std::size_t i = 0; i < from.size(); ++i)
      std::copy_n(&out.view()(static_cast<Index>(i), 0), x.extent(1), &y.view()(from[i], 0));
  }
  return y;
}

template <class L>
auto at_once(const L& layer, const test::Matrix<typename L::Scalar>& x, const OwnedLayout& all, Context& ctx) {
  test::Matrix<typename L::Scalar> y(x.shape());
  const TokenLayout layout = all.view();
  ctx.layout = &layout;
  infer(layer, x, y, ctx);
  ctx.layout = nullptr;
  return y;
}

const OwnedLayout kTwo{.offset = {0, 40, 49}, .modality = std::vector<std::uint8_t>(49)};
const std::vector<Index> kLengths{40, 9};
const std::vector<std::vector<Index>> kSteps{{20, 1}, {1, 0}, {0, 3}, {18, 1}, {1, 4}};

TEST(KeyValueCache, StepsGiveWhatForwardGives) {
  const auto layer = decoder<float>();
  const auto x = random_matrix<float>({49, 32}, 4);
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (const Index workers : {1, 7}) {
      Context ctx;
      ctx.isa = isa;
      ctx.parallel_for = workers == 1 ? ParallelFor() : test::threads(workers);
      const auto whole = at_once(layer, x, kTwo, ctx);
      auto cache = make_cache(layer, {.capacity = 40, .sequences = 2});
      // The products alone may be summed in another order, where there are 16 rows or less: 32 terms and 64.
      const auto steps = in_steps(layer, x, kLengths, kSteps, cache, ctx);
      test::expect_near<float, float>(steps.flat(), whole.flat(), 32 + 64, "y");
      EXPECT_THAT(cache.length, testing::ElementsAre(40, 9));
      // Packed weights have one order.
      const auto packed = pack<float>(layer);
      auto again = make_cache(packed, {.capacity = 40, .sequences = 2});
      if (isa == Isa::simd) {
        const auto exact = at_once(packed, x, kTwo, ctx);
        EXPECT_EQ(in_steps(packed, x, kLengths, kSteps, again, ctx), exact) << workers;
      }
    }
}

TEST(KeyValueCache, OtherScalarsToo) {
  const auto layer = decoder<double>(QueryKeyNorm::whole);
  const auto x = random_matrix<double>({49, 32}, 4);
  Context ctx;
  auto cache = make_cache(layer, {.capacity = 40, .sequences = 2});
  const auto steps = in_steps(layer, x, kLengths, kSteps, cache, ctx), whole = at_once(layer, x, kTwo, ctx);
  EXPECT_THAT(steps.flat(), testing::Pointwise(testing::DoubleNear(1e-13), whole.flat()));
}

TEST(KeyValueCache, Bf16IsNearAndHalfTheSize) {
  const auto layer = decoder<float>();
  const auto x = random_matrix<float>({49, 32}, 4);
  Context ctx;
  auto cache = make_cache(layer, {.capacity = 48, .sequences = 2});
  auto small = make_cache<bf16>(layer, {.capacity = 48, .sequences = 2});
  EXPECT_EQ(small.key.flat().size_bytes() * 2, cache.key.flat().size_bytes());
  const auto exact = in_steps(layer, x, kLengths, kSteps, cache, ctx),
             rounded = in_steps(layer, x, kLengths, kSteps, small, ctx);
  EXPECT_NE(exact, rounded);
  // 2^-9 of each key and value: scores of about 1 and weighted means.
  test::expect_near<float, float>(rounded.flat(), exact.flat(), 4 * 0x1p-9 / 6e-8, "y");
}

TEST(KeyValueCache, IsAValueAndTokensCanBeTakenBack) {
  const auto layer = pack<float>(decoder<float>());
  const auto x = random_matrix<float>({12, 32}, 4);
  Context ctx;
  auto cache = make_cache(layer, {.capacity = 12});
  Tensor<float, 2> prompt({10, 32}), y({1, 32}), again({1, 32});
  decode(layer, x.view().rows(0, 10), prompt, cache, ctx);
  auto other = cache;
  decode(layer, x.view().rows(10, 11), y, cache, ctx);
  decode(layer, x.view().rows(11, 12), again, other, ctx);  // another word
  EXPECT_NE(y, again);
  other.length[0] = 10;
  decode(layer, x.view().rows(10, 11), again, other, ctx);
  EXPECT_EQ(y, again);
}

TEST(KeyValueCache, PaddingIsNotRemembered) {
  const auto layer = decoder<float>();
  auto x = random_matrix<float>({4, 32}, 4);
  for (Index c = 0; c < 32; ++c) x.view()(1, c) = std::numeric_limits<float>::quiet_NaN();
  const OwnedLayout padded{.offset = {0, 4}, .modality = {0, kPadding, 0, 0}};
  Context ctx;
  const auto whole = at_once(layer, x, padded, ctx);
  auto cache = make_cache(layer, {.capacity = 3});
  Tensor<float, 2> y({4, 32});
  const TokenLayout layout = padded.view();
  ctx.layout = &layout;
  decode(layer, x, y, cache, ctx);
  EXPECT_EQ(cache.length[0], 3);
  EXPECT_EQ(y, whole);
}

// A choice of rows at the places that they had: as attention over all would turn them.
TEST(KeyValueCache, GivenPlacesTurnAsGiven) {
  Attention<float> layer(
      {.width = 32, .num_heads = 2, .mask = kernels::AttentionMask::causal, .rotary = {.width = 16}});
  test::disturb(layer, 3, 0.2);
  const auto x = random_matrix<float>({6, 32}, 4);
  const auto run = [&](const std::vector<Index>& place, bool cached) {
    const OwnedLayout all{.offset = {0, 6}, .modality = std::vector<std::uint8_t>(6)};
    TokenLayout layout = all.view();
    layout.place = {place.data(), {std::ssize(place)}};
    Context ctx;
    ctx.layout = &layout;
    Tensor<float, 2> y({6, 32});
    auto cache = make_cache(layer, {.capacity = 6});
    cached ? decode(layer, x, y, cache, ctx) : infer(layer, x, y, ctx);
    return y;
  };
  const std::vector<Index> counted{0, 1, 2, 3, 4, 5}, later{7, 8, 9, 10, 11, 12}, apart{0, 1, 4, 9, 10, 30};
  for (const bool cached : {false, true}) {
    EXPECT_EQ(run(counted, cached), run({}, cached));
    // Only distances count; the angles are rounded otherwise.
    test::expect_near<float, float>(run(later, cached).flat(), run(counted, cached).flat(), 200, "y");
    const auto moved = run(apart, cached), near = run(counted, cached);
    double most = 0;
    for (Index i = 0; i < moved.size(); ++i) most = std::max(most, std::abs(double{moved.data()[i]} - near.data()[i]));
    EXPECT_GT(most, 1e-3);
  }
  EXPECT_EQ(run(apart, true), run(apart, false));
}

TEST(KeyValueCache, RefusesWithoutChange) {
  const auto layer = decoder<float>();
  auto cache = make_cache(layer, {.capacity = 5, .sequences = 2});
  Context ctx;
  const OwnedLayout rows{.offset = {0, 3, 7}, .modality = std::vector<std::uint8_t>(7)};
  const TokenLayout layout = rows.view();
  ctx.layout = &layout;
  const auto x = random_matrix<float>({7, 32}, 4);
  Tensor<float, 2> y({7, 32}), wide({7, 33});
  decode(layer, x, y, cache, ctx);
  const auto before = cache;
  const auto unchanged = [&] {
    return cache.length == before.length && cache.key == before.key && cache.value == before.value;
  };
  try {
    layer.decode(x, y, cache, ctx);
    ADD_FAILURE() << "no room, and nothing said";
  } catch (const CacheError& error) {
    EXPECT_STREQ(error.what(), "KeyValueCache: sequence 0 has 3 of 5 tokens, no room for 3 more");
  }
  EXPECT_TRUE(unchanged());
  cache.length = {0, 0};
  EXPECT_THROW(layer.decode(x, wide, cache, ctx), ShapeError);
  EXPECT_THAT(cache.length, testing::ElementsAre(0, 0));
  auto other = make_cache(layer, {.capacity = 9});
  EXPECT_THROW(layer.decode(x, y, other, ctx), ShapeError);  // of one sequence
  auto narrow = make_cache(Attention<float>({.width = 32, .num_heads = 4, .mask = kernels::AttentionMask::causal}),
                           {.capacity = 9, .sequences = 2});
  EXPECT_THROW(layer.decode(x, y, narrow, ctx), ShapeError);
  EXPECT_THROW((void)make_cache(Attention<float>({.width = 32, .num_heads = 4}), {.capacity = 9}), OptionError);
  EXPECT_THROW((void)make_cache(layer, {.capacity = 0}), OptionError);
}

TEST(KeyValueCache, NoAllocationAfterWarmUp) {
  const auto layer = decoder<float>();
  auto cache = make_cache(layer, {.capacity = 40});
  const auto x = random_matrix<float>({20, 32}, 4);
  Tensor<float, 2> y({20, 32}), one({1, 32});
  Context ctx;
  ctx.parallel_for = ParallelFor();
  decode(layer, x, y, cache, ctx);
  const test::AllocGuard guard;
  for (Index i = 0; i < 20; ++i) decode(layer, x.view().rows(i, i + 1), one, cache, ctx);
  EXPECT_EQ(guard.count(), 0);
}

}  // namespace
}  // namespace gatefold
