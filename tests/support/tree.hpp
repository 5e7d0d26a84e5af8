// SPDX-License-Identifier: Apache-2.0
// Small image files and data set trees for tests of manifests and caches.
#pragma once

#include <fstream>

#include "support/folder.hpp"
#include "support/nifti_bytes.hpp"

namespace support {

/// Writes bytes to a path, making its folders.
inline void put_file(std::string const& path, std::string const& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream f(path, std::ios::binary);
  f << bytes;
  f.close();
  insula::check(bool(f), "put_file: cannot write ", path);
}

/// A small volume with values 1, 2, 3, ... (or those given); compressed if the path ends in .gz.
inline void put_nifti(std::string const& path, nifti_bytes image = nifti_bytes{}) {
  if (image.values.empty()) {
    std::int64_t n = 1;
    for (std::size_t i = 1; i < image.dim.size(); ++i) n *= image.dim[i];
    for (std::int64_t i = 0; i < n; ++i) image.values.push_back(double(i + 1));
  }
  put_file(path, path.ends_with(".gz") ? gzip(image.bytes()) : image.bytes());
}

/// A float32 .npy of the given shape with values 1, 2, 3, ...
inline void put_npy(std::string const& path, std::vector<int> const& shape = {2, 3, 4}) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  int n = 1;
  for (int const s : shape) header += std::to_string(s) + ", ", n *= s;
  header += "), }";
  header.resize((header.size() + 10 + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  header += '\n';
  std::string bytes("\x93NUMPY\1\0", 8);
  bytes += char(header.size() & 255), bytes += char(header.size() >> 8), bytes += header;
  for (int i = 0; i < n; ++i) {
    float const v = float(i + 1);
    bytes.append(reinterpret_cast<char const*>(&v), 4);
  }
  put_file(path, bytes);
}

}  // namespace support
