// SPDX-License-Identifier: Apache-2.0
// program<Net, In>: the static table of a network for one input shape: offsets, names, memory budget.
#pragma once

#include "insula/net/diagnose.hpp"
#include "insula/net/place.hpp"

namespace insula {

/// Does the tape want a gradient with respect to the network's input?
enum class input_gradient { no, yes };

namespace detail {
template <class Net, class In>
inline constexpr inferred followed = Net::follow(fits(In::value));

template <class Net, class In, inferred const& F = followed<Net, In>>
using diagnosis =
    diagnose<F.why, at_layer<to_fixed<length(F.name)>(F.name), F.layer>, got<F.got>, want<F.want>>;

template <class Net, class In, memory_mode Mode, input_gradient G>
constexpr auto make_plan() {
  plan<Net::leaves> p{};
  if (!followed<Net, In>) return p;
  int const x = p.add_value(In::value, -1, G == input_gradient::yes && Mode == memory_mode::training);
  p.result = Net::lay(p, x);
  p.v[p.result].output = true;
  return place(p, Mode);
}
}  // namespace detail

namespace detail {
template <int Rank, index_t... E>
struct shape_of_rank;
template <index_t A, index_t... Rest>
struct shape_of_rank<1, A, Rest...> {
  using type = shape<A>;
};
template <index_t A, index_t B, index_t... Rest>
struct shape_of_rank<2, A, B, Rest...> {
  using type = shape<A, B>;
};
template <index_t A, index_t B, index_t C, index_t... Rest>
struct shape_of_rank<3, A, B, C, Rest...> {
  using type = shape<A, B, C>;
};
template <index_t A, index_t B, index_t C, index_t D, index_t... Rest>
struct shape_of_rank<4, A, B, C, D, Rest...> {
  using type = shape<A, B, C, D>;
};
template <index_t... Rest>
struct shape_of_rank<0, Rest...> {  // a network with a fault, or an absent tap
  using type = shape<>;
};
}  // namespace detail

/// Everything the compiler knows of a network fed with samples of shape In. A network that cannot take In is one error, the
/// sentence of its first fault; `ok` is false then, and the table is empty.
template <layer Net, static_shape In, input_gradient G = input_gradient::no>
struct program {
  static constexpr inferred shape = detail::followed<Net, In>;
  static constexpr bool ok = bool(shape);

  static constexpr auto training = detail::make_plan<Net, In, memory_mode::training, G>();
  static constexpr auto inference = detail::make_plan<Net, In, memory_mode::inference, G>();

  static constexpr dims out = shape.out;
  using output =
      typename detail::shape_of_rank<out.rank, out.n[0], out.n[1], out.n[2], out.n[3], out.n[4]>::type;
  template <int Label>
  using tap_shape =
      typename detail::shape_of_rank<shape.tap[Label].rank, shape.tap[Label].n[0], shape.tap[Label].n[1],
                                     shape.tap[Label].n[2], shape.tap[Label].n[3], 0>::type;
  static constexpr index_t weights = training.weights;  ///< elements of the weight range, tensors aligned
  static constexpr index_t parameters = training.parameters;  ///< trainable and frozen elements

  static constexpr index_t states = training.states;      ///< elements of the range of state, tensors aligned
  static constexpr index_t counters = training.counters;  ///< elements of the range of counters

  /// Bytes of one training pass: weights, their gradients, state and the activation arena.
  static constexpr index_t bytes(index_t batch, std::size_t scalar) {
    return index_t(scalar) * (2 * weights + states + batch * training.activations) + 8 * counters;
  }
  /// Bytes of a pass without gradients.
  static constexpr index_t inference_bytes(index_t batch, std::size_t scalar) {
    return index_t(scalar) * (weights + states + batch * inference.activations) + 8 * counters;
  }
  static_assert(sizeof(detail::diagnosis<Net, In>));  // last: some compilers skip what follows a failure
};

}  // namespace insula
