// SPDX-License-Identifier: Apache-2.0
// oneDNN 2.x in the few words the comparison needs: memory in a format, and a stream that is waited for.
#pragma once

#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <vector>

namespace compare::onednn {

using dnnl::memory;
using tag = memory::format_tag;

struct device {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};

  void reorder(memory& from, memory& to) {
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  }
  /// Memory of `description` that holds the values of `from`, which lie in the plain format `as`.
  memory filled(memory::desc const& description, memory::dims const& dims, tag as,
                std::span<float const> from) {
    memory source = plain(dims, as), m(description, engine);
    std::memcpy(source.get_data_handle(), from.data(), from.size_bytes());
    reorder(source, m);
    return m;
  }
  memory plain(memory::dims const& dims, tag as) {
    return memory({dims, memory::data_type::f32, as}, engine);
  }
  /// The values of m in the plain format `as`.
  std::vector<float> values(memory& m, memory::dims const& dims, tag as) {
    memory target = plain(dims, as);
    reorder(m, target);
    std::size_t n = 1;
    for (auto d : dims) n *= std::size_t(d);
    auto const* const p = static_cast<float const*>(target.get_data_handle());
    return {p, p + n};
  }
};

inline memory::desc described(memory::dims const& dims, tag as) { return {dims, memory::data_type::f32, as}; }

}  // namespace compare::onednn
