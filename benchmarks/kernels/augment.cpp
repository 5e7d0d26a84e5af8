// SPDX-License-Identifier: Apache-2.0
// Times of the augmentations of whole brain volumes, on one thread.
#include "insula/data/cohort.hpp"
#include "insula/data/recipe_simclr.hpp"
#include "insula/data/recipe_umbra.hpp"

#include <benchmark/benchmark.h>

using namespace insula;

namespace {

constexpr extent brain{148, 184, 156};

volume noisy(extent n) {
  volume x = make_volume(n);
  gaussian_noise(x, 1, {.seed = 1});
  return x;
}

affine_parameters const turned{
    .rotation = {0.2, -0.15, 0.25}, .shear = {0.1, -0.2, 0.3, 0, 0, 0}, .scale = {1.05, 0.95, 1.02}};

void per_voxel(benchmark::State& state, index_t voxels) {
  state.counters["voxels/s"] =
      benchmark::Counter(double(voxels), benchmark::Counter::kIsIterationInvariantRate);
}

void affine_150x192x192(benchmark::State& state) {
  volume const x = noisy({150, 192, 192});
  for (auto _ : state) benchmark::DoNotOptimize(affine_augment(x, turned).voxels.data());
  per_voxel(state, x.count());
}
BENCHMARK(affine_150x192x192)->Unit(benchmark::kMillisecond);

/// Affine map with a flip, then shift and gamma, on memory that is kept.
void affine_and_intensity_150x192x192(benchmark::State& state) {
  volume const x = noisy({150, 192, 192});
  volume y = make_volume(x.size);
  affine_parameters p = turned;
  p.scale[2] *= -1;
  auto const map = centred_map(p, x.size, x.size);
  for (auto _ : state) {
    value_range const range = resample_into(sampler(x), x.size, map, {}, y.voxels.data());
    adjust_intensity(y, {.offset = 0.1, .gamma = 1.1}, range);
    benchmark::DoNotOptimize(y.voxels.data());
  }
  per_voxel(state, x.count());
}
BENCHMARK(affine_and_intensity_150x192x192)->Unit(benchmark::kMillisecond);

template <class F>
void in_place(benchmark::State& state, F const& f) {
  volume x = noisy(brain);
  for (auto _ : state) f(x), benchmark::DoNotOptimize(x.voxels.data());
  per_voxel(state, x.count());
}

void noise(benchmark::State& state) {
  in_place(state, [](volume& x) { gaussian_noise(x, 0.01, {.seed = 2}); });
}
void scale(benchmark::State& state) {
  in_place(state, [](volume& x) { scale_about_mean(x, 1e-4); });
}
void gamma(benchmark::State& state) {
  in_place(state, [](volume& x) { adjust_gamma(x, 1.001); });
}
void bias(benchmark::State& state) {
  random_stream random({.seed = 1});
  auto const c = draw_bias(1e-4, random);
  in_place(state, [&](volume& x) { bias_field(x, c); });
}
void gibbs_ringing(benchmark::State& state) {
  in_place(state, [](volume& x) { gibbs(x, 0.3); });
}
void smoothing(benchmark::State& state) {
  in_place(state, [](volume& x) { x = smooth(x, {0.6, 0.75, 0.95}); });
}
void coarse(benchmark::State& state) {
  in_place(state, [](volume& x) { x = low_resolution(x, 0.9); });
}
BENCHMARK(noise)->Unit(benchmark::kMillisecond);
BENCHMARK(scale)->Unit(benchmark::kMillisecond);
BENCHMARK(gamma)->Unit(benchmark::kMillisecond);
BENCHMARK(bias)->Unit(benchmark::kMillisecond);
BENCHMARK(gibbs_ringing)->Unit(benchmark::kMillisecond);
BENCHMARK(smoothing)->Unit(benchmark::kMillisecond);
BENCHMARK(coarse)->Unit(benchmark::kMillisecond);

// The whole pipeline on a pair, a new key each time: what one training sample costs on average.
void contrastive_pair(benchmark::State& state) {
  volume const a = noisy(brain), b = noisy(brain);
  umbra_recipe const recipe;
  std::uint64_t sample = 0;
  for (auto _ : state) {
    auto const s = umbra_contrastive(a, b, recipe, {.seed = 1, .stream = sample++});
    benchmark::DoNotOptimize(s.view1.voxels.data());
  }
}
BENCHMARK(contrastive_pair)->Unit(benchmark::kMillisecond)->Iterations(100);

/// The published chain on the published grid; `fused` in one pass over the planes, else step by step.
void simclr_views(benchmark::State& state, bool fused) {
  extent const grid{150, 192, 192};
  volume const x = noisy(grid);
  volume m = make_volume(grid);
  for_voxels_near({.centre = {75, 96, 96}, .radius = {60, 80, 65}}, grid,
                  [&](std::size_t i, double r) { m.voxels[i] = r < 1; });
  auto const recipe = simclr_chain();
  simclr_scratch s;
  std::vector<float> y(std::size_t(grid.size()));
  index_t sample = 0;
  for (auto _ : state) {
    auto const key = view_key(1, 0, sample++, 0);
    if (fused) {
      simclr_view(x, m, recipe, key, s, y.data());
    } else {
      auto const p = draw_view(recipe, grid, key);
      volume image = resize_trilinear(crop(x, p.spatial.from), grid);
      volume mask = resize_nearest(crop(m, p.spatial.from), grid);
      if (p.spatial.flip) image = flip(image, 2), mask = flip(mask, 2);
      if (p.spatial.angle != 0) {
        affine_parameters const turn{.rotation = {p.spatial.angle, 0, 0}};
        image = affine_augment(image, turn);
        mask = affine_augment(mask, turn, {interpolation::nearest, outside::edge});
      }
      if (p.offset != 0) shift_intensity(image, p.offset);
      if (p.gamma != 1) adjust_gamma(image, p.gamma);
      masked_z_score(image, mask);
      benchmark::DoNotOptimize(image.voxels.data());
    }
    benchmark::DoNotOptimize(y.data());
  }
}
BENCHMARK_CAPTURE(simclr_views, one_pass, true)->Unit(benchmark::kMillisecond)->Iterations(40);
BENCHMARK_CAPTURE(simclr_views, steps, false)->Unit(benchmark::kMillisecond)->Iterations(40);

void virtual_subject_of(benchmark::State& state, extent n, double voxel_mm) {
  volume x = make_volume(n);
  ellipsoid const e{.centre = {double(n.d) / 2, double(n.h) / 2, double(n.w) / 2},
                    .radius = {0.4 * double(n.d), 0.4 * double(n.h), 0.4 * double(n.w)}};
  for_voxels_near(e, n, [&](std::size_t i, double r) {
    x.voxels[i] = r < 0.3 ? 20.0f : r < 1 ? 60.0f : 0.0f;
  });
  cohort_options o;
  o.voxel_mm = voxel_mm;
  std::uint64_t subject = 0;
  for (auto _ : state)
    benchmark::DoNotOptimize(
        make_virtual_subject(o, {{"t1", x}}, {.seed = 1, .stream = subject++}).volumes.size());
}
BENCHMARK_CAPTURE(virtual_subject_of, cube_96, cube(96), 0)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(virtual_subject_of, whole_brain, brain, 0)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(virtual_subject_of, whole_brain_to_3mm, brain, 3)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
