// SPDX-License-Identifier: Apache-2.0
// A folder that goes with its owner.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace shoal::testing_images {

class TempDir {
public:
  TempDir() {
    char name[] = "/tmp/shoal-image-test.XXXXXX";
    if (::mkdtemp(name))
      path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

}  // namespace shoal::testing_images
