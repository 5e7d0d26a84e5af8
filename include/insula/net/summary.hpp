// SPDX-License-Identifier: Apache-2.0
// The program of a network as text: one line per step, and what it needs in memory.
#pragma once

#include <string>
#include <vector>

#include "insula/base/text.hpp"
#include "insula/net/program.hpp"

namespace insula {

/// One line of the program.
struct program_line {
  std::string path;    ///< of the names around the layer, "encoder.layers1.0"; "" if there are none
  std::string layer;   ///< "conv3d"
  dims out;            ///< of one sample
  index_t parameters;  ///< trainable and frozen elements
  index_t kept;        ///< elements per sample that the layer saves for the backward pass, besides its result
  bool frozen, reached;  ///< weights without gradient; the backward pass visits the layer
};

namespace detail {

template <class Plan>
class line_collector {
 public:
  explicit line_collector(Plan const& p) : plan_(p) {}

  void push(std::string part) { path_.push_back(std::move(part)); }
  void pop() { path_.pop_back(); }
  void start_at(int index) { first_ = index; }
  int first_index() {
    int const i = first_;
    first_ = 0;
    return i;
  }
  template <class L>
  void leaf() {
    step const& s = plan_.at[next_++];
    std::string path;
    for (auto const& part : path_) path += (path.empty() ? "" : ".") + part;
    parameter_list const list = L::parameters(s.in);
    index_t parameters = 0;
    for (int k = 0; k < list.count; ++k) parameters += list.at[k].shape.size();
    lines.push_back({path, L::name, s.out, parameters, L::saved(s.in), s.frozen, s.active});
  }
  std::vector<program_line> lines;

 private:
  Plan const& plan_;
  std::vector<std::string> path_;
  int next_ = 0, first_ = 0;
};

inline std::string extents_text(dims d) {
  std::string s;
  for (int i = 0; i < d.rank; ++i) s += text(i ? " x " : "", d.n[i]);
  return s;
}
inline std::string megabytes(index_t bytes) { return text((bytes + 500000) / 1000000, " MB"); }

}  // namespace detail

/// The program's steps in order of execution.
template <layer Net, static_shape In>
std::vector<program_line> program_lines() {
  static constexpr auto const& plan = program<Net, In>::training;
  detail::line_collector<std::remove_cvref_t<decltype(plan)>> c(plan);
  Net::describe(c);
  return std::move(c.lines);
}

/// The table of a network: step, names around it, layer, shape of its result, parameters; then what a pass of `batch` samples
/// of T needs. Frozen weights are marked with *.
template <layer Net, static_shape In, class T = float>
std::string summary(index_t batch = 1) {
  using p = program<Net, In>;
  std::vector<std::vector<std::string>> rows{{"step", "names", "layer", "result", "parameters"}};
  int step = 0;
  for (auto const& l : program_lines<Net, In>())
    rows.push_back({text(step++), l.path, l.layer, detail::extents_text(l.out),
                    l.parameters > 0 ? text(l.parameters, l.frozen ? "*" : "") : std::string()});
  std::vector<std::size_t> width(5);
  for (auto const& r : rows)
    for (std::size_t c = 0; c < r.size(); ++c) width[c] = r[c].size() > width[c] ? r[c].size() : width[c];
  std::string s;
  for (auto const& r : rows) {
    for (std::size_t c = 0; c < r.size(); ++c) {
      std::string const gap(width[c] - r[c].size(), ' ');
      bool const number = c == 0 || c == 4;
      s += (c ? "  " : "") + (number ? gap + r[c] : r[c] + gap);
    }
    s += '\n';
  }
  return s + text("input ", detail::extents_text(In::value), ", ", p::parameters, " parameters; a pass of ",
                  batch, batch == 1 ? " sample" : " samples", " needs ",
                  detail::megabytes(p::bytes(batch, sizeof(T))), " in training, ",
                  detail::megabytes(p::inference_bytes(batch, sizeof(T))), " without gradients\n");
}

}  // namespace insula
