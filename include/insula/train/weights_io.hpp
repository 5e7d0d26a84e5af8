// SPDX-License-Identifier: Apache-2.0
// Weights, optimiser moments and other ranges between memory and files, in published names and layouts.
#pragma once

#include <algorithm>

#include "insula/io/mapping.hpp"
#include "insula/io/named_tensors.hpp"
#include "insula/io/safetensors.hpp"
#include "insula/net/describe.hpp"
#include "insula/train/state.hpp"

namespace insula {

/// The shape on disk of a tensor.
inline std::vector<index_t> shape_of(tensor_place const& t) { return {t.shape.n, t.shape.n + t.shape.rank}; }

namespace detail {
/// disk[0 .. count) = elements first, first + 1, ... of the tensor in its published order; memory_index is asked only where a
/// run of equal strides begins.
template <class T, class U>
void part_to_disk(tensor_place const& t, T const* range, index_t first, index_t count, U* disk) {
  memory_index const at(t);
  index_t const run = std::max<index_t>(at.kernel > 1 ? at.kernel : at.columns, 1);
  for (index_t i = 0; i < count;) {
    index_t const n = std::min(run - (first + i) % run, count - i);
    index_t const start = at(first + i), stride = n > 1 ? at(first + i + 1) - start : 0;
    for (index_t k = 0; k < n; ++k) disk[i + k] = U(range[t.offset + start + k * stride]);
    i += n;
  }
}
}  // namespace detail

/// Adds the tensors at `places` of a range (weights, a momentum copy, an optimiser's moments) as "<prefix><name>", row-major
/// in their published shape, as F32 (T = float) or F64 (T = double), so that nothing is rounded. The range must live until
/// the writer has written. Throws error as safetensors_writer::add does.
///   add_tensors(w, system.places(), system.w(), "model.");
template <scalar T>
void add_tensors(safetensors_writer& w, std::vector<tensor_place> const& places, T const* range,
                 std::string const& prefix = "") {
  for (auto const& t : places) {
    auto part = [t, range](std::size_t first, std::span<std::byte> out) {
      detail::part_to_disk(t, range, index_t(first / sizeof(T)), index_t(out.size() / sizeof(T)),
                           reinterpret_cast<T*>(out.data()));
    };
    w.add(prefix + t.name, dtype_of<T>(), shape_of(t), safetensors_writer::fill(std::move(part)));
  }
}

/// Names match after one chain of known prefixes, such as "module.", was removed: files of other programs.
inline mapping_options any_known_prefix() { return {}; }
/// Names must match as they are: own checkpoints.
inline mapping_options same_names() {
  mapping_options o;
  o.prefixes.clear();
  return o;
}

/// Fills the places of a range (=) from the tensors of a file with the same published names and shapes, and tells what
/// matched. The file is a safetensors_file, a pytorch_file, or a weights_file (insula/io/weights_file.hpp), which is either.
/// Only tensors of the file whose names begin with `prefix` are looked at, without it; `names` has renaming,
/// optional and ignored tensors and strictness; `how` is rounding::nearest to read F64 files into float. Places without a
/// match stay as they are. Throws error with the report if names.strict and something does not fit (then nothing is written),
/// or if a value cannot be converted.
template <scalar T, tensor_file File>
mapping load_tensors(File const& file, std::vector<tensor_place> const& places, T* range,
                     std::string const& prefix = "", mapping_options const& names = any_known_prefix(),
                     rounding how = rounding::exact) {
  std::vector<named_shape> wanted, source;
  std::vector<tensor_info const*> tensors;
  for (auto const& t : places) wanted.push_back({t.name, shape_of(t)});
  for (auto const& t : file.tensors())
    if (t.name.starts_with(prefix)) {
      source.push_back({t.name.substr(prefix.size()), t.shape});
      tensors.push_back(&t);
    }
  auto m = map_names(std::move(wanted), std::move(source), file.path(), names);
  std::vector<T> values;
  for (auto const& match : m.matched) {
    auto const& place = places[match.wanted];
    values.resize(std::size_t(place.size()));
    file.template read<T>(*tensors[match.source], values, how);
    from_disk(place, values.data(), range);
  }
  return m;
}

/// Fills a range from a checkpoint that add_tensors() wrote with this prefix: names must be the same, none left out.
template <scalar T>
void restore_tensors(safetensors_file const& file, std::vector<tensor_place> const& places, T* range,
                     std::string const& prefix) {
  (void)load_tensors(file, places, range, prefix, same_names());
}

/// Fills `out` with a tensor of the same type and number of elements, bit by bit: queues, identifiers, counters. Throws
/// error.
template <class T, tensor_file File>
requires std::is_arithmetic_v<T>
void restore_values(File const& file, std::string_view name, std::span<T> out) {
  auto const& t = file.at(name);
  check(t.type == dtype_of<T>() && std::size_t(t.count()) == out.size(), file.path(), ": tensor ",
        quote(name), " is ", name_of(t.type), " ", shape_text(t.shape), ", wanted are ", out.size(),
        " elements of ", name_of(dtype_of<T>()), "; was the checkpoint written with other settings?");
  std::vector<std::byte> scratch;
  auto const bytes = file.elements(t, 0, t.count(), scratch);
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
}

/// Adds what an optimiser (adamw, adam, lars, sgd) remembers as "optimizer.<range>.<name>", for example
/// "optimizer.first_moment.head.weight", and its step counters to the state as "optimizer.steps". `places` are the tensors
/// that it trains.
template <class Optimizer>
void add_optimizer(safetensors_writer& w, state_map& state, std::vector<tensor_place> const& places,
                   Optimizer& optimizer) {
  optimizer.each_range([&](char const* name, auto const* range) {
    add_tensors(w, places, range, text("optimizer.", name, "."));
  });
  std::string steps;
  for (auto const c : optimizer.counts()) steps += (steps.empty() ? "" : ",") + text(c);
  state["optimizer.steps"] = steps;
}

/// The reverse of add_optimizer(). Throws error if tensors, shapes, the number of groups or the kind of optimiser differ.
template <class Optimizer>
void restore_optimizer(safetensors_file const& file, state_map const& state,
                       std::vector<tensor_place> const& places, Optimizer& optimizer) {
  std::vector<std::int64_t> steps;
  std::string_view rest = state_text(state, "optimizer.steps");
  while (!rest.empty()) {
    auto const word = rest.substr(0, rest.find(','));
    steps.push_back(state_integer({{"optimizer.steps", std::string(word)}}, "optimizer.steps"));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  }
  optimizer.each_range([&](char const* name, auto*) {
    std::string const prefix = text("optimizer.", name, ".");
    auto const has = [&](tensor_info const& t) { return t.name.starts_with(prefix); };
    check(std::any_of(file.tensors().begin(), file.tensors().end(), has), file.path(),
          ": there is no tensor \"", prefix,
          "...\": the checkpoint was written with another optimiser; resume with the settings of the first "
          "run");
  });
  check(steps.size() == optimizer.counts().size(), file.path(), ": the optimiser had ", steps.size(),
        " parameter groups, now it has ", optimizer.counts().size(),
        "; resume with the settings of the first run");
  optimizer.each_range([&](char const* name, auto* range) {
    restore_tensors(file, places, range, text("optimizer.", name, "."));
  });
  optimizer.counts() = steps;
}

}  // namespace insula
