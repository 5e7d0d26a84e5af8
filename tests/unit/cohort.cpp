// SPDX-License-Identifier: Apache-2.0
// Virtual subjects: determinism, alignment, invertibility, the meaning of atrophy, contrasts, lesions, coarse grids.
#include "insula/data/cohort.hpp"

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;

namespace {

// A brain of intensity 60 with a core of 20 (the ventricles) in a box of zeros; `mm` is the voxel's edge.
volume phantom(extent n, double mm = 4, float brain = 60, float core = 20) {
  volume x = make_volume(n, 0, {mm, 0, 0, -50, 0, mm, 0, -60, 0, 0, mm, -40, 0, 0, 0, 1});
  ellipsoid const e{.centre = {double(n.d - 1) / 2, double(n.h - 1) / 2, double(n.w - 1) / 2},
                    .radius = {0.4 * double(n.d), 0.4 * double(n.h), 0.4 * double(n.w)}};
  for (index_t d = 0; d < n.d; ++d)
    for (index_t h = 0; h < n.h; ++h)
      for (index_t w = 0; w < n.w; ++w) {
        double const r = e.distance({double(d), double(h), double(w)});
        x.at(d, h, w) = r > 1 ? 0 : r < 0.3 ? core : brain;
      }
  return x;
}

cohort_options calm() {  // no noise, bias, pose or atrophy
  cohort_options o;
  o.noise = o.bias = 0, o.pose = {.rotation = 0, .shear = 0, .scale = 0}, o.atrophy_high = 0;
  return o;
}

bool same(volume const& a, volume const& b) { return a.size == b.size && a.voxels == b.voxels; }

double above(volume const& x, float threshold) {
  double n = 0;
  for (float v : x.voxels) n += v > threshold;
  return n;
}

extent const box{34, 40, 36};

}  // namespace

TEST_CASE(
    "a subject is a pure function of its key; another key is another subject; sessions share the anatomy") {
  std::map<std::string, volume> const source{{"t1", phantom(box)}, {"t2", phantom(box, 4, 30, 90)}};
  cohort_options o;
  o.lesions = {.least = 1, .most = 3, .radius_low = 8, .radius_high = 12, .shift = {{"t1", -0.3}}};
  random_key const key{.seed = 5, .stream = 11};
  thread_pool pool(3);
  auto const a = make_virtual_subject(o, source, key), b = make_virtual_subject(o, source, key, 0, &pool);
  CHECK(same(a.volumes.at("t1"), b.volumes.at("t1")));
  CHECK(same(a.volumes.at("t2"), b.volumes.at("t2")));
  CHECK(same(a.lesions, b.lesions));
  CHECK(a.parameters.atrophy == b.parameters.atrophy);
  auto const c = make_virtual_subject(o, source, {.seed = 5, .stream = 12});
  CHECK_FALSE(same(a.volumes.at("t1"), c.volumes.at("t1")));
  CHECK(a.parameters.atrophy != c.parameters.atrophy);
  auto const again = make_virtual_subject(o, source, key, 1);
  CHECK(again.parameters.atrophy == a.parameters.atrophy);
  CHECK(same(again.lesions, a.lesions));
  CHECK_FALSE(same(again.volumes.at("t1"), a.volumes.at("t1")));
  CHECK(testing::relative_error(again.volumes.at("t1").voxels, a.volumes.at("t1").voxels) < 0.1);
  CHECK(testing::relative_error(c.volumes.at("t1").voxels, a.volumes.at("t1").voxels) > 0.1);
}

TEST_CASE("all volumes of a subject are warped alike, labels without interpolation") {
  volume const t1 = phantom(box);
  volume labels = t1;
  for (float& v : labels.voxels) v = v > 40 ? 2.0f : v > 10 ? 1.0f : 0.0f;
  volume t2 = t1;
  for (float& v : t2.voxels) v = 3 * v;
  cohort_options o = calm();
  o.labels = {"seg"}, o.warp_mm = 12;
  auto const s = make_virtual_subject(o, {{"t1", t1}, {"t2", t2}, {"seg", labels}}, {.seed = 1});
  auto const &w1 = s.volumes.at("t1"), &w2 = s.volumes.at("t2"), &seg = s.volumes.at("seg");
  CHECK_FALSE(same(w1, t1));
  double agree = 0, brain = 0;
  for (std::size_t i = 0; i < w1.voxels.size(); ++i) {
    REQUIRE(std::fabs(w2.voxels[i] - 3 * w1.voxels[i]) < 1e-3f);
    REQUIRE((seg.voxels[i] == 0 || seg.voxels[i] == 1 || seg.voxels[i] == 2));
    brain += w1.voxels[i] > 30 || seg.voxels[i] > 0;
    agree += w1.voxels[i] > 30 && seg.voxels[i] > 0;
  }
  CHECK(agree / brain > 0.9);
}

TEST_CASE("flows are invertible and no displacement exceeds the amplitude") {
  for (double amplitude : {2.0, 8.0, 15.0}) {
    lattice const v = smooth_velocity(box, {4, 4, 4}, amplitude, 24, {.seed = 3});
    lattice const u = flow(v);
    lattice backwards = v;
    for (auto& c : backwards.value)
      for (auto& x : c) x = -x;
    backwards = flow(backwards);
    double longest = 0, fastest = 0, mismatch = 0;
    for_nodes(u, [&](std::size_t n, point const& p) {
      auto const length = [&](lattice const& l) {
        return 4 * std::hypot(double(l.value[0][n]), double(l.value[1][n]), double(l.value[2][n]));
      };
      longest = std::max(longest, length(u)), fastest = std::max(fastest, length(v));
      point q{p[0] + double(u.value[0][n]), p[1] + double(u.value[1][n]), p[2] + double(u.value[2][n])};
      for (std::size_t a = 0; a < 3; ++a)  // points that leave the box are clamped and do not come back
        if (q[a] < 0 || q[a] > double(box[int(a)] - 1)) return;
      point const back = value_at(backwards, q);
      for (std::size_t a = 0; a < 3; ++a) mismatch = std::max(mismatch, 4 * std::fabs(q[a] + back[a] - p[a]));
    });
    CHECK(std::fabs(fastest - amplitude) < 1e-4 * amplitude);
    CHECK(longest <= amplitude * 1.0001);
    CHECK(longest > 0.5 * amplitude);
    CHECK(mismatch < 0.05 * amplitude);
  }
}

TEST_CASE("Jacobians: known maps, positive for every subject, a warp too strong is halved") {
  lattice map = make_lattice({9, 9, 9}, {2, 3, 4});
  for_nodes(map, [&](std::size_t n, point const& p) {
    map.value[0][n] = float(0.5 * p[0] + 0.2 * p[1]), map.value[1][n] = float(p[1] - 3),
    map.value[2][n] = float(1.2 * p[2]);
  });
  auto const r = jacobians(map);
  CHECK(std::fabs(r.low - 0.6) < 1e-5);
  CHECK(std::fabs(r.high - 0.6) < 1e-5);
  lattice flat = make_lattice({1, 5, 5}, {1, 1, 1});
  for_nodes(flat, [&](std::size_t n, point const& p) {
    flat.value[1][n] = float(2 * p[1]), flat.value[2][n] = float(p[2]);
  });
  CHECK(std::fabs(jacobians(flat).low - 2) < 1e-5);

  cohort_options o;
  o.warp_mm = 60, o.warp_scale_mm = 16, o.mirror = 0.5;
  bool halved = false, mirrored = false;
  for (std::uint64_t k = 0; k < 6; ++k) {
    auto const s = make_virtual_subject(o, {{"t1", phantom(box)}}, {.seed = 2, .stream = k});
    CHECK(s.parameters.jacobian.low >= o.least_jacobian);
    CHECK(s.parameters.jacobian.high >= s.parameters.jacobian.low);
    halved = halved || s.parameters.warp_mm < 60, mirrored = mirrored || s.parameters.mirrored;
  }
  CHECK(halved);
  CHECK(mirrored);
  o.least_jacobian = 50;
  CHECK_THROWS_WITH(make_virtual_subject(o, {{"t1", phantom(box)}}, {}), Catch::Contains("least_jacobian"));
}

TEST_CASE("atrophy shrinks the brain and widens its core, monotonically; without it nothing moves") {
  volume const t1 = phantom({50, 60, 54}, 3);
  cohort_options o = calm();
  o.warp_mm = 0;
  double last_brain = 1e9, last_core = 0, first_core = 0;
  for (double a : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    o.atrophy_low = o.atrophy_high = a;
    auto const s = make_virtual_subject(o, {{"t1", t1}}, {.seed = 4});
    CHECK(s.parameters.atrophy == a);
    volume const& x = s.volumes.at("t1");
    double core = 0;  // darkness of the inner half in voxels
    ellipsoid const inner{.centre = {24.5, 29.5, 26.5}, .radius = {12, 14, 13}};
    for_voxels_near(inner, x.size,
                    [&](std::size_t i, double r) { core += r <= 1 ? (60 - double(x.voxels[i])) / 40 : 0; });
    double brain = 0;
    for (std::size_t i = 0; i < x.voxels.size(); ++i) brain += std::min(1.0, double(x.voxels[i]) / 20);
    CHECK(brain < last_brain);
    CHECK(core > last_core);
    last_brain = brain, last_core = core;
    if (a == 0) first_core = core;
    if (a == 0) CHECK(testing::relative_error(x.voxels, t1.voxels) < 1e-4);
  }
  CHECK(last_brain < 0.88 * above(t1, 10));
  CHECK(last_core > 1.5 * first_core);
  ellipsoid const e{.centre = {3, 4, 5}, .radius = {9, 8, 7}};
  for (double a : {0.3, 1.0}) {  // a ray's map increases
    double last = -1;
    for (double r = 0; r < 2; r += 0.01) {
      double const q = atrophy_map({3 + 9 * r, 4, 5}, e, a, 0.9, 0.2)[0];
      CHECK(q > last);
      last = q;
    }
  }
}

TEST_CASE("a coarser grid keeps the field of view, the place in the world and the background") {
  volume const t1 = phantom({60, 72, 66}, 1.5);
  cohort_options o = calm();
  o.warp_mm = 0, o.voxel_mm = 3, o.noise = 0.02, o.bias = 0.02;
  auto const s = make_virtual_subject(o, {{"t1", t1}}, {.seed = 4});
  volume const& x = s.volumes.at("t1");
  REQUIRE(x.size == extent{30, 36, 33});
  auto const mm = spacing(x.to_world);
  CHECK(std::fabs(mm[0] - 3) < 1e-9);
  CHECK(std::fabs(x.to_world[3] - (t1.to_world[3] + 0.75)) < 1e-9);
  double half = 0;  // voxels above half of the brain's edge, the core included
  for (float v : x.voxels) half += v > 15;
  CHECK(std::fabs(8 * half / above(t1, 10) - 1) < 0.08);
  CHECK(x.at(0, 0, 0) == 0);
  CHECK(x.at(29, 35, 32) == 0);
  CHECK(std::fabs(8 * above(x, 0) / above(t1, 0) - 1) <
        0.03);  // what is brain stays brain, the rest exactly 0
  CHECK(*std::min_element(x.voxels.begin(), x.voxels.end()) == 0);
  CHECK(std::fabs(s.parameters.jacobian.low - 1) < 1e-3);
}

TEST_CASE("simulated contrasts follow their curve on the same anatomy") {
  volume const t1 = phantom(box, 4, 100, 40);  // window 0 to 100: core 0.4, brain 1
  cohort_options o = calm();
  o.contrasts = {{"t2", "t1", t2_like, 0}, {"copy", "t1", {0, 0.2, 0.4, 0.6, 0.8, 1}, 0}};
  auto const s = make_virtual_subject(o, {{"t1", t1}}, {.seed = 9});
  volume const &x = s.volumes.at("t1"), &t2 = s.volumes.at("t2"), &copy = s.volumes.at("copy");
  auto const w = window_of(x);
  CHECK(w.low == 0);
  CHECK(std::fabs(w.high - 100) < 0.1f);
  for (std::size_t i = 0; i < x.voxels.size(); ++i) {
    REQUIRE(std::fabs(copy.voxels[i] - x.voxels[i]) < 0.1f);
    if (x.voxels[i] == 0) REQUIRE(t2.voxels[i] == 0);
    if (x.voxels[i] > 99.99f) REQUIRE(std::fabs(t2.voxels[i] - 30) < 0.2f);
    if (std::fabs(x.voxels[i] - 40) < 1e-3f) REQUIRE(std::fabs(t2.voxels[i] - 80) < 0.2f);
  }
  random_stream random({.seed = 2});
  transfer_curve const up = draw_curve(true, random), any = draw_curve(false, random);
  for (std::size_t i = 1; i < up.size(); ++i) CHECK(up[i] > up[i - 1]);
  CHECK(up.back() == 1);
  CHECK(any[0] == 0);
}

TEST_CASE("lesions lie in the brain, carry a label and change each contrast by its shift") {
  volume const t1 = phantom(box);
  cohort_options o = calm();
  o.lesions = {
      .least = 1, .most = 4, .radius_low = 8, .radius_high = 14, .other_shift = 0.5, .shift = {{"t1", -0.4}}};
  cohort_options without = o;
  without.lesions = {};
  std::array<int, 5> seen{};
  for (std::uint64_t k = 0; k < 30; ++k) {
    auto const s = make_virtual_subject(o, {{"t1", t1}, {"t2", t1}}, {.seed = 6, .stream = k});
    auto const clean = make_virtual_subject(without, {{"t1", t1}, {"t2", t1}}, {.seed = 6, .stream = k});
    REQUIRE(clean.lesions.count() == 0);
    REQUIRE((s.parameters.lesions.size() >= 1 && s.parameters.lesions.size() <= 4));
    ++seen[s.parameters.lesions.size()];
    CHECK(above(s.lesions, 0.5f) > 10);
    for (std::size_t i = 0; i < s.lesions.voxels.size(); ++i) {
      REQUIRE(s.volumes.at("t1").voxels[i] >= 0);
      if (clean.volumes.at("t1").voxels[i] == 0)
        REQUIRE((s.lesions.voxels[i] == 0 && s.volumes.at("t2").voxels[i] == 0));
    }
    double down = 0, up = 0, n = 0;
    for (std::size_t i = 0; i < s.lesions.voxels.size(); ++i)
      if (s.lesions.voxels[i] > 0) {
        down += double(s.volumes.at("t1").voxels[i] - clean.volumes.at("t1").voxels[i]), ++n;
        up += double(s.volumes.at("t2").voxels[i] - clean.volumes.at("t2").voxels[i]);
      }
    CHECK(down / n < -0.5 * 0.4 * 60);
    CHECK(up / n > 0.5 * 0.5 * 60);
    for (auto const& e : s.parameters.lesions)
      CHECK(clean.volumes.at("t1").at(index_t(e.centre[0]), index_t(e.centre[1]), index_t(e.centre[2])) > 30);
  }
  for (std::size_t i = 1; i < 5; ++i) CHECK(seen[i] > 0);
}

TEST_CASE("inconsistent sources and options are refused by name") {
  auto const t1 = phantom({8, 8, 8});
  CHECK_THROWS_WITH(make_virtual_subject({}, {}, {}), Catch::Contains("no source"));
  CHECK_THROWS_WITH(make_virtual_subject({}, {{"a", t1}, {"b", phantom({8, 9, 8})}}, {}),
                    Catch::Contains("8x9x8"));
  cohort_options o;
  o.anatomy = "t3";
  CHECK_THROWS_WITH(make_virtual_subject(o, {{"t1", t1}}, {}), Catch::Contains("t3"));
  o = {};
  o.atrophy_high = 2;
  CHECK_THROWS_WITH(make_virtual_subject(o, {{"t1", t1}}, {}), Catch::Contains("atrophy"));
  o = {};
  o.contrasts = {{"t1", "t1"}};
  CHECK_THROWS_WITH(make_virtual_subject(o, {{"t1", t1}}, {}), Catch::Contains("contrast"));
}

TEST_CASE("constant volumes give finite subjects") {
  volume const x = make_volume({6, 7, 5}, 3);
  auto const s = make_virtual_subject({}, {{"t1", x}}, {.seed = 1});
  for (float v : s.volumes.at("t1").voxels) REQUIRE(std::fabs(v - 3) < 1e-4f);
}
