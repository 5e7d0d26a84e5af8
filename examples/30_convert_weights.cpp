// SPDX-License-Identifier: Apache-2.0
// Published weights to safetensors: reads torch.save files (.pt, .pth, .ckpt, .tar; nothing in them is executed) and
// safetensors, renames tensors, and writes what is left with every bit as it was:
//   30_convert_weights epoch=12.ckpt encoder.safetensors --strip model. --keep encoder.
// ends with "195 tensors, 82100808 bytes in encoder.safetensors". docs/howto/weights.md has the whole story.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <set>

#include "insula/io/rename_file.hpp"
#include "insula/io/weights_file.hpp"

namespace {

struct options {
  std::string in, out, key, member, rename;
  std::vector<std::string> strip, keep, drop;
  bool key_given = false, dry_run = false, list = false, force = false, quiet = false;
};

/// A tensor of the file and the name it gets.
struct renamed {
  insula::tensor_info const* tensor;
  std::string name;
};

bool starts_with_any(std::string_view name, std::vector<std::string> const& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](auto const& p) { return name.starts_with(p); });
}

insula::weights_file open(options const& o) {
  insula::pytorch_options p{.key = {}, .member = o.member};
  if (o.key_given) p.key = o.key;
  return insula::weights_file(o.in, p);
}

/// Rename rules, then prefixes to strip, then what to keep and drop; whatever fits nothing is an error, not a surprise later.
std::vector<renamed> chosen(insula::weights_file const& file, options const& o) {
  std::vector<insula::rename_rule> rules;
  if (!o.rename.empty()) rules = insula::read_rename_rules(o.rename);
  for (auto const& s : o.strip) rules.push_back({s, ""});
  std::vector<std::string> names;
  for (auto const& t : file.tensors()) names.push_back(t.name);
  if (file.pytorch())
    for (auto const& u : file.pytorch()->unread()) names.push_back(u.name);
  if (auto const unused = insula::apply_renames(names, rules); !unused.empty())
    insula::fail(o.in, ": no tensor's name begins with ", insula::quote(unused[0].from),
                 " when this rule is applied; see the names with --list");
  for (auto const* const prefixes : {&o.keep, &o.drop})
    for (auto const& p : *prefixes)
      insula::check(std::any_of(names.begin(), names.end(), [&](auto const& n) { return n.starts_with(p); }),
                    o.in, ": after renaming no tensor's name begins with ", insula::quote(p),
                    "; see the names with --dry-run");
  std::vector<renamed> all;
  std::set<std::string_view> seen;
  auto const readable = file.tensors().size();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if ((!o.keep.empty() && !starts_with_any(names[i], o.keep)) || starts_with_any(names[i], o.drop))
      continue;
    if (i >= readable)
      insula::fail(o.in, ": ", insula::quote(names[i]), " is ", file.pytorch()->unread()[i - readable].why,
                   "; leave it out with --drop ", names[i]);
    insula::check(seen.insert(names[i]).second, o.in, ": two tensors become ", insula::quote(names[i]),
                  "; drop or rename one of them");
    all.push_back({&file.tensors()[i], names[i]});
  }
  insula::check(!all.empty(), o.in, ": nothing is left to write");
  return all;
}

void print(std::vector<renamed> const& tensors) {
  std::size_t width = 0;
  for (auto const& r : tensors) width = std::max(width, r.name.size());
  for (auto const& [t, name] : tensors) {
    std::string const was = t->name == name ? "" : "  (" + t->name + ")";
    std::printf("%-*s  %-4s %s%s\n", int(width), name.c_str(), std::string(insula::name_of(t->type)).c_str(),
                insula::shape_text(t->shape).c_str(), was.c_str());
  }
}

void describe(insula::weights_file const& file) {
  auto const* const torch = file.pytorch();
  if (!torch) {
    std::printf("%s: a safetensors file\n", file.path().c_str());
    for (auto const& [key, value] : file.safetensors()->metadata())
      std::printf("  %s: %s\n", insula::quote(key).c_str(), insula::quote(value).c_str());
    return;
  }
  std::printf("%s: a file of torch.save\n", file.path().c_str());
  for (auto const& [key, what] : torch->contents()) std::printf("  %s: %s\n", key.c_str(), what.c_str());
  for (auto const& u : torch->unread())
    std::printf("  %s is %s\n", insula::quote(u.name).c_str(), u.why.c_str());
  std::printf("%s\n", torch->section().empty()
                          ? "tensors of the whole file:"
                          : ("tensors under " + insula::quote(torch->section()) + ":").c_str());
}

int list(options o) {
  try {
    describe(open(o));
  } catch (insula::error const& e) {
    if (o.key_given) throw;
    std::fprintf(stderr, "30_convert_weights: %s\n", e.what());
    o.key_given = true;  // everything, so that the right key can be seen
    describe(open(o));
  }
  auto const file = open(o);
  std::vector<renamed> all;
  for (auto const& t : file.tensors()) all.push_back({&t, t.name});
  print(all);
  std::printf("%zu tensors\n", all.size());
  return 0;
}

int convert(options const& o) {
  auto const file = open(o);
  auto const tensors = chosen(file, o);
  insula::safetensors_writer writer;
  if (file.safetensors()) writer.metadata = file.safetensors()->metadata();
  std::size_t bytes = 0;
  for (auto const& [t, name] : tensors) {
    insula::add_copy(writer, file, *t, name);
    bytes += t->end - t->begin;
  }
  if (!o.quiet) print(tensors);
  if (o.dry_run) {
    std::printf("%zu tensors, %zu bytes; nothing was written\n", tensors.size(), bytes);
    return 0;
  }
  insula::check(o.force || !std::filesystem::exists(o.out), o.out,
                ": it exists; choose another name or use --force");
  auto const size = writer.write(o.out);
  std::printf("%zu tensors, %zu bytes in %s\n", tensors.size(), size, o.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app("Converts weights of torch.save or safetensors files to a safetensors file.");
  app.add_option("in", o.in, "a .pt, .pth, .ckpt, .tar or .safetensors file")->required();
  app.add_option("out", o.out, "the .safetensors file to write");
  auto* const key =
      app.add_option("--key", o.key, "where the tensors are, such as state_dict; \"\" is the whole file");
  app.add_option("--member", o.member, "which file, if a tar wraps several");
  app.add_option("--rename", o.rename, "a file of rules, one a line: old prefix -> new prefix");
  app.add_option("--strip", o.strip, "remove this prefix of names; several in order");
  app.add_option("--keep", o.keep, "keep only tensors whose new names begin so; several");
  app.add_option("--drop", o.drop, "leave out tensors whose new names begin so; several");
  app.add_flag("--dry-run", o.dry_run, "report, write nothing");
  app.add_flag("--list", o.list, "print what is in the file, write nothing");
  app.add_flag("--force", o.force, "replace the output if it exists");
  app.add_flag("-q,--quiet", o.quiet, "no table of tensors");
  try {
    app.parse(argc, argv);
    o.key_given = key->count() > 0;
    if (o.out.empty() && !o.list && !o.dry_run) throw CLI::RequiredError("out, --list or --dry-run");
    return o.list ? list(o) : convert(o);
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "30_convert_weights: %s\n", e.what());
    return 1;
  }
}
