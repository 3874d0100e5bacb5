// SPDX-License-Identifier: Apache-2.0
#include "agent/images/registries.h"

#include "netplane/base/fs.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::images {
namespace {

constexpr std::size_t kCaBytesMax = 1 << 20;

std::string host_of(std::string_view location) {
  return std::string(location.substr(0, location.find('/')));
}

const config::Registry* find_in(std::span<const config::Registry> registries,
                                std::string_view name) {
  const auto it = std::ranges::find(registries, name, &config::Registry::name);
  return it == registries.end() ? nullptr : &*it;
}

}  // namespace

// Names and locations are of characters that need no quoting (config/registries.h).
std::string render_registries_conf(std::span<const config::Registry> registries) {
  std::string out = "# Made by shoald from images.registries at its start.\n"
                    "unqualified-search-registries = [\"docker.io\"]\n";
  for (const config::Registry& registry : registries) {
    out += fmt::format("\n[[registry]]\nprefix = \"{0}\"\nlocation = \"{0}\"\ninsecure = {1}\n",
                       registry.name, registry.insecure || is_loopback_registry(registry.name));
    for (const config::Mirror& mirror : registry.mirrors) {
      const std::string host = host_of(mirror.location);
      const config::Registry* own = find_in(registries, host);
      out += fmt::format("[[registry.mirror]]\nlocation = \"{}\"\ninsecure = {}\n", mirror.location,
                         mirror.plain_http || (own && own->insecure) || is_loopback_registry(host));
    }
  }
  return out;
}

bool is_loopback_registry(std::string_view host) {
  if (host.starts_with('['))
    return host.starts_with("[::1]");
  host = host.substr(0, host.find(':'));
  const auto address = IpAddress::parse(host);
  return host == "localhost" || (address && address->is_loopback());
}

const config::Registry* Registries::find(std::string_view name) const {
  return find_in(registries_, name);
}

Result<> Registries::write() const {
  SHOAL_TRY(make_dirs(dir_, 0700));
  if (registries_.empty())
    return {};
  return write_file_atomic(conf(), render_registries_conf(registries_), 0600);
}

std::vector<std::string> Registries::mirror_hosts(const runtime::Reference& reference) const {
  std::vector<std::string> out;
  if (const config::Registry* registry = find(runtime::registry_of(reference)))
    for (const config::Mirror& mirror : registry->mirrors)
      out.push_back(host_of(mirror.location));
  return out;
}

Result<runtime::PullOptions> Registries::options_for(const runtime::Reference& reference) const {
  runtime::PullOptions options;
  const std::string host = runtime::registry_of(reference);
  if (!registries_.empty())
    options.registries_conf = conf();
  options.insecure = !find(host) && is_loopback_registry(host);
  // skopeo takes one folder of certificates for all places that it asks.
  std::string certificates;
  std::vector<std::string> hosts = mirror_hosts(reference);
  hosts.push_back(host);
  for (const std::string& one : hosts) {
    const config::Registry* registry = find(one);
    if (!registry || registry->ca.empty())
      continue;
    certificates += SHOAL_TRY_WRAP(
        read_file(registry->ca, kCaBytesMax),
        fmt::format("the certificate authority of registry {} (images.registries)", one));
    certificates += "\n";
  }
  if (certificates.empty())
    return options;
  options.cert_dir = dir_ / "certs.d" / host;
  SHOAL_TRY(make_dirs(options.cert_dir, 0700));
  SHOAL_TRY(write_file_atomic(options.cert_dir / "ca.crt", certificates, 0600));
  return options;
}

}  // namespace shoal::images
