// SPDX-License-Identifier: Apache-2.0
// Configuration files, TOML or JSON, as a flat list of dotted keys, values and the lines they stand on.
#pragma once

#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#if __has_include(<toml++/toml.hpp>)
#include <toml++/toml.hpp>
#define INSULA_HAS_TOML 1
#elif __has_include(<toml++/toml.h>)
#include <toml++/toml.h>
#define INSULA_HAS_TOML 1
#else
#define INSULA_HAS_TOML 0
#endif

#include "insula/io/file.hpp"

namespace insula {

/// One key of a file. The value is a number, a string, true or false, a list of those, or {} for an empty
/// table.
struct file_setting {
  std::string key;  // "optim.lr"
  nlohmann::ordered_json value;
  std::string origin;  // "run.toml:12"
};

namespace detail {

/// A pass over text that counts line breaks as the JSON parser reads them.
struct counting_iterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = char const*;
  using reference = char const&;

  char const* at = nullptr;
  std::size_t* line = nullptr;

  char const& operator*() const { return *at; }
  counting_iterator& operator++() {
    if (*at++ == '\n') ++*line;
    return *this;
  }
  counting_iterator operator++(int) {
    auto const before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(counting_iterator const& a, counting_iterator const& b) { return a.at == b.at; }
  friend bool operator!=(counting_iterator const& a, counting_iterator const& b) { return a.at != b.at; }
};

/// Flattens JSON while it is parsed; refuses duplicate keys, lists of lists or of objects, null and deep
/// nesting.
class settings_sax : public nlohmann::json_sax<nlohmann::ordered_json> {
 public:
  using json = nlohmann::ordered_json;
  settings_sax(std::vector<file_setting>& out, std::string const& file, std::size_t const& line)
      : out_(out), file_(file), line_(line) {}

  bool null() override {
    fail(where(), ": ", quote(key_of_value()), " is null; give a value or remove the key");
  }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(v); }
  bool number_unsigned(number_unsigned_t v) override { return put(v); }
  bool number_float(number_float_t v, string_t const&) override { return put(v); }
  bool string(string_t& v) override { return put(v); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override {
    check(!in_list_, where(), ": ", quote(key_of_value()),
          ": lists hold numbers or strings only, not tables");
    check(path_.size() < 32, where(), ": tables are nested more than 32 deep");
    path_.emplace_back();
    return true;
  }
  bool end_object() override {
    bool const empty = path_.back().seen.empty();
    path_.pop_back();
    if (empty && !path_.empty()) out_.push_back({key_of_value(), json::object(), where()});
    return true;
  }
  bool key(string_t& k) override {
    auto& top = path_.back();
    key_line_ = line_;
    check(top.seen.insert(k).second, where(), ": the key ", quote(k), " occurs twice; remove one");
    top.key = k;
    return true;
  }
  bool start_array(std::size_t) override {
    check(!path_.empty(), where(), ": the file must hold an object { ... }");
    check(!in_list_, where(), ": ", quote(key_of_value()), ": lists hold numbers or strings only, not lists");
    in_list_ = true;
    list_ = json::array();
    return true;
  }
  bool end_array() override {
    in_list_ = false;
    return put(std::move(list_));
  }
  bool parse_error(std::size_t, std::string const&, nlohmann::json::exception const& e) override {
    std::string_view what = e.what();
    if (auto const at = what.find("syntax error"); at != what.npos) what.remove_prefix(at);
    fail(file_, ":", line_, ": not valid JSON: ", quote(what, 300));
  }

 private:
  struct level {
    std::string key;
    std::unordered_set<std::string> seen;
  };
  std::string where() const { return text(file_, ":", key_line_); }
  std::string key_of_value() const {
    std::string s;
    for (auto const& l : path_) s += (s.empty() ? "" : ".") + l.key;
    return s;
  }
  bool put(json v) {
    check(!path_.empty(), where(), ": the file must hold an object { ... }");
    if (in_list_)
      list_.push_back(std::move(v));
    else
      out_.push_back({key_of_value(), std::move(v), where()});
    return true;
  }

  std::vector<file_setting>& out_;
  std::string const& file_;
  std::size_t const& line_;
  std::size_t key_line_ = 1;
  std::vector<level> path_;
  bool in_list_ = false;
  json list_;
};

inline std::vector<file_setting> json_settings(std::string const& text, std::string const& file) {
  std::vector<file_setting> out;
  std::size_t line = 1;
  settings_sax sax(out, file, line);
  counting_iterator const begin{text.data(), &line}, end{text.data() + text.size(), &line};
  nlohmann::ordered_json::sax_parse(begin, end, &sax);
  return out;
}

#if INSULA_HAS_TOML
inline nlohmann::ordered_json toml_value(toml::node const& n, std::string const& key,
                                         std::string const& where, bool in_list) {
  if (auto const* v = n.as_boolean()) return v->get();
  if (auto const* v = n.as_integer()) return v->get();
  if (auto const* v = n.as_floating_point()) return v->get();
  if (auto const* v = n.as_string()) return v->get();
  auto const* const list = n.as_array();
  if (!list)
    fail(where, ": ", quote(key),
         n.is_table() ? ": lists hold numbers or strings only, not tables"
                      : " is a date or time; write it as a string in quotes");
  check(!in_list, where, ": ", quote(key), ": lists hold numbers or strings only, not lists");
  auto out = nlohmann::ordered_json::array();
  for (auto const& e : *list) out.push_back(toml_value(e, key, where, true));
  return out;
}

inline void flatten(toml::table const& t, std::string const& prefix, std::string const& file,
                    std::vector<file_setting>& out) {
  for (auto const& [k, node] : t) {
    std::string const key = prefix + std::string(std::string_view(k));
    auto const where = text(file, ":", node.source().begin.line);
    auto const* const sub = node.as_table();
    if (!sub)
      out.push_back({key, toml_value(node, key, where, false), where});
    else if (sub->empty())
      out.push_back({key, nlohmann::ordered_json::object(), where});
    else
      flatten(*sub, key + ".", file, out);
  }
}
#endif

inline std::vector<file_setting> toml_settings(std::string const& source, std::string const& file) {
#if INSULA_HAS_TOML
  std::vector<file_setting> out;
  try {
    flatten(toml::parse(std::string_view(source), std::string_view(file)), "", file, out);
  } catch (toml::parse_error const& e) {
    fail(file, ":", e.source().begin.line, ": not valid TOML: ", e.description());
  }
  return out;
#else
  (void)source;
  fail(file, ": this program was built without toml++ and cannot read TOML; use a JSON file");
#endif
}

}  // namespace detail

/// Reads a .toml or .json file. Throws error naming file and line.
inline std::vector<file_setting> read_settings(std::string const& path) {
  auto const extension = std::filesystem::path(path).extension();
  check(extension == ".toml" || extension == ".json", "read ", quote(path, 4096),
        ": configuration files are named .toml or .json");
  auto const source = read_file(path, std::size_t{64} << 20);
  return extension == ".toml" ? detail::toml_settings(source, path) : detail::json_settings(source, path);
}

}  // namespace insula
