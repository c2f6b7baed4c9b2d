#include "gatefold/io/dtype.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace gatefold::dtype_test {
namespace {

// The same text that a decoder of values, written from the definition of the format, yields; exact in double.
double value_of(unsigned bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction = bits & ((1u << fraction_bits) - 1);
  const double sign = bits >> (exponent_bits + fraction_bits) ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1)
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(1 + std::ldexp(fraction, -fraction_bits), exponent - bias);
}

template <class To, class From>
std::vector<To> decode_all(Dtype dtype, const std::vector<From>& from) {
  std::vector<To> to(from.size());
  decode<To>(dtype, std::as_bytes(std::span(from)), to);
  return to;
}

std::vector<std::uint16_t> all_patterns() {
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  return patterns;
}

void expect_same_value(double came, double wanted, unsigned bits) {
  if (std::isnan(wanted)) {
    EXPECT_TRUE(std::isnan(came)) << bits;
  } else {
    EXPECT_EQ(came, wanted) << bits;
    EXPECT_EQ(std::signbit(came), std::signbit(wanted)) << bits;
  }
}

/// The bfloat16 nearest to x by search over all of them: nearest value, ties to the even pattern. The overflow is the
/// one of IEEE 754: infinity from half a step beyond the largest value on.
std::uint16_t nearest_bf16(double x) {
  unsigned best = 0;
  double distance = std::numeric_limits<double>::infinity();
  for (unsigned magnitude = 0; magnitude <= 0x7f80; ++magnitude) {
    const double candidate = magnitude == 0x7f80 ? 0x1p128 : value_of(magnitude, 8, 7);
    const double d = std::abs(candidate - std::abs(x));
    if (d < distance || (d == distance && magnitude % 2 == 0)) best = magnitude, distance = d;
  }
  return static_cast<std::uint16_t>(best | (std::signbit(x) ? 0x8000u : 0u));
}

TEST(Dtype, EveryHalfIsReadExactly) {
  const auto patterns = all_patterns();
  const auto floats = decode_all<float>(Dtype::f16, patterns);
  const auto doubles = decode_all<double>(Dtype::f16, patterns);
  for (unsigned bits = 0; bits < 65536; ++bits) {
    expect_same_value(floats[bits], value_of(bits, 5, 10), bits);
    expect_same_value(doubles[bits], value_of(bits, 5, 10), bits);
  }
}

TEST(Dtype, EveryBfloat16IsReadExactly) {
  const auto patterns = all_patterns();
  const auto floats = decode_all<float>(Dtype::bf16, patterns);
  for (unsigned bits = 0; bits < 65536; ++bits) expect_same_value(floats[bits], value_of(bits, 8, 7), bits);
}

TEST(Dtype, DoublesRoundOnceToBfloat16) {
  // Just above a tie of bfloat16, but a tie again after rounding to float: rounding twice would go down to even.
  const double above = 1 + 0x1p-8 + 0x1p-40, below = 1 + 3 * 0x1p-8 - 0x1p-40;
  std::vector<double> values = {
      above,   -above, below,  -below, 1 + 0x1p-8, 1 + 3 * 0x1p-8,           0.1,  -1e-3, 3e38, 3.4e38,
      -3.4e38, 1e300,  5e-324, 1e-40,  0x1p-134,   0x1p-134 * (1 + 0x1p-30), -0.0, 0.0};
  const auto rounded = decode_all<bf16>(Dtype::f64, values);
  std::vector<std::uint16_t> encoded(values.size());
  encode<double>(values, Dtype::bf16, std::as_writable_bytes(std::span(encoded)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(rounded[i].bits, nearest_bf16(values[i])) << values[i];
    EXPECT_EQ(encoded[i], nearest_bf16(values[i])) << values[i];
  }
  EXPECT_TRUE(std::isnan(static_cast<float>(decode_all<bf16>(Dtype::f64, std::vector{std::nan("")})[0])));
}

TEST(Dtype, FloatsAndHalvesRoundToTheNearestBfloat16) {
  const std::vector<float> floats = {0.1f, 1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1p-8f + 0x1p-20f, 1e-40f, 3.4e38f};
  const auto from_floats = decode_all<bf16>(Dtype::f32, floats);
  for (std::size_t i = 0; i < floats.size(); ++i) EXPECT_EQ(from_floats[i].bits, nearest_bf16(floats[i])) << floats[i];
  const std::vector<std::uint16_t> halves = {0x0001, 0x03ff, 0x3c04, 0x3c0c, 0x3c05, 0xbc0c, 0x7bff};
  const auto from_halves = decode_all<bf16>(Dtype::f16, halves);
  for (std::size_t i = 0; i < halves.size(); ++i)
    EXPECT_EQ(from_halves[i].bits, nearest_bf16(value_of(halves[i], 5, 10))) << halves[i];
}

TEST(Dtype, EncodeAndDecodeAreOppositesWhereNothingIsLost) {
  const std::vector<float> values = {1.5f, -0.1f, 1e-45f, std::numeric_limits<float>::max(), -0.0f};
  std::vector<double> wide(values.size());
  encode<float>(values, Dtype::f64, std::as_writable_bytes(std::span(wide)));
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(wide[i], double{values[i]});
  EXPECT_EQ(decode_all<float>(Dtype::f64, wide), values);
  EXPECT_EQ(decode_all<std::int64_t>(Dtype::i64, std::vector<std::int64_t>{INT64_MIN, -1, INT64_MAX}),
            (std::vector<std::int64_t>{INT64_MIN, -1, INT64_MAX}));
}

TEST(Dtype, ReadsFromAnyAddress) {
  const std::vector<float> values = {1.5f, -2.25f};
  for (std::size_t shift = 0; shift < 4; ++shift) {
    std::vector<std::byte> buffer(8 + shift);
    std::memcpy(buffer.data() + shift, values.data(), 8);
    std::vector<double> out(2);
    decode<double>(Dtype::f32, std::span(buffer).subspan(shift), out);
    EXPECT_EQ(out, (std::vector{1.5, -2.25}));
  }
}

TEST(Dtype, IntegersBecomeOnlyThemselves) {
  EXPECT_FALSE(decodes_to<float>(Dtype::i32));
  EXPECT_FALSE(decodes_to<std::int64_t>(Dtype::i32));
  EXPECT_FALSE(decodes_to<std::int32_t>(Dtype::u32));
  EXPECT_TRUE(decodes_to<std::int32_t>(Dtype::i32));
  EXPECT_FALSE(encodes_to<float>(Dtype::f16));
  EXPECT_THROW(decode_all<float>(Dtype::i32, std::vector<std::int32_t>{1}), FormatError);
  std::vector<float> out(3);
  EXPECT_THROW(decode<float>(Dtype::f32, std::as_bytes(std::span(out)).first(8), out), FormatError);
}

TEST(Dtype, NamesAndSizesAreThoseOfTheFormat) {
  EXPECT_EQ(name(Dtype::boolean), "BOOL");
  EXPECT_EQ(name(Dtype::f8_e4m3), "F8_E4M3");
  EXPECT_EQ(size_bytes(Dtype::bf16), 2u);
  EXPECT_EQ(size_bytes(Dtype::u64), 8u);
  EXPECT_EQ(dtype_from_name("I16"), Dtype::i16);
  EXPECT_EQ(dtype_from_name("f32"), std::nullopt);
  EXPECT_EQ(dtype_of<Index>(), Dtype::i64);
}

}  // namespace
}  // namespace gatefold::dtype_test
