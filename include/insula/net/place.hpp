// SPDX-License-Identifier: Apache-2.0
// Memory by lifetimes: every activation, gradient and saved tensor of a program gets its place in one arena.
#pragma once

#include "insula/net/plan.hpp"

namespace insula {

/// training: activations live until their last backward use, gradients exist.
/// inference: forward only; an activation lives until its last reader, then its memory is used again.
enum class memory_mode { training, inference };

namespace detail {

struct lifetime {
  int from = 0, to = -1, again_from = 0,
      again_to = -1;  // two closed intervals of time; the second may be empty

  constexpr void cover(int t) {
    to < from ? (void)(from = to = t) : (void)(from = t < from ? t : from, to = t > to ? t : to);
  }
  constexpr void cover_again(int t) {
    again_to < again_from
        ? (void)(again_from = again_to = t)
        : (void)(again_from = t < again_from ? t : again_from, again_to = t > again_to ? t : again_to);
  }
  constexpr bool meets(lifetime const& o) const {  // one expression: compilers count calls while they compile
    return (from <= to && o.from <= o.to && from <= o.to && o.from <= to) ||
           (from <= to && o.again_from <= o.again_to && from <= o.again_to && o.again_from <= to) ||
           (again_from <= again_to && o.from <= o.to && again_from <= o.to && o.from <= again_to) ||
           (again_from <= again_to && o.again_from <= o.again_to && again_from <= o.again_to &&
            o.again_from <= again_to);
  }
  static constexpr bool meet_but_at(int a, int b, int c, int d, int t) {
    int const from = a > c ? a : c, to = b < d ? b : d;
    return a <= b && c <= d && from <= to && !(from == t && to == t);
  }
  constexpr bool meets_but_at(lifetime const& o, int t) const {
    return meet_but_at(from, to, o.from, o.to, t) || meet_but_at(from, to, o.again_from, o.again_to, t) ||
           meet_but_at(again_from, again_to, o.from, o.to, t) ||
           meet_but_at(again_from, again_to, o.again_from, o.again_to, t);
  }
  constexpr void join(lifetime const& o) {
    if (o.from <= o.to) cover(o.from), cover(o.to);
    if (o.again_from <= o.again_to) cover_again(o.again_from), cover_again(o.again_to);
  }
};

/// A tensor to place: value i is item i, its gradient item values + i, what step i saves item 2 values + i.
template <int N>
struct placement {
  lifetime life[N]{};
  index_t size[N]{};  // 0: not placed
  int shares[N]{};    // the item whose memory it uses; itself by default
  int next[N]{};      // of those that use one memory, in a ring
  index_t offset[N]{};
  int items = 0;

  constexpr void start(int n) {
    items = n;
    for (int i = 0; i < n; ++i) shares[i] = next[i] = i;
  }
  constexpr void share(int a, int b) {  // a and b use one memory
    a = shares[a], b = shares[b];
    if (a == b) return;
    life[b].join(life[a]);
    unite(a, b);
  }
  constexpr void unite(int a, int b) {  // two roots
    if (size[a] > size[b]) size[b] = size[a];
    for (int i = next[a]; i != a; i = next[i]) shares[i] = b;
    shares[a] = b;
    int const after = next[a];
    next[a] = next[b], next[b] = after;
  }
  /// No member of a's memory lives at the time of a member of b's, but for the moment one hands over to the other
  /// and for `except`, which holds the same numbers as a.
  constexpr bool may_share(int a, int b, int except) const {
    for (int i = a;;) {
      for (int j = b;;) {
        if (size[i] > 0 && size[j] > 0 && j != except && life[i].meets(life[j]) &&
            !(life[i].from == life[j].to || life[j].from == life[i].to))
          return false;
        if ((j = next[j]) == b) break;
      }
      if ((i = next[i]) == a) break;
    }
    return true;
  }
  /// No member of a's memory lives together with one of b's, but at time t.
  constexpr bool apart_but_at(int a, int b, int t) const {
    for (int i = a;;) {
      for (int j = b;;) {
        if (size[i] > 0 && size[j] > 0 && life[i].meets_but_at(life[j], t)) return false;
        if ((j = next[j]) == b) break;
      }
      if ((i = next[i]) == a) break;
    }
    return true;
  }
  /// a uses b's memory from time t on, where b's last life ends.
  constexpr void take_over(int a, int b) {
    a = shares[a], b = shares[b];
    lifetime& l = life[b];
    if (l.again_from <= l.again_to)
      l.cover_again(life[a].from), l.cover_again(life[a].to);
    else
      l.join(life[a]);
    unite(a, b);
  }
  /// In which order to place: larger ones first; of one size, those whose first life ends last.
  constexpr bool goes_before(int a, int b) const {
    return size[a] > size[b] || (size[a] == size[b] && life[a].to > life[b].to);
  }
  /// First fit in that order. Returns the size of the arena.
  constexpr index_t fit() {
    int order[N]{}, placed[N]{}, n = 0, laid = 0;
    for (int i = 0; i < items; ++i) {
      if (shares[i] != i || size[i] == 0) continue;
      int j = n++;
      for (; j > 0 && goes_before(i, order[j - 1]); --j) order[j] = order[j - 1];
      order[j] = i;
    }
    index_t total = 0, ends[N]{};
    for (int k = 0; k < n; ++k) {
      int const i = order[k];
      lifetime const& own = life[i];
      index_t at = 0, end = size[i];
      for (int q = 0;; at = ends[placed[q]], end = at + size[i]) {  // in order of offsets
        while (q < laid && (ends[placed[q]] <= at || !life[placed[q]].meets(own))) ++q;
        if (q == laid || offset[placed[q]] >= end) break;
      }
      offset[i] = at, ends[i] = end;
      if (end > total) total = end;
      int j = laid++;
      for (; j > 0 && offset[placed[j - 1]] > at; --j) placed[j] = placed[j - 1];
      placed[j] = i;
    }
    return total;
  }
};

/// Time runs 0 .. steps-1 forward, `steps` outside (losses), 2 steps - i for the backward of step i.
template <int Steps>
struct placer {
  plan<Steps>& p;
  memory_mode mode;
  static constexpr int slots = 3 * plan<Steps>::capacity + 2;
  placement<slots> m{};
  int uses[slots]{},
      next_use[slots]{};     // value -> its uses as 2 step + slot, last first, 0-terminated lists of use + 1
  int last_active[slots]{};  // value -> last step with a backward pass that reads it, or -1

  constexpr int backward(int s) const { return 2 * p.steps - s; }
  constexpr int gradient_item(int v) const { return p.values + v; }
  constexpr int saved_item(int s) const { return 2 * p.values + s; }

  constexpr int last_reader(int v) const { return uses[v] > 0 ? (uses[v] - 1) / 2 : -1; }
  constexpr int readers(int v) const {
    int n = 0;
    for (int u = uses[v]; u > 0; u = next_use[u - 1]) ++n;
    return n;
  }
  /// The segment that computes value v again, or -1.
  constexpr int inside(int v) const {
    for (int k = 0; k < p.segments; ++k)
      if (p.v[v].made_by >= p.recomputed[k].first && p.v[v].made_by < p.recomputed[k].end()) return k;
    return -1;
  }

  /// The segment that runs step s again in the backward pass, or -1.
  constexpr int recomputes(int s) const {
    for (int k = 0; mode == memory_mode::training && k < p.segments; ++k)
      if (s >= p.recomputed[k].first && s < p.recomputed[k].end() && p.at[p.recomputed[k].last].active)
        return k;
    return -1;
  }

  constexpr void activity() {
    for (int v = 0; v < p.values; ++v) last_active[v] = -1;
    for (int s = 0; s < p.steps; ++s) {
      step& t = p.at[s];
      t.active = mode == memory_mode::training && p.v[p.writes[s]].differentiable;
      for (int slot = 0; slot < 2; ++slot) {
        int const v = p.reads[s][slot];
        if (v < 0) continue;
        next_use[2 * s + slot] = uses[v], uses[v] = 2 * s + slot + 1;
        if (t.active) last_active[v] = s;
      }
    }
  }
  constexpr void lives() {
    for (int v = 0; v < p.values; ++v) {
      value const& a = p.v[v];
      lifetime& l = m.life[v];
      int const made = a.made_by < 0 ? 0 : a.made_by, k = inside(v);
      bool const internal = k >= 0 && a.made_by != p.recomputed[k].last && !a.output;
      l.cover(made);
      if (a.output) l.cover(p.steps);
      for (int u = uses[v]; u > 0; u = next_use[u - 1]) {
        int const s = (u - 1) / 2;
        l.cover(s);
        if (int const r = recomputes(s); r >= 0 && r != k) l.cover(backward(p.recomputed[r].last));
        if (p.at[s].active && ((u - 1) % 2 == 0 ? p.trait[s].keeps_x : p.trait[s].keeps_x2))
          internal ? l.cover_again(backward(s)) : l.cover(backward(s));
      }
      if (mode == memory_mode::training && a.made_by >= 0) {
        if (p.at[a.made_by].active && p.trait[a.made_by].keeps_y)
          internal ? l.cover_again(backward(a.made_by)) : l.cover(backward(a.made_by));
        if (k >=
            0) {  // written again when the segment is recomputed, which happens before its last step's backward
          int const t = backward(p.recomputed[k].last);
          l.cover_again(t);
        }
      }
      m.size[v] = a.made_by < 0 ? 0 : a.size;
    }
    for (int s = 0; s < p.steps; ++s) {
      int const k = inside(p.writes[s]);
      bool const stays = p.trait[s].saved_stays && recomputes(s) >= 0;
      if (p.at[s].saved_size == 0 || !(p.at[s].active || p.trait[s].saves_always || stays)) continue;
      lifetime& l = m.life[saved_item(s)];
      l.cover(s);
      m.size[saved_item(s)] = p.at[s].saved_size;
      if (stays) l.cover(backward(p.recomputed[k].last)), l.cover(backward(s));
      if (!p.at[s].active || stays) continue;
      if (k >= 0)
        l.cover_again(backward(p.recomputed[k].last)), l.cover_again(backward(s));
      else
        l.cover(backward(s));
    }
    if (mode == memory_mode::inference) return;
    for (int v = 0; v < p.values; ++v) {
      value const& a = p.v[v];
      if (!a.differentiable || a.made_by < 0) continue;
      lifetime& l = m.life[gradient_item(v)];
      l.cover(backward(a.made_by));
      if (a.output) l.cover(p.steps);
      for (int u = uses[v]; u > 0; u = next_use[u - 1])
        if (p.at[(u - 1) / 2].active) l.cover(backward((u - 1) / 2));
      m.size[gradient_item(v)] = a.size;
    }
  }
  constexpr void share() {
    for (int s = 0; s < p.steps; ++s) {
      int const x = p.reads[s][0], x2 = p.reads[s][1], y = p.writes[s];
      if (p.trait[s].in_place && p.v[x].made_by >= 0 && !p.v[x].output && p.v[x].size == p.v[y].size &&
          m.life[x].to == s && m.life[x].again_to < m.life[x].again_from &&
          m.life[y].again_to < m.life[y].again_from)
        m.share(y, x);
      if (mode == memory_mode::inference || !p.at[s].active) continue;
      if (p.trait[s].gx_is_x && first_gradient(x, s) && m.apart_but_at(gradient_item(x), x, backward(s)))
        m.take_over(gradient_item(x), x);
      if (p.v[y].output) continue;
      bool const one = p.trait[s].gx_is_gy && x2 != x && first_gradient(x, s) && p.v[x].size == p.v[y].size &&
                       m.may_share(gradient_item(x), gradient_item(y), -1);
      if (one) m.share(gradient_item(x), gradient_item(y));
      if (x2 < 0 || x2 == x || !p.trait[s].gx2_is_gy || !first_gradient(x2, s) || p.v[x2].size != p.v[y].size)
        continue;
      // if both inputs share gy, g(x) must be read, by the step that made x, before anything is added into g(x2)
      if (one && !(readers(x) == 1 && readers_before(x2, s, p.v[x].made_by))) continue;
      if (m.may_share(gradient_item(x2), gradient_item(y), one ? gradient_item(x) : -1))
        m.share(gradient_item(x2), gradient_item(y));
    }
  }
  /// Step s is the first in the backward pass to write the gradient of v.
  constexpr bool first_gradient(int v, int s) const {
    return p.v[v].differentiable && !p.v[v].output && p.v[v].made_by >= 0 && last_reader(v) == s;
  }
  /// Every reader of v but `last` runs (forward) before step `maker`.
  constexpr bool readers_before(int v, int last, int maker) const {
    for (int u = uses[v]; u > 0; u = next_use[u - 1])
      if (int const r = (u - 1) / 2; r != last && r >= maker) return false;
    return true;
  }
  constexpr void write_offsets() {
    for (int v = 0; v < p.values; ++v) {
      bool const outside = p.v[v].made_by < 0;
      p.v[v].at = outside ? external : m.offset[m.shares[v]];
      bool const wanted = mode == memory_mode::training && p.v[v].differentiable;
      p.v[v].gradient = !wanted ? absent : outside ? external : m.offset[m.shares[gradient_item(v)]];
    }
    for (int s = 0; s < p.steps; ++s) {
      step& t = p.at[s];
      int const x = p.reads[s][0], x2 = p.reads[s][1], y = p.writes[s];
      t.x = p.v[x].at, t.y = p.v[y].at, t.gx = p.v[x].gradient, t.gy = p.v[y].gradient;
      if (x2 >= 0) t.x2 = p.v[x2].at, t.gx2 = p.v[x2].gradient;
      t.saved = m.size[saved_item(s)] > 0 ? m.offset[saved_item(s)] : absent;
      t.gx_adds = has_gradient_before(x, s);
      if (x2 >= 0) t.gx2_adds = x2 == x || has_gradient_before(x2, s);
    }
  }
  constexpr bool has_gradient_before(int v, int s) const {
    if (p.v[v].output || p.v[v].made_by < 0) return true;  // from outside, or the caller's memory
    return last_active[v] > s;
  }

  constexpr void run() {
    m.start(2 * p.values + p.steps);
    activity(), lives(), share();
    p.activations = m.fit();
    write_offsets();
  }
};

}  // namespace detail

/// The same plan with every offset filled in for the given mode; `activations` is the arena's size per sample.
template <int Steps>
constexpr plan<Steps> place(plan<Steps> p, memory_mode mode) {
  detail::placer<Steps> placer{p, mode};
  placer.run();
  return p;
}

}  // namespace insula
