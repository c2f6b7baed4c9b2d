#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gatefold/core/error.hpp"
#include "gatefold/core/scalar.hpp"

namespace gatefold {

static_assert(std::endian::native == std::endian::little, "tensor files are little-endian and read without swapping");

/// The element types of a tensor file, in the order in which the reference implementation of safetensors ranks them:
/// it writes the highest rank first, which keeps every tensor aligned without padding.
enum class Dtype { boolean, u8, i8, f8_e5m2, f8_e4m3, f8_e8m0, i16, u16, f16, bf16, i32, u32, f32, c64, f64, i64, u64 };

namespace detail {
struct DtypeFacts {
  std::string_view name;
  std::size_t size_bytes;
};
inline constexpr DtypeFacts kDtypes[] = {{"BOOL", 1},    {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                                         {"F8_E8M0", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},     {"BF16", 2},
                                         {"I32", 4},     {"U32", 4}, {"F32", 4}, {"C64", 8},     {"F64", 8},
                                         {"I64", 8},     {"U64", 8}};
static_assert(std::size(kDtypes) == static_cast<std::size_t>(Dtype::u64) + 1);

/// IEEE binary16 as a storage format; every value of it is a float.
struct Half {
  std::uint16_t bits = 0;
  explicit operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, fraction = bits & 1023u;
    if (exponent == 0) {  // zero or subnormal: the fraction counts units of 2^-24
      const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
      return sign ? -magnitude : magnitude;
    }
    const std::uint32_t biased = exponent == 31 ? 255u : exponent + (127 - 15);
    return std::bit_cast<float>(sign | biased << 23 | fraction << 13);
  }
};

/// double to float such that a further rounding to fewer bits equals one rounding of the double: an inexact result
/// gets an odd last bit (round to odd; Boldo and Melquiond 2008).
inline float round_to_odd(double x) {
  const auto nearest = static_cast<float>(x);
  const double back = nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::isnan(x) || back == x || (bits & 1)) return nearest;
  bits = std::abs(back) > std::abs(x) ? bits - 1 : bits + 1;
  return std::bit_cast<float>(bits);
}

template <class To, class From>
To cast_element(From x) {
  if constexpr (std::same_as<To, From>)
    return x;
  else if constexpr (std::same_as<To, bf16> && std::same_as<From, double>)
    return bf16(round_to_odd(x));
  else if constexpr (std::same_as<From, double> || std::same_as<From, float>)
    return static_cast<To>(x);
  else
    return static_cast<To>(static_cast<float>(x));
}

template <class From, class To>
void cast_bytes(std::span<const std::byte> bytes, std::span<To> out) {
  if constexpr (std::same_as<From, To>) {
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  } else {
    for (std::size_t i = 0; i < out.size(); ++i) {
      From x;  // by memcpy: nothing aligns the tensors of a file
      std::memcpy(&x, bytes.data() + i * sizeof(From), sizeof(From));
      out[i] = cast_element<To>(x);
    }
  }
}
}  // namespace detail

/// The name in a file: "F32".
constexpr std::string_view name(Dtype dtype) { return detail::kDtypes[static_cast<std::size_t>(dtype)].name; }
constexpr std::size_t size_bytes(Dtype dtype) { return detail::kDtypes[static_cast<std::size_t>(dtype)].size_bytes; }

/// Nothing for a name that is not in the list.
constexpr std::optional<Dtype> dtype_from_name(std::string_view wanted) {
  for (std::size_t i = 0; i < std::size(detail::kDtypes); ++i)
    if (detail::kDtypes[i].name == wanted) return static_cast<Dtype>(i);
  return std::nullopt;
}

/// The scalars that a tensor file can hold: float, double, bf16 and the integers of 1 to 8 bytes.
template <class T>
concept StoredFloat = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bf16>;
template <class T>
concept StoredInteger = std::integral<T> && !std::same_as<T, bool> && sizeof(T) <= 8;
template <class T>
concept Stored = StoredFloat<T> || StoredInteger<T>;

template <Stored T>
constexpr Dtype dtype_of() {
  if constexpr (std::same_as<T, float>)
    return Dtype::f32;
  else if constexpr (std::same_as<T, double>)
    return Dtype::f64;
  else if constexpr (std::same_as<T, bf16>)
    return Dtype::bf16;
  else if constexpr (std::signed_integral<T>)
    return sizeof(T) == 1 ? Dtype::i8 : sizeof(T) == 2 ? Dtype::i16 : sizeof(T) == 4 ? Dtype::i32 : Dtype::i64;
  else
    return sizeof(T) == 1 ? Dtype::u8 : sizeof(T) == 2 ? Dtype::u16 : sizeof(T) == 4 ? Dtype::u32 : Dtype::u64;
}

/// Whether `decode` turns elements of this type into T: F64, F32, F16 and BF16 become any float type, integers only
/// themselves, so that no id or index changes silently.
template <Stored T>
constexpr bool decodes_to(Dtype dtype) {
  if (dtype == dtype_of<T>()) return true;
  return StoredFloat<T> && (dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16);
}

/// The elements of a file (unaligned, out.size() of them) as T, rounded to nearest even where T is narrower.
/// Throws FormatError unless decodes_to<T>(dtype).
template <Stored T>
void decode(Dtype dtype, std::span<const std::byte> bytes, std::span<T> out) {
  if (!decodes_to<T>(dtype))
    throw FormatError("elements came as " + std::string(name(dtype)) + ", wanted " + std::string(name(dtype_of<T>())));
  if (bytes.size() != out.size() * size_bytes(dtype))
    throw FormatError(std::to_string(bytes.size()) + " bytes came, wanted " + std::to_string(out.size()) + " x " +
                      std::string(name(dtype)));
  if constexpr (StoredFloat<T>) {
    if (dtype == Dtype::f64) return detail::cast_bytes<double>(bytes, out);
    if (dtype == Dtype::f32) return detail::cast_bytes<float>(bytes, out);
    if (dtype == Dtype::f16) return detail::cast_bytes<detail::Half>(bytes, out);
    return detail::cast_bytes<bf16>(bytes, out);
  } else {
    return detail::cast_bytes<T>(bytes, out);
  }
}

/// Whether `encode` writes T as this type: a float type as F64, F32 or BF16, an integer only as itself.
template <Stored T>
constexpr bool encodes_to(Dtype dtype) {
  return decodes_to<T>(dtype) && (dtype != Dtype::f16);
}

/// The opposite of `decode`: bytes.size() must be in.size() elements of `dtype`. Rounds to nearest even.
/// Throws OptionError unless encodes_to<T>(dtype).
template <Stored T>
void encode(std::span<const T> in, Dtype dtype, std::span<std::byte> bytes) {
  expect_option(encodes_to<T>(dtype), "elements of type " + std::string(name(dtype_of<T>())) + " cannot be stored as " +
                                          std::string(name(dtype)));
  expect_option(bytes.size() == in.size() * size_bytes(dtype), "encode: the buffer has another size than the elements");
  const auto store = [&]<class To>(To) {
    for (std::size_t i = 0; i < in.size(); ++i) {
      const To x = detail::cast_element<To>(in[i]);
      std::memcpy(bytes.data() + i * sizeof(To), &x, sizeof(To));
    }
  };
  if constexpr (StoredFloat<T>) {
    if (dtype == Dtype::f64) return store(double{});
    if (dtype == Dtype::f32) return store(float{});
    return store(bf16{});
  } else {
    return store(T{});
  }
}

}  // namespace gatefold
