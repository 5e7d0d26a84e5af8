// SPDX-License-Identifier: Apache-2.0
// What kernels and networks cost, in numbers that no busy machine disturbs: run under callgrind by check.py, which counts
// the instructions of each call of measured(). Prints one JSON object: the names in the order of the calls, bytes of
// scratch memory, allocations of a repeated call, and the byte budgets of networks.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>
#include <vector>

#include "insula/cpu.hpp"
#include "insula/net/program.hpp"
#include "insula/testing/compare.hpp"
#include "insula/zoo/umbra.hpp"

namespace {
long allocations = 0;
}

[[gnu::noinline]] void* operator new(std::size_t n) {
  ++allocations;
  if (void* p = std::malloc(n ? n : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

/// Callgrind collects inside this function and writes a file each time it returns.
extern "C" [[gnu::noinline]] void measured(std::function<void()> const& f) { f(); }

namespace {

using namespace insula;
using json = nlohmann::ordered_json;

struct array {
  std::vector<float> v;
  array(index_t n, std::uint64_t seed) : v(testing::random_vector<float>(n, seed)) {}
  operator float*() { return v.data(); }
};

/// Runs f twice in a context of its own, the second time under callgrind.
class ledger {
 public:
  template <class F>
  void add(std::string const& name, F f) {
    context<cpu> cx(1);
    f(cx);
    auto const calls = host_memory().calls.load();
    std::function<void()> const again = [&] { f(cx); };
    long const before = allocations;
    measured(again);
    long const made = allocations - before + long(host_memory().calls.load() - calls);
    kernels_.push_back({{"name", name}, {"scratch_bytes", cx.scratch_bytes()}, {"allocations", made}});
  }
  json const& kernels() const { return kernels_; }

 private:
  json kernels_ = json::array();
};

void convolutions(ledger& l) {
  auto const both = [&l](std::string const& name, op::conv3d_geometry const& g) {
    array x(g.in.size() * g.in_channels, 1), w(g.weights(), 2), y(g.out().size() * g.out_channels, 3);
    array gx(index_t(x.v.size()), 4), gw(g.weights(), 5);
    l.add(name, [&](context<cpu>& cx) { run<op::conv3d, cpu, float>(cx, {g, x, w, nullptr, y}); });
    l.add(name + ", gradients", [&](context<cpu>& cx) {
      run<op::conv3d_grad, cpu, float>(cx, {g, x, w, y, false, gx, gw, nullptr});
    });
  };
  both("conv3d 3^3, 32 to 32, 10x11x12", {1, {10, 11, 12}, 32, 32, cube(3), cube(1), cube(1)});
  both("conv3d 3^3 stride 2, 32 to 64, 10^3", {1, cube(10), 32, 64, cube(3), cube(2), cube(1)});
  both("depth-wise 5^3, 32, 10^3", {1, cube(10), 32, 32, cube(5), cube(1), cube(2), 32});
}

void windows(ledger& l) {
  op::window_geometry const g{1, {7, 9, 8}, cube(4), cube(2), 48, 3};
  index_t const c = g.channels, n = g.grid.size() * c, rows = g.table_rows() * g.heads;
  array x(n, 1), norm_w(c, 2), norm_b(c, 3), table(rows, 4), qkv_w(3 * c * c, 5), qkv_b(3 * c, 6);
  array proj_w(c * c, 7), proj_b(c, 8), y(n, 9), lse(g.saved(), 10), gx(n, 11), gy(n, 12);
  array gnorm_w(c, 13), gnorm_b(c, 14), gtable(rows, 15), gqkv_w(3 * c * c, 16), gqkv_b(3 * c, 17);
  array gproj_w(c * c, 18), gproj_b(c, 19), kept(g.kept(), 20);
  l.add("window attention 7x9x8, window 4^3, 48, 3 heads", [&](context<cpu>& cx) {
    run<op::window_attention, cpu, float>(
        cx, {g, 1e-5, x, norm_w, norm_b, table, qkv_w, qkv_b, proj_w, proj_b, y, lse});
  });
  l.add("window attention 7x9x8, window 4^3, 48, 3 heads, gradients", [&](context<cpu>& cx) {
    run<op::window_attention_grad, cpu, float>(
        cx, {g,  1e-5,  x,  norm_w,  norm_b,  table,  qkv_w,  qkv_b,  proj_w,  proj_b, lse,
             gy, false, gx, gnorm_w, gnorm_b, gtable, gqkv_w, gqkv_b, gproj_w, gproj_b});
  });
  l.add("window attention 7x9x8, window 4^3, 48, 3 heads, kept", [&](context<cpu>& cx) {
    run<op::window_attention, cpu, float>(
        cx, {g, 1e-5, x, norm_w, norm_b, table, qkv_w, qkv_b, proj_w, proj_b, y, lse, kept});
  });
  l.add("window attention 7x9x8, window 4^3, 48, 3 heads, kept, gradients", [&](context<cpu>& cx) {
    run<op::window_attention_grad, cpu, float>(
        cx, {g,  1e-5,  x,  norm_w,  norm_b,  table,  qkv_w,  qkv_b,  proj_w,  proj_b,  lse,
             gy, false, gx, gnorm_w, gnorm_b, gtable, gqkv_w, gqkv_b, gproj_w, gproj_b, kept});
  });
}

void transformers(ledger& l) {
  index_t const rows = 300, c = 64, h = 256;
  array qkv(3 * rows * c, 1), o(rows * c, 2), lse(4 * rows, 3), go(rows * c, 4), gqkv(3 * rows * c, 5);
  l.add("attention 300 x 64, 4 heads", [&](context<cpu>& cx) {
    run<op::attention, cpu, float>(cx, {1, rows, c, 4, qkv, o, lse});
  });
  l.add("attention 300 x 64, 4 heads, gradient", [&](context<cpu>& cx) {
    run<op::attention_grad, cpu, float>(cx, {1, rows, c, 4, qkv, o, lse, go, false, gqkv});
  });
  array x(rows * c, 6), w(c * h, 7), b(h, 8), y(rows * h, 9), gx(rows * c, 10), gw(c * h, 11), gb(h, 12);
  l.add("linear 300 x 64 to 256", [&](context<cpu>& cx) {
    run<op::linear, cpu, float>(cx, {rows, c, h, x, w, b, y});
  });
  l.add("linear 300 x 64 to 256, gradients", [&](context<cpu>& cx) {
    run<op::linear_grad, cpu, float>(cx, {rows, c, h, x, w, y, false, gx, gw, gb});
  });
  array norm_w(c, 13), norm_b(c, 14), w2(h * c, 15), b2(c, 16), z(rows * c, 17), gz(rows * c, 18);
  array gnorm_w(c, 19), gnorm_b(c, 20), gw2(h * c, 21), gb2(c, 22);
  l.add("mlp 300 x 64, hidden 256", [&](context<cpu>& cx) {
    run<op::mlp, cpu, float>(cx, {rows, c, h, 1e-5, x, norm_w, norm_b, w, b, w2, b2, z});
  });
  l.add("mlp 300 x 64, hidden 256, gradients", [&](context<cpu>& cx) {
    run<op::mlp_grad, cpu, float>(cx, {rows, c,  h,     1e-5, x,       norm_w,  norm_b, w,  b,   w2,
                                       b2,   gz, false, gx,   gnorm_w, gnorm_b, gw,     gb, gw2, gb2});
  });
}

void norms(ledger& l) {
  index_t const positions = 2000, c = 32;
  array x(positions * c, 1), skip(positions * c, 2), w(c, 3), b(c, 4), y(positions * c, 5),
      gy(positions * c, 6);
  array gx(positions * c, 7), gskip(positions * c, 8), gw(c, 9), gb(c, 10), stats(3 * positions, 11);
  l.add("layer norm 2000 x 32", [&](context<cpu>& cx) {
    run<op::layer_norm, cpu, float>(cx, {positions, c, 1e-5, x, w, b, y, stats});
  });
  auto const act = activation::leaky_relu;
  l.add("group norm 2000 x 32, 8 groups, residual, leaky ReLU", [&](context<cpu>& cx) {
    run<op::group_norm, cpu, float>(cx, {1, positions, c, 8, 1e-5, act, x, skip, w, b, y, stats});
  });
  l.add("group norm 2000 x 32, 8 groups, residual, leaky ReLU, gradients", [&](context<cpu>& cx) {
    run<op::group_norm_grad, cpu, float>(
        cx, {1, positions, c, 8, act, x, skip, w, b, stats, gy, false, gx, false, gskip, gw, gb});
  });
  l.add("GELU 64000", [&](context<cpu>& cx) {
    run<op::activate, cpu, float>(cx, {positions * c, activation::gelu, x, y});
  });
}

void training(ledger& l) {
  index_t const n = 50000;
  array g(n, 1), w(n, 2), average(n, 3);
  std::vector<float> m(std::size_t(n), 0.0f), v(std::size_t(n), 0.0f);
  l.add("AdamW 50000", [&](context<cpu>& cx) {
    run<op::adamw, cpu, float>(cx, {n, 1e-3, 0.9, 0.999, 1e-8, 0.05, 1.0, 1, g, w, m.data(), v.data()});
  });
  l.add("moving average 50000", [&](context<cpu>& cx) {
    run<op::ema, cpu, float>(cx, {n, 0.99, w, average});
  });
  index_t const batch = 8, width = 64, length = 1024;
  array q(batch * width, 4), k(batch * width, 5), queue(length * width, 6), gq(batch * width, 7);
  std::vector<std::int64_t> const patient(std::size_t(batch), 1), queued(std::size_t(length), 2);
  l.add("InfoNCE 8 x 64, 1024 keys", [&](context<cpu>& cx) {
    double loss = 0;
    run<op::info_nce, cpu, float>(cx, {batch, width, length, 0.2, op::invalid_negative::clamped, q, k, queue,
                                       patient.data(), queued.data(), gq, &loss, nullptr});
  });
}

json budgets() {
  json b = json::object();
  auto const add = [&b](std::string const& name, auto program) {
    using p = decltype(program);
    b[name + ": weights"] = 4 * p::weights;
    b[name + ": activations of training, batch 1"] = 4 * p::training.activations;
    b[name + ": activations of inference, batch 1"] = 4 * p::inference.activations;
  };
  using paper = umbra::paper;
  add("umbra autoencoder 96^3", program<umbra::autoencoder<paper>, umbra::crop<paper>>{});
  add("umbra encoder 96^3", program<umbra::encoder<paper>, umbra::crop<paper>>{});
  return b;
}

}  // namespace

int main() {
  ledger l;
  convolutions(l), windows(l), transformers(l), norms(l), training(l);
  std::printf("%s\n", json{{"kernels", l.kernels()}, {"budgets", budgets()}}.dump().c_str());
}
