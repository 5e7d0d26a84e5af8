// SPDX-License-Identifier: Apache-2.0
// The static program under construction: one step per leaf layer, one value per tensor between them.
#pragma once

#include "insula/net/parameter.hpp"
#include "insula/net/shape_rules.hpp"

namespace insula {

inline constexpr index_t absent = -1;    // no such tensor
inline constexpr index_t external = -2;  // the network's input or its gradient: memory of the caller

/// Which of how many repetitions of the innermost repeat<> a step belongs to.
struct repetition {
  int turn = 0, turns = 1;
};

/// One line of the program: where a leaf layer reads, writes, saves and keeps its weights. Offsets count elements
/// per sample from the start of the activation arena (multiply by the batch); weight offsets count elements.
struct step {
  char const* name = "";
  dims in{}, in2{}, out{};
  index_t x = absent, x2 = absent, y = absent, saved = absent;
  index_t gx = absent, gx2 = absent, gy = absent;
  bool gx_adds = false, gx2_adds = false;  // += into a gradient that holds something already
  bool active = false;                     // the backward pass visits it
  bool frozen = false;                     // its weights get no gradient
  index_t w[most_parameters]{};            // offsets in the weight range
  index_t state[most_states]{};            // offsets in the range of state, or of counters
  int parameters = 0;
  index_t saved_size = 0;  // elements per sample
  int ordinal = 0;         // place in the order of execution
  repetition repeats{};
};

/// How many tokens a layer's result has if a pass keeps fewer than the shapes say (pass_options::order).
enum class token_count {
  inherited,  ///< as many fewer as its first input
  kept,       ///< the kept ones: a run-time number, the shape is its maximum
  whole       ///< what the shape says
};

/// What placement needs to know of a leaf layer.
struct traits {
  bool keeps_x = true;  // the backward pass reads x (and x2 if there is one)
  bool keeps_x2 = true;
  bool keeps_y = false;       // the backward pass reads y
  bool in_place = false;      // y may be x where x is not needed any more
  bool gx_is_gy = false;      // gx may share the memory of gy
  bool gx2_is_gy = false;     // gx2 may share the memory of gy
  bool saves_always = false;  // the forward pass needs `saved` even if no backward pass follows
  bool gx_is_x = false;      // gx may share the memory of x: no number of x is read after it was written over
  bool saved_stays = false;  // `saved` outlives the first pass of a recompute<>, whose second pass reads it
  token_count tokens = token_count::inherited;
};

struct value {
  dims shape{};
  index_t size = 0;  // elements per sample, rounded up to a cache line of floats
  int made_by = -1;  // step, or -1: the network's input
  bool differentiable = false;
  bool output = false;  // read, and given a gradient, from outside
  bool kept = false;    // its number of tokens is a maximum
  index_t at = absent, gradient = absent;
};

/// Steps recomputed together in the backward pass: [first, last], or but for the last.
struct segment {
  int first = 0, last = 0;
  bool keeps_last = false;

  constexpr int end() const { return keeps_last ? last : last + 1; }
};

template <int Steps>
struct plan {
  static constexpr int capacity = Steps > 0 ? Steps : 1;
  step at[capacity]{};
  traits trait[capacity]{};
  int reads[capacity][2]{};  // values
  int writes[capacity]{};
  value v[capacity + 1]{};
  segment recomputed[capacity]{};
  int steps = 0, values = 0, segments = 0;
  int tap[most_taps]{};     // value + 1, 0 = absent
  int result = 0;           // value
  index_t most_kept = 0;    // tokens that the step with token_count::kept makes at most; 0: there is none
  repetition repeats{};     // of the steps being laid
  bool freezing = false;    // inside frozen<>
  int modalities = 1;       // inside modalities<N, L>: N
  index_t weights = 0;      // elements of the weight range, tensors aligned
  index_t parameters = 0;   // elements without alignment
  index_t states = 0;       // elements of the range of state, tensors aligned
  index_t counters = 0;     // elements of the range of counters
  index_t activations = 0;  // elements per sample of the arena, set by place()

  constexpr int add_value(dims shape, int made_by, bool differentiable) {
    v[values] = {shape, aligned(modalities * shape.size()), made_by, differentiable};
    return values++;
  }
  /// Appends the step of leaf layer L reading value x (and x2), returns the value it makes.
  template <class L>
  constexpr int add(int x, int x2 = -1) {
    step& s = at[steps];
    s.name = L::name, s.ordinal = steps, s.in = v[x].shape, s.frozen = freezing, s.repeats = repeats;
    bool differentiable = v[x].differentiable;
    if (x2 >= 0) s.in2 = v[x2].shape, differentiable = differentiable || v[x2].differentiable;
    s.out = L::shape_of(s.in, s.in2);
    parameter_list const list = L::parameters(s.in);
    for (int k = 0; k < list.count; ++k) {
      s.w[k] = weights, weights += aligned(list.at[k].shape.size()), parameters += list.at[k].shape.size();
    }
    s.parameters = list.count;
    state_list const kept = L::state(s.in);
    for (int k = 0; k < kept.count; ++k) {
      index_t& end = kept.at[k].counter ? counters : states;
      s.state[k] = end;
      end += kept.at[k].counter ? kept.at[k].shape.size() : aligned(kept.at[k].shape.size());
    }
    s.saved_size = aligned(modalities * L::saved(s.in));
    if (list.count > 0 && !freezing) differentiable = true;
    trait[steps] = L::trait;
    reads[steps][0] = x, reads[steps][1] = x2;
    int const y = add_value(s.out, steps, differentiable);
    constexpr token_count tokens = L::trait.tokens;
    v[y].kept =
        tokens == token_count::kept || (tokens == token_count::inherited && v[x].kept && s.out.rank == 2);
    if (tokens == token_count::kept) most_kept = s.out.n[0];
    writes[steps++] = y;
    return y;
  }
};

}  // namespace insula
