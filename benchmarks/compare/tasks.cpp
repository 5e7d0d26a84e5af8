// SPDX-License-Identifier: Apache-2.0
// The computations of the comparison with PyTorch, one function each.
#include "tasks.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "insula/data/affine_augment.hpp"
#include "insula/data/intensity_augment.hpp"
#include "insula/kernels/cpu/stream.hpp"
#include "insula/op/attention.hpp"
#include "insula/op/batch_norm.hpp"
#include "insula/op/conv.hpp"
#include "insula/op/copy.hpp"
#include "insula/op/gemm.hpp"
#include "insula/op/kernel.hpp"
#include "insula/op/norm.hpp"
#include "insula/op/pointwise.hpp"
#include "insula/op/pool.hpp"
#include "insula/op/reduce.hpp"
#include "insula/op/update.hpp"
#include "insula/op/window.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/optim/clip.hpp"

namespace compare {

using namespace insula;

namespace {

extent extent_of(json const& j) {
  return {j.at(0).get<index_t>(), j.at(1).get<index_t>(), j.at(2).get<index_t>()};
}

activation activation_of(json const& j) {
  std::string const name = j.get<std::string>();
  for (auto const& [key, value] : {std::pair{"none", activation::none},
                                   {"relu", activation::relu},
                                   {"leaky_relu", activation::leaky_relu},
                                   {"gelu", activation::gelu}})
    if (name == key) return value;
  fail("task: unknown activation ", name);
}

/// Reads n numbers, a multiple of the registers'.
float read_all(float const* x, index_t n) {
  constexpr index_t w = simd::width<float>, step = 8;
  simd::pack<float> total[step] = {};
  index_t i = 0;
  for (; i + step * w <= n; i += step * w)
#pragma GCC unroll 8
    for (index_t k = 0; k < step; ++k) total[k] += simd::load(x + i + k * w);
  for (; i + w <= n; i += w) total[0] += simd::load(x + i);
  for (index_t k = 1; k < step; ++k) total[0] += total[k];
  return simd::sum<float>(total[0]);
}
void write_all(bool past, float* y, index_t n, float value) {
  simd::pack<float> const v = simd::broadcast(value);
  constexpr index_t w = simd::width<float>;
  if (past) {
    for (index_t i = 0; i + w <= n; i += w) simd::stream(y + i, v);
  } else {
    for (index_t i = 0; i + w <= n; i += w) simd::store(y + i, v);
  }
}

}  // namespace

task::task(context<cpu>& context, json const& description, safetensors_file const& inputs)
    : cx_(context), description_(description), inputs_(&inputs) {
  std::pair<char const*, void (task::*)()> const known[] = {{"conv3d", &task::conv3d},
                                                            {"window_attention", &task::window_attention},
                                                            {"attention", &task::attention},
                                                            {"linear", &task::linear},
                                                            {"mlp", &task::mlp},
                                                            {"layer_norm", &task::layer_norm},
                                                            {"group_norm", &task::group_norm},
                                                            {"batch_norm", &task::batch_norm},
                                                            {"batch_norm_pool", &task::batch_norm_pool},
                                                            {"max_pool", &task::max_pool},
                                                            {"activation", &task::alone},
                                                            {"passes", &task::passes},
                                                            {"info_nce", &task::info_nce},
                                                            {"update", &task::update},
                                                            {"augment", &task::augment},
                                                            {"umbra", &task::umbra},
                                                            {"simclr", &task::simclr}};
  std::string const op = description_.at("op");
  for (auto const& [name, make] : known)
    if (op == name) {
      (this->*make)();
      inputs_ = nullptr;
      return;
    }
  fail("task: unknown op ", op);
}

float* task::in(std::string const& name, index_t count) {
  array a(count);
  inputs_->read<float>(inputs_->at(name), std::span<float>(a.data(), std::size_t(count)));
  return (arrays_[name] = std::move(a)).data();
}
float* task::out(std::string const& name, index_t count) {
  array a(count);
  std::fill(a.begin(), a.end(), std::numeric_limits<float>::quiet_NaN());
  outputs_[name] = false;
  return (arrays_[name] = std::move(a)).data();
}
float* task::cleared(std::string const& name, index_t count) {
  float* const p = out(name, count);
  outputs_[name] = true;
  return p;
}
void task::clear_outputs() {
  for (auto const& [name, clears] : outputs_)
    if (clears) {
      array& a = arrays_.at(name);
      insula::run<op::fill, cpu, float>(cx_, {a.size(), 0.0f, a.data()});
    }
}

void task::save(std::string const& path) const {
  safetensors_writer w;
  for (auto const& [name, clears] : outputs_) w.add(name, {arrays_.at(name).size()}, arrays_.at(name).data());
  if (save_more_) save_more_(w);
  w.write(path);
}

void task::conv3d() {
  op::conv3d_geometry const g{1,
                              extent_of(description_.at("in")),
                              number("in_channels"),
                              number("out_channels"),
                              cube(number("kernel")),
                              cube(number("stride")),
                              cube(number("pad")),
                              number("groups")};
  float const *x = in("x", g.in.size() * g.in_channels), *w = in("w", g.weights());
  index_t const outputs = g.out().size() * g.out_channels;
  float* const y = out("y", outputs);
  if (!steps()) {
    run_ = [=, this] { insula::run<op::conv3d, cpu, float>(cx_, {g, x, w, nullptr, y}); };
    return;
  }
  float const* const gy = in("gy", outputs);
  float* const gx = g.in_channels > 1 ? out("gx", g.in.size() * g.in_channels) : nullptr;
  float* const gw = cleared("gw", g.weights());
  run_ = [=, this] {
    clear_outputs();
    insula::run<op::conv3d, cpu, float>(cx_, {g, x, w, nullptr, y});
    insula::run<op::conv3d_grad, cpu, float>(cx_, {g, x, w, gy, false, gx, gw, nullptr});
  };
}

void task::window_attention() {
  index_t const c = number("channels"), heads = number("heads");
  op::window_geometry const g{1, cube(number("side")), cube(7), cube(number("shift")), c, heads};
  index_t const n = g.grid.size() * c, rows = g.table_rows() * heads;
  float const *x = in("x", n), *norm_w = in("norm_w", c), *norm_b = in("norm_b", c),
              *table = in("table", rows), *qkv_w = in("qkv_w", 3 * c * c), *qkv_b = in("qkv_b", 3 * c),
              *proj_w = in("proj_w", c * c), *proj_b = in("proj_b", c);
  float* const y = out("y", n);
  if (!steps()) {
    run_ = [=, this] {
      insula::run<op::window_attention, cpu, float>(
          cx_, {g, 1e-5, x, norm_w, norm_b, table, qkv_w, qkv_b, proj_w, proj_b, y, nullptr});
    };
    return;
  }
  float const* const gy = in("gy", n);
  float* const lse = (arrays_["lse"] = array(g.saved())).data();
  bool const keeps = c >= 192 && number("shift") == 0;  // as swin::options::keeping_stage
  float* const kept = keeps ? (arrays_["kept"] = array(g.kept())).data() : nullptr;
  float *const gx = out("gx", n), *const gnorm_w = cleared("gnorm_w", c),
               *const gnorm_b = cleared("gnorm_b", c), *const gtable = cleared("gtable", rows),
               *const gqkv_w = cleared("gqkv_w", 3 * c * c), *const gqkv_b = cleared("gqkv_b", 3 * c),
               *const gproj_w = cleared("gproj_w", c * c), *const gproj_b = cleared("gproj_b", c);
  run_ = [=, this] {
    clear_outputs();
    insula::run<op::window_attention, cpu, float>(
        cx_, {g, 1e-5, x, norm_w, norm_b, table, qkv_w, qkv_b, proj_w, proj_b, y, lse, kept});
    insula::run<op::window_attention_grad, cpu, float>(
        cx_, {g,  1e-5,  x,  norm_w,  norm_b,  table,  qkv_w,  qkv_b,  proj_w,  proj_b,  lse,
              gy, false, gx, gnorm_w, gnorm_b, gtable, gqkv_w, gqkv_b, gproj_w, gproj_b, kept});
  };
}

void task::attention() {
  index_t const batch = number("batch"), tokens = number("tokens"), c = number("channels"),
                heads = number("heads"), n = batch * tokens * c;
  float const* const qkv = in("qkv", 3 * n);
  float* const o = out("o", n);
  if (!steps()) {
    run_ = [=, this] {
      insula::run<op::attention, cpu, float>(cx_, {batch, tokens, c, heads, qkv, o, nullptr});
    };
    return;
  }
  float const* const go = in("go", n);
  float *const lse = (arrays_["lse"] = array(batch * heads * tokens)).data(), *const gqkv =
                                                                                  out("gqkv", 3 * n);
  run_ = [=, this] {
    insula::run<op::attention, cpu, float>(cx_, {batch, tokens, c, heads, qkv, o, lse});
    insula::run<op::attention_grad, cpu, float>(cx_, {batch, tokens, c, heads, qkv, o, lse, go, false, gqkv});
  };
}

void task::linear() {
  index_t const rows = number("rows"), n = number("in"), m = number("out");
  bool const gelu = description_.at("gelu");
  float const *x = in("x", rows * n), *w = in("w", n * m), *b = in("b", m);
  float* const y = out("y", rows * m);
  if (!steps()) {
    run_ = [=, this] {
      if (gelu)
        insula::run<op::linear_gelu, cpu, float>(cx_, {rows, n, m, x, w, b, nullptr, y});
      else
        insula::run<op::linear, cpu, float>(cx_, {rows, n, m, x, w, b, y});
    };
    return;
  }
  check(!gelu, "task: linear with GELU has a forward pass only");
  float const* const gy = in("gy", rows * m);
  float *const gx = out("gx", rows * n), *const gw = cleared("gw", n * m), *const gb = cleared("gb", m);
  run_ = [=, this] {
    clear_outputs();
    insula::run<op::linear, cpu, float>(cx_, {rows, n, m, x, w, b, y});
    insula::run<op::linear_grad, cpu, float>(cx_, {rows, n, m, x, w, gy, false, gx, gw, gb});
  };
}

void task::mlp() {
  index_t const rows = number("rows"), c = number("width"), h = number("hidden");
  float const *x = in("x", rows * c), *norm_w = in("norm_w", c), *norm_b = in("norm_b", c),
              *w1 = in("w1", c * h), *b1 = in("b1", h), *w2 = in("w2", h * c), *b2 = in("b2", c);
  float* const y = out("y", rows * c);
  if (!steps()) {
    run_ = [=, this] {
      insula::run<op::mlp, cpu, float>(cx_, {rows, c, h, 1e-5, x, norm_w, norm_b, w1, b1, w2, b2, y});
    };
    return;
  }
  float const* const gy = in("gy", rows * c);
  float *const gx = out("gx", rows * c), *const gnorm_w = cleared("gnorm_w", c),
               *const gnorm_b = cleared("gnorm_b", c), *const gw1 = cleared("gw1", c * h),
               *const gb1 = cleared("gb1", h), *const gw2 = cleared("gw2", h * c),
               *const gb2 = cleared("gb2", c);
  run_ = [=, this] {
    clear_outputs();
    insula::run<op::mlp, cpu, float>(cx_, {rows, c, h, 1e-5, x, norm_w, norm_b, w1, b1, w2, b2, y});
    insula::run<op::mlp_grad, cpu, float>(cx_,
                                          {rows, c,  h,     1e-5, x,       norm_w,  norm_b, w1,  b1,  w2,
                                           b2,   gy, false, gx,   gnorm_w, gnorm_b, gw1,    gb1, gw2, gb2});
  };
}

void task::layer_norm() {
  index_t const rows = number("rows"), c = number("width");
  float const *x = in("x", rows * c), *w = in("w", c), *b = in("b", c);
  float* const y = out("y", rows * c);
  if (!steps()) {
    run_ = [=, this] { insula::run<op::layer_norm, cpu, float>(cx_, {rows, c, 1e-5, x, w, b, y, nullptr}); };
    return;
  }
  float const* const gy = in("gy", rows * c);
  float *const stats = (arrays_["stats"] = array(3 * rows)).data(), *const gx = out("gx", rows * c),
               *const gw = cleared("gw", c), *const gb = cleared("gb", c);
  run_ = [=, this] {
    clear_outputs();
    insula::run<op::layer_norm, cpu, float>(cx_, {rows, c, 1e-5, x, w, b, y, stats});
    insula::run<op::layer_norm_grad, cpu, float>(cx_, {rows, c, x, w, stats, gy, false, gx, gw, gb});
  };
}

void task::group_norm() {
  index_t const positions = number("positions"), c = number("channels"), groups = number("groups"),
                n = positions * c;
  auto const act = activation_of(description_.at("activation"));
  bool const residual = description_.at("skip");
  float const *x = in("x", n), *skip = residual ? in("skip", n) : nullptr, *w = in("w", c), *b = in("b", c);
  float *const y = out("y", n), *const stats = (arrays_["stats"] = array(3 * groups)).data();
  if (!steps()) {
    run_ = [=, this] {
      insula::run<op::group_norm, cpu, float>(cx_,
                                              {1, positions, c, groups, 1e-5, act, x, skip, w, b, y, stats});
    };
    return;
  }
  float const* const gy = in("gy", n);
  float *const gx = out("gx", n), *const gskip = residual ? out("gskip", n) : nullptr,
               *const gw = cleared("gw", c), *const gb = cleared("gb", c);
  run_ = [=, this] {
    clear_outputs();
    insula::run<op::group_norm, cpu, float>(cx_,
                                            {1, positions, c, groups, 1e-5, act, x, skip, w, b, y, stats});
    insula::run<op::group_norm_grad, cpu, float>(
        cx_, {1, positions, c, groups, act, x, skip, w, b, stats, gy, false, gx, false, gskip, gw, gb});
  };
}

void task::batch_norm() {
  index_t const rows = number("positions"), c = number("channels"), n = rows * c;
  auto const act = activation_of(description_.at("activation"));
  bool const residual = description_.at("skip");
  float const *x = in("x", n), *skip = residual ? in("skip", n) : nullptr, *w = in("w", c), *b = in("b", c);
  float *const y = out("y", n), *const stats = (arrays_["stats"] = array(3 * c)).data();
  op::batch_norm::args<float> const forward{
      rows, c, 1e-5, act, norm_statistics::batch, {}, x, skip, w, b, 0.1, nullptr, nullptr, y, stats};
  if (!steps()) {
    run_ = [=, this] { insula::run<op::batch_norm, cpu, float>(cx_, forward); };
    return;
  }
  float const* const gy = in("gy", n);
  float *const gx = out("gx", n), *const gskip = residual ? out("gskip", n) : nullptr,
               *const gw = cleared("gw", c), *const gb = cleared("gb", c);
  run_ = [=, this] {
    clear_outputs();
    insula::run<op::batch_norm, cpu, float>(cx_, forward);
    insula::run<op::batch_norm_grad, cpu, float>(cx_, {rows,
                                                       c,
                                                       act,
                                                       norm_statistics::batch,
                                                       {},
                                                       x,
                                                       skip,
                                                       w,
                                                       b,
                                                       stats,
                                                       gy,
                                                       false,
                                                       gx,
                                                       false,
                                                       gskip,
                                                       gw,
                                                       gb});
  };
}

void task::batch_norm_pool() {
  op::pool3d_geometry const g{1, extent_of(description_.at("in")), number("channels")};
  index_t const c = g.channels, n = g.in.size() * c, outputs = g.out().size() * c;
  float const *x = in("x", n), *w = in("w", c), *b = in("b", c);
  float *const y = out("y", outputs), *const stats = (arrays_["stats"] = array(3 * c)).data();
  auto const pick = std::make_shared<std::vector<std::uint8_t>>(std::size_t(steps() ? outputs : 0));
  op::batch_norm_pool::args<float> const forward{g,
                                                 1e-5,
                                                 activation::relu,
                                                 norm_statistics::batch,
                                                 {},
                                                 x,
                                                 w,
                                                 b,
                                                 0.1,
                                                 nullptr,
                                                 nullptr,
                                                 y,
                                                 stats,
                                                 steps() ? pick->data() : nullptr};
  if (!steps()) {
    run_ = [=, this] { insula::run<op::batch_norm_pool, cpu, float>(cx_, forward); };
    return;
  }
  float const* const gy = in("gy", outputs);
  float *const gx = out("gx", n), *const gw = cleared("gw", c), *const gb = cleared("gb", c);
  run_ = [=, this] {
    clear_outputs();
    insula::run<op::batch_norm_pool, cpu, float>(cx_, forward);
    insula::run<op::batch_norm_pool_grad, cpu, float>(cx_, {g,
                                                            activation::relu,
                                                            norm_statistics::batch,
                                                            {},
                                                            x,
                                                            w,
                                                            b,
                                                            stats,
                                                            pick->data(),
                                                            gy,
                                                            false,
                                                            gx,
                                                            gw,
                                                            gb});
  };
}

void task::max_pool() {
  op::pool3d_geometry const g{1, extent_of(description_.at("in")), number("channels")};
  index_t const n = g.in.size() * g.channels, outputs = g.out().size() * g.channels;
  float const* const x = in("x", n);
  float* const y = out("y", outputs);
  if (!steps()) {
    run_ = [=, this] { insula::run<op::max_pool3d, cpu, float>(cx_, {g, x, y, nullptr}); };
    return;
  }
  auto const pick = std::make_shared<std::vector<std::uint8_t>>(std::size_t(outputs));
  float const* const gy = in("gy", outputs);
  float* const gx = out("gx", n);
  run_ = [=, this] {
    insula::run<op::max_pool3d, cpu, float>(cx_, {g, x, y, pick->data()});
    insula::run<op::max_pool3d_grad, cpu, float>(cx_, {g, pick->data(), gy, false, gx});
  };
}

/// An activation that nothing is fused with.
void task::alone() {
  index_t const n = number("n");
  auto const act = activation_of(description_.at("activation"));
  float const* const x = in("x", n);
  float* const y = out("y", n);
  if (!steps()) {
    run_ = [=, this] { insula::run<op::activate, cpu, float>(cx_, {n, act, x, y}); };
    return;
  }
  float const* const gy = in("gy", n);
  float* const gx = out("gx", n);
  run_ = [=, this] {
    insula::run<op::activate, cpu, float>(cx_, {n, act, x, y});
    insula::run<op::activate_grad, cpu, float>(cx_, {n, act, x, gy, false, gx});
  };
}

/// The passes over memory that a norm makes, and no arithmetic but sums that keep the reads: of every pass some arrays are read and some
/// written, block by block, every second pass from the end, where the caches hold what was met last. "past": stores past the caches.
void task::passes() {
  struct pass {
    std::vector<std::pair<float const*, index_t>> read;
    std::vector<std::pair<float*, index_t>> written;
  };
  std::vector<pass> all;
  std::map<std::string, index_t> const sizes = description_.at("sizes").get<std::map<std::string, index_t>>();
  for (json const& described : description_.at("passes")) {
    pass& p = all.emplace_back();
    for (std::string const name : described.at("read")) {
      index_t const n = sizes.at(name);
      p.read.emplace_back(arrays_.contains(name) ? arrays_.at(name).data() : in(name, n), n);
    }
    for (std::string const name : described.at("written")) {
      index_t const n = sizes.at(name);
      p.written.emplace_back(arrays_.contains(name) ? arrays_.at(name).data() : out(name, n), n);
    }
  }
  index_t const blocks = number("blocks");
  constexpr index_t parts = 16;  // of a block: reads and writes overlap
  bool const past = description_.at("past").get<bool>();
  float* const sums = out("sums", blocks);
  run_ = [=, this, passes = std::move(all)] {
    for (std::size_t k = 0; k < passes.size(); ++k)
      cx_.pool.run(blocks, [&](index_t block, int) {
        index_t const b = k % 2 ? blocks - 1 - block : block;
        float total = 0;
        for (index_t part = b * parts; part < (b + 1) * parts; ++part) {
          auto const begin = [&](index_t n) { return n * part / (blocks * parts) / 16 * 16; };
          auto const count = [&](index_t n) {
            return n * (part + 1) / (blocks * parts) / 16 * 16 - begin(n);
          };
          for (auto const& [p, n] : passes[k].read) total += read_all(p + begin(n), count(n));
          for (auto const& [p, n] : passes[k].written) write_all(past, p + begin(n), count(n), total);
        }
        if (past) simd::end_stream();
        sums[b] = total;
      });
  };
}

void task::info_nce() {
  index_t const batch = number("batch"), width = number("width"), length = number("length");
  double const temperature = description_.at("temperature");
  float const *q = in("q", batch * width), *k = in("k", batch * width), *queue = in("queue", length * width);
  float *const gq = out("gq", batch * width), *const loss = out("loss", 1);
  auto const patient = std::make_shared<std::vector<std::int64_t>>(std::size_t(batch), 1);
  auto const queued = std::make_shared<std::vector<std::int64_t>>(std::size_t(length), 2);
  run_ = [=, this] {
    double l = 0;
    insula::run<op::info_nce, cpu, float>(
        cx_, {batch, width, length, temperature, op::invalid_negative::clamped, q, k, queue, patient->data(),
              queued->data(), gq, &l, nullptr});
    *loss = float(l);
  };
}

/// Clips the gradient, updates the weights and moves their average: every run() is one step further.
void task::update() {
  index_t const n = number("n");
  double const rate = description_.at("rate"), decay = description_.at("decay"),
               most = description_.at("clip"), momentum = description_.at("momentum");
  float const* const g = in("g", n);
  float *const w = in("w", n), *const average = in("average", n);
  outputs_["w"] = outputs_["average"] = false;
  auto const optimizer = std::make_shared<adamw<float>>(n, std::vector<parameter_group>{{0, n, decay}});
  run_ = [=, this] {
    double const norm = l2_norm(cx_, g, n);
    optimizer->step(cx_, g, w, rate, clip_factor(norm, most), {average, momentum});
  };
}

/// A flip composed with an affine map, one resampling, then gamma, on memory that is kept.
void task::augment() {
  extent const size = extent_of(description_.at("size"));
  auto const x = std::make_shared<volume>(make_volume(size));
  std::copy_n(in("x", size.size()), size.size(), x->voxels.begin());
  index_map map{};
  for (std::size_t i = 0; i < 12; ++i) map[i] = description_.at("map").at(i).get<double>();
  double const gamma = description_.at("gamma");
  auto const y = std::make_shared<volume>(make_volume(size));
  run_ = [=, this] {
    value_range const range = resample_into(sampler(*x), size, map, {}, y->voxels.data(), &cx_.pool);
    adjust_intensity(*y, {.gamma = gamma}, range, &cx_.pool);
  };
  save_more_ = [y](safetensors_writer& w) { w.add("y", {y->count()}, y->voxels.data()); };
}

}  // namespace compare
