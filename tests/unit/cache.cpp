// SPDX-License-Identifier: Apache-2.0
// The cache of preprocessed volumes: what it stores, when it is stale, and that nothing breaks it.
#include "insula/data/cache.hpp"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "insula/data/manifest.hpp"
#include "insula/data/pairs.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/tree.hpp"

using namespace insula;
using support::folder;
using support::message_of;
using support::put_file;
using support::put_nifti;

namespace {

bool has(std::string const& s, std::string const& part) {
  INFO(s);
  CHECK(s.find(part) != s.npos);
  return s.find(part) != s.npos;
}

/// A tree of `n` small scans with random values, zeros among them.
manifest small_tree(folder const& f, int n = 3) {
  random_stream draw({5, 2, 0});
  for (int i = 1; i <= n; ++i) {
    support::nifti_bytes image{.dim = {3, 6, 7, 8}};
    for (int k = 0; k < 6 * 7 * 8; ++k) image.values.push_back(k % 5 == 0 ? 0 : draw.uniform(1, 1000));
    put_nifti(f / ("sub_" + std::to_string(i) + "/ses_1/t1.nii.gz"), image);
  }
  return read_manifest(f.path());
}

pipeline const scored{{preprocess::reorient{}, preprocess::z_score{}}};

volume expected(scan const& s, pipeline const& p) { return apply(p, read_nifti(s.path).image); }

std::vector<std::string> cache_files(folder const& f) {
  auto names = f.list();
  std::erase(names, ".insula-lock");
  return names;
}
std::string only_file(folder const& f) {
  auto const names = cache_files(f);
  REQUIRE(names.size() == 1);
  return f / names[0];
}
std::string bytes_of(std::string const& path) { return read_file(path); }

/// Changes one byte, keeping the rest.
void flip_byte(std::string const& path, std::size_t at) {
  auto b = bytes_of(path);
  b[at] = char(b[at] ^ 0x10);
  put_file(path, b);
}

/// Runs f in a child process; its result (0 to 255), or 255 if it threw.
template <class F>
pid_t start(F f) {
  pid_t const child = fork();
  if (child != 0) return child;
  int result = 255;
  try {
    result = f();
  } catch (...) {
  }
  _exit(result);
}
int result_of(pid_t child) {
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("the fingerprint is XXH64") {
  CHECK(fingerprint("") == 0xef46db3751d8e999u);
  CHECK(fingerprint("abc") == 0x44bc2cf5ad770999u);
  CHECK(fingerprint("Nobody inspects the spammish repetition") == 0xfbcea83c8a378bf1u);
  CHECK(hexadecimal(0x0123456789abcdefu) == "0123456789abcdef");
}

TEST_CASE("a cache holds what preprocessing gives, bit for bit, and is not made twice") {
  folder f, c;
  auto const m = small_tree(f);
  thread_pool pool(2);
  for (int pass = 0; pass < 2; ++pass) {
    volume_cache const cache(m, scored, {.folder = c / "a/b"}, pass ? nullptr : &pool);
    CHECK(cache.built() == (pass ? 0 : 3));
    REQUIRE(cache.size() == 3);
    CHECK(cache.contents().scans == m.scans);
    for (index_t i = 0; i < 3; ++i) {
      auto const want = expected(m.scans[std::size_t(i)], scored);
      auto const seen = cache.open(i);
      CHECK(seen.size() == want.size);
      CHECK(seen.to_world() == want.to_world);
      auto const span = seen.voxels();
      CHECK(std::vector<float>(span.begin(), span.end()) == want.voxels);
      CHECK(cache.read(i).voxels == want.voxels);
      CHECK(cache.read(i).to_world == want.to_world);
    }
    has(message_of([&] { (void)cache.open(3); }), "volume 3 of 3");
  }
}

TEST_CASE("the memory cache gives the same volumes through the same interface") {
  folder f, c;
  auto const m = small_tree(f);
  thread_pool pool(2);
  volume_cache const disk(m, scored, {.folder = c.path()});
  memory_cache const memory(m, scored, {}, &pool);
  REQUIRE(memory.size() == disk.size());
  CHECK(memory.contents().scans == disk.contents().scans);
  for (index_t i = 0; i < memory.size(); ++i) {
    CHECK(memory.read(i).voxels == disk.read(i).voxels);
    CHECK(memory.open(i).voxels().size() == std::size_t(disk.open(i).count()));
  }
}

TEST_CASE("smaller types keep zeros and stay within half a step") {
  folder f;
  auto const m = small_tree(f, 1);
  pipeline const raw{{preprocess::reorient{}}};
  auto const a = expected(m.scans[0], scored), b = expected(m.scans[0], raw);
  auto const largest = [](volume const& v) {
    float most = 0;
    for (float const x : v.voxels) most = std::max(most, std::abs(x));
    return double(most);
  };
  struct {
    dtype type;
    double step;  // of the largest magnitude
  } const types[] = {{dtype::f16, 0x1p-10}, {dtype::i16, 1.0 / 32767}, {dtype::u8, 2.0 / 254}};
  for (auto const& [type, step] : types)
    for (auto const* want : {&a, &b}) {
      folder c;
      volume_cache const cache(m, want == &a ? scored : raw, {.folder = c.path(), .stored = type});
      CHECK(std::filesystem::file_size(only_file(c)) ==
            std::size_t(4096 + want->count() * bits_of(type) / 8));
      auto const got = cache.read(0);
      double error = 0;
      bool zeros = true;
      for (std::size_t i = 0; i < got.voxels.size(); ++i) {
        error = std::max(error, std::abs(double(got.voxels[i]) - double(want->voxels[i])));
        zeros = zeros && (want->voxels[i] != 0 || got.voxels[i] == 0);
      }
      CHECK(error <= 0.501 * step * largest(*want));
      CHECK(error > 0);
      CHECK(zeros);
      has(message_of([&] { (void)cache.open(0).voxels(); }), "only F32 can be seen in place");
    }
  CHECK(scale_for(dtype::u8, 1000, 1010).offset == 1000);
  folder c;
  has(message_of([&] { volume_cache(m, raw, {.folder = c.path(), .stored = dtype::f64}); }), "voxels as F64");
  support::nifti_bytes large{.values = {}};
  for (int i = 0; i < 24; ++i) large.values.push_back(1e5 * i);
  put_nifti(f / "sub_1/ses_1/t2.nii", large);
  volume_cache const half(read_manifest(f.path()), raw, {.folder = c.path(), .stored = dtype::f16});
  REQUIRE(half.contents().problems.size() == 1);
  has(half.contents().problems[0].reason, "F16 holds up to 65504");
}

TEST_CASE("the plan gives the size before anything is written") {
  folder f, c;
  auto const m = small_tree(f, 2);
  cache_options const o{.folder = c / "x"};
  auto const plan = plan_cache(m, scored, o);
  CHECK(plan.exact);
  CHECK(plan.volumes == 2);
  CHECK(plan.ready == 0);
  CHECK(plan.free > 0);
  CHECK(c.list().empty());
  has(describe(plan), "cache: 2 volumes, " + describe_bytes(plan.bytes) + " (0 ready, ");
  volume_cache(m, scored, o);
  index_t written = 0;
  for (auto const& e : std::filesystem::directory_iterator(o.folder))
    if (e.path().extension() == ".vol") written += index_t(e.file_size());
  CHECK(written == plan.bytes);
  CHECK(plan.to_write == plan.bytes);
  auto const after = plan_cache(m, scored, o);
  CHECK((after.ready == 2 && after.to_write == 0 && after.bytes == plan.bytes));
  pipeline const cropped{{preprocess::crop_brain{}}};
  auto const other = plan_cache(m, cropped, o);
  CHECK_FALSE(other.exact);
  CHECK(other.stale.size() == 2);
  has(describe(other), "at most "), has(describe(other), "2 cache files will be replaced: ");
  put_file(m.scans[0].path, "broken");
  auto const broken = plan_cache(m, scored, o);
  CHECK((broken.volumes == 1 && broken.problems.size() == 1));
  CHECK(describe_bytes(999) == "999 bytes");
  CHECK(describe_bytes(999999) == "1 MB");
  CHECK(describe_bytes(3'250'000'000) == "3.3 GB");
}

TEST_CASE("planned extents are those that preprocessing gives") {
  std::vector<pipeline> const pipelines{
      {{preprocess::reorient{}, preprocess::resample{2, 3.5, 4}}},
      {{preprocess::resample{4, 3, 5}, preprocess::reorient{"SLP"}, preprocess::pad{40, 60, 20}}},
      {{preprocess::reorient{"LSA"}, preprocess::resample{3, 4, 4}, preprocess::crop_brain{},
        preprocess::centre_crop{20, 20, 20}, preprocess::pad{20, 20, 20}}},
      {{preprocess::reorient{}, preprocess::crop_brain{2}, preprocess::resample{4, 4, 4}}}};
  for (auto const* name : {"sub_2/ses_1/t1.nii.gz", "sub_3/ses_1/t1.nii.gz"})
    for (auto const& p : pipelines) {
      auto const bounds = extent_after(p, read_image_header(support::brain(name)));
      extent const got = prepare_volume(support::brain(name), p).size;
      INFO(name << " " << describe(p) << text(" ", bounds.least, " ", got, " ", bounds.most));
      CHECK(bounds.exact() == (&p != &pipelines.back()));
      for (int i = 0; i < 3; ++i) CHECK((bounds.least[i] <= got[i] && got[i] <= bounds.most[i]));
    }
}

TEST_CASE("bad sources are skipped and named, or refused, and the good ones are cached") {
  folder f, c;
  (void)small_tree(f, 2);
  float const nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  support::nifti_bytes bad;
  for (int i = 0; i < 24; ++i) bad.values.push_back(i == 5 ? double(nan) : i == 7 ? double(inf) : i);
  put_nifti(f / "sub_3/ses_1/nan.nii.gz", bad);
  put_nifti(f / "sub_3/ses_1/zero.nii", {.values = std::vector<double>(24, 0)});
  auto cut = bytes_of(f / "sub_1/ses_1/t1.nii.gz");
  put_file(f / "sub_4/ses_1/cut.nii.gz", cut.substr(0, cut.size() - 20));
  cut[cut.size() - 6] =
      char(cut[cut.size() - 6] ^ 0x40);  // the checksum, which only reading to the end shows
  put_file(f / "sub_4/ses_1/damaged.nii.gz", cut);
  put_nifti(f / "sub_4/ses_1/small.nii");
  auto m = read_manifest(f.path(), {.headers = false});
  REQUIRE(m.scans.size() == 7);
  m.scans.push_back({"", "5", "1", "t1", f / "gone.nii", "", {}, 5, 1});
  put_nifti(f / "sub_5/four.nii", {.dim = {4, 2, 3, 4, 2}});
  m.scans.push_back({"", "5", "1", "t2", f / "sub_5/four.nii", "", {}, 5, 1});
  cache_options o{.folder = c.path(), .least = {6, 6, 6}};
  thread_pool pool(2);
  volume_cache const cache(m, scored, o, &pool);
  CHECK(cache.size() == 2);
  auto const& p = cache.contents().problems;
  REQUIRE(p.size() == 7);
  auto const said = describe(p);
  has(said, "nan.nii.gz': 2 of 24 voxels are NaN or infinite in the file");
  has(said, "zero.nii': all 24 voxels are 0 in the file");
  has(said, "cut.nii.gz': "), has(said, "damaged.nii.gz': "), has(said, "gone.nii': inspect");
  has(said, "small.nii': the volume has 2x3x4 voxels after preprocessing, at least 6x6x6 are wanted");
  has(said, "four.nii': read"), has(said, "2 volumes");
  auto const lacks = [&](std::string const& s) { return said.find(s) == said.npos; };
  CHECK(lacks("t1.nii.gz"));
  memory_cache const memory(m, scored, o);
  CHECK(memory.contents().scans == cache.contents().scans);
  REQUIRE(memory.contents().problems.size() == p.size());
  for (std::size_t i = 0; i < p.size(); ++i) CHECK(memory.contents().problems[i].path == p[i].path);
  o.bad = bad_files::refuse;
  has(message_of([&] { volume_cache(m, scored, o); }), "7 files cannot be used");
  has(message_of([&] { memory_cache(m, scored, o); }), "7 files cannot be used");
  m.scans.resize(1), m.scans[0].path = f / "sub_3/ses_1/zero.nii";
  has(message_of([&] { volume_cache(m, scored, {.folder = c.path()}); }),
      "no volume is left; 1 file cannot be used");

  m.scans[0].path = f / "sub_3/ses_1/nan.nii.gz";
  pipeline const repaired{{preprocess::finite{}, preprocess::z_score{}}};
  CHECK(volume_cache(m, repaired, {.folder = c.path()}).size() == 1);
}

TEST_CASE("a changed source is made anew or refused") {
  folder f, c;
  auto const m = small_tree(f, 1);
  cache_options o{.folder = c.path(), .stale = stale_cache::refuse};
  auto const before = volume_cache(m, scored, o).read(0);
  put_nifti(m.scans[0].path, {.dim = {3, 6, 7, 9}});
  has(message_of([&] { volume_cache(m, scored, o); }), "is stale: its source");
  o.stale = stale_cache::rebuild;
  volume_cache const cache(m, scored, o);
  CHECK(cache.built() == 1);
  CHECK(cache.read(0).size != before.size);
  CHECK(cache_files(c).size() == 1);
  // same length, other time
  std::filesystem::last_write_time(
      m.scans[0].path, std::filesystem::last_write_time(m.scans[0].path) + std::chrono::seconds(5));
  CHECK(volume_cache(m, scored, o).built() == 1);
}

TEST_CASE(
    "a changed pipeline or type is made anew or refused, and a run notices if it happens under its hands") {
  folder f, c;
  auto const m = small_tree(f, 1);
  cache_options o{.folder = c.path()};
  volume_cache const first(m, scored, o);
  auto const held = first.open(0);
  std::vector<float> const was(held.voxels().begin(), held.voxels().end());
  pipeline const other{{preprocess::min_max{}}};
  o.stale = stale_cache::refuse;
  auto const said = message_of([&] { volume_cache(m, other, o); });
  has(said, "is stale: it was preprocessed by " + to_json(scored) + ", not by " + to_json(other));
  has(said, "ask for stale_cache::rebuild");
  o.stored = dtype::u8;
  has(message_of([&] { volume_cache(m, scored, o); }), "voxels are F32, U8 is asked for");
  o.stale = stale_cache::rebuild, o.stored = dtype::f32;
  CHECK(volume_cache(m, other, o).read(0).voxels == expected(m.scans[0], other).voxels);
  CHECK(std::vector<float>(held.voxels().begin(), held.voxels().end()) == was);
  has(message_of([&] { (void)first.open(0); }), "was replaced by another run");
}

TEST_CASE("damaged cache files are made anew or refused with the reason") {
  folder f, c;
  auto const m = small_tree(f, 1);
  cache_options o{.folder = c.path()};
  auto const want = volume_cache(m, scored, o).read(0);
  std::string const file = only_file(c), good = bytes_of(file);
  struct {
    std::string bytes, reason;
  } const faults[] = {{good.substr(0, good.size() - 1), "it is cut off"},
                      {good.substr(0, 100), "it has 100 bytes, the header needs 256"},
                      {good.substr(0, 300), "fewer than its texts need"},
                      {"", "it has 0 bytes"},
                      {good + "x", "bytes and needs"},
                      {"X" + good.substr(1), "does not begin with 'insulaV1'"}};
  for (auto const& [bytes, reason] : faults) {
    put_file(file, bytes);
    o.stale = stale_cache::refuse;
    has(message_of([&] { volume_cache(m, scored, o); }), reason);
    o.stale = stale_cache::rebuild;
    volume_cache const again(m, scored, o);
    CHECK(again.built() == 1);
    CHECK(again.read(0).voxels == want.voxels);
  }
  for (std::size_t const at : {std::size_t(20), std::size_t(70), std::size_t(270)}) {
    flip_byte(file, at);
    CHECK(inspect_cache_file(file, {}).state == cache_state::damaged);
    put_file(file, good);
  }
}

TEST_CASE("damage of voxels is found when they are first read") {
  folder f, c;
  auto const m = small_tree(f, 1);
  cache_options o{.folder = c.path()};
  auto const want = volume_cache(m, scored, o).read(0);
  std::string const file = only_file(c);
  flip_byte(file, 5000);
  o.stale = stale_cache::refuse;
  volume_cache const strict(m, scored, o);
  has(message_of([&] { (void)strict.read(0); }), "the voxels' checksum is wrong");
  o.checksums = true;
  has(message_of([&] { volume_cache(m, scored, o); }), "the voxels' checksum is wrong");
  o.checksums = false, o.stale = stale_cache::rebuild;
  volume_cache const mending(m, scored, o);
  CHECK(mending.built() == 0);
  CHECK(mending.read(0).voxels == want.voxels);
  CHECK(mending.built() == 1);
  std::filesystem::remove(file);
  CHECK(mending.read(0).voxels == want.voxels);
  std::filesystem::remove(file), put_file(m.scans[0].path, "gone bad");
  has(message_of([&] { (void)mending.read(0); }), "was good and is not any more: ");
}

TEST_CASE("a full disk while the cache is written leaves whole files only, and the build goes on later") {
  folder f, c;
  auto const m = small_tree(f, 3);
  cache_options const o{.folder = c.path()};
  support::nifti_bytes large{.dim = {3, 40, 40, 40}};
  put_nifti(f / "sub_2/ses_1/t1.nii.gz", large);
  int const result = result_of(start([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit const limit{100000, 100000};  // bytes: the large volume needs 256000
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    auto const said = message_of([&] { volume_cache(m, scored, o); });
    return said.find("the file would pass the size limit") != said.npos && said.find(".vol") != said.npos ? 0
                                                                                                          : 2;
  }));
  CHECK(result == 0);
  CHECK(cache_files(c).size() == 1);
  volume_cache const cache(m, scored, o);
  CHECK(cache.built() == 2);
  CHECK(cache.read(1).count() == 64000);
}

TEST_CASE("a folder that cannot be made is an error at once") {
  folder f;
  auto const m = small_tree(f, 1);
  put_file(f / "file", "");
  has(message_of([&] { volume_cache(m, scored, {.folder = f / "file/x"}); }), "create the folder");
  has(message_of([&] { volume_cache(m, scored, {}); }), "no folder is named");
}

TEST_CASE("processes that fill one cache at once share the work") {
  folder f, c;
  auto const m = small_tree(f, 24);
  cache_options const o{.folder = c.path()};
  auto const build = [&] {
    volume_cache const cache(m, scored, o);
    for (index_t i = 0; i < cache.size(); ++i)
      if (cache.read(i).voxels != expected(m.scans[std::size_t(i)], scored).voxels) return 254;
    return int(cache.built());
  };
  pid_t const children[] = {start(build), start(build), start(build)};
  int total = 0;
  for (pid_t const child : children) total += result_of(child);
  CHECK(total == 24);
  CHECK(cache_files(c).size() == 24);
  CHECK(volume_cache(m, scored, o).built() == 0);
}

TEST_CASE("what a killed process left behind does not stop the next") {
  folder f, c;
  auto const m = small_tree(f, 2);
  pid_t const child = start([&] {
    auto const lock = detail::folder_lock::take(c.path(), 1, true);
    raise(SIGKILL);
    return 0;
  });
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(detail::folder_lock::take(c.path(), 1, false).has_value());
  CHECK(volume_cache(m, scored, {.folder = c.path()}).size() == 2);
}

TEST_CASE("the shipped brains go from folder to pairs of preprocessed volumes") {
  folder c;
  thread_pool pool(2);
  pipeline const p{{preprocess::reorient{}, preprocess::resample{4, 4, 4}, preprocess::crop_brain{},
                    preprocess::clip{}, preprocess::z_score{}}};
  volume_cache const cache(read_manifest(support::brain("")), p, {.folder = c.path()}, &pool);
  REQUIRE(cache.size() == 7);
  auto const pairs = contrastive_pairs(cache.contents(), pair_mode::modality_pairs);
  REQUIRE(pairs.size() == 3);
  for (auto const& pair : pairs) {
    auto const a = cache.read(pair.first), b = cache.read(pair.second);
    CHECK(a.size == b.size);
    CHECK(a.to_world == b.to_world);
    CHECK(a.voxels != b.voxels);
  }
}
