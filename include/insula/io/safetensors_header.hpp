// SPDX-License-Identifier: Apache-2.0
// The header of a safetensors file: parsing it strictly and checking that the tensors tile the data exactly.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "insula/io/quote.hpp"
#include "insula/io/tensor_info.hpp"

namespace insula {

/// What a safetensors header says. Tensors in the order of their bytes.
struct safetensors_header {
  std::vector<tensor_info> tensors;
  std::map<std::string, std::string> metadata;
  std::size_t data_begin = 0;  // bytes from the start of the file
};

inline constexpr std::size_t safetensors_header_limit = 100'000'000;  // bytes, of the format

namespace detail {

/// Receives the tokens of the JSON parser and accepts only what the format allows, so that nothing nested,
/// duplicate or of a wrong type ever gets stored.
class safetensors_sax : public nlohmann::json_sax<nlohmann::json> {
 public:
  safetensors_sax(safetensors_header& out, std::string_view file) : out_(out), file_(file) {}

  bool null() override { return wrong("null"); }
  bool boolean(bool) override { return wrong("true or false"); }
  bool number_float(double, std::string const& s) override {
    return wrong(text("the number ", s.substr(0, 40)));
  }
  bool number_integer(std::int64_t v) override { return wrong(text("the negative number ", v)); }
  bool number_unsigned(std::uint64_t v) override {
    if (at_ == place::shape) {
      if (v > std::uint64_t(std::numeric_limits<index_t>::max()))
        refuse("its shape has the extent ", v, ", which is too large");
      now_.shape.push_back(index_t(v));
    } else if (at_ == place::offsets) {
      if (offsets_ == 2) refuse("data_offsets has more than two numbers; it must be [begin, end]");
      (offsets_++ == 0 ? now_.begin : now_.end) = std::size_t(v);
    } else {
      wrong(text("the number ", v));
    }
    return true;
  }
  bool string(std::string& s) override {
    if (at_ == place::metadata) {
      out_.metadata[key_] = std::move(s);
    } else if (at_ == place::tensor && key_ == "dtype") {
      auto const* const known = std::find_if(dtype_table.begin(), dtype_table.end(),
                                             [&](dtype_facts const& f) { return f.name == s; });
      if (known == dtype_table.end())
        refuse("the dtype ", quote(s, 40), " is not known; is the file newer than this reader?");
      now_.type = dtype(known - dtype_table.begin());
    } else {
      wrong(text("the string ", quote(s, 40)));
    }
    return true;
  }
  bool binary(nlohmann::json::binary_t&) override { return wrong("binary data"); }

  bool start_object(std::size_t) override {
    if (at_ == place::nothing) return at_ = place::root, true;
    if (at_ != place::root) return wrong("an object");
    if (key_ == "__metadata__") return at_ = place::metadata, true;
    at_ = place::tensor, now_ = {}, now_.name = key_, offsets_ = 0, seen_ = 0;
    return true;
  }
  bool end_object() override {
    if (at_ == place::tensor) {
      if (!(seen_ & 1)) refuse("dtype is missing");
      if (!(seen_ & 2)) refuse("shape is missing");
      if (!(seen_ & 4)) refuse("data_offsets is missing");
      out_.tensors.push_back(std::move(now_));
      now_ = {};
    }
    at_ = at_ == place::root ? place::nothing : place::root;
    return true;
  }
  bool start_array(std::size_t) override {
    if (at_ == place::tensor && key_ == "shape") return at_ = place::shape, true;
    if (at_ == place::tensor && key_ == "data_offsets") return at_ = place::offsets, true;
    return wrong("an array");
  }
  bool end_array() override {
    if (at_ == place::offsets && offsets_ != 2)
      refuse("data_offsets has ", offsets_, " numbers; it must be [begin, end]");
    at_ = place::tensor;
    return true;
  }
  bool key(std::string& k) override {
    if (at_ == place::root) {
      if (!names_.insert(k).second)
        fail(file_, ": the header names the tensor ", quote(k), " twice; write the file again");
    } else if (at_ == place::metadata) {
      if (out_.metadata.contains(k))
        fail(file_, ": __metadata__ has the key ", quote(k), " twice; write the file again");
    } else {
      int const bit = k == "dtype" ? 1 : k == "shape" ? 2 : k == "data_offsets" ? 4 : 0;
      if (!bit) refuse("the key ", quote(k, 40), " is not dtype, shape or data_offsets");
      if (seen_ & bit) refuse("the key ", k, " occurs twice");
      seen_ |= bit;
    }
    key_ = std::move(k);
    return true;
  }
  bool parse_error(std::size_t at, std::string const&, nlohmann::json::exception const& e) override {
    fail(file_, ": the header is not valid JSON at byte ", at, " (", quote(e.what(), 300),
         "); the file is damaged or not safetensors");
  }

 private:
  enum class place { nothing, root, metadata, tensor, shape, offsets };

  template <class... A>
  [[noreturn]] void refuse(A const&... why) const {
    fail(file_, ": tensor ", quote(now_.name), ": ", why...);
  }
  bool wrong(std::string const& what) const {
    switch (at_) {
      case place::nothing:
        fail(file_, ": the header is ", what, "; it must be an object");
      case place::root:
        fail(file_, ": ", quote(key_), " is ", what, "; a tensor must be described by an object");
      case place::metadata:
        fail(file_, ": __metadata__ has ", what, " under ", quote(key_), "; only strings are allowed there");
      case place::tensor:
        refuse(key_, " is ", what);
      case place::shape:
        refuse("its shape holds ", what, "; extents must be integers of at least 0");
      case place::offsets:
        refuse("data_offsets holds ", what, "; offsets must be integers of at least 0");
    }
    return false;
  }

  safetensors_header& out_;
  std::string_view file_;
  place at_ = place::nothing;
  std::string key_;
  tensor_info now_;
  int offsets_ = 0, seen_ = 0;
  std::unordered_set<std::string> names_;
};

/// Each tensor has the bytes its shape needs, and together they cover [0, data_size) without holes or
/// overlaps.
inline void check_layout(safetensors_header& h, std::size_t data_size, std::string_view file) {
  for (auto const& t : h.tensors) {
    auto const who = [&] { return text(file, ": tensor ", quote(t.name), ": "); };
    if (t.begin > t.end)
      fail(who(), "data_offsets begin at ", t.begin, " and end at ", t.end, ", before they begin");
    if (t.end > data_size)
      fail(who(), "its bytes end at ", t.end, ", but the file has only ", data_size,
           " bytes of data; the file is truncated: copy or download it again");
    auto const count = checked_count(t.shape);
    if (!count)
      fail(who(), "the shape ",
           shape_text(std::span(t.shape).first(std::min<std::size_t>(t.shape.size(), 16))),
           " has too many elements for any memory");
    auto const bytes = checked_bytes(t.type, *count);
    if (!bytes)
      fail(who(), *count, " elements of type ", name_of(t.type),
           " are not a number of whole bytes that fits a file");
    if (*bytes != t.end - t.begin)
      fail(who(), "shape ", shape_text(std::span(t.shape).first(std::min<std::size_t>(t.shape.size(), 16))),
           " of ", name_of(t.type), " needs ", *bytes, " bytes, but data_offsets give ", t.end - t.begin);
  }
  std::sort(h.tensors.begin(), h.tensors.end(), [](tensor_info const& a, tensor_info const& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
  });
  std::size_t covered = 0;
  std::string_view before;
  for (auto const& t : h.tensors) {
    if (t.begin < covered)
      fail(file, ": tensor ", quote(t.name), " begins at byte ", t.begin, " inside of tensor ", quote(before),
           ", which ends at ", covered, "; tensors must not overlap");
    if (t.begin > covered)
      fail(file, ": bytes ", covered, " to ", t.begin, " before tensor ", quote(t.name),
           " belong to no tensor");
    covered = t.end, before = t.name;
  }
  if (covered != data_size)
    fail(file, ": the tensors end at byte ", covered, " of the data, but the file has ", data_size,
         " bytes of data; it is not the file its header describes");
}

}  // namespace detail

/// Parses the header of a safetensors file that lies in memory as a whole; `file` is its name in messages.
/// Strict: refuses whatever the format does not allow (safetensors/README.md, "Format"): headers above
/// 100,000,000 bytes or longer than the file or not starting with '{', invalid UTF-8, duplicate names,
/// unknown dtypes, sizes that overflow or differ from the bytes given, overlaps, holes, missing or surplus
/// bytes, metadata other than strings. Throws error naming the file, the tensor and both values. Reads no
/// tensor data.
inline safetensors_header parse_safetensors(std::span<std::byte const> bytes, std::string_view file) {
  if (bytes.size() < 8)
    fail(file, ": it has ", bytes.size(),
         " bytes, a safetensors file has at least 8; it is truncated or not safetensors");
  std::uint64_t n = 0;
  std::memcpy(&n, bytes.data(), 8);
  if (n > safetensors_header_limit)
    fail(file, ": the header would have ", n, " bytes, the format allows ", safetensors_header_limit,
         "; this is not a safetensors file");
  if (n > bytes.size() - 8)
    fail(file, ": the header would have ", n, " bytes, but the file has only ", bytes.size() - 8,
         " after the length; it is truncated or not safetensors");
  std::string_view json(reinterpret_cast<char const*>(bytes.data()) + 8, std::size_t(n));
  if (!json.starts_with('{'))
    fail(file, ": the header does not start with '{'; this is not a safetensors file");
  while (json.ends_with(' ')) json.remove_suffix(1);  // padding
  if (auto const zero = json.find('\0'); zero != json.npos)
    fail(file, ": the header holds a zero byte at ", zero, "; pad it with spaces");
  safetensors_header h;
  h.data_begin = 8 + std::size_t(n);
  detail::safetensors_sax sax(h, file);
  nlohmann::json::sax_parse(json.begin(), json.end(), &sax);
  detail::check_layout(h, bytes.size() - h.data_begin, file);
  return h;
}

}  // namespace insula
