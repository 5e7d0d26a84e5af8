// SPDX-License-Identifier: Apache-2.0
// Writes files as torch.save does, from the formats' descriptions, in parts that a test can damage.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"

namespace support {

template <class T>
std::string raw(T v) {
  std::string s(sizeof(T), '\0');
  std::memcpy(s.data(), &v, sizeof(T));
  return s;
}
template <class T>
std::string raw(std::vector<T> const& v) {
  std::string s;
  for (auto const e : v) s += raw(e);
  return s;
}

/// A pickle of protocol 2, instruction by instruction; s is what was written so far.
struct pickle_writer {
  std::string s = "\x80\x02";

  pickle_writer& put(std::string_view code) { return s += code, *this; }
  pickle_writer& text(std::string_view t) { return put("X").put(raw(std::uint32_t(t.size()))).put(t); }
  pickle_writer& integer(std::int64_t v) {
    if (v >= 0 && v < 256) return put("K").put(raw(std::uint8_t(v)));
    if (v == std::int32_t(v)) return put("J").put(raw(std::int32_t(v)));
    return put("\x8a\x08").put(raw(v));
  }
  pickle_writer& global(std::string_view module, std::string_view name) {
    return put("c").put(module).put("\n").put(name).put("\n");
  }
  pickle_writer& sizes(std::vector<std::int64_t> const& v) {
    put("(");
    for (auto const e : v) integer(e);
    return put("t");
  }
  pickle_writer& storage(std::string_view type, std::string_view key, std::int64_t numel) {
    put("(").text("storage").global("torch", type).text(key).text("cpu").integer(numel);
    return put(legacy ? "NtQ" : "tQ");
  }
  pickle_writer& tensor(std::string_view type, std::string_view key, std::int64_t numel, std::int64_t offset,
                        std::vector<std::int64_t> const& shape, std::vector<std::int64_t> const& stride) {
    global("torch._utils", "_rebuild_tensor_v2").put("(").storage(type, key, numel).integer(offset);
    sizes(shape).sizes(stride).put("\x89").global("collections", "OrderedDict").put(")RtR");
    return *this;
  }
  pickle_writer& begin_ordered_dict() { return global("collections", "OrderedDict").put(")R("); }
  std::string stop() const { return s + "."; }

  bool legacy = false;  // identifiers have a sixth part, the view
};

struct zip_part {
  std::string name, data;
  bool deflate = false;
};

inline std::string deflated(std::string const& data) {
  std::string out(compressBound(uLong(data.size())) + 64, '\0');
  z_stream z{};
  insula::check(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK, "deflateInit2");
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data())), z.avail_in = uInt(data.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data()), z.avail_out = uInt(out.size());
  insula::check(deflate(&z, Z_FINISH) == Z_STREAM_END, "deflate");
  out.resize(z.total_out);
  (void)deflateEnd(&z);
  return out;
}

/// A zip file; with zip64 = true every size and offset stands in zip64 records, as in files above 4 GiB. Entries begin at
/// multiples of 64 bytes, padded by an extra field, as torch.save has it.
inline std::string zip_bytes(std::vector<zip_part> const& parts, bool zip64 = false) {
  std::string file, directory;
  constexpr std::uint32_t full = 0xffffffff;
  for (auto const& p : parts) {
    auto const data = p.deflate ? deflated(p.data) : p.data;
    auto const crc = std::uint32_t(crc32_z(0, reinterpret_cast<Bytef const*>(p.data.data()), p.data.size()));
    auto const offset = file.size();
    std::string const common =
        raw(std::uint16_t(0)) + raw(std::uint16_t(p.deflate ? 8 : 0)) + raw(std::uint32_t(0)) + raw(crc) +
        raw(std::uint32_t(zip64 ? full : data.size())) + raw(std::uint32_t(zip64 ? full : p.data.size())) +
        raw(std::uint16_t(p.name.size()));
    std::size_t const bare = offset + 30 + p.name.size() + 4;
    std::string const pad((64 - bare % 64) % 64, 'Z');
    file += "PK\x03\x04" + raw(std::uint16_t(zip64 ? 45 : 20)) + common + raw(std::uint16_t(4 + pad.size())) +
            p.name + "FB" + raw(std::uint16_t(pad.size())) + pad + data;
    std::string extra;
    if (zip64)
      extra = raw(std::uint16_t(1)) + raw(std::uint16_t(24)) + raw(std::uint64_t(p.data.size())) +
              raw(std::uint64_t(data.size())) + raw(std::uint64_t(offset));
    directory += "PK\x01\x02" + raw(std::uint16_t(0)) + raw(std::uint16_t(45)) + common +
                 raw(std::uint16_t(extra.size())) + std::string(10, '\0') +
                 raw(std::uint32_t(zip64 ? full : offset)) + p.name + extra;
  }
  auto const start = file.size(), n = parts.size();
  file += directory;
  if (zip64) {
    auto const record = file.size();
    file += "PK\x06\x06" + raw(std::uint64_t(44)) + raw(std::uint32_t(0)) + raw(std::uint64_t(0)) +
            raw(std::uint64_t(n)) + raw(std::uint64_t(n)) + raw(std::uint64_t(directory.size())) +
            raw(std::uint64_t(start));
    file += "PK\x06\x07" + raw(std::uint32_t(0)) + raw(std::uint64_t(record)) + raw(std::uint32_t(1));
  }
  file += "PK\x05\x06" + raw(std::uint32_t(0)) + raw(std::uint16_t(zip64 ? 0xffff : n)) +
          raw(std::uint16_t(zip64 ? 0xffff : n)) + raw(std::uint32_t(zip64 ? full : directory.size())) +
          raw(std::uint32_t(zip64 ? full : start)) + raw(std::uint16_t(0));
  return file;
}

using torch_storages = std::vector<std::pair<std::string, std::string>>;  // key, bytes

/// A torch.save file of PyTorch 1.6 or later.
inline std::string torch_zip(std::string const& pickle, torch_storages const& storages, bool zip64 = false,
                             bool deflate = false) {
  std::vector<zip_part> parts{{"archive/data.pkl", pickle, deflate},
                              {"archive/byteorder", "little", deflate}};
  for (auto const& [key, bytes] : storages) parts.push_back({"archive/data/" + key, bytes, deflate});
  parts.push_back({"archive/version", "3\n", deflate});
  return zip_bytes(parts, zip64);
}

/// A torch.save file before PyTorch 1.6. The pickle's writer must have `legacy` set; every storage of so many bytes an element.
inline std::string torch_legacy(std::string const& pickle, torch_storages const& storages,
                                std::size_t width = 4) {
  pickle_writer machine, keys;
  machine.put("}(").text("protocol_version").integer(1001).text("little_endian").put("\x88").put("u");
  keys.put("](");
  for (auto const& part : storages) keys.text(part.first);
  keys.put("e");
  std::string file("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.", 21);
  file += machine.stop() + pickle + keys.stop();
  for (auto const& part : storages) file += raw(std::int64_t(part.second.size() / width)) + part.second;
  return file;
}

/// A ustar header and the member's bytes, padded to blocks.
inline std::string tar_bytes(std::vector<std::pair<std::string, std::string>> const& members,
                             char kind = '0') {
  std::string file;
  for (auto const& [name, data] : members) {
    std::string h(512, '\0');
    auto const put = [&](std::size_t at, std::string const& v) { h.replace(at, v.size(), v); };
    auto const octal = [](std::size_t v, std::size_t digits) {
      std::string t(digits, '0');
      for (; v > 0; v /= 8) t[--digits] = char('0' + v % 8);
      return t;
    };
    put(0, name.substr(0, 100)), put(100, "0000644"), put(124, octal(data.size(), 11));
    put(136, "00000000000"), put(148, "        "), put(156, std::string(1, kind));
    put(257, std::string("ustar\00000", 8));
    std::size_t sum = 0;
    for (char const c : h) sum += static_cast<unsigned char>(c);
    put(148, octal(sum, 6) + std::string("\0 ", 2));
    file += h + data + std::string((512 - data.size() % 512) % 512, '\0');
  }
  return file + std::string(1024, '\0');
}

/// {"epoch": 3, "state_dict": OrderedDict of module.a = [[0, 1, 2], [3, 4, 5]] and module.b = its first row}
inline std::string small_state_dict(bool legacy = false) {
  pickle_writer p;
  p.legacy = legacy;
  p.put("}(").text("epoch").integer(3).text("state_dict").begin_ordered_dict();
  p.text("module.a").tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1});
  p.text("module.b").tensor("FloatStorage", "0", 6, 0, {3}, {1});
  return p.put("uu").stop();
}
inline torch_storages small_storages() { return {{"0", raw(std::vector<float>{0, 1, 2, 3, 4, 5})}}; }

}  // namespace support
