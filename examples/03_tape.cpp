// SPDX-License-Identifier: Apache-2.0
// Lesson 3: two networks on one tape. A loss, the backward pass, AdamW: four samples are learnt by heart.
//
// Expected output (the last digits may differ between processors):
//   step   0  loss 1.2978
//   step 100  loss 0.1092
//   step 200  loss 0.0417
//   step 299  loss 0.0358
#include <algorithm>
#include <cstdio>

#include "insula/cpu.hpp"
#include "insula/insula.hpp"

using namespace insula;

using encoder = seq<conv3d<16, cube(2), conv_opts{.stride = cube(2)}>, group_norm<4, activation::gelu>,
                    conv3d<32, cube(2), conv_opts{.stride = cube(2)}>>;
using brain = shape<1, 12, 16, 8>;
using code = program<encoder, brain>::output;
using decoder = seq<group_norm<4, activation::gelu>, conv3d_transpose<16>, group_norm<4, activation::gelu>,
                    conv3d_transpose<1, cube(2), true>>;

int main() {
  constexpr index_t batch = 4;
  std::vector<float> x(std::size_t(batch * brain::size));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(normal_at({3}, std::uint32_t(i)));

  model<encoder, brain> e;
  model<decoder, code> d;
  e.initialise(1), d.initialise(2);
  adamw<float> learn_e(e.size, {{.size = e.size}}), learn_d(d.size, {{.size = d.size}});
  warmup_cosine const rate{.peak = 1e-2, .minimum = 1e-4, .total = 300};

  context<cpu> cx(2);
  tape<cpu> t(cx);
  for (index_t i = 0; i < rate.total; ++i) {
    auto const z = apply<encoder>(e.params(), constant<brain>(t, x.data(), batch));
    auto const y = apply_as<brain, decoder, input_gradient::yes>(d.params(), z.out);  // the shape is checked
    double const loss = masked_reconstruction(y.out, x.data(), nullptr);              // no mask: all voxels
    t.backward();
    learn_e.step(cx, e.g(), e.w(), rate.at(i));
    learn_d.step(cx, d.g(), d.w(), rate.at(i));
    std::fill_n(e.g(), e.size, 0.0f), std::fill_n(d.g(), d.size, 0.0f);  // gradients are always added
    t.clear();
    if (i % 100 == 0 || i + 1 == rate.total) std::printf("step %3d  loss %.4f\n", int(i), loss);
  }
}
