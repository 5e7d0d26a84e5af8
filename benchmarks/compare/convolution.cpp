// SPDX-License-Identifier: Apache-2.0
// Convolutions against oneDNN, all passes. oneDNN gets its weights in the format it likes best before the clock runs, and
// with `any` also its activations; insula starts from the weights as they are in memory, every time. Each computes in memory
// that it has allocated itself, on whole cache lines.
#include "insula/kernels/cpu/conv.hpp"

#include <algorithm>
#include <memory>

#include "contests.hpp"
#include "onednn.hpp"

namespace compare {
namespace {

using namespace insula;
using onednn::memory;
using onednn::tag;
using testing::random_vector;

enum class pass { forward, input, weights };
constexpr char const* pass_names[] = {"forward", "input gradient", "weight gradient"};

struct problem {
  char const* group;
  char const* name;
  op::conv3d_geometry g;
};

constexpr op::conv3d_geometry conv(index_t in, index_t out, extent size, int kernel, int stride = 1) {
  return {1, size, in, out, cube(kernel), cube(stride), cube(kernel % 2 ? kernel / 2 : 0)};
}
constexpr op::conv3d_geometry depthwise(index_t channels, extent size, int kernel) {
  return {1, size, channels, channels, cube(kernel), cube(1), cube(kernel / 2), channels};
}

constexpr problem problems[] = {
    {"conv3", "3^3, 32 to 32, 48^3", conv(32, 32, cube(48), 3)},
    {"conv3", "3^3, 48 to 48, 48^3", conv(48, 48, cube(48), 3)},
    {"conv3", "3^3, 64 to 64, 38x48x48", conv(64, 64, {38, 48, 48}, 3)},
    {"conv3", "3^3, 96 to 96, 24^3", conv(96, 96, cube(24), 3)},
    {"conv3", "3^3, 128 to 128, 19x24x24", conv(128, 128, {19, 24, 24}, 3)},
    {"conv3_wide", "3^3, 192 to 192, 12^3", conv(192, 192, cube(12), 3)},
    {"conv3_wide", "3^3, 256 to 256, 10x12x12", conv(256, 256, {10, 12, 12}, 3)},
    {"conv3_wide", "3^3, 384 to 384, 6^3", conv(384, 384, cube(6), 3)},
    {"conv_other", "3^3 stride 2, 64 to 128, 38x48x48", conv(64, 128, {38, 48, 48}, 3, 2)},
    {"conv_other", "3^3 stride 2, 256 to 512, 10x12x12", conv(256, 512, {10, 12, 12}, 3, 2)},
    {"conv_other", "2^3 patches, 1 to 48, 96^3", conv(1, 48, cube(96), 2, 2)},
    {"conv_other", "2^3 patches, 64 to 128, 24^3", conv(64, 128, cube(24), 2, 2)},
    {"conv_other", "1^3, 48 to 32, 48^3", conv(48, 32, cube(48), 1)},
    {"conv_other", "1^3, 64 to 256, 24^3", conv(64, 256, cube(24), 1)},
    {"conv_other", "1^3 stride 2, 64 to 128, 38x48x48", conv(64, 128, {38, 48, 48}, 1, 2)},
    {"conv_other", "7^3 stem stride 1, 1 to 64, 48x64x64", conv(1, 64, {48, 64, 64}, 7)},
    {"conv_other", "7^3 stem stride 2, 1 to 64, 96x128x128", conv(1, 64, {96, 128, 128}, 7, 2)},
    {"depthwise", "5^3, 64, 48^3", depthwise(64, cube(48), 5)},
    {"depthwise", "3^3, 64, 48^3", depthwise(64, cube(48), 3)},
    {"depthwise", "5^3, 128, 24^3", depthwise(128, cube(24), 5)},
    {"depthwise", "3^3, 320, 12^3", depthwise(320, cube(12), 3)},
};

/// Operands in insula's layout, which is oneDNN's ndhwc and dhwio.
struct operands {
  op::conv3d_geometry g;
  std::vector<float> x, w, gy;
  memory::dims x_dims, y_dims, w_dims, stride, pad;

  explicit operands(op::conv3d_geometry const& geometry)
      : g(geometry),
        x(random_vector<float>(g.in.size() * g.in_channels, 1)),
        w(random_vector<float>(g.weights(), 2)),
        gy(random_vector<float>(g.out().size() * g.out_channels, 3)),
        x_dims{1, g.in_channels, g.in.d, g.in.h, g.in.w},
        y_dims{1, g.out_channels, g.out().d, g.out().h, g.out().w},
        w_dims{g.out_channels, g.in_channels, g.kernel.d, g.kernel.h, g.kernel.w},
        stride{g.stride.d, g.stride.h, g.stride.w},
        pad{g.pad.d, g.pad.h, g.pad.w} {
    if (grouped())
      w_dims = {g.groups,  g.out_channels / g.groups, g.in_channels / g.groups, g.kernel.d, g.kernel.h,
                g.kernel.w};
  }
  bool grouped() const { return g.groups > 1; }
  tag own_weights() const { return grouped() ? tag::dhwigo : tag::dhwio; }
  tag plain_weights() const { return grouped() ? tag::goidhw : tag::oidhw; }
};

/// What the format of oneDNN's activations is: its choice, channels-last, or channels-first of the caller with reorders to
/// and from its choice inside the timed part.
enum class format { any, ndhwc, ncdhw_reordered };

/// One pass of oneDNN: two inputs and one output.
class onednn_pass {
 public:
  onednn_pass(onednn::device& device, operands const& o, pass which, format how)
      : device_(device), o_(o), which_(which), how_(how) {
    make();
    tag const activations = tag::ndhwc;
    bool const user = how == format::ncdhw_reordered;
    auto const input = [&](part& p, memory::desc const& d, memory::dims const& dims, tag own, tag users,
                           std::vector<float> const& values) {
      p.inner = device.filled(d, dims, own, values);
      if (user) p.outer = device.filled(onednn::described(dims, users), dims, own, values);
    };
    if (which != pass::input) input(x_, x_desc_, o.x_dims, activations, tag::ncdhw, o.x);
    if (which != pass::weights) input(w_, w_desc_, o.w_dims, o.own_weights(), o.plain_weights(), o.w);
    if (which != pass::forward) input(y_, y_desc_, o.y_dims, activations, tag::ncdhw, o.gy);
    part& out = output();
    out.inner = memory(which == pass::forward ? y_desc_
                       : which == pass::input ? x_desc_
                                              : w_desc_,
                       device.engine);
    if (user)
      out.outer = which == pass::weights
                      ? device.plain(o.w_dims, o.plain_weights())
                      : device.plain(which == pass::forward ? o.y_dims : o.x_dims, tag::ncdhw);
  }
  void run() {
    bool const user = how_ == format::ncdhw_reordered;
    if (user)
      for (part* p : {&x_, &w_, &y_})
        if (p != &output()) reorder(p->outer, p->inner);
    primitive_.execute(device_.stream, arguments());
    if (user) reorder(output().inner, output().outer);
    device_.stream.wait();
  }
  std::vector<float> result() {
    if (which_ == pass::weights) return device_.values(w_.inner, o_.w_dims, o_.own_weights());
    return which_ == pass::forward ? device_.values(y_.inner, o_.y_dims, tag::ndhwc)
                                   : device_.values(x_.inner, o_.x_dims, tag::ndhwc);
  }

 private:
  struct part {
    memory inner, outer;
  };
  part& output() { return which_ == pass::forward ? y_ : which_ == pass::input ? x_ : w_; }

  void reorder(memory& from, memory& to) {
    if (from && to) dnnl::reorder(from, to).execute(device_.stream, from, to);
  }
  std::unordered_map<int, memory> arguments() {
    if (which_ == pass::forward)
      return {{DNNL_ARG_SRC, x_.inner}, {DNNL_ARG_WEIGHTS, w_.inner}, {DNNL_ARG_DST, y_.inner}};
    if (which_ == pass::input)
      return {{DNNL_ARG_DIFF_SRC, x_.inner}, {DNNL_ARG_WEIGHTS, w_.inner}, {DNNL_ARG_DIFF_DST, y_.inner}};
    return {{DNNL_ARG_SRC, x_.inner}, {DNNL_ARG_DIFF_WEIGHTS, w_.inner}, {DNNL_ARG_DIFF_DST, y_.inner}};
  }
  void make() {
    constexpr auto direct = dnnl::algorithm::convolution_direct;
    tag const activations = how_ == format::ndhwc ? tag::ndhwc : tag::any;
    auto const x = onednn::described(o_.x_dims, activations), y = onednn::described(o_.y_dims, activations),
               w = onednn::described(o_.w_dims, tag::any);
    dnnl::convolution_forward::primitive_desc const forward(
        {dnnl::prop_kind::forward_training, direct, x, w, y, o_.stride, o_.pad, o_.pad}, device_.engine);
    if (which_ == pass::forward) {
      x_desc_ = forward.src_desc(), w_desc_ = forward.weights_desc(), y_desc_ = forward.dst_desc();
      primitive_ = dnnl::convolution_forward(forward);
    } else if (which_ == pass::input) {
      dnnl::convolution_backward_data::primitive_desc const d({direct, x, w, y, o_.stride, o_.pad, o_.pad},
                                                              device_.engine, forward);
      x_desc_ = d.diff_src_desc(), w_desc_ = d.weights_desc(), y_desc_ = d.diff_dst_desc();
      primitive_ = dnnl::convolution_backward_data(d);
    } else {
      dnnl::convolution_backward_weights::primitive_desc const d({direct, x, w, y, o_.stride, o_.pad, o_.pad},
                                                                 device_.engine, forward);
      x_desc_ = d.src_desc(), w_desc_ = d.diff_weights_desc(), y_desc_ = d.diff_dst_desc();
      primitive_ = dnnl::convolution_backward_weights(d);
    }
  }

  onednn::device& device_;
  operands const& o_;
  pass which_;
  format how_;
  memory::desc x_desc_, w_desc_, y_desc_;
  dnnl::primitive primitive_;
  part x_, w_, y_;
};

/// One pass of insula. Weight gradients are added to (+=), so that the range is cleared inside the timed part.
rival insula_pass(context<cpu>& cx, operands const& o, pass which, conv_policy policy, std::string name,
                  double limit) {
  struct state {
    buffer<float, cpu> x, w, gy, out;
  };
  auto const size = index_t(which == pass::forward ? o.gy.size()
                            : which == pass::input ? o.x.size()
                                                   : o.w.size());
  auto const s = std::make_shared<state>(
      state{copied(o.x), copied(o.w), copied(o.gy), copied(testing::poisoned<float>(size))});
  auto const run = [&cx, g = o.g, which, policy, s] {
    float* const y = s->out.data();
    if (which == pass::forward)
      return kernel<op::conv3d, cpu, float>::run(cx, {g, s->x.data(), s->w.data(), nullptr, y}, policy);
    if (which == pass::weights) std::fill(s->out.begin(), s->out.end(), 0.0f);
    bool const input = which == pass::input;
    kernel<op::conv3d_grad, cpu, float>::run(
        cx,
        {g, s->x.data(), s->w.data(), s->gy.data(), false, input ? y : nullptr, input ? nullptr : y, nullptr},
        policy);
  };
  return {std::move(name), run, [s] { return std::vector<float>(s->out.begin(), s->out.end()); }, limit};
}

bool has_winograd(op::conv3d_geometry const& g) {
  return g.kernel == cube(3) && g.stride == cube(1) && g.groups == 1;
}

/// All three passes touch input, output and weights (or their gradients) once, and multiply as often.
work needed(op::conv3d_geometry const& g) {
  index_t const out = g.out().size();
  double const numbers = double(g.in.size() * g.in_channels + out * g.out_channels + g.weights());
  return {2.0 * double(out) * double(g.weights()), 4 * numbers, has_winograd(g) ? 4.0 : 1.0};
}

contest make(context<cpu>& cx, onednn::device& device, operands const& o, problem const& p, pass which) {
  contest c{p.group, text(p.name, ", ", pass_names[int(which)]), needed(p.g), {}};
  constexpr std::pair<format, char const*> formats[] = {{format::any, "oneDNN any"},
                                                        {format::ndhwc, "oneDNN ndhwc"},
                                                        {format::ncdhw_reordered, "oneDNN ncdhw"}};
  for (auto const& [how, name] : formats) {
    if (how == format::ncdhw_reordered && o.grouped()) continue;  // seconds per call, and never the best
    auto const theirs = std::make_shared<onednn_pass>(device, o, which, how);
    c.rivals.push_back({name, [theirs] { theirs->run(); }, [theirs] { return theirs->result(); }});
  }
  c.rivals.push_back(insula_pass(cx, o, which, default_conv_policy, "insula", 1e-5));
  if (has_winograd(p.g)) {
    c.rivals.push_back(insula_pass(cx, o, which, conv_policy::exact, "insula exact", 1e-5));
    c.rivals.push_back(insula_pass(cx, o, which, conv_policy::winograd2, "insula winograd2", 1e-5));
  }
  return c;
}

}  // namespace

int convolutions(settings const& s) {
  context<cpu> cx(s.threads);
  onednn::device device;
  int disagreements = 0;
  for (auto const& p : problems)
    for (pass which : {pass::forward, pass::input, pass::weights}) {
      if (which == pass::input && p.g.in_channels == 1) continue;  // nobody asks for the gradient of an image
      if (!s.wants(p.group, text(p.name, ", ", pass_names[int(which)]))) continue;
      operands const o(p.g);
      disagreements += hold(make(cx, device, o, p, which), s);
    }
  return disagreements;
}

}  // namespace compare
