// SPDX-License-Identifier: Apache-2.0
// Element types of tensors in files, and their conversion to and from the numbers that networks compute in.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>

#include "insula/base/check.hpp"
#include "insula/base/scalar.hpp"

namespace insula {

static_assert(std::endian::native == std::endian::little,
              "insula reads and writes tensors on little-endian machines");

/// Element types in the order of the safetensors format: increasing alignment.
enum class dtype : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e5m2fnuz,
  f8_e4m3fnuz,
  f8_e8m0,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64
};

struct dtype_facts {
  std::string_view name;  // as in a safetensors header
  int bits;
  bool loads;  // false: can be listed and copied, not converted
};
inline constexpr std::array<dtype_facts, 22> dtype_table{
    {{"BOOL", 8, true},         {"F4", 4, false},          {"F6_E2M3", 6, false}, {"F6_E3M2", 6, false},
     {"U8", 8, true},           {"I8", 8, true},           {"F8_E5M2", 8, false}, {"F8_E4M3", 8, false},
     {"F8_E5M2FNUZ", 8, false}, {"F8_E4M3FNUZ", 8, false}, {"F8_E8M0", 8, false}, {"I16", 16, true},
     {"U16", 16, true},         {"F16", 16, true},         {"BF16", 16, true},    {"I32", 32, true},
     {"U32", 32, true},         {"F32", 32, true},         {"C64", 64, false},    {"F64", 64, true},
     {"I64", 64, true},         {"U64", 64, true}}};

constexpr std::string_view name_of(dtype d) { return dtype_table[std::size_t(d)].name; }
constexpr int bits_of(dtype d) { return dtype_table[std::size_t(d)].bits; }
/// True if values of this type can be converted to float and double.
constexpr bool loads(dtype d) { return dtype_table[std::size_t(d)].loads; }

/// The dtype of a C++ number.
template <class T>
constexpr dtype dtype_of() {
  if constexpr (std::is_same_v<T, bool>) return dtype::boolean;
  if constexpr (std::is_same_v<T, float>) return dtype::f32;
  if constexpr (std::is_same_v<T, double>) return dtype::f64;
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    constexpr dtype s[] = {dtype::i8, dtype::i16, dtype::i32, dtype::i64};
    constexpr dtype u[] = {dtype::u8, dtype::u16, dtype::u32, dtype::u64};
    return (std::is_signed_v<T> ? s : u)[std::bit_width(sizeof(T)) - 1];
  }
}

/// IEEE binary16 to float; exact.
constexpr float from_f16(std::uint16_t h) {
  std::uint32_t const sign = std::uint32_t(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu;
  if (e == 31) return std::bit_cast<float>(sign | 0x7f800000u | (m << 13));
  if (e > 0) return std::bit_cast<float>(sign | ((e + 112) << 23) | (m << 13));
  float const v = float(m) * 0x1p-24f;  // zero and subnormal
  return sign ? -v : v;
}
/// float to IEEE binary16, to nearest even; too large becomes infinity; NaN stays NaN.
constexpr std::uint16_t to_f16(float x) {
  std::uint32_t const bits = std::bit_cast<std::uint32_t>(x), a = bits & 0x7fffffffu;
  auto const sign = std::uint32_t((bits >> 16) & 0x8000u);
  if (a > 0x7f800000u) return std::uint16_t(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
  if (a >= 0x477ff000u) return std::uint16_t(sign | 0x7c00u);  // 65520 and above
  if (a >= 0x38800000u)                                        // 2^-14: normal
    return std::uint16_t(sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13));
  if (a < 0x33000000u) return std::uint16_t(sign);  // below half of 2^-24
  int const shift = 126 - int(a >> 23);             // 14 .. 24
  std::uint32_t const m = (a & 0x7fffffu) | 0x800000u, half = 1u << (shift - 1), odd = (m >> shift) & 1u;
  return std::uint16_t(sign | ((m + half - 1 + odd) >> shift));
}
/// bfloat16 to float; exact.
constexpr float from_bf16(std::uint16_t h) { return std::bit_cast<float>(std::uint32_t(h) << 16); }
/// float to bfloat16, to nearest even; NaN stays NaN.
constexpr std::uint16_t to_bf16(float x) {
  auto const bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return std::uint16_t((bits >> 16) | 0x40u);
  return std::uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// Whether a conversion may change values: `exact` refuses the first value that would change, `nearest`
/// rounds to nearest even and refuses only finite values that would become infinite.
enum class rounding { exact, nearest };

namespace detail {

template <class From, class To>
constexpr bool same_value(From from, To to) {
  if constexpr (std::is_integral_v<From>) {  // 2^63 and above must not overflow the cast back
    if (double(to) >= std::ldexp(1.0, std::numeric_limits<From>::digits)) return false;
    return From(to) == from;
  } else {
    return from != from ? to != to : From(to) == from;
  }
}

template <class From, class Decode, scalar T>
index_t convert_loop(std::byte const* from, index_t count, T* to, rounding how, Decode decode) {
  for (index_t i = 0; i < count; ++i) {
    From raw;
    std::memcpy(&raw, from + std::size_t(i) * sizeof(From), sizeof(From));
    auto const value = decode(raw);
    to[i] = T(value);
    bool const fine = how == rounding::exact ? same_value(value, to[i])
                                             : std::isfinite(to[i]) || !std::isfinite(double(value));
    if (!fine) return i;
  }
  return count;
}

}  // namespace detail

/// to[i] = value of element i of `from` (little-endian, any alignment), for dtypes that load. Gives the index
/// of the first element that `how` refuses, or count if all went well. BOOL gives 0 or 1.
template <scalar T>
index_t convert(dtype type, std::byte const* from, index_t count, T* to, rounding how) {
  auto const as_is = [](auto v) { return v; };
  if (type == dtype_of<T>()) {
    if (count > 0) std::memcpy(to, from, std::size_t(count) * sizeof(T));
    return count;
  }
  switch (type) {
    case dtype::boolean:
      return detail::convert_loop<std::uint8_t>(from, count, to, how,
                                                [](std::uint8_t v) { return std::uint8_t(v != 0); });
    case dtype::u8:
      return detail::convert_loop<std::uint8_t>(from, count, to, how, as_is);
    case dtype::i8:
      return detail::convert_loop<std::int8_t>(from, count, to, how, as_is);
    case dtype::u16:
      return detail::convert_loop<std::uint16_t>(from, count, to, how, as_is);
    case dtype::i16:
      return detail::convert_loop<std::int16_t>(from, count, to, how, as_is);
    case dtype::u32:
      return detail::convert_loop<std::uint32_t>(from, count, to, how, as_is);
    case dtype::i32:
      return detail::convert_loop<std::int32_t>(from, count, to, how, as_is);
    case dtype::u64:
      return detail::convert_loop<std::uint64_t>(from, count, to, how, as_is);
    case dtype::i64:
      return detail::convert_loop<std::int64_t>(from, count, to, how, as_is);
    case dtype::f16:
      return detail::convert_loop<std::uint16_t>(from, count, to, how, from_f16);
    case dtype::bf16:
      return detail::convert_loop<std::uint16_t>(from, count, to, how, from_bf16);
    case dtype::f32:
      return detail::convert_loop<float>(from, count, to, how, as_is);
    case dtype::f64:
      return detail::convert_loop<double>(from, count, to, how, as_is);
    default:
      fail("convert: elements of type ", name_of(type), " cannot be converted to numbers here");
  }
}

namespace detail {

/// double to float rounded to odd, so that rounding the result again, to a half, gives the nearest half of
/// the double.
inline float to_odd(float v) { return v; }
inline float to_odd(double v) {
  auto const f = float(v);
  if (!std::isfinite(v) || double(f) == v) return f;
  auto bits = std::bit_cast<std::uint32_t>(f);
  if (std::fabs(double(f)) > std::fabs(v)) --bits;
  return std::bit_cast<float>(bits | 1u);
}

template <class Raw, class T, class Encode, class Decode>
index_t store_loop(T const* from, index_t count, std::byte* to, Encode encode, Decode decode) {
  for (index_t i = 0; i < count; ++i) {
    Raw const raw = encode(from[i]);
    if (std::isfinite(from[i]) && !std::isfinite(decode(raw))) return i;
    std::memcpy(to + std::size_t(i) * sizeof(Raw), &raw, sizeof(Raw));
  }
  return count;
}

}  // namespace detail

/// Stores count values as little-endian elements of F16, BF16, F32 or F64, rounded to nearest even. Gives the
/// index of the first finite value that would become infinite, or count.
template <scalar T>
index_t store_as(dtype type, T const* from, index_t count, std::byte* to) {
  auto const as_is = [](auto v) { return v; };
  switch (type) {
    case dtype::f16:
      return detail::store_loop<std::uint16_t>(
          from, count, to, [](T v) { return to_f16(detail::to_odd(v)); }, from_f16);
    case dtype::bf16:
      return detail::store_loop<std::uint16_t>(
          from, count, to, [](T v) { return to_bf16(detail::to_odd(v)); }, from_bf16);
    case dtype::f32:
      return detail::store_loop<float>(
          from, count, to, [](T v) { return float(v); }, as_is);
    case dtype::f64:
      return detail::store_loop<double>(
          from, count, to, [](T v) { return double(v); }, as_is);
    default:
      fail("store_as: floating-point numbers cannot be stored as ", name_of(type),
           "; use F16, BF16, F32 or F64");
  }
}

}  // namespace insula
