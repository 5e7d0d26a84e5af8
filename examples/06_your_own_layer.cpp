// SPDX-License-Identifier: Apache-2.0
// Lesson 6: a layer of your own: what it computes (op), how (kernel), how it stands in a network (leaf), and its proof.
//
// Expected output:
//   soft_clip alone: gradients deviate by less than 1e-6: yes
//   soft_clip in a network: gradients deviate by less than 1e-6: yes
//   its parameter is tone.gain, 3
#include <cstdio>

#include "insula/insula.hpp"
#include "insula/plain.hpp"
#include "insula/testing/gradients.hpp"

/// y = gain_c x / (1 + |x|): bright voxels are bent towards the gain of their channel c.
struct soft_clip_op {
  template <class T>
  struct args {
    insula::index_t rows, channels;
    T const *x, *gain;
    T* y;
  };
};
/// gx (+)= gain_c gy / (1 + |x|)^2,  ggain_c += sum of gy x / (1 + |x|)
struct soft_clip_grad_op {
  template <class T>
  struct args {
    insula::index_t rows, channels;
    T const *x, *gain, *gy;
    bool adds;
    T *gx, *ggain;
  };
};

// Loops for every backend whose memory is this machine's; a faster one would be kernel<soft_clip_op, cpu, T>.
template <class B, class T>
struct insula::kernel<soft_clip_op, B, T> {
  static void run(context<B>&, soft_clip_op::args<T> const& a) {
    for (index_t i = 0; i < a.rows * a.channels; ++i)
      a.y[i] = a.gain[i % a.channels] * a.x[i] / (1 + std::abs(a.x[i]));
  }
};
template <class B, class T>
struct insula::kernel<soft_clip_grad_op, B, T> {
  static void run(context<B>&, soft_clip_grad_op::args<T> const& a) {
    for (index_t i = 0; i < a.rows * a.channels; ++i) {
      T const d = 1 + std::abs(a.x[i]), g = a.gain[i % a.channels] * a.gy[i] / (d * d);
      if (a.gx) a.gx[i] = a.adds ? a.gx[i] + g : g;
      if (a.ggain) a.ggain[i % a.channels] += a.gy[i] * a.x[i] / d;
    }
  }
};

using namespace insula;

struct soft_clip : leaf<soft_clip> {
  static constexpr char const* name = "soft_clip";
  static constexpr inferred infer(dims in) { return fits(in); }  // any shape, unchanged
  static constexpr parameter_list parameters(dims in) {
    return {parameter{"gain", make_dims(in.channels()), layout::same, start::ones}};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<soft_clip_op, B, T>(
        cx, {m.batch * s->in.positions(), s->in.channels(), m.read(s->x), m.weight(s, 0), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;  // nobody wants a gradient from here on
    run<soft_clip_grad_op, B, T>(
        cx, {m.batch * s->in.positions(), s->in.channels(), m.read(s->x), m.weight(s, 0), m.read(s->gy),
             s->gx_adds, m.write(s->gx), m.weight_gradient(s, 0)});
  }
};

template <class Net>
void prove(char const* what) {
  context<plain> cx;  // and the same with context<cpu> once there is a fast kernel
  double const worst = testing::check_layer<Net, shape<3, 4, 2, 5>, shape<7, 6>>(cx).worst;
  std::printf("%s: gradients deviate by less than 1e-6: %s\n", what, worst < 1e-6 ? "yes" : "NO");
}

int main() {
  prove<soft_clip>("soft_clip alone");
  prove<residual<seq<layer_norm, soft_clip>>>("soft_clip in a network");
  for (auto const& t : parameters<named<"tone", soft_clip>, shape<3, 4, 2, 5>>())
    std::printf("its parameter is %s, %s\n", t.name.c_str(), text(t.shape).c_str());
}
