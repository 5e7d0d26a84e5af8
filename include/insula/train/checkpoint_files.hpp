// SPDX-License-Identifier: Apache-2.0
// The checkpoints in a folder: their names, what they say about themselves, and which one a run resumes from.
#pragma once

#include <optional>

#include "insula/io/csv.hpp"
#include "insula/io/safetensors_read.hpp"

namespace insula {

/// One complete checkpoint on disk.
struct checkpoint_file {
  std::string path;
  index_t step = 0;               ///< optimiser steps done
  std::optional<double> score{};  ///< as given to checkpoint_store::write
};

inline constexpr char const* last_checkpoint = "last.safetensors";
inline constexpr char const* best_checkpoint = "best.safetensors";

/// "step-00000123.safetensors"
inline std::string checkpoint_name(index_t step) {
  auto digits = text(step);
  digits.insert(0, digits.size() < 8 ? 8 - digits.size() : 0, '0');
  return "step-" + digits + ".safetensors";
}

/// The step in a name that checkpoint_name() made, else nothing.
inline std::optional<index_t> step_in_name(std::string_view name) {
  constexpr std::string_view head = "step-", tail = ".safetensors";
  if (name.size() < head.size() + 8 + tail.size() || !name.starts_with(head) || !name.ends_with(tail))
    return {};
  auto const digits = name.substr(head.size(), name.size() - head.size() - tail.size());
  index_t step = 0;
  auto const r = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (r.ec != std::errc{} || r.ptr != digits.data() + digits.size() || checkpoint_name(step) != name)
    return {};
  return step;
}

/// What a checkpoint says about itself. Opens it, so cut-off files are found out. Throws error if it is not a whole
/// safetensors file or if no run wrote it.
inline checkpoint_file inspect_checkpoint(std::string const& path) {
  safetensors_file const file(path);
  auto const entry = [&](char const* name) {
    auto const it = file.metadata().find(name);
    return it == file.metadata().end() ? std::optional<double>{} : number_in(it->second);
  };
  auto const step = entry("insula.step");
  check(step.has_value(), path, ": the metadata names no step; this file is not a checkpoint of a run");
  return {path, index_t(*step), entry("insula.score")};
}

/// Steps of the files in `folder` that are named like checkpoints, ascending; unchecked. A missing folder has none.
inline std::vector<index_t> checkpoint_steps(std::string const& folder) {
  std::vector<index_t> steps;
  std::error_code e;
  for (std::filesystem::directory_iterator it(folder, e), end; !e && it != end; it.increment(e))
    if (auto const step = step_in_name(it->path().filename().string())) steps.push_back(*step);
  if (e && e != std::errc::no_such_file_or_directory) fail_errno("list the folder", folder, e.value());
  std::sort(steps.begin(), steps.end());
  return steps;
}

namespace detail {
/// The checkpoint that a link in `folder` names, nothing if the link is missing, dangling or leads to a broken file.
inline std::optional<checkpoint_file> follow_checkpoint_link(std::string const& folder, char const* link) {
  namespace fs = std::filesystem;
  std::error_code none;
  fs::path path = fs::path(folder) / link;
  if (fs::is_symlink(fs::symlink_status(path, none))) {
    auto const to = fs::read_symlink(path, none);
    if (none) return {};
    path = to.is_absolute() ? to : fs::path(folder) / to;
  }
  if (!fs::exists(path, none)) return {};
  try {
    return inspect_checkpoint(path.string());
  } catch (error const&) {
    return {};
  }
}
}  // namespace detail

/// Where to resume: what last.safetensors names, or, if that is missing, dangling or broken, the checkpoint of the greatest
/// step that opens. Nothing if the folder has no checkpoints; throws error if it has some and none opens, since a run must
/// not silently start afresh. Reads only; temporaries are ignored.
inline std::optional<checkpoint_file> find_last_checkpoint(std::string const& folder) {
  if (auto const last = detail::follow_checkpoint_link(folder, last_checkpoint)) return last;
  auto const steps = checkpoint_steps(folder);
  std::string why;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    try {
      return inspect_checkpoint(folder + "/" + checkpoint_name(*step));
    } catch (error const& e) {
      if (why.empty()) why = e.what();
    }
  }
  if (!steps.empty())
    fail("none of the ", steps.size(), " checkpoints in ", quote(folder, 4096), " can be read (", why,
         "); move them away to start afresh");
  return {};
}

}  // namespace insula
