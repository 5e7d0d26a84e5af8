// SPDX-License-Identifier: Apache-2.0
// Linear layers against oneDNN, OpenBLAS and Eigen; linear + GELU and the feed-forward half-block against oneDNN's fused
// primitives. oneDNN `any` gets its weights packed before the clock runs; insula packs them every time.
#include <cblas.h>

#include <Eigen/Core>
#include <memory>
#include <span>

#include "contests.hpp"
#include "insula/base/text.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/gemm.hpp"
#include "insula/op/kernel.hpp"
#include "insula/op/pointwise.hpp"
#include "onednn.hpp"

namespace compare {
namespace {

using namespace insula;
using onednn::memory;
using onednn::tag;
using testing::random_vector;

struct problem {
  char const* name;
  index_t rows, in, out;
};

constexpr problem linear_problems[] = {
    {"Swin 1 qkv", 117649, 48, 144},
    {"Swin 1 fc1", 110592, 48, 192},
    {"Swin 1 fc2", 110592, 192, 48},
    {"Swin 2 qkv", 21952, 96, 288},
    {"Swin 3 fc1", 1728, 192, 768},
    {"Swin 4 fc1", 216, 384, 1536},
    {"UniFormer fc1", 1728, 320, 1280},
    {"ViT-B qkv", 865, 768, 2304},
    {"ViT-B fc1", 865, 768, 3072},
    {"ViT-B fc2", 865, 3072, 768},
    {"ViT-L fc1, batch 8", 2056, 1024, 4096},
};
constexpr problem gelu_problems[] = {
    {"Swin 1 fc1", 110592, 48, 192}, {"Swin 2 fc1", 13824, 96, 384}, {"ViT-B fc1", 865, 768, 3072}};
constexpr problem mlp_problems[] = {  // out is the hidden width
    {"Swin 1", 110592, 48, 192},
    {"Swin 2", 13824, 96, 384},
    {"Swin 3", 1728, 192, 768}};

using array = buffer<float, cpu>;

/// What all rivals of a contest read, and where insula, OpenBLAS and Eigen write.
struct operands {
  problem p;
  array x, w1, b1, w2, b2, norm_w, norm_b, y;

  explicit operands(problem const& q)
      : p(q),
        x(copied(random_vector<float>(q.rows * q.in, 1))),
        w1(copied(random_vector<float>(q.in * q.out, 2))),
        b1(copied(random_vector<float>(q.out, 3))),
        w2(copied(random_vector<float>(q.in * q.out, 4))),
        b2(copied(random_vector<float>(q.in, 5))),
        norm_w(copied(random_vector<float>(q.in, 6))),
        norm_b(copied(random_vector<float>(q.in, 7))),
        y(copied(testing::poisoned<float>(q.rows * std::max(q.in, q.out)))) {}
  std::vector<float> result(index_t columns) const { return {y.begin(), y.begin() + p.rows * columns}; }
};

/// y = x w (+ b) with what follows, by oneDNN.
class product {
 public:
  product(onednn::device& device, index_t rows, index_t in, index_t out, std::span<float const> w,
          std::span<float const> b, tag weights, dnnl::post_ops const& then = {})
      : device_(device) {
    auto const x = onednn::described({rows, in}, tag::ab), y = onednn::described({rows, out}, tag::ab),
               weight = onednn::described({in, out}, weights), bias = onednn::described({1, out}, tag::ab);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(then);
    dnnl::matmul::primitive_desc const d =
        b.empty() ? dnnl::matmul::primitive_desc({x, weight, y}, attributes, device.engine)
                  : dnnl::matmul::primitive_desc({x, weight, bias, y}, attributes, device.engine);
    primitive_ = dnnl::matmul(d);
    arguments_[DNNL_ARG_WEIGHTS] = device.filled(d.weights_desc(), {in, out}, tag::ab, w);
    if (!b.empty()) arguments_[DNNL_ARG_BIAS] = device.filled(bias, {1, out}, tag::ab, b);
  }
  void add_argument(int which, memory const& m) { arguments_[which] = m; }
  void run(memory const& x, memory const& y) {
    arguments_[DNNL_ARG_SRC] = x, arguments_[DNNL_ARG_DST] = y;
    primitive_.execute(device_.stream, arguments_);
  }

 private:
  onednn::device& device_;
  dnnl::primitive primitive_;
  std::unordered_map<int, memory> arguments_;
};

dnnl::post_ops gelu() {
  dnnl::post_ops then;
  then.append_eltwise(1, dnnl::algorithm::eltwise_gelu_erf, 0, 0);
  return then;
}

rival onednn_linear(onednn::device& device, operands const& o, tag weights, bool with_gelu,
                    std::string name) {
  problem const& q = o.p;
  struct state {
    product p;
    memory x, y;
  };
  auto const s = std::make_shared<state>(
      state{product(device, q.rows, q.in, q.out, o.w1,
                    with_gelu ? std::span<float const>(o.b1) : std::span<float const>{}, weights,
                    with_gelu ? gelu() : dnnl::post_ops{}),
            device.filled(onednn::described({q.rows, q.in}, tag::ab), {q.rows, q.in}, tag::ab, o.x),
            device.plain({q.rows, q.out}, tag::ab)});
  return {std::move(name), [s, &device] { s->p.run(s->x, s->y), device.stream.wait(); },
          [s, &device, q] {
            return device.values(s->y, {q.rows, q.out}, tag::ab);
          }};
}

contest linear(context<cpu>& cx, onednn::device& device, operands& o) {
  problem const& q = o.p;
  contest c{"linear",
            text(q.name, ", ", q.rows, " x ", q.in, " to ", q.out),
            {2.0 * double(q.rows * q.in * q.out), 4.0 * double(q.rows * (q.in + q.out) + q.in * q.out)},
            {}};
  c.rivals.push_back(onednn_linear(device, o, tag::ab, false, "oneDNN"));
  c.rivals.push_back(onednn_linear(device, o, tag::any, false, "oneDNN any"));
  auto const result = [&o] { return o.result(o.p.out); };
  c.rivals.push_back({"OpenBLAS",
                      [&o] {
                        int const m = int(o.p.rows), n = int(o.p.out), k = int(o.p.in);
                        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, o.x.data(), k,
                                    o.w1.data(), n, 0, o.y.data(), n);
                      },
                      result});
  c.rivals.push_back({"Eigen",
                      [&o] {
                        using matrix = Eigen::Matrix<float, -1, -1, Eigen::RowMajor>;
                        Eigen::Map<matrix const> const x(o.x.data(), o.p.rows, o.p.in),
                            w(o.w1.data(), o.p.in, o.p.out);
                        Eigen::Map<matrix>(o.y.data(), o.p.rows, o.p.out).noalias() = x * w;
                      },
                      result});
  c.rivals.push_back({"insula",
                      [&cx, &o] {
                        run<op::linear, cpu, float>(
                            cx, {o.p.rows, o.p.in, o.p.out, o.x.data(), o.w1.data(), nullptr, o.y.data()});
                      },
                      result});
  return c;
}

contest linear_gelu(context<cpu>& cx, onednn::device& device, operands& o) {
  problem const& q = o.p;
  contest c{"linear_gelu",
            text(q.name, ", ", q.rows, " x ", q.in, " to ", q.out),
            {2.0 * double(q.rows * q.in * q.out), 4.0 * double(q.rows * (q.in + q.out) + q.in * q.out), 1,
             double(q.rows * q.out)},
            {}};
  c.rivals.push_back(onednn_linear(device, o, tag::ab, true, "oneDNN"));
  c.rivals.push_back(onednn_linear(device, o, tag::any, true, "oneDNN any"));
  c.rivals.push_back({"insula",
                      [&cx, &o] {
                        run<op::linear_gelu, cpu, float>(cx, {o.p.rows, o.p.in, o.p.out, o.x.data(),
                                                              o.w1.data(), o.b1.data(), nullptr, o.y.data()});
                      },
                      [&o] { return o.result(o.p.out); }});
  return c;
}

/// Layer norm, linear + GELU, linear + residual: three primitives, as few as oneDNN can do it with.
class onednn_mlp {
 public:
  onednn_mlp(onednn::device& device, operands const& o)
      : device_(device),
        o_(o),
        x_(device.filled(wide(), {o.p.rows, o.p.in}, tag::ab, o.x)),
        normed_(wide(), device.engine),
        hidden_(device.plain({o.p.rows, o.p.out}, tag::ab)),
        y_(wide(), device.engine),
        first_(device, o.p.rows, o.p.in, o.p.out, o.w1, o.b1, tag::any, gelu()),
        second_(device, o.p.rows, o.p.out, o.p.in, o.w2, o.b2, tag::any, residual()) {
    dnnl::layer_normalization_forward::primitive_desc const d(
        {dnnl::prop_kind::forward_inference, wide(), 1e-5f,
         dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift},
        device.engine);
    norm_ = dnnl::layer_normalization_forward(d);
    auto const row = onednn::described({o.p.in}, tag::a);
    norm_arguments_ = {{DNNL_ARG_SRC, x_},
                       {DNNL_ARG_DST, normed_},
                       {DNNL_ARG_SCALE, device.filled(row, {o.p.in}, tag::a, o.norm_w)},
                       {DNNL_ARG_SHIFT, device.filled(row, {o.p.in}, tag::a, o.norm_b)}};
    second_.add_argument(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, x_);
  }
  void run() {
    norm_.execute(device_.stream, norm_arguments_);
    first_.run(normed_, hidden_), second_.run(hidden_, y_);
    device_.stream.wait();
  }
  std::vector<float> result() { return device_.values(y_, {o_.p.rows, o_.p.in}, tag::ab); }

 private:
  memory::desc wide() const { return onednn::described({o_.p.rows, o_.p.in}, tag::ab); }
  dnnl::post_ops residual() const {
    dnnl::post_ops then;
    then.append_binary(dnnl::algorithm::binary_add, wide());
    return then;
  }

  onednn::device& device_;
  operands const& o_;
  memory x_, normed_, hidden_, y_;
  product first_, second_;
  dnnl::primitive norm_;
  std::unordered_map<int, memory> norm_arguments_;
};

contest mlp(context<cpu>& cx, onednn::device& device, operands& o) {
  problem const& q = o.p;
  contest c{
      "mlp",
      text(q.name, ", ", q.rows, " x ", q.in, ", hidden ", q.out),
      {4.0 * double(q.rows * q.in * q.out), 8.0 * double((q.rows + q.out) * q.in), 1, double(q.rows * q.out)},
      {}};
  auto const theirs = std::make_shared<onednn_mlp>(device, o);
  c.rivals.push_back({"oneDNN any", [theirs] { theirs->run(); }, [theirs] { return theirs->result(); }});
  c.rivals.push_back({"insula",
                      [&cx, &o] {
                        run<op::mlp, cpu, float>(cx, {o.p.rows, o.p.in, o.p.out, 1e-5, o.x.data(),
                                                      o.norm_w.data(), o.norm_b.data(), o.w1.data(),
                                                      o.b1.data(), o.w2.data(), o.b2.data(), o.y.data()});
                      },
                      [&o] { return o.result(o.p.in); }});
  return c;
}

}  // namespace

int matrices(settings const& s) {
  context<cpu> cx(s.threads);
  onednn::device device;
  int disagreements = 0;
  auto const all = [&](std::string const& group, auto const& problems, auto const& make) {
    for (auto const& p : problems) {
      if (!s.wants(group, p.name)) continue;
      operands o(p);
      disagreements += hold(make(cx, device, o), s);
    }
  };
  all("linear", linear_problems, linear);
  all("linear_gelu", gelu_problems, linear_gelu);
  all("mlp", mlp_problems, mlp);
  return disagreements;
}

}  // namespace compare
