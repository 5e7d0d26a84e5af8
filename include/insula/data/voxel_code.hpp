// SPDX-License-Identifier: Apache-2.0
// Voxels stored in fewer bits: half precision, or integers with a scale.
#pragma once

#include <algorithm>
#include <vector>

#include "insula/data/volume.hpp"
#include "insula/io/dtype.hpp"

namespace insula {

/// value = scale (stored - zero) + offset for u8 and i16; f32 and f16 store the value itself.
struct voxel_scale {
  double scale = 1, offset = 0;
  std::int64_t zero = 0;
};

/// Throws error unless volumes can be stored as `type`: f32, f16, i16 or u8.
inline void check_stored(dtype type) {
  check(type == dtype::f32 || type == dtype::f16 || type == dtype::i16 || type == dtype::u8, "voxels as ",
        name_of(type), ": they are stored as F32, F16, I16 or U8");
}

/// The scale that spreads [low, high] over the integers of `type`. If 0 lies within, it is stored exactly, so that the
/// background stays 0. The error is at most scale / 2 (u8: about range / 508; i16: largest |value| / 65534).
inline voxel_scale scale_for(dtype type, float low, float high) {
  if (type == dtype::i16) {
    double const most = std::max(std::abs(double(low)), std::abs(double(high)));
    return {most > 0 ? most / 32767 : 1, 0, 0};
  }
  if (type != dtype::u8) return {};
  double const range = double(high) - double(low),
               scale = range > 0 ? range / 254 : 1;  // one step for rounding `zero`
  if (low > 0 || high < 0) return {scale, low, 0};
  return {scale, 0, std::llround(-double(low) / scale)};
}

/// Throws error if a voxel does not fit half precision.
inline void check_f16(std::vector<float> const& x) {
  for (float const v : x)
    check(std::abs(v) < 65520, "a voxel is ", v,
          ", F16 holds up to 65504: store F32, or normalise in the preprocessing");
}

/// Voxels as bytes of `type`, little-endian. Values are finite, and fit f16 if that is asked for (check_f16).
inline std::vector<std::byte> encode_voxels(std::vector<float> const& x, dtype type, voxel_scale const& s) {
  std::vector<std::byte> out(x.size() * std::size_t(bits_of(type)) / 8);
  auto const each = [&]<class T>(T, auto&& code) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      T const v = code(x[i]);
      std::memcpy(out.data() + i * sizeof(T), &v, sizeof(T));
    }
  };
  auto const integer = [&](double least, double most) {
    return [=, &s](float v) {
      return std::clamp(std::nearbyint((v - s.offset) / s.scale) + double(s.zero), least, most);
    };
  };
  if (type == dtype::f16) {
    each(std::uint16_t{}, to_f16);
  } else if (type == dtype::i16) {
    each(std::int16_t{}, [code = integer(-32767, 32767)](float v) { return std::int16_t(code(v)); });
  } else if (type == dtype::u8) {
    each(std::uint8_t{}, [code = integer(0, 255)](float v) { return std::uint8_t(code(v)); });
  } else {
    std::memcpy(out.data(), x.data(), out.size());
  }
  return out;
}

/// The inverse: fills `to` from `count` stored voxels.
inline void decode_voxels(std::byte const* from, index_t count, dtype type, voxel_scale const& s, float* to) {
  auto const each = [&]<class T>(T, auto&& value) {
    for (index_t i = 0; i < count; ++i) {
      T v;
      std::memcpy(&v, from + std::size_t(i) * sizeof(T), sizeof(T));
      to[i] = value(v);
    }
  };
  auto const scale = float(s.scale), offset = float(s.offset);
  auto const zero = int(s.zero);
  if (type == dtype::f16)
    each(std::uint16_t{}, from_f16);
  else if (type == dtype::i16)
    each(std::int16_t{}, [=](std::int16_t v) { return scale * float(v); });
  else if (type == dtype::u8)
    each(std::uint8_t{}, [=](std::uint8_t v) { return scale * float(int(v) - zero) + offset; });
  else
    std::memcpy(to, from, std::size_t(count) * sizeof(float));
}

}  // namespace insula
