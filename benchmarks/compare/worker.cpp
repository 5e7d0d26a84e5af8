// SPDX-License-Identifier: Apache-2.0
// insula's side of the comparison with PyTorch. Reads one JSON command a line, answers with one JSON line:
//   {"do": "make", "threads": 1, "inputs": "in.safetensors", "task": {"op": "linear", ...}}
//   {"do": "run", "times": 3, "wakes": true}
//                                  times of all runs together: {"wall": s, "cpu": s, "before": s}; if it wakes, a run before the clock
//                                  wakes its threads, and takes "before" of processor time
//   {"do": "save", "file": "out.safetensors"}
//   {"do": "memory"}               bytes resident before the task was made, and the most since: {"base": n, "peak": n}
// An error is answered as {"error": "..."}.
#include <malloc.h>

#include <iostream>
#include <memory>

#include "measure.hpp"
#include "tasks.hpp"

namespace {

using compare::json;

std::size_t status_bytes(char const* key) {
  std::size_t kilobytes = 0;
  if (std::FILE* f = std::fopen("/proc/self/status", "r")) {
    char line[256];
    std::string const format = std::string(key) + ": %zu";
    while (std::fgets(line, sizeof line, f))
      if (std::sscanf(line, format.c_str(), &kilobytes) == 1) break;
    std::fclose(f);
  }
  return kilobytes * 1024;
}

class worker {
 public:
  json answer(json const& command) {
    std::string const what = command.at("do");
    if (what == "make") return make(command);
    insula::check(task_ != nullptr, "compare_worker: ", what, " before make");
    if (what == "run") return run(command.at("times"), command.at("wakes"));
    if (what == "save") return task_->save(command.at("file")), json::object();
    if (what == "memory") return {{"base", base_}, {"peak", status_bytes("VmHWM")}};
    insula::fail("compare_worker: unknown command ", what);
  }

 private:
  json make(json const& command) {
    task_.reset();
    malloc_trim(0);
    base_ = status_bytes("VmRSS");
    context_ = std::make_unique<insula::context<insula::cpu>>(command.at("threads").get<int>());
    {
      insula::safetensors_file const inputs(command.at("inputs").get<std::string>());
      task_ = std::make_unique<compare::task>(*context_, command.at("task"), inputs);
    }
    if (std::FILE* f = std::fopen("/proc/self/clear_refs", "w")) {  // the largest size starts from here
      std::fputs("5", f);
      std::fclose(f);
    }
    return json::object();
  }
  json run(int times, bool wakes) {
    compare::stopwatch const first;
    if (wakes) task_->run();
    double const before = compare::since(first).cpu;
    compare::stopwatch const start;
    for (int i = 0; i < times; ++i) task_->run();
    auto const t = compare::since(start);
    return {{"wall", t.wall}, {"cpu", t.cpu}, {"before", before}};
  }

  std::unique_ptr<insula::context<insula::cpu>> context_;
  std::unique_ptr<compare::task> task_;
  std::size_t base_ = 0;
};

}  // namespace

int main() {
  worker w;
  for (std::string line; std::getline(std::cin, line);) {
    json reply;
    try {
      reply = w.answer(json::parse(line));
    } catch (std::exception const& e) {
      reply = {{"error", e.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
}
