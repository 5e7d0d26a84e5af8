// SPDX-License-Identifier: Apache-2.0
// Makes virtual subjects from real volumes: smooth invertible warps, all contrasts of a subject warped alike, and simulated
// T2-like and PD-like contrasts for subjects that have only T1. Writes FOMO layout:
//   09_make_cohort --data examples/data/brains --out cohort --subjects 48 --spacing 4
// prints one line per source and ends with "48 virtual subjects, 144 volumes in cohort".
//
// With --targets: T1 alone with brain masks, on one grid, and tables with labels that are known by construction:
//   09_make_cohort --data examples/data/brains --out cohort --subjects 200 --spacing 4 --targets
// writes cohort/pretrain.csv and {train,val,test}.csv in cohort/regression (label: atrophy, 0 to 1) and in
// cohort/classification (label: 1 = virtual patient, more atrophy on average and lesions).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "insula/data/cohort_targets.hpp"
#include "insula/data/manifest.hpp"
#include "insula/data/nifti.hpp"
#include "insula/data/orientation.hpp"
#include "insula/data/split_strata.hpp"
#include "insula/io/atomic_file.hpp"

namespace {

using insula::index_t, insula::text;

struct options {
  std::string data, out;
  std::vector<std::string> from;
  index_t subjects = 48, sessions = 1;
  double spacing = 0, warp = 8;
  bool targets = false;
  std::uint64_t seed = 1;
  int threads = 0;
};

using session = std::map<std::string, insula::volume>;
using sources = std::vector<std::pair<std::string, session>>;

/// The scans of every session in RAS, of those that are asked for. Volumes of one session share a grid or the cohort refuses
/// them.
sources read_sources(options const& o) {
  sources all;
  for (auto const& scan : insula::read_manifest(o.data).scans) {
    std::string const name = "sub_" + insula::subject_key(scan) + "/ses_" + scan.session;
    auto const asked = [&](std::string const& f) { return name == f || name.rfind(f + "/", 0) == 0; };
    if (!o.from.empty() && std::none_of(o.from.begin(), o.from.end(), asked)) continue;
    if (all.empty() || all.back().first != name) all.push_back({name, {}});
    all.back().second[scan.sequence] = insula::reorient(insula::read_nifti(scan.path).image, "RAS");
  }
  insula::check(!all.empty(), o.data, ": no source is called as --from asks; write sub_1 or sub_1/ses_2");
  return all;
}

std::string session_folder(options const& o, index_t subject, index_t s) {
  std::string const folder = text(o.out, "/sub_", subject + 1, "/ses_", s + 1);
  std::filesystem::create_directories(folder);
  return folder;
}
void save(std::string const& path, insula::volume const& v,
          insula::voxel_type type = insula::voxel_type::f32) {
  insula::write_nifti(path, v, {.type = type, .compression = 1});
}

index_t make_contrasts(options const& o, sources const& real, insula::thread_pool& pool) {
  index_t volumes = 0;
  for (index_t i = 0; i < o.subjects; ++i) {
    auto const& [name, source] = real[std::size_t(i) % real.size()];
    insula::cohort_options c;
    c.voxel_mm = o.spacing, c.warp_mm = o.warp;
    c.anatomy = source.count("t1") ? "t1" : source.begin()->first;
    if (source.size() == 1 && source.count("t1"))
      c.contrasts = {{.name = "t2", .source = "t1", .curve = insula::t2_like},
                     {.name = "pd", .source = "t1", .curve = insula::pd_like}};
    for (index_t s = 0; s < o.sessions; ++s) {
      auto const subject =
          insula::make_virtual_subject(c, source, {o.seed, std::uint64_t(i)}, std::uint32_t(s), &pool);
      std::string const folder = session_folder(o, i, s);
      for (auto const& [contrast, v] : subject.volumes)
        save(folder + "/" + contrast + ".nii.gz", v), ++volumes;
      if (s == 0 && std::size_t(i) < real.size())
        std::printf("%s: %zu contrasts, size %s\n", name.c_str(), subject.volumes.size(),
                    text(subject.volumes.begin()->second.size).c_str());
    }
  }
  return volumes;
}

/// What is known of a virtual subject.
struct known {
  std::string source;
  bool patient = false;
  insula::subject_parameters parameters;
};

/// The rows of some subjects, every session one; paths are relative to out/<folder>.
std::string rows(options const& o, std::vector<known> const& all, std::vector<std::string> const& subjects,
                 std::string const& to_out, char const* target) {
  std::string s = target ? "image_path,mask_path,label,patient_id\n" : "image_path,mask_path,patient_id\n";
  for (auto const& id : subjects) {
    auto const& k = all[std::size_t(std::stoll(id.substr(4)) - 1)];
    for (index_t n = 1; n <= o.sessions; ++n) {
      std::string const folder = text(to_out, id, "/ses_", n);
      s += folder + "/t1.nii.gz," + folder + "/mask.nii.gz,";
      if (target && std::string_view(target) == "regression") s += text(k.parameters.atrophy) + ",";
      if (target && std::string_view(target) == "classification") s += k.patient ? "1," : "0,";
      s += id + '\n';
    }
  }
  return s;
}

void write_tables(options const& o, std::vector<known> const& all) {
  std::vector<insula::classed_subject> subjects;
  std::string table = "patient_id,source,patient,atrophy,lesions,mirrored\n";
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto const& k = all[i];
    subjects.push_back({text("sub_", i + 1), k.patient});
    table += text(subjects.back().id, ',', k.source, ',', k.patient ? 1 : 0, ',', k.parameters.atrophy, ',',
                  k.parameters.lesions.size(), ',', k.parameters.mirrored ? 1 : 0, '\n');
  }
  insula::write_file(o.out + "/subjects.csv", table);
  auto const parts = insula::stratified_split(subjects, 0.2, 0.2, {o.seed, 0x5b117});
  insula::write_file(o.out + "/pretrain.csv", rows(o, all, parts.train, "", nullptr));
  for (char const* target : {"regression", "classification"}) {
    std::string const folder = o.out + "/" + target;
    std::filesystem::create_directories(folder);
    insula::write_file(folder + "/train.csv", rows(o, all, parts.train, "../", target));
    insula::write_file(folder + "/val.csv", rows(o, all, parts.validation, "../", target));
    insula::write_file(folder + "/test.csv", rows(o, all, parts.test, "../", target));
  }
  std::printf("train %zu, val %zu, test %zu subjects\n", parts.train.size(), parts.validation.size(),
              parts.test.size());
}

index_t make_targets(options const& o, sources const& real, insula::thread_pool& pool) {
  insula::check(o.spacing > 0, "--targets needs --spacing: it puts all subjects onto one grid");
  insula::extent field;  // the field of view of 3D-Neuro-SimCLR: 192 x 192 x 150 mm
  for (int a = 0; a < 3; ++a)
    field[a] = std::max<index_t>(1, index_t(std::lround((a == 2 ? 150 : 192) / o.spacing)));
  std::printf("grid %s of %g mm\n", text(field).c_str(), o.spacing);
  std::vector<known> all;
  for (index_t i = 0; i < o.subjects; ++i) {
    auto const& [name, source] = real[std::size_t(i) % real.size()];
    insula::check(source.count("t1"), name, " has no t1; --targets needs one of every source");
    bool const patient = insula::is_virtual_patient(o.seed, i, index_t(real.size()));
    insula::cohort_options c;
    c.voxel_mm = o.spacing, c.warp_mm = o.warp;
    c = insula::with_target(c, {}, patient);
    for (index_t s = 0; s < o.sessions; ++s) {
      auto const subject = insula::make_virtual_subject(c, {{"t1", source.at("t1")}},
                                                        {o.seed, std::uint64_t(i)}, std::uint32_t(s), &pool);
      auto const& t1 = subject.volumes.at("t1");
      auto const mask = insula::brain_mask(t1);
      std::string const folder = session_folder(o, i, s);
      save(folder + "/t1.nii.gz", insula::in_field(t1, mask, field));
      save(folder + "/mask.nii.gz", insula::in_field(mask, mask, field), insula::voxel_type::u8);
      if (s == 0) all.push_back({name, patient, subject.parameters});
    }
  }
  write_tables(o, all);
  return o.subjects * o.sessions;
}

int make(options const& o) {
  insula::check(o.subjects >= 1 && o.subjects <= 100000, "subjects is ", o.subjects,
                ", it must be 1 to 100000");
  insula::check(o.sessions >= 1 && o.sessions <= 100, "sessions is ", o.sessions, ", it must be 1 to 100");
  auto const real = read_sources(o);
  insula::thread_pool pool(o.threads > 0 ? o.threads
                                         : int(std::max(1u, std::thread::hardware_concurrency())));
  index_t const volumes = o.targets ? make_targets(o, real, pool) : make_contrasts(o, real, pool);
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
  app.add_option("--from", o.from, "sources to use, such as sub_1 or sub_1/ses_2; all if none is named");
  app.add_option("--subjects", o.subjects, "virtual subjects to make")->capture_default_str();
  app.add_option("--sessions", o.sessions, "scans of each subject")->capture_default_str();
  app.add_option("--spacing", o.spacing, "voxel edge in mm, 0 keeps the source's")->capture_default_str();
  app.add_option("--warp", o.warp, "largest displacement in mm")->capture_default_str();
  app.add_flag("--targets", o.targets, "T1 with masks on one grid, and tables with known labels");
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
