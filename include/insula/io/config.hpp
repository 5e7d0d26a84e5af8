// SPDX-License-Identifier: Apache-2.0
// The configuration of a run: settings declared once, filled from files and the command line.
#pragma once

#include <span>

#include "insula/io/atomic_file.hpp"
#include "insula/io/config_file.hpp"
#include "insula/io/option.hpp"

namespace insula {

/// What the command line asks for besides settings.
enum class config_request { run, help, print };

/// A registry of settings bound to variables.
///   struct settings { index_t batch = 8; double rate = 1e-4; std::string model = "swin"; } s;
///   config c("pretrain", "Pretrains an encoder.");
///   c.add("train.batch", s.batch, "samples per step", {.at_least = 1});
///   c.add("optim.lr", s.rate, "peak learning rate", {.above = 0, .at_most = 1});
///   c.add("model.kind", s.model, "architecture", {.choices = {"swin", "unet"}});
///   if (c.arguments(argc, argv) == config_request::help) ...c.help()
/// Later sources win: the variable's value at declaration, files in order, then overrides key.sub=value.
/// Unknown keys, wrong types and values out of range throw error with file and line, all of a file at once.
/// The variables must outlive the config.
class config {
 public:
  explicit config(std::string program, std::string about = "")
      : program_(std::move(program)), about_(std::move(about)) {}

  /// Declares a setting; `variable` is of a type of option_target. Names are lower-case words joined by dots.
  template <class T>
  config& add(std::string name, T& variable, std::string doc, option_rule rule = option_rule{}) {
    check(!name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == name.npos &&
              name.front() != '.' && name.back() != '.' && name.find("..") == name.npos,
          program_, ": the setting ", quote(name), " must be lower-case words joined by dots");
    for (auto const& o : options_)
      check(o.name != name && !o.name.starts_with(name + ".") && !name.starts_with(o.name + "."), program_,
            ": the setting ", quote(name), " and the setting ", quote(o.name),
            " exclude each other; rename one");
    option o{std::move(name), &variable, std::move(doc), std::move(rule)};
    o.default_value = detail::value_of(o);
    if (!o.rule.required)
      if (auto const wrong = detail::violation(variable, o.rule); !wrong.empty())
        fail(program_, ": the default of ", quote(o.name), ": ", wrong);
    options_.push_back(std::move(o));
    return *this;
  }

  /// Sets everything a .toml or .json file gives.
  void load(std::string const& path) {
    std::vector<std::string> problems;
    std::unordered_set<std::string> seen;
    for (auto const& s : read_settings(path)) {
      auto wrong = seen.insert(s.key).second ? apply(s.key, s.value, s.origin)
                                             : quote(s.key) + " is set twice; remove one";
      if (!wrong.empty()) problems.push_back(s.origin + ": " + wrong);
    }
    complain(problems);
  }
  /// Sets one key from "key.sub=value". Strings need no quotes; lists are 1,2,3 or [1, 2, 3].
  void set(std::string_view assignment) {
    auto const equals = assignment.find('=');
    check(equals != assignment.npos && equals > 0, program_, ": ", quote(assignment),
          " is not of the form key=value");
    std::string const key(assignment.substr(0, equals));
    auto* const o = find(key);
    auto const wrong =
        o ? apply(key, detail::value_from(*o, assignment.substr(equals + 1)), "command line") : unknown(key);
    if (!wrong.empty()) fail("command line: ", wrong);
  }
  /// Reads main()'s arguments: --config FILE (also -c, any number), key=value or --key=value, --print-config,
  /// -h, --help. Files are read first, so overrides win wherever they stand. Checks required settings if the
  /// request is `run`.
  config_request arguments(int argc, char const* const* argv) {
    auto request = config_request::run;
    std::vector<std::string_view> overrides;
    std::vector<std::string> files;
    for (int i = 1; i < argc; ++i) {
      std::string_view a = argv[i];
      if (a == "-h" || a == "--help") return config_request::help;
      if (a == "--print-config") {
        request = config_request::print;
      } else if (a == "-c" || a == "--config") {
        check(++i < argc, program_, ": ", a, " needs a file name");
        files.emplace_back(argv[i]);
      } else if (a.starts_with("--config=")) {
        files.emplace_back(a.substr(9));
      } else {
        if (a.starts_with("--")) a.remove_prefix(2);
        check(a.find('=') != a.npos, program_, ": the argument ", quote(argv[i]),
              " is not known; settings are given as key=value, see --help");
        overrides.push_back(a);
      }
    }
    for (auto const& f : files) load(f);
    for (auto const o : overrides) set(o);
    if (request == config_request::run) check_required();
    return request;
  }
  /// Throws error listing the required settings that nothing has set.
  void check_required() const {
    std::vector<std::string> problems;
    for (auto const& o : options_)
      if (o.rule.required && o.origin == "default")
        problems.push_back(text("the setting ", quote(o.name), " (", o.doc, ") must be given, for example ",
                                o.name, "=..."));
    complain(problems);
  }

  /// The value of a setting; throws error if the name is unknown or T is not its type.
  template <class T>
  T const& get(std::string_view name) const {
    auto const& o = at(name);
    auto* const* const p = std::get_if<T*>(&o.target);
    if (!p)
      fail(program_, ": the setting ", quote(name), " is ", detail::kind_of(o), ", not ",
           detail::kind_of<T>());
    return **p;
  }
  /// Where its value comes from: "default", "run.toml:12" or "command line".
  std::string const& origin(std::string_view name) const { return at(name).origin; }
  std::span<option const> options() const { return options_; }

  /// The resolved configuration as nested JSON; loading it gives the same values.
  nlohmann::ordered_json json() const {
    auto out = nlohmann::ordered_json::object();
    for (auto const& o : options_) {
      auto* at = &out;
      std::string_view rest = o.name;
      for (auto dot = rest.find('.'); dot != rest.npos; dot = rest.find('.'))
        at = &(*at)[std::string(rest.substr(0, dot))], rest.remove_prefix(dot + 1);
      (*at)[std::string(rest)] = detail::value_of(o);
    }
    return out;
  }
  /// The resolved configuration as TOML, each setting behind a comment with its meaning and origin; loading
  /// it gives the same values (integers above 2^63 - 1 only from JSON: TOML has none). This is what
  /// --print-config shows.
  std::string toml() const {
    std::string s;
    for (auto const& group : groups()) {
      if (!group.empty()) s += (s.empty() ? "[" : "\n[") + group + "]\n";
      for (auto const& o : options_) {
        if (group_of(o) != group) continue;
        s += "# " + one_line(o.doc) + " (" + one_line(o.origin) + ")\n";
        s += o.name.substr(group.empty() ? 0 : group.size() + 1) + " = " + toml_text(detail::value_of(o)) +
             '\n';
      }
    }
    return s;
  }
  /// Writes config.resolved.json and config.resolved.toml into a folder, atomically.
  void save(std::string const& folder) const {
    write_file(folder + "/config.resolved.json", json().dump(2) + '\n');
    write_file(folder + "/config.resolved.toml", toml());
  }
  /// Usage and all settings with kind, default and range.
  std::string help() const {
    std::string s = "usage: " + program_ + " [--config FILE] [key=value ...] [--print-config] [--help]\n";
    if (!about_.empty()) s += about_ + '\n';
    for (auto const& group : groups()) {
      s += group.empty() ? "\nsettings\n" : "\n" + group + '\n';
      for (auto const& o : options_) {
        if (group_of(o) != group) continue;
        s += "  " + o.name + " = " + (o.rule.required ? "(required)" : toml_text(o.default_value)) + '\n';
        s += "      " + o.doc + " [" + detail::kind_of(o) + limits(o.rule) + "]\n";
      }
    }
    return s;
  }

 private:
  option* find(std::string_view name) {
    for (auto& o : options_)
      if (o.name == name) return &o;
    return nullptr;
  }
  option const& at(std::string_view name) const {
    for (auto const& o : options_)
      if (o.name == name) return o;
    fail(program_, ": ", unknown(name));
  }
  std::string apply(std::string const& key, nlohmann::ordered_json const& value, std::string const& origin) {
    auto* const o = find(key);
    if (!o) {
      bool const group = std::any_of(options_.begin(), options_.end(),
                                     [&](auto const& k) { return k.name.starts_with(key + "."); });
      return group && value.is_object() ? "" : unknown(key);
    }
    auto wrong = detail::assign(*o, value);
    if (!wrong.empty()) return quote(key) + ": " + wrong;
    o->origin = origin;
    return "";
  }
  /// Why there is no such setting, and which is likely meant: one with the same last word, or the nearest
  /// one.
  std::string unknown(std::string_view key) const {
    std::vector<std::string> inside, same_word, all;
    auto const last = [](std::string_view n) { return n.substr(n.rfind('.') + 1); };
    for (auto const& o : options_) {
      if (std::string_view(o.name).starts_with(text(key, "."))) inside.push_back(o.name);
      if (key.starts_with(o.name + "."))
        return text(quote(o.name), " is ", detail::kind_of(o), " and has no setting ", quote(key));
      if (last(o.name) == last(key)) same_word.push_back(o.name);
      all.push_back(o.name);
    }
    if (!inside.empty())
      return text(quote(key), " is a group and takes no value; it has ", quote(inside.front()));
    if (all.empty()) return text(quote(key), " is not a setting");
    return text(quote(key), " is not a setting; did you mean ",
                quote(nearest_word(key.substr(0, 200), same_word.empty() ? all : same_word)), "?");
  }
  void complain(std::vector<std::string> const& problems) const {
    if (problems.empty()) return;
    if (problems.size() == 1) fail(problems.front());
    std::string s = text(problems.size(), " problems in the configuration of ", program_, ":");
    for (auto const& p : problems) s += "\n  " + p;
    fail(s);
  }

  static std::string group_of(option const& o) {
    auto const dot = o.name.rfind('.');
    return dot == o.name.npos ? "" : o.name.substr(0, dot);
  }
  /// Groups in order of declaration, the one without a name first, as TOML wants it.
  std::vector<std::string> groups() const {
    std::vector<std::string> g;
    for (auto const& o : options_)
      if (group_of(o).empty()) {
        g.emplace_back();
        break;
      }
    for (auto const& o : options_)
      if (std::find(g.begin(), g.end(), group_of(o)) == g.end()) g.push_back(group_of(o));
    return g;
  }
  static std::string one_line(std::string s) {
    std::replace_if(
        s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
    return s;
  }
  static std::string toml_text(nlohmann::ordered_json const& v) {
    if (v.is_array()) {
      std::string s = "[";
      for (auto const& e : v) s += (s.size() > 1 ? ", " : "") + toml_text(e);
      return s += "]";
    }
    auto s = v.dump();  // JSON strings are TOML strings but for one character
    for (auto at = s.find('\x7f'); at != s.npos; at = s.find('\x7f', at)) s.replace(at, 1, "\\u007f");
    return s;
  }
  static std::string limits(option_rule const& r) {
    std::string s;
    if (std::isfinite(r.at_least)) s += text(", >= ", r.at_least);
    if (std::isfinite(r.above)) s += text(", > ", r.above);
    if (std::isfinite(r.at_most)) s += text(", <= ", r.at_most);
    if (std::isfinite(r.below)) s += text(", < ", r.below);
    if (r.length) s += text(", ", r.length, " elements");
    for (std::size_t i = 0; i < r.choices.size(); ++i) s += (i ? " | " : ": ") + r.choices[i];
    return s;
  }

  std::string program_, about_;
  std::vector<option> options_;
};

}  // namespace insula
