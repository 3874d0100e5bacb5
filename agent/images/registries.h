// SPDX-License-Identifier: Apache-2.0
// images.registries of the configuration, as skopeo takes it. Registries on this host itself
// (localhost, 127.0.0.0/8, ::1) are spoken with over plain HTTP or with unknown certificates, as
// container engines have it.
#pragma once

#include "agent/config/config.h"
#include "runtime/image/credentials.h"
#include "runtime/image/pull.h"

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace shoal::images {

// containers-registries.conf(5).
std::string render_registries_conf(std::span<const config::Registry> registries);

bool is_loopback_registry(std::string_view host);  // "localhost:5000"

class Registries {
public:
  // Files for skopeo go to `dir`, which is this object's own: a folder that does not outlive the
  // boot.
  Registries(std::vector<config::Registry> registries, std::filesystem::path dir)
      : registries_(std::move(registries)), dir_(std::move(dir)) {}

  Result<> write() const;  // once, at start

  // How to reach an image's registry and its mirrors. CA files are read anew each time; one that
  // cannot be read is an error that names it. Blocking.
  Result<runtime::PullOptions> options_for(const runtime::Reference& reference) const;
  // The hosts that may be asked for it: its registry's mirrors.
  std::vector<std::string> mirror_hosts(const runtime::Reference& reference) const;

private:
  const config::Registry* find(std::string_view name) const;
  std::filesystem::path conf() const { return dir_ / "registries.conf"; }

  std::vector<config::Registry> registries_;
  std::filesystem::path dir_;
};

}  // namespace shoal::images
