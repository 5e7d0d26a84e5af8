// SPDX-License-Identifier: Apache-2.0
// insula's side of the comparison with PyTorch: one computation with named inputs and outputs, made from a description.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "insula/device/buffer.hpp"
#include "insula/device/cpu.hpp"
#include "insula/io/safetensors.hpp"

namespace compare {

using json = nlohmann::ordered_json;
using insula::index_t;

/// Inputs come from a file, outputs are poisoned until run() has written them. Everything a real step does belongs to
/// run(): weight gradients are cleared there, because insula adds to them.
class task {
 public:
  task(insula::context<insula::cpu>& context, json const& description,
       insula::safetensors_file const& inputs);
  task(task const&) = delete;
  task& operator=(task const&) = delete;

  void run() { run_(); }
  /// Writes all outputs as they are in memory.
  void save(std::string const& path) const;

 private:
  using array = insula::buffer<float, insula::cpu>;

  float* in(std::string const& name, index_t count);
  float* out(std::string const& name, index_t count);
  float* cleared(std::string const& name, index_t count);  ///< an output that run() sets to 0 first
  void clear_outputs();
  index_t number(char const* key) const { return description_.at(key).get<index_t>(); }
  bool steps() const { return description_.at("pass") == "step"; }

  void conv3d();
  void window_attention();
  void attention();
  void linear();
  void mlp();
  void layer_norm();
  void group_norm();
  void batch_norm();
  void batch_norm_pool();
  void max_pool();
  void alone();
  void passes();
  void info_nce();
  void update();
  void augment();
  void umbra();
  void simclr();
  template <class Options>
  void simclr_of();

  insula::context<insula::cpu>& cx_;
  json description_;
  insula::safetensors_file const* inputs_;  ///< while it is made
  std::map<std::string, array> arrays_;
  std::map<std::string, bool> outputs_;  ///< name, and whether it is cleared
  std::function<void()> run_;
  std::function<void(insula::safetensors_writer&)> save_more_;
};

}  // namespace compare
