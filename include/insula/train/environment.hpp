// SPDX-License-Identifier: Apache-2.0
// Where a run took place: library, compiler, processor, memory and system, for env.json and reports. No host or user names.
#pragma once

#include <sched.h>
#include <sys/utsname.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "insula/base/config.hpp"
#include "insula/io/atomic_file.hpp"

namespace insula {

struct environment_options {
  std::string kernels{};  ///< instruction set of the kernels, e.g. simd::instruction_set
  int threads = 0;        ///< of the run; 0: not said
};

namespace detail {

/// Contents of a file of /proc or /sys; "" if there is none.
inline std::string system_text(std::string const& path) {
  try {
    return read_file(path, std::size_t{4} << 20);
  } catch (error const&) {
    return {};
  }
}
/// Value of the first line "key<separators>value" of such a file, without quotes; "" if there is none.
inline std::string system_entry(std::string_view all, std::string_view key, char separator) {
  while (!all.empty()) {
    auto const line = all.substr(0, all.find('\n'));
    all.remove_prefix(std::min(all.size(), line.size() + 1));
    auto const at = line.find(separator);
    auto name = line.substr(0, at);
    name = name.substr(0, name.find_last_not_of(" \t") + 1);
    if (at == line.npos || name != key) continue;
    auto value = line.substr(at + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '"')) value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '"')) value.remove_suffix(1);
    return std::string(value);
  }
  return {};
}

inline nlohmann::ordered_json compiler_facts() {
  nlohmann::ordered_json j;
#if defined(__clang__)
  j["name"] = "clang";
#elif defined(__GNUC__)
  j["name"] = "gcc";
#endif
#if defined(__VERSION__)
  j["version"] = __VERSION__;
#endif
  j["standard"] = index_t(__cplusplus);
#if defined(INSULA_COMPILE_FLAGS)
  j["flags"] = INSULA_COMPILE_FLAGS;
#endif
#if defined(__OPTIMIZE__)
  j["optimised"] = true;
#else
  j["optimised"] = false;
#endif
#if defined(__FAST_MATH__)
  j["fast_math"] = true;
#else
  j["fast_math"] = false;
#endif
  return j;
}

inline nlohmann::ordered_json processor_facts() {
  nlohmann::ordered_json j;
  auto const info = system_text("/proc/cpuinfo");
  auto model = system_entry(info, "model name", ':');
  j["model"] = model.empty() ? system_entry(info, "CPU part", ':') : model;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) j["usable_cores"] = CPU_COUNT(&set);
  auto const quota =
      system_text("/sys/fs/cgroup/cpu.max");  // "200000 100000": microseconds per period; "max ..."
  if (!quota.empty() && !quota.starts_with("max")) j["cgroup_quota"] = quota.substr(0, quota.find('\n'));
  auto const flags = " " + system_entry(info, "flags", ':') + " " + system_entry(info, "Features", ':') + " ";
  auto& features = j["features"] = nlohmann::ordered_json::array();
  for (char const* const f :
       {"sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni",
        "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve"})
    if (flags.find(text(" ", std::string_view(f), " ")) != flags.npos) features.push_back(f);
  return j;
}

}  // namespace detail

/// The facts as a JSON object. INSULA_GIT_HASH and INSULA_COMPILE_FLAGS, string macros of the build, are told if defined.
inline nlohmann::ordered_json environment_facts(environment_options const& options = environment_options{}) {
  nlohmann::ordered_json j;
  j["library"]["name"] = "insula";
  j["library"]["version"] = version_text;
#if defined(INSULA_GIT_HASH)
  j["library"]["git"] = INSULA_GIT_HASH;
#endif
  j["compiler"] = detail::compiler_facts();
  j["processor"] = detail::processor_facts();
  if (!options.kernels.empty()) j["kernels"] = options.kernels;
  if (options.threads > 0) j["threads"] = options.threads;
  j["memory_bytes"] = index_t(sysconf(_SC_PHYS_PAGES)) * index_t(sysconf(_SC_PAGESIZE));
  utsname u{};
  if (uname(&u) == 0) {
    j["system"]["kernel"] = text(std::string_view(u.sysname), " ", std::string_view(u.release));
    j["system"]["machine"] = u.machine;
  }
  auto const os = detail::system_entry(detail::system_text("/etc/os-release"), "PRETTY_NAME", '=');
  if (!os.empty()) j["system"]["name"] = os;
  for (char const* const v :
       {"OMP_NUM_THREADS", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_CPUS_PER_TASK"})
    if (auto const* const value = std::getenv(v)) j["variables"][v] = value;
  return j;
}

/// Writes env.json into a run's folder, atomically. Throws error.
inline void write_environment(std::string const& folder,
                              environment_options const& options = environment_options{}) {
  write_file(folder + "/env.json", environment_facts(options).dump(
                                       2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
                                       '\n');
}

}  // namespace insula
