// SPDX-License-Identifier: Apache-2.0
// Branch-free single-precision log2, exp2, sine, cosine and normal draws that compilers turn into vector code.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "insula/base/random.hpp"

namespace insula {

/// Voxels that the loops of this folder handle at a time: one AVX-512 register of floats.
inline constexpr int lanes = 16;

/// log2(x) for normal x > 0, relative error below 3e-7 away from x = 1 and absolute error below 1e-7 near it.
inline float fast_log2(float x) {
  auto const bits = std::bit_cast<std::int32_t>(x);
  std::int32_t const e = (bits - 0x3f3504f3) >> 23;  // x = m 2^e, m in [sqrt(1/2), sqrt(2))
  float const f = std::bit_cast<float>(bits - (e << 23)) - 1.0f;
  float const s = f / (2.0f + f), z = s * s;  // ln m = 2 atanh(s)
  float const p = 1.0f + z * (1.0f / 3 + z * (0.2f + z * (1.0f / 7 + z * (1.0f / 9))));
  return float(e) + 2.885390082f * s * p;
}

/// 2^x, relative error below 3e-7; x is clamped to [-126, 127].
inline float fast_exp2(float x) {
  x = x < -126.0f ? -126.0f : x > 127.0f ? 127.0f : x;
  float const k =
      (x + 12582912.0f) - 12582912.0f;  // nearest integer: 1.5 * 2^23 leaves no bits for a fraction
  float const f = x - k;
  float const p =
      1.0f + f * (6.931471806e-1f +
                  f * (2.402265070e-1f +
                       f * (5.550410866e-2f +
                            f * (9.618129108e-3f +
                                 f * (1.333355815e-3f + f * (1.540353039e-4f + f * 1.525273e-5f))))));
  return p * std::bit_cast<float>((std::int32_t(k) + 127) << 23);
}

/// x^g for x >= 1e-30, falling to 0 at x = 0; x must not be negative.
inline float fast_power(float x, float g) {
  float const whole = x * 1e37f,
              part = whole < 1.0f ? whole : 1.0f;  // a factor where a branch would not vectorise
  return fast_exp2(g * fast_log2(x + 1e-37f)) * part;
}

namespace detail {

/// Eight neighbours in one register (or two): some loops over lanes are left scalar by compilers.
using eight = float __attribute__((vector_size(32)));
using eight_indices = std::int32_t __attribute__((vector_size(32)));

/// As many as the widest register has, for what is arithmetic alone.
#if defined(__AVX512F__)
inline constexpr int widest = 16;
#else
inline constexpr int widest = 8;
#endif
using wide = float __attribute__((vector_size(4 * widest)));
using wide_indices = std::int32_t __attribute__((vector_size(4 * widest)));

/// x = fast_power(x, g) for each.
inline void raise(wide& x, float g) {
  wide const whole = x * 1e37f, one = 1.0f - wide{}, part = whole < one ? whole : one;
  auto const bits = std::bit_cast<wide_indices>(x + 1e-37f);
  wide_indices const e = (bits - 0x3f3504f3) >> 23;
  wide const f = std::bit_cast<wide>(bits - (e << 23)) - 1.0f;
  wide const s = f / (2.0f + f), z = s * s;
  wide const log2 = __builtin_convertvector(e, wide) +
                    2.885390082f * s * (1.0f + z * (1.0f / 3 + z * (0.2f + z * (1.0f / 7 + z * (1.0f / 9)))));
  wide const least = -126.0f - wide{}, most = 127.0f - wide{};
  wide y = g * log2;
  y = y < least ? least : y;
  y = y > most ? most : y;
  wide const k = (y + 12582912.0f) - 12582912.0f, r = y - k;
  wide const p =
      1.0f + r * (6.931471806e-1f +
                  r * (2.402265070e-1f +
                       r * (5.550410866e-2f +
                            r * (9.618129108e-3f +
                                 r * (1.333355815e-3f + r * (1.540353039e-4f + r * 1.525273e-5f))))));
  x = p * std::bit_cast<wide>((__builtin_convertvector(k, wide_indices) + 127) << 23) * part;
}

}  // namespace detail

/// Four blocks of `lanes` standard normals: a pure function of (key, block), Philox and Box-Muller. At most 5.8.
inline void normal_block(random_key key, std::uint32_t block, float* out) {
  std::uint32_t c[4][lanes];
  for (int l = 0; l < lanes; ++l)
    c[0][l] = block * std::uint32_t(lanes) + std::uint32_t(l), c[1][l] = key.sub,
    c[2][l] = std::uint32_t(key.stream), c[3][l] = std::uint32_t(key.stream >> 32);
  std::uint32_t k0 = std::uint32_t(key.seed), k1 = std::uint32_t(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {  // the rounds of philox(), on all lanes
    for (int l = 0; l < lanes; ++l) {
      std::uint64_t const a = std::uint64_t{0xD2511F53u} * c[0][l], b = std::uint64_t{0xCD9E8D57u} * c[2][l];
      c[0][l] = std::uint32_t(b >> 32) ^ c[1][l] ^ k0;
      c[2][l] = std::uint32_t(a >> 32) ^ c[3][l] ^ k1;
      c[1][l] = std::uint32_t(b), c[3][l] = std::uint32_t(a);
    }
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  for (int pair = 0; pair < 2; ++pair) {
    float radius[lanes], angle[lanes];
    for (int l = 0; l < lanes; ++l) {
      float const u = float(std::int32_t(c[2 * pair][l] >> 8) + 1) * 0x1p-24f;  // (0, 1]
      float const r2 = -1.386294361f * fast_log2(u);                            // -2 ln u
      radius[l] = r2 > 0.0f ? r2 : 0.0f;
      angle[l] = float(std::int32_t(c[2 * pair + 1][l] >> 8)) * 0x1p-22f;  // quarter turns, [0, 4)
    }
    for (int l = 0; l < lanes; ++l) radius[l] = std::sqrt(radius[l]);
    for (int l = 0; l < lanes; ++l) {
      auto const q = std::int32_t(angle[l] + 0.5f);
      float const t = (angle[l] - float(q)) * 1.570796327f, z = t * t;
      float const s = t * (1.0f + z * (-1.666666667e-1f +
                                       z * (8.333333333e-3f + z * (-1.984126984e-4f + z * 2.755731922e-6f))));
      float const c1 =
          1.0f + z * (-0.5f + z * (4.166666667e-2f +
                                   z * (-1.388888889e-3f + z * (2.480158730e-5f - z * 2.755731922e-7f))));
      float const cosine = (q & 1) ? s : c1, sine = (q & 1) ? c1 : s;
      out[(2 * pair) * lanes + l] = radius[l] * (((q + 1) & 2) ? -cosine : cosine);
      out[(2 * pair + 1) * lanes + l] = radius[l] * ((q & 2) ? -sine : sine);
    }
  }
}

}  // namespace insula
