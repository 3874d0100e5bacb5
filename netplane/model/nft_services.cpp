// SPDX-License-Identifier: Apache-2.0
#include "netplane/model/nft_services.h"

#include "netplane/base/hash.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::model {
namespace {

// Raised when other rules are made from the same values.
constexpr std::uint64_t kRulesVersion = 1;
constexpr std::size_t kChainNameMax = 200;  // the kernel takes 255, prefixes included

class Digest {
public:
  Digest& add(std::uint64_t value) {
    sum_ = mix64(sum_ ^ value);
    return *this;
  }
  Digest& add(std::string_view text) { return add(hash64(text, sum_)); }
  Digest& add(const IpAddress& ip) {
    return add(std::string_view(reinterpret_cast<const char*>(ip.bytes().data()), 16));
  }
  std::uint64_t sum() const { return sum_ == 0 ? 1 : sum_; }

private:
  std::uint64_t sum_ = kRulesVersion;
};

std::string text(const FrontendKey& key) {
  return fmt::format("{}/{}", SocketAddress{key.ip, key.port}.to_string(), to_string(key.proto));
}

void add_frontends(std::vector<std::string>& lines, std::string_view side,
                   const NftFrontends& frontends) {
  for (const auto& [key, target] : frontends)
    lines.push_back(
        fmt::format("{} {} {}{}", side, text(key), target.chain, target.gated ? " gated" : ""));
}

}  // namespace

std::uint64_t NftService::key() const { return hash64(chain); }

std::uint64_t NftService::digest() const {
  Digest digest;
  digest.add(chain).add(static_cast<std::uint64_t>(family)).add(static_cast<std::uint64_t>(proto));
  digest.add(affinity_s).add(pools.size());
  for (const NftPool& pool : pools)
    digest.add(pool.key).add(pool.weight).add(pool.places.size());
  digest.add(gated ? 1 : 0).add(ranges.size());
  for (const IpPrefix& range : ranges)
    digest.add(range.address()).add(range.length());
  return digest.sum();
}

std::uint64_t NftSetup::digest() const {
  return Digest().add(host_v4).add(host_v6).add(tunnel_port).sum();
}

bool NftChange::empty() const { return !rebuild && operations() == 0; }

std::size_t NftChange::operations() const {
  const auto count = [](const auto&... elements) {
    return (... + (elements.add.size() + elements.remove.size()));
  };
  return (rebuild ? 1 : 0) + set_chains.size() + delete_chains.size() +
         count(places, members, inside, outside, vips, pods, hosts);
}

std::string nft_chain_name(std::string_view service_id) {
  std::string name(service_id);
  std::ranges::replace_if(name, [](char c) { return c == ':' || c == '@'; }, '/');
  if (name.size() > kChainNameMax) {
    const std::string tail = fmt::format("/{:016x}", hash64(name));
    name = name.substr(0, kChainNameMax - tail.size()) + tail;
  }
  return name;
}

NftHeld held_of(const NftServices& services) {
  NftHeld held;
  held.setup = services.setup.digest();
  for (const auto& [chain, service] : services.services) {
    held.services[chain] = service.digest();
    for (const NftPool& pool : service.pools)
      for (std::uint32_t at = 0; at < pool.places.size(); at++) {
        held.places[{pool.key, at}] = pool.places[at];
        if (service.affinity_s > 0)
          held.members.insert({service.key(), pool.places[at]});
      }
  }
  held.inside = services.inside;
  held.outside = services.outside;
  held.vips = services.vips;
  held.pods = services.pods;
  held.hosts = services.hosts;
  return held;
}

std::string dump(const NftHeld& held) {
  std::vector<std::string> lines;
  lines.push_back(held.setup == 0 ? "setup none" : fmt::format("setup {:016x}", held.setup));
  for (const auto& [chain, digest] : held.services)
    lines.push_back(fmt::format("service {} {:016x}", chain, digest));
  for (const auto& [place, backend] : held.places)
    lines.push_back(
        fmt::format("pool {:016x} {} {}", place.first, place.second, backend.to_string()));
  for (const auto& [service, backend] : held.members)
    lines.push_back(fmt::format("member {:016x} {}", service, backend.to_string()));
  add_frontends(lines, "inside", held.inside);
  add_frontends(lines, "outside", held.outside);
  for (const IpAddress& ip : held.vips)
    lines.push_back("vip " + ip.to_string());
  for (const IpAddress& ip : held.pods)
    lines.push_back("pod " + ip.to_string());
  for (const IpAddress& ip : held.hosts)
    lines.push_back("host " + ip.to_string());
  std::ranges::sort(lines);
  std::string text;
  for (const std::string& line : lines)
    text += line + "\n";
  return text;
}

}  // namespace shoal::model
