// SPDX-License-Identifier: Apache-2.0
// Writing tensors to a safetensors file, one after the other, without a copy of the file in memory.
#pragma once

#include <functional>
#include <utility>

#include "insula/io/atomic_file.hpp"
#include "insula/io/safetensors_header.hpp"

namespace insula {

/// Collects tensors, then writes them in the canonical order of the format (descending element alignment,
/// then name), so that equal contents give equal bytes whatever the order of the calls.
///   safetensors_writer w;
///   w.add("encoder.weight", {2, 3}, weights);           // a pointer that stays valid until write()
///   w.write("model.safetensors");
/// Memory: one chunk of 1 MiB. add() throws error on duplicate or reserved names and bad shapes; write()
/// throws error and then the old file is untouched.
class safetensors_writer {
 public:
  /// Writes the bytes [first, first + out.size()) of a tensor into `out`; called in ascending order. Chunks
  /// start at multiples of 1 MiB, so elements are never split.
  using fill = std::function<void(std::size_t first, std::span<std::byte> out)>;

  static constexpr std::size_t chunk_size = std::size_t{1} << 20;  // bytes

  /// __metadata__ of the file; "format": "pt" is what PyTorch tools ask for.
  std::map<std::string, std::string> metadata{{"format", "pt"}};

  /// Bytes made on demand.
  void add(std::string name, dtype type, std::vector<index_t> shape, fill bytes) {
    auto const who = [&] { return text("safetensors_writer: tensor ", quote(name), ": "); };
    if (name == "__metadata__") fail(who(), "this name is reserved; use another one");
    if (!valid_utf8(name)) fail(who(), "the name is not valid UTF-8; use another one");
    auto const count = checked_count(shape);
    auto const size = count ? checked_bytes(type, *count) : std::nullopt;
    if (!size)
      fail(who(), "the shape ", shape_text(shape), " of ", name_of(type),
           " is negative, too large or not whole bytes");
    if (!names_.insert(name).second) fail(who(), "it was added before; every name must be given once");
    parts_.push_back({{std::move(name), type, std::move(shape), 0, *size}, std::move(bytes), nullptr});
  }
  /// Bytes in memory, in the file's layout; they must live until write().
  void add(std::string name, dtype type, std::vector<index_t> shape, void const* bytes) {
    add(std::move(name), type, std::move(shape), fill{});
    parts_.back().memory = static_cast<std::byte const*>(bytes);
  }
  /// Numbers of type T, stored as they are; they must live until write().
  template <class T>
  requires std::is_arithmetic_v<T>
  void add(std::string name, std::vector<index_t> shape, T const* values) {
    add(std::move(name), dtype_of<T>(), std::move(shape), static_cast<void const*>(values));
  }
  /// Numbers rounded to F16, BF16, F32 or F64 while they are written. write() throws error if one would
  /// become infinite.
  template <scalar T>
  void add_as(dtype type, std::string name, std::vector<index_t> shape, T const* values) {
    check(type == dtype::f16 || type == dtype::bf16 || type == dtype::f32 || type == dtype::f64,
          "safetensors_writer: tensor ", quote(name), ": cannot be rounded to ", name_of(type),
          "; use F16, BF16, F32 or F64");
    std::size_t const width = std::size_t(bits_of(type)) / 8;
    auto convert = [=, label = name](std::size_t first, std::span<std::byte> out) {
      auto const start = index_t(first / width), count = index_t(out.size() / width);
      index_t const done = store_as(type, values + start, count, out.data());
      if (done < count)
        fail("safetensors_writer: tensor ", quote(label), ": element ", start + done, " is ",
             values[start + done], ", too large for ", name_of(type), "; store it as F32");
    };
    add(std::move(name), type, std::move(shape), fill(std::move(convert)));
  }

  std::size_t size() const { return parts_.size(); }

  /// Writes the file atomically and gives its size in bytes. Can be called again, also after a failure.
  std::size_t write(std::string const& path) {
    std::sort(parts_.begin(), parts_.end(), [](part const& a, part const& b) {
      return a.info.type != b.info.type ? a.info.type > b.info.type : a.info.name < b.info.name;
    });
    std::string const header = make_header();
    check(header.size() <= safetensors_header_limit, "write ", quote(path, 4096), ": the header has ",
          header.size(), " bytes, the format allows ", safetensors_header_limit, "; shorten the metadata");
    atomic_file file(path);
    std::uint64_t const n = header.size();
    file.write(&n, 8);
    file.write(header);
    std::vector<std::byte> chunk;
    for (auto const& p : parts_) write_part(file, p, chunk);
    file.commit();
    return file.size();
  }

 private:
  struct part {
    tensor_info info;
    fill make;
    std::byte const* memory;
  };

  static bool valid_utf8(std::string const& s) {
    try {
      (void)nlohmann::json(s).dump();
      return true;
    } catch (nlohmann::json::type_error const&) {
      return false;
    }
  }
  std::string make_header() {
    nlohmann::ordered_json h = nlohmann::ordered_json::object();
    if (!metadata.empty()) h["__metadata__"] = metadata;
    std::string json;
    for (auto const& [key, value] : metadata)
      check(valid_utf8(key) && valid_utf8(value), "safetensors_writer: the metadata ", quote(key),
            " is not valid UTF-8; encode it, for example in base64");
    json = h.dump();
    json.pop_back();  // '}'
    std::size_t at = 0;
    for (auto& [info, make, memory] : parts_) {
      std::size_t const bytes = info.end - info.begin;
      info.begin = at;
      check(!__builtin_add_overflow(at, bytes, &at),
            "safetensors_writer: the tensors are larger than any file can be");
      info.end = at;
      if (json.size() > 1) json += ',';
      json += nlohmann::json(info.name).dump();
      json += text(R"(:{"dtype":")", name_of(info.type), R"(","shape":)", nlohmann::json(info.shape).dump(),
                   R"(,"data_offsets":[)", info.begin, ',', info.end, "]}");
    }
    json += '}';
    json.resize((json.size() + 7) / 8 * 8, ' ');  // 8 + N is then a multiple of 8, too
    return json;
  }
  void write_part(atomic_file& file, part const& p, std::vector<std::byte>& chunk) const {
    std::size_t const bytes = p.info.end - p.info.begin;
    if (p.memory) return file.write(p.memory, bytes);
    check(bytes == 0 || p.make, "safetensors_writer: tensor ", quote(p.info.name),
          ": neither memory nor a function gives its bytes");
    for (std::size_t first = 0; first < bytes; first += chunk_size) {
      chunk.resize(std::min(chunk_size, bytes - first));
      p.make(first, chunk);
      file.write(std::span<std::byte const>(chunk));
    }
  }

  std::vector<part> parts_;
  std::unordered_set<std::string> names_;
};

}  // namespace insula
