// SPDX-License-Identifier: Apache-2.0
// Whole training steps of the comparison with PyTorch.
#include "insula/autograd/apply.hpp"
#include "insula/loss/masked_reconstruction.hpp"
#include "insula/net/initialise.hpp"
#include "insula/op/copy.hpp"
#include "insula/op/kernel.hpp"
#include "insula/op/reduce.hpp"
#include "insula/optim/adam.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/optim/clip.hpp"
#include "insula/ssl/masking.hpp"
#include "insula/ssl/simclr.hpp"
#include "insula/train/weights_io.hpp"
#include "insula/zoo/neuro_simclr.hpp"
#include "insula/zoo/umbra.hpp"
#include "tasks.hpp"

namespace compare {

using namespace insula;

/// UMBRA's masked modelling step: forward, masked loss, backward, global norm, clipping, AdamW.
void task::umbra() {
  using options = umbra::paper;
  using network = umbra::autoencoder<options>;
  using crop = umbra::crop<options>;
  struct state {
    buffer<float, cpu> w, g;
    std::vector<tensor_place> places = parameters<network, crop>();
    tape<cpu> records;
    mask_batch masks{{cube(options::crop)}, 1};
    adamw<float> optimizer;
    explicit state(context<cpu>& cx, index_t n, double decay)
        : w(n), g(n), records(cx), optimizer(n, {{0, n, decay}}) {}
  };
  constexpr index_t n = program<network, crop>::weights;
  auto const s = std::make_shared<state>(cx_, n, description_.at("decay").get<double>());
  if (description_.value("initialise", false))
    insula::initialise(s->places, s->w.data(), {1, 0});
  else
    load_tensors<float>(*inputs_, s->places, s->w.data(), "model.", same_names());
  float const* const x = in("x", crop::size);
  float* const loss = out("loss", 2);  // and the norm of the gradient
  std::vector<std::uint8_t> cells;
  for (auto const& c : description_.at("cells")) cells.push_back(c.get<bool>());
  s->masks.set(0, cells);
  double const rate = description_.at("rate"), most = description_.at("clip");
  run_ = [=, this] {
    insula::run<op::fill, cpu, float>(cx_, {n, 0.0f, s->g.data()});
    auto const y = apply<network>(insula::weights<float>{s->w.data(), s->g.data()},
                                  constant<crop>(s->records, x, 1), {.mask = s->masks.tokens()});
    loss[0] = float(masked_reconstruction(y.out, x, s->masks.voxels()));
    s->records.backward();
    s->records.clear();
    double const norm = l2_norm(cx_, s->g.data(), n);
    loss[1] = float(norm);
    s->optimizer.step(cx_, s->g.data(), s->w.data(), rate, clip_factor(norm, most));
  };
  save_more_ = [s](safetensors_writer& w) {
    add_tensors<float>(w, s->places, s->g.data(), "gradient.");
    add_tensors<float>(w, s->places, s->w.data(), "model.");
  };
}

namespace {

/// The published network on a small volume: agreement needs no large one.
struct small_volume : neuro_simclr::paper {
  static constexpr extent crop{22, 26, 24};
};

}  // namespace

/// A step of 3D-Neuro-SimCLR: two views of every subject as two passes, NT-Xent, backward, Adam.
template <class Options>
void task::simclr_of() {
  using volume = neuro_simclr::volume<Options>;
  using system = insula::simclr<neuro_simclr::network<Options>, neuro_simclr::encoder<Options>, volume>;
  struct state {
    system net;
    adam<float> optimizer{system::size};
    explicit state(context<cpu>& cx) : net(cx) {}
  };
  index_t const subjects = number("subjects"), n = subjects * volume::size;
  double const rate = description_.at("rate");
  auto const s = std::make_shared<state>(cx_);
  if (description_.value("initialise", false))
    s->net.initialise(1);
  else
    load_tensors<float>(*inputs_, system::places(), s->net.w(), "model.", same_names());
  float const *const view1 = in("view1", n), *const view2 = in("view2", n);
  float* const loss = out("loss", 1);
  run_ = [=, this] {
    s->net.clear_gradients();
    *loss = float(s->net.micro_batch({subjects, view1, view2}));
    s->optimizer.step(cx_, s->net.g(), s->net.w(), rate);
  };
  save_more_ = [s](safetensors_writer& w) {
    add_tensors<float>(w, system::places(), s->net.g(), "gradient.");
  };
}

void task::simclr() {
  std::string const volume = description_.at("volume");
  if (volume == "paper") return simclr_of<neuro_simclr::paper>();
  check(volume == "small", "task: no volume ", volume, ", there are paper and small");
  simclr_of<small_volume>();
}

}  // namespace compare
