// SPDX-License-Identifier: Apache-2.0
// Whole networks, weights and state together, between memory and files.
#pragma once

#include <cstring>

#include "insula/train/weights_io.hpp"

namespace insula {

/// Adds all tensors of a network (tensors<Net, In>()) under "<prefix><published name>": weights and running statistics as the
/// network's scalar type, counters as I64. Ranges must live until the writer has written. Throws error as add_tensors() does.
template <scalar T>
void add_network(safetensors_writer& w, std::vector<tensor_place> const& all, T const* weights,
                 program_state<T> state, std::string const& prefix = "") {
  add_tensors(w, tensors_of(all, tensor_kind::weight), weights, prefix);
  add_tensors(w, tensors_of(all, tensor_kind::state), static_cast<T const*>(state.values), prefix);
  for (auto const& t : tensors_of(all, tensor_kind::counter))
    w.add(prefix + t.name, shape_of(t), static_cast<std::int64_t const*>(state.counters + t.offset));
}

/// Fills weights and state (=) from the tensors of a file with the same published names and shapes, as load_tensors() does for
/// weights alone; counters are I64. The file is a safetensors_file, a pytorch_file or a weights_file. Throws error with the report
/// if names.strict and something does not fit; nothing is written then.
///   weights_file const file("checkpoint_140.tar");
///   load_network(file, tensors<net, in>(), m.w(), m.state(), "", pretrained_encoder());
template <scalar T, tensor_file File>
mapping load_network(File const& file, std::vector<tensor_place> const& all, T* weights,
                     program_state<T> state, std::string const& prefix = "",
                     mapping_options const& names = any_known_prefix(), rounding how = rounding::exact) {
  std::vector<named_shape> wanted, source;
  std::vector<tensor_info const*> infos;
  for (auto const& t : all) wanted.push_back({t.name, shape_of(t)});
  for (auto const& t : file.tensors())
    if (t.name.starts_with(prefix)) {
      source.push_back({t.name.substr(prefix.size()), t.shape});
      infos.push_back(&t);
    }
  auto m = map_names(std::move(wanted), std::move(source), file.path(), names);
  std::vector<T> values;
  std::vector<std::byte> scratch;
  for (auto const& match : m.matched) {
    auto const& place = all[match.wanted];
    auto const& info = *infos[match.source];
    if (place.kind == tensor_kind::counter) {
      check(info.type == dtype::i64, file.path(), ": tensor ", quote(info.name), " is ", name_of(info.type),
            ", a counter is I64");
      auto const bytes = file.elements(info, 0, place.size(), scratch);
      std::memcpy(state.counters + place.offset, bytes.data(),
                  std::size_t(place.size()) * sizeof(std::int64_t));
      continue;
    }
    values.resize(std::size_t(place.size()));
    file.template read<T>(info, values, how);
    from_disk(place, values.data(), place.kind == tensor_kind::weight ? weights : state.values);
  }
  return m;
}

/// The reverse of add_network() for a run's own checkpoint, which may hold an optimiser's tensors beside it.
template <scalar T>
void restore_network(safetensors_file const& file, std::vector<tensor_place> const& all, T* weights,
                     program_state<T> state, std::string const& prefix = "") {
  auto names = same_names();
  names.ignored = {"optimizer."};
  (void)load_network(file, all, weights, state, prefix, names);
}

/// What of a SimCLR checkpoint fills an encoder with a new head: every encoder.* tensor must match, state included; the projector
/// and an optimiser are left over, the head stays as it started; "module." in front of the file's names is removed.
inline mapping_options pretrained_encoder() {
  mapping_options o;
  o.prefixes = {"module."};
  o.ignored = {"projector.", "optimizer."};
  o.optional = {"head."};
  return o;
}

}  // namespace insula
