// SPDX-License-Identifier: Apache-2.0
// Makes virtual subjects from real volumes: smooth invertible warps, all contrasts of a subject warped alike, and simulated
// T2-like and PD-like contrasts for subjects that have only T1. Writes FOMO layout:
//   09_make_cohort --data examples/data/brains --out cohort --subjects 48 --spacing 4
// prints one line per source and ends with "48 virtual subjects, 144 volumes in cohort".
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "insula/data/cohort.hpp"
#include "insula/data/manifest.hpp"
#include "insula/data/nifti.hpp"
#include "insula/data/orientation.hpp"
#include "insula/io/atomic_file.hpp"

namespace {

struct options {
  std::string data, out;
  insula::index_t subjects = 48;
  double spacing = 0, warp = 8;
  std::uint64_t seed = 1;
  int threads = 0;
};

using session = std::map<std::string, insula::volume>;

/// The scans of every session in RAS. Volumes of one session share a grid or the cohort refuses them.
std::vector<std::pair<std::string, session>> sources(std::string const& folder) {
  std::vector<std::pair<std::string, session>> all;
  for (auto const& scan : insula::read_manifest(folder).scans) {
    std::string const name = "sub_" + insula::subject_key(scan) + "/ses_" + scan.session;
    if (all.empty() || all.back().first != name) all.push_back({name, {}});
    all.back().second[scan.sequence] = insula::reorient(insula::read_nifti(scan.path).image, "RAS");
  }
  return all;
}

int make(options const& o) {
  insula::check(o.subjects >= 1 && o.subjects <= 100000, "subjects is ", o.subjects,
                ", it must be 1 to 100000");
  auto const real = sources(o.data);
  insula::thread_pool pool(o.threads > 0 ? o.threads
                                         : int(std::max(1u, std::thread::hardware_concurrency())));
  insula::index_t volumes = 0;
  for (insula::index_t i = 0; i < o.subjects; ++i) {
    auto const& [name, source] = real[std::size_t(i) % real.size()];
    insula::cohort_options c;
    c.voxel_mm = o.spacing, c.warp_mm = o.warp;
    c.anatomy = source.count("t1") ? "t1" : source.begin()->first;
    if (source.size() == 1 && source.count("t1"))
      c.contrasts = {{.name = "t2", .source = "t1", .curve = insula::t2_like},
                     {.name = "pd", .source = "t1", .curve = insula::pd_like}};
    auto const subject = insula::make_virtual_subject(c, source, {o.seed, std::uint64_t(i)}, 0, &pool);
    std::string const folder = insula::text(o.out, "/sub_", i + 1, "/ses_1");
    std::filesystem::create_directories(folder);
    for (auto const& [contrast, v] : subject.volumes) {
      insula::write_nifti(folder + "/" + contrast + ".nii.gz", v,
                          {.type = insula::voxel_type::f32, .compression = 1});
      ++volumes;
    }
    if (std::size_t(i) < real.size())
      std::printf("%s: %zu contrasts, size %s\n", name.c_str(), subject.volumes.size(),
                  insula::text(subject.volumes.begin()->second.size).c_str());
  }
  insula::write_file(
      o.out + "/README.txt",
      std::string_view(
          "Virtual subjects made by 09_make_cohort: smooth warps of real volumes. Contrasts that a "
          "source lacks are simulated from its T1. No file here is a scan of a person.\n"));
  std::printf("%lld virtual subjects, %lld volumes in %s\n", static_cast<long long>(o.subjects),
              static_cast<long long>(volumes), o.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app("Makes virtual subjects from real brain volumes.");
  app.add_option("--data", o.data, "folder of real volumes, skull-stripped, background 0")->required();
  app.add_option("--out", o.out, "folder to write")->required();
  app.add_option("--subjects", o.subjects, "virtual subjects to make")->capture_default_str();
  app.add_option("--spacing", o.spacing, "voxel edge in mm, 0 keeps the source's")->capture_default_str();
  app.add_option("--warp", o.warp, "largest displacement in mm")->capture_default_str();
  app.add_option("--seed", o.seed, "of all draws")->capture_default_str();
  app.add_option("--threads", o.threads, "0: all cores")->capture_default_str();
  try {
    app.parse(argc, argv);
    return make(o);
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "09_make_cohort: %s\n", e.what());
    return 1;
  }
}
