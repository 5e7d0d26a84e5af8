// SPDX-License-Identifier: Apache-2.0
// Known targets of virtual subjects: what atrophy does to a shipped brain, classes, fields of view, functions of the seed.
#include "insula/data/cohort_targets.hpp"

#include "insula/data/nifti.hpp"
#include "insula/data/orientation.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/sanitizers.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

#ifdef SANITIZED  // a subject takes several times as long
constexpr std::uint64_t subjects = 1, couples = 3;
#else
constexpr std::uint64_t subjects = 2, couples = 6;
#endif

volume const& head() {
  static volume const v = reorient(read_nifti(support::brain("sub_1/ses_1/t1.nii.gz")).image, "RAS");
  return v;
}
cohort_options coarse(double atrophy) {
  cohort_options o;
  o = with_target(o, {}, false);
  o.voxel_mm = 5, o.noise = o.bias = 0, o.atrophy_low = o.atrophy_high = atrophy;
  return o;
}

/// Share of the middle of the brain, within 0.45 of the way from the centre to the surface, that is as dark as fluid.
double central_fluid(volume const& x) {
  auto const w = window_of(x);
  auto const brain = brain_ellipsoid(x);
  double fluid = 0, all = 0;
  for (index_t d = 0; d < x.size.d; ++d)
    for (index_t h = 0; h < x.size.h; ++h)
      for (index_t k = 0; k < x.size.w; ++k)
        if (brain.distance({double(d), double(h), double(k)}) < 0.45)
          all += 1, fluid += x.at(d, h, k) < w.low + 0.45f * w.range();
  return fluid / all;
}
double brain_volume(volume const& x) {
  double n = 0;
  for (float const v : brain_mask(x).voxels) n += double(v);
  return n;
}

}  // namespace

TEST_CASE("more atrophy is more fluid in the middle and less brain, step by step, in the same anatomy") {
  for (std::uint64_t who = 3; who < 3 + subjects; ++who) {
    double fluid = -1, brain = 1e9;
    for (double const a : {0.0, 0.35, 0.7, 1.0}) {
      auto const s = make_virtual_subject(coarse(a), {{"t1", head()}}, {1, who});
      CHECK(s.parameters.atrophy == a);
      double const now = central_fluid(s.volumes.at("t1")), size = brain_volume(s.volumes.at("t1"));
      INFO("subject " << who << ", atrophy " << a << ": central fluid " << now << ", brain " << size);
      CHECK(now > fluid);
      CHECK(size < brain);
      fluid = now, brain = size;
    }
  }
}

TEST_CASE(
    "patients have lesions and more atrophy on average, controls have none; all is a function of the key") {
  cohort_targets const t;
  double controls = 0, patients = 0;
  for (std::uint64_t i = 0; i < couples; ++i)
    for (bool const patient : {false, true}) {
      auto o = with_target(coarse(0), t, patient);
      o.voxel_mm = 8;
      auto const s = make_virtual_subject(o, {{"t1", head()}}, {5, i});
      double const a = s.parameters.atrophy;
      CHECK((a >= (patient ? t.patient_low : t.control_low) &&
             a <= (patient ? t.patient_high : t.control_high)));
      CHECK(s.parameters.lesions.empty() == !patient);
      (patient ? patients : controls) += a;
      if (i > 0) continue;
      auto const again = make_virtual_subject(o, {{"t1", head()}}, {5, i});
      CHECK(again.volumes.at("t1").voxels == s.volumes.at("t1").voxels);
      CHECK(again.parameters.atrophy == a);
    }
  CHECK(patients > controls);
}

TEST_CASE("a lesion darkens tissue and leaves the rest of the patient as it was") {
  auto o = coarse(0.5);
  auto const without = make_virtual_subject(o, {{"t1", head()}}, {2, 7});
  o.lesions = cohort_targets{}.lesions;
  auto const with = make_virtual_subject(o, {{"t1", head()}}, {2, 7});
  REQUIRE(!with.parameters.lesions.empty());
  double darker = 0;
  for (std::size_t i = 0; i < with.lesions.voxels.size(); ++i) {
    float const a = without.volumes.at("t1").voxels[i], b = with.volumes.at("t1").voxels[i];
    REQUIRE(b <= a);
    darker += b < a;
  }
  CHECK(darker > 0);
  CHECK(darker < 0.1 * double(with.lesions.count()));
}

TEST_CASE("classes are balanced within every anatomy, in an order that depends on the seed") {
  bool differs = false;
  for (index_t const sources : {1, 2, 5}) {
    std::vector<index_t> patients(std::size_t(sources), 0);
    for (index_t i = 0; i < 20 * sources; ++i) {
      patients[std::size_t(i % sources)] += is_virtual_patient(1, i, sources);
      differs = differs || is_virtual_patient(1, i, sources) != is_virtual_patient(2, i, sources);
    }
    for (auto const n : patients) CHECK(n == 10);
  }
  CHECK(differs);
}

TEST_CASE("a field of view is centred on the brain, pads with background and keeps places in the world") {
  volume x = make_volume({6, 7, 8}, 2, {2, 0, 0, 10, 0, 2, 0, 20, 0, 0, 2, 30, 0, 0, 0, 1});
  for (index_t d = 0; d < 3; ++d)
    for (index_t h = 3; h < 6; ++h)
      for (index_t w = 1; w < 7; ++w) x.at(d, h, w) = 50 + float(d);
  auto const mask = brain_mask(x);
  auto const y = in_field(x, mask, {7, 5, 4});
  REQUIRE(y.size == extent{7, 5, 4});
  for (index_t d = 0; d < 7; ++d)
    for (index_t h = 0; h < 5; ++h)
      for (index_t w = 0; w < 4; ++w) {
        point const p = map_point(y.to_world, {double(d), double(h), double(w)});
        index_t const i = std::lround((p[0] - 10) / 2), j = std::lround((p[1] - 20) / 2),
                      k = std::lround((p[2] - 30) / 2);
        bool const inside = i >= 0 && i < 6 && j >= 0 && j < 7 && k >= 0 && k < 8;
        REQUIRE(y.at(d, h, w) == (inside ? x.at(i, j, k) : 2));
      }
  CHECK(y.at(3, 2, 2) == 51);  // the middle of the brain
  CHECK_THAT(message_of([&] { in_field(x, make_volume(x.size), {3, 3, 3}); }), Contains("mask is empty"));
}
