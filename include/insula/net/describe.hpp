// SPDX-License-Identifier: Apache-2.0
// The parameters of a network at run time: published names, shapes on disk, places in memory, and the two orders.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/net/program.hpp"

namespace insula {

/// Which of a network's ranges a tensor lies in.
enum class tensor_kind {
  weight,  ///< trained, or frozen
  state,   ///< running statistics
  counter  ///< integers
};

/// One tensor of a network: of its weight range, or of its state.
struct tensor_place {
  std::string name;  ///< published name, e.g. "layers1.0.blocks.0.attn.qkv.weight"
  dims shape;        ///< on disk
  layout order;
  start how;
  index_t fan_in;
  index_t offset;  ///< elements from the start of its range
  bool frozen;     ///< never trained: inside frozen<>, or a fixed table
  tensor_kind kind = tensor_kind::weight;
  double (*table)(dims shape, index_t i) = nullptr;

  index_t size() const { return shape.size(); }
};

namespace detail {

template <class Plan>
class describer {
 public:
  explicit describer(Plan const& p) : plan_(p) {}

  void push(std::string part) { path_.push_back(std::move(part)); }
  void pop() { path_.pop_back(); }
  void start_at(int index) { first_ = index; }
  int first_index() { return std::exchange(first_, 0); }

  template <class L>
  void leaf() {
    step const& s = plan_.at[next_++];
    std::string name;
    for (auto const& part : path_) name += part, name += '.';
    parameter_list const list = L::parameters(s.in);
    for (int k = 0; k < list.count; ++k) {
      parameter const& p = list.at[k];
      places.push_back({name + p.name, p.shape, p.order, p.how, p.fan_in, s.w[k], s.frozen || p.fixed,
                        tensor_kind::weight, p.table});
    }
    state_list const kept = L::state(s.in);
    for (int k = 0; k < kept.count; ++k) {
      state_tensor const& t = kept.at[k];
      places.push_back({name + t.name, t.shape, layout::same, t.how, 1, s.state[k], true,
                        t.counter ? tensor_kind::counter : tensor_kind::state});
    }
  }
  std::vector<tensor_place> places;

 private:
  Plan const& plan_;
  std::vector<std::string> path_;
  int next_ = 0, first_ = 0;
};

}  // namespace detail

/// All tensors of the network, weights and state, layer by layer in the order of execution, which is their order in memory.
/// published_order() (insula/zoo/published_order.hpp) gives the order of the published state_dict.
template <layer Net, static_shape In>
std::vector<tensor_place> tensors() {
  static constexpr auto const& plan = program<Net, In>::training;
  detail::describer<std::remove_cvref_t<decltype(plan)>> d(plan);
  Net::describe(d);
  return std::move(d.places);
}

/// The tensors of one kind.
inline std::vector<tensor_place> tensors_of(std::vector<tensor_place> const& all, tensor_kind kind) {
  std::vector<tensor_place> some;
  for (auto const& t : all)
    if (t.kind == kind) some.push_back(t);
  return some;
}

/// The tensors of the weight range.
template <layer Net, static_shape In>
std::vector<tensor_place> parameters() {
  return tensors_of(tensors<Net, In>(), tensor_kind::weight);
}

namespace detail {
/// Index in memory of the element that is number i on disk.
struct memory_index {
  layout order;
  index_t rows, columns, kernel;  // first two axes on disk, and the product of the others

  explicit memory_index(tensor_place const& t)
      : order(t.order),
        rows(t.shape.rank > 0 ? t.shape.n[0] : 1),
        columns(t.shape.rank > 1 ? t.shape.n[1] : 1),
        kernel(rows * columns > 0 ? t.shape.size() / (rows * columns) : 1) {}
  index_t operator()(index_t i) const {
    index_t const k = i % kernel, c = i / kernel % columns, r = i / (kernel * columns);
    switch (order) {
      case layout::linear:
      case layout::conv:
        return (k * columns + c) * rows + r;
      case layout::conv_transpose:
        return (k * rows + r) * columns + c;
      case layout::same:
        break;
    }
    return i;
  }
};
}  // namespace detail

/// disk[i] = memory[...]: the tensor in its published order. `weights` is the start of the weight range.
template <class T, class U>
void to_disk(tensor_place const& t, T const* weights, U* disk) {
  detail::memory_index const at(t);
  for (index_t i = 0; i < t.size(); ++i) disk[i] = U(weights[t.offset + at(i)]);
}
/// The reverse of to_disk.
template <class T, class U>
void from_disk(tensor_place const& t, U const* disk, T* weights) {
  detail::memory_index const at(t);
  for (index_t i = 0; i < t.size(); ++i) weights[t.offset + at(i)] = T(disk[i]);
}

}  // namespace insula
