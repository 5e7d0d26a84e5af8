// SPDX-License-Identifier: Apache-2.0
// Where the shipped brain volumes are.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace support {

/// Path of a shipped volume, such as brain("sub_1/ses_1/t1.nii.gz"): below the environment variable INSULA_TEST_DATA, else
/// below the definition of that name, else below examples/data/brains of the checkout this file lies in.
inline std::string brain(std::string const& name) {
  if (char const* set = std::getenv("INSULA_TEST_DATA")) return std::string(set) + "/" + name;
#ifdef INSULA_TEST_DATA
  return std::string(INSULA_TEST_DATA) + "/" + name;
#else
  auto const root = std::filesystem::absolute(__FILE__).parent_path().parent_path().parent_path();
  return (root / "examples" / "data" / "brains" / name).string();
#endif
}

}  // namespace support
