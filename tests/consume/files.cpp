// SPDX-License-Identifier: Apache-2.0
// What insula::io brings: nifti2_io.h, zlib and nlohmann_json compile and link.
#include <nifti2_io.h>
#include <zlib.h>

#include <nlohmann/json.hpp>

bool has_file_libraries() {
  nifti_set_debug_level(0);
  return zlibVersion()[0] != 0 && nifti_is_gzfile("brain.nii.gz") == 1 &&
         nlohmann::json::parse(R"({"dim": [3, 96, 96, 96]})")["dim"].size() == 4;
}
