// SPDX-License-Identifier: Apache-2.0
// What kind of weights file some bytes are, told by their content, and what to do about those that are none.
#pragma once

#include <array>

#include "insula/io/tar.hpp"
#include "insula/io/zip.hpp"

namespace insula {

/// torch_legacy is what torch.save wrote before PyTorch 1.6.
enum class weights_kind { safetensors, torch_zip, torch_legacy, tar, other };

namespace detail {

inline std::string_view as_text(std::span<std::byte const> bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

/// PROTO, LONG1 of 10 bytes, 0x1950a86a20f9469cfc6c, STOP; the protocol is any.
inline constexpr std::string_view torch_legacy_magic{"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 13};

}  // namespace detail

inline weights_kind kind_of_weights(std::span<std::byte const> bytes) {
  auto const s = detail::as_text(bytes);
  if (looks_like_zip(bytes)) return weights_kind::torch_zip;
  if (s.starts_with('\x80') &&
      s.substr(std::min<std::size_t>(s.size(), 2)).starts_with(detail::torch_legacy_magic))
    return weights_kind::torch_legacy;
  if (looks_like_tar(bytes)) return weights_kind::tar;
  if (s.size() > 8 && s[8] == '{') return weights_kind::safetensors;
  return weights_kind::other;
}

/// What a file that is no weights file seems to be, and what to do.
inline std::string advice_on_weights(std::span<std::byte const> bytes) {
  struct known {
    std::string_view magic, what;
  };
  constexpr std::string_view hdf5("\x89HDF\r\n\x1a\n", 8);
  static constexpr std::array<known, 12> table{{
      {"\x1f\x8b", "it is compressed by gzip: run gunzip on it first"},
      {"BZh", "it is compressed by bzip2: run bunzip2 on it first"},
      {"\xfd"
       "7zXZ",
       "it is compressed by xz: run unxz on it first"},
      {"version https://git-lfs", "it is a pointer of Git LFS, not the file: run `git lfs pull`"},
      {"<!DOCTYPE", "it is a web page, not the file: the download failed or asks for a login"},
      {"<!doctype", "it is a web page, not the file: the download failed or asks for a login"},
      {"<html", "it is a web page, not the file: the download failed or asks for a login"},
      {hdf5, "it is an HDF5 file, as Keras writes: convert it to safetensors in Python"},
      {"PK\x05\x06", "it is an empty zip file: copy or download it again"},
      {"\x80\x02",
       "it is a pickle that torch.save did not write: load it in Python and use torch.save or safetensors"},
      {"\x80\x04",
       "it is a pickle that torch.save did not write: load it in Python and use torch.save or safetensors"},
      {"GGUF", "it is a GGUF file: get the original weights"},
  }};
  auto const s = detail::as_text(bytes);
  if (s.empty()) return "it is empty: copy or download it again";
  for (auto const& k : table)
    if (s.starts_with(k.magic)) return std::string(k.what);
  return "its first bytes are " + quote(s.substr(0, 8)) + "; is it the right file?";
}

}  // namespace insula
