// SPDX-License-Identifier: Apache-2.0
// A temporary folder for one test, removed at the end, and checks of error messages.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "insula/base/check.hpp"

namespace support {

/// A fresh empty folder that lives as long as the object.
class folder {
 public:
  folder() {
    auto pattern = (std::filesystem::temp_directory_path() / "insula-test-XXXXXX").string();
    insula::check(mkdtemp(pattern.data()) != nullptr, "folder: cannot create ", pattern);
    path_ = pattern;
  }
  folder(folder const&) = delete;
  folder& operator=(folder const&) = delete;
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(std::string const& name) const { return path_ + "/" + name; }
  std::string const& path() const { return path_; }
  /// Names of everything inside, hidden files included, sorted.
  std::vector<std::string> list() const {
    std::vector<std::string> names;
    for (auto const& e : std::filesystem::directory_iterator(path_))
      names.push_back(e.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::string path_;
};

/// What insula::error says when f runs; "" if it does not throw.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
    return "";
  } catch (insula::error const& e) {
    return e.what();
  }
}

}  // namespace support
