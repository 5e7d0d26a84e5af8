// SPDX-License-Identifier: Apache-2.0
// Times insula against oneDNN, OpenBLAS and Eigen in one process, in turn, after checking that they agree.
//   compare_libraries [--threads N] [--seconds S] [--fewest N] [--wait S] [--until T] [--group NAME]...
//                     [--filter TEXT]
// One JSON line describes the run, then one follows per rival. Exit status 1 if insula disagrees.
#include <cblas.h>
#include <omp.h>

#include <Eigen/Core>
#include <oneapi/dnnl/dnnl.hpp>

#include "contests.hpp"
#include "insula/device/threads.hpp"

namespace {

using namespace compare;

settings parse(int argc, char** argv) {
  settings s;
  for (int i = 1; i < argc; i += 2) {
    std::string const key = argv[i];
    insula::check(i + 1 < argc, "compare_libraries: ", key, " needs a value");
    std::string const value = argv[i + 1];
    if (key == "--threads")
      s.threads = std::stoi(value);
    else if (key == "--seconds")
      s.seconds = std::stod(value);
    else if (key == "--fewest")
      s.fewest = std::stoul(value);
    else if (key == "--wait")
      s.wait = std::stod(value);
    else if (key == "--until")
      s.until = std::stod(value);
    else if (key == "--group")
      s.groups.push_back(value);
    else if (key == "--filter")
      s.filter = value;
    else
      insula::fail("compare_libraries: unknown option ", key,
                   "; there are --threads, --seconds, --fewest, --wait, --until, --group and --filter");
  }
  return s;
}

/// All libraries flush denormal numbers, as insula's workers do, and use the same number of threads.
void set_up(settings const& s) {
  omp_set_num_threads(s.threads);
  openblas_set_num_threads(s.threads);
  Eigen::setNbThreads(s.threads);
#if defined(__SSE2__)
#pragma omp parallel
  _mm_setcsr(_mm_getcsr() | 0x8040u);
#endif
}

void describe(settings const& s) {
  auto const* const v = dnnl_version();
  json const line{{"program", "compare_libraries"},
                  {"threads", s.threads},
                  {"precision", "float32"},
                  {"denormals", "flushed by all (OpenBLAS's own threads: its default)"},
                  {"compiler", __VERSION__},
                  {"oneDNN", insula::text(v->major, ".", v->minor, ".", v->patch)},
                  {"oneDNN_isa", int(dnnl::get_effective_cpu_isa())},
                  {"OpenBLAS", insula::text(openblas_get_config(), ", kernels ", openblas_get_corename())},
                  {"Eigen", insula::text(EIGEN_WORLD_VERSION, ".", EIGEN_MAJOR_VERSION, ".",
                                         EIGEN_MINOR_VERSION, ", ", Eigen::SimdInstructionSetsInUse())}};
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    settings const s = parse(argc, argv);
    set_up(s);
    describe(s);
    int const disagreements = convolutions(s) + matrices(s);
    if (disagreements)
      std::fprintf(stderr, "compare_libraries: %d results of insula disagree\n", disagreements);
    return disagreements ? 1 : 0;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
