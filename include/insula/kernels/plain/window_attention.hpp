// SPDX-License-Identifier: Apache-2.0
// The reference twin of shifted-window attention and its gradient: one window at a time, plain loops.
#pragma once

#include <cmath>
#include <vector>

#include "insula/op/window.hpp"

namespace insula {

namespace detail {

/// The tokens of one window of one sample: where each lives in x (-1: padding) and its shift region.
struct window_tokens {
  std::vector<index_t> at, label;

  window_tokens(op::window_geometry const& g, index_t window) {
    extent const used = g.used_window(), shift = g.used_shift(), count = g.windows();
    index_t const place = window % count.size(), sample = window / count.size();
    extent const corner{place / (count.h * count.w) * used.d, place / count.w % count.h * used.h,
                        place % count.w * used.w};
    for (index_t d = 0; d < used.d; ++d)
      for (index_t h = 0; h < used.h; ++h)
        for (index_t w = 0; w < used.w; ++w) {
          extent const p{corner.d + d, corner.h + h, corner.w + w};  // rolled coordinate
          extent source;
          bool inside = true;
          index_t code = 0;
          for (int i = 0; i < 3; ++i) {
            index_t const padded = count[i] * used[i];
            source[i] = (p[i] + shift[i]) % padded;
            inside = inside && source[i] < g.grid[i];
            index_t const region = shift[i] == 0 || p[i] >= padded - shift[i] ? 2
                                   : p[i] >= padded - used[i]                 ? 1
                                                                              : 0;
            code = 3 * code + region;
          }
          index_t const row = ((sample * g.grid.d + source.d) * g.grid.h + source.h) * g.grid.w + source.w;
          at.push_back(inside ? row : -1);
          label.push_back(code);
        }
  }
};

/// What the forward and the gradient compute alike for one window. Matrices are row-major, one row per token.
template <class T>
struct window_values {
  index_t tokens, channels, heads, width;
  std::vector<T> mean, scale;          // of the norm, (tokens)
  std::vector<T> hat, normed, qkv, o;  // (x - mean) scale; after weight and bias; (tokens, 3 channels); P v
  std::vector<T> a;                    // (heads, tokens, tokens) scores

  template <class Args>
  window_values(Args const& args, window_tokens const& window)
      : tokens(args.g.tokens()), channels(args.g.channels), heads(args.g.heads), width(channels / heads) {
    auto const size = [](index_t n) { return static_cast<std::size_t>(n); };
    mean.assign(size(tokens), 0), scale.assign(size(tokens), 0);
    hat.assign(size(tokens * channels), 0), normed = hat, o = hat;
    qkv.assign(size(tokens * channels * 3), 0), a.assign(size(heads * tokens * tokens), 0);
    for (index_t t = 0; t < tokens; ++t)
      if (window.at[size(t)] >= 0) normalise(args, t, args.x + window.at[size(t)] * channels);
    for (index_t t = 0; t < tokens; ++t)
      for (index_t j = 0; j < 3 * channels; ++j) {
        T s = args.qkv_b ? args.qkv_b[j] : T(0);
        for (index_t i = 0; i < channels; ++i)
          s += normed[size(t * channels + i)] * args.qkv_w[i * 3 * channels + j];
        qkv[size(t * 3 * channels + j)] = s;
      }
    for (index_t h = 0; h < heads; ++h)
      for (index_t i = 0; i < tokens; ++i)
        for (index_t j = 0; j < tokens; ++j) {
          T s = 0;
          for (index_t c = 0; c < width; ++c) s += *q(i, h, c) * *k(j, h, c);
          s *= T(1 / std::sqrt(double(width)));
          if (args.table) s += args.table[op::relative_position(args.g.window, i, j) * heads + h];
          if (window.label[size(i)] != window.label[size(j)]) s += T(-100);
          *score(h, i, j) = s;
        }
  }

  T* q(index_t t, index_t h, index_t c) { return &qkv[std::size_t(t * 3 * channels + h * width + c)]; }
  T* k(index_t t, index_t h, index_t c) { return q(t, h, c) + channels; }
  T* v(index_t t, index_t h, index_t c) { return q(t, h, c) + 2 * channels; }
  T* score(index_t h, index_t i, index_t j) { return &a[std::size_t((h * tokens + i) * tokens + j)]; }

  /// Row i of head h: scores become probabilities exp(a - lse), and the head's part of o is P v.
  void attend(index_t h, index_t i, T lse) {
    for (index_t j = 0; j < tokens; ++j) *score(h, i, j) = std::exp(*score(h, i, j) - lse);
    for (index_t c = 0; c < width; ++c) {
      T s = 0;
      for (index_t j = 0; j < tokens; ++j) s += *score(h, i, j) * *v(j, h, c);
      o[std::size_t(i * channels + h * width + c)] = s;
    }
  }

 private:
  template <class Args>
  void normalise(Args const& args, index_t t, T const* x) {
    T m = 0, v = 0;
    for (index_t c = 0; c < channels; ++c) m += x[c];
    m /= T(channels);
    for (index_t c = 0; c < channels; ++c) v += (x[c] - m) * (x[c] - m);
    T const s = 1 / std::sqrt(v / T(channels) + T(args.eps));
    mean[std::size_t(t)] = m, scale[std::size_t(t)] = s;
    for (index_t c = 0; c < channels; ++c) {
      T const u = (x[c] - m) * s;
      hat[std::size_t(t * channels + c)] = u;
      normed[std::size_t(t * channels + c)] =
          u * (args.norm_w ? args.norm_w[c] : T(1)) + (args.norm_b ? args.norm_b[c] : T(0));
    }
  }
};

}  // namespace detail

template <class T>
struct kernel<op::window_attention, plain, T> {
  static void run(context<plain>&, op::window_attention::args<T> const& args) {
    auto const& g = args.g;
    index_t const n = g.tokens(), channels = g.channels;
    for (index_t window = 0; window < g.batch * g.windows().size(); ++window) {
      detail::window_tokens const tokens(g, window);
      detail::window_values<T> of(args, tokens);
      for (index_t h = 0; h < g.heads; ++h)
        for (index_t i = 0; i < n; ++i) {
          T largest = *of.score(h, i, 0), sum = 0;
          for (index_t j = 1; j < n; ++j)
            largest = *of.score(h, i, j) > largest ? *of.score(h, i, j) : largest;
          for (index_t j = 0; j < n; ++j) sum += std::exp(*of.score(h, i, j) - largest);
          T const lse = largest + std::log(sum);
          if (args.lse) args.lse[(window * g.heads + h) * n + i] = lse;
          of.attend(h, i, lse);
        }
      for (index_t t = 0; t < n; ++t) {
        index_t const at = tokens.at[std::size_t(t)];
        if (at < 0) continue;
        for (index_t j = 0; j < channels; ++j) {
          T s = args.proj_b ? args.proj_b[j] : T(0);
          for (index_t i = 0; i < channels; ++i)
            s += of.o[std::size_t(t * channels + i)] * args.proj_w[i * channels + j];
          args.y[at * channels + j] = args.x[at * channels + j] + s;
        }
      }
    }
  }
};

template <class T>
struct kernel<op::window_attention_grad, plain, T> {
  using args_type = op::window_attention_grad::args<T>;

  static void run(context<plain>&, args_type const& args) {
    auto const& g = args.g;
    for (index_t window = 0; window < g.batch * g.windows().size(); ++window) {
      detail::window_tokens const tokens(g, window);
      detail::window_values<T> of(args, tokens);
      for (index_t h = 0; h < g.heads; ++h)
        for (index_t i = 0; i < g.tokens(); ++i)
          if (tokens.at[std::size_t(i)] >= 0)
            of.attend(h, i, args.lse[(window * g.heads + h) * g.tokens() + i]);
      std::vector<T> const go = project(args, tokens, of);
      std::vector<T> const gqkv = attention(args, tokens, of, go);
      weights(args, of, gqkv);
      inputs(args, tokens, of, gqkv);
    }
  }

 private:
  static void add(T* at, T v) {
    if (at) *at += v;
  }
  static T* element(T* base, index_t i) { return base ? base + i : nullptr; }

  /// Through the projection: its weight gradients, and the gradient of o (zero for padding tokens).
  static std::vector<T> project(args_type const& args, detail::window_tokens const& tokens,
                                detail::window_values<T> const& of) {
    index_t const n = of.tokens, channels = of.channels;
    std::vector<T> go(std::size_t(n * channels), T(0));
    for (index_t t = 0; t < n; ++t) {
      index_t const at = tokens.at[std::size_t(t)];
      if (at < 0) continue;
      T const* gy = args.gy + at * channels;
      for (index_t j = 0; j < channels; ++j) add(element(args.gproj_b, j), gy[j]);
      for (index_t i = 0; i < channels; ++i)
        for (index_t j = 0; j < channels; ++j) {
          add(element(args.gproj_w, i * channels + j), of.o[std::size_t(t * channels + i)] * gy[j]);
          go[std::size_t(t * channels + i)] += gy[j] * args.proj_w[i * channels + j];
        }
    }
    return go;
  }

  /// Through the softmax: the gradient of qkv, and of the table.
  static std::vector<T> attention(args_type const& args, detail::window_tokens const& tokens,
                                  detail::window_values<T>& of, std::vector<T> const& go) {
    index_t const n = of.tokens, channels = of.channels, heads = of.heads, width = of.width;
    T const scale = T(1 / std::sqrt(double(width)));
    std::vector<T> gqkv(std::size_t(n * 3 * channels), T(0)), gp(static_cast<std::size_t>(n));
    for (index_t h = 0; h < heads; ++h)
      for (index_t i = 0; i < n; ++i) {
        if (tokens.at[std::size_t(i)] < 0) continue;
        T const* goi = &go[std::size_t(i * channels + h * width)];
        T dot = 0;
        for (index_t j = 0; j < n; ++j) {
          T s = 0;
          for (index_t c = 0; c < width; ++c) s += goi[c] * *of.v(j, h, c);
          gp[std::size_t(j)] = s, dot += s * *of.score(h, i, j);
        }
        for (index_t j = 0; j < n; ++j) {
          T const p = *of.score(h, i, j), ga = p * (gp[std::size_t(j)] - dot);
          add(element(args.gtable, op::relative_position(args.g.window, i, j) * heads + h), ga);
          T* gi = &gqkv[std::size_t(i * 3 * channels + h * width)];
          T* gj = &gqkv[std::size_t(j * 3 * channels + h * width)];
          for (index_t c = 0; c < width; ++c) {
            gi[c] += ga * scale * *of.k(j, h, c);
            gj[channels + c] += ga * scale * *of.q(i, h, c);
            gj[2 * channels + c] += p * goi[c];
          }
        }
      }
    return gqkv;
  }

  static void weights(args_type const& args, detail::window_values<T> const& of, std::vector<T> const& gqkv) {
    index_t const columns = 3 * of.channels;
    for (index_t t = 0; t < of.tokens; ++t)  // padding tokens too: their q, k and v are the bias
      for (index_t j = 0; j < columns; ++j) {
        T const s = gqkv[std::size_t(t * columns + j)];
        add(element(args.gqkv_b, j), s);
        for (index_t i = 0; i < of.channels; ++i)
          add(element(args.gqkv_w, i * columns + j), of.normed[std::size_t(t * of.channels + i)] * s);
      }
  }

  /// Through qkv and the norm: norm weight gradients and gx (+)= gy + ...
  static void inputs(args_type const& args, detail::window_tokens const& tokens,
                     detail::window_values<T> const& of, std::vector<T> const& gqkv) {
    index_t const channels = of.channels;
    std::vector<T> gh(static_cast<std::size_t>(channels));
    for (index_t t = 0; t < of.tokens; ++t) {
      index_t const at = tokens.at[std::size_t(t)];
      if (at < 0) continue;
      T const* hat = &of.hat[std::size_t(t * channels)];
      T first = 0, second = 0;
      for (index_t i = 0; i < channels; ++i) {
        T s = 0;
        for (index_t j = 0; j < 3 * channels; ++j)
          s += gqkv[std::size_t(t * 3 * channels + j)] * args.qkv_w[i * 3 * channels + j];
        add(element(args.gnorm_w, i), s * hat[i]);
        add(element(args.gnorm_b, i), s);
        gh[std::size_t(i)] = s * (args.norm_w ? args.norm_w[i] : T(1));
        first += gh[std::size_t(i)], second += gh[std::size_t(i)] * hat[i];
      }
      if (!args.gx) continue;
      for (index_t i = 0; i < channels; ++i) {
        T const s = args.gy[at * channels + i] +
                    of.scale[std::size_t(t)] *
                        (gh[std::size_t(i)] - first / T(channels) - hat[i] * second / T(channels));
        args.gx[at * channels + i] = args.adds ? args.gx[at * channels + i] + s : s;
      }
    }
  }
};

}  // namespace insula
