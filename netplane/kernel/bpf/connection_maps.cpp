// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/connection_maps.h"

#include "bpf/abi/shoal_abi.h"
#include "netplane/kernel/bpf/syscalls.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <vector>

namespace shoal::kernel {
namespace {

struct ConnectionFds {
  UniqueFd flows, backends, udp_pick, udp_rev, sockets;
};

SocketAddress address_of(const shoal_addr& addr, __be16 port) {
  IpAddress::Bytes bytes;
  std::memcpy(bytes.data(), addr.b, bytes.size());
  return {IpAddress::from_bytes(bytes), ntohs(port)};
}

shoal_addr abi_address(const IpAddress& ip) {
  shoal_addr out;
  std::memcpy(out.b, ip.bytes().data(), sizeof(out.b));
  return out;
}

template <class T>
T copy_of(const void* bytes) {
  T out;
  std::memcpy(&out, bytes, sizeof(out));
  return out;
}

BalancedFlow flow_of(const shoal_flow_key& key, const shoal_flow& flow) {
  const SocketAddress from = address_of(key.saddr, key.sport);
  const SocketAddress to = address_of(key.daddr, key.dport);
  const SocketAddress translated = address_of(flow.addr, flow.port);
  const bool reverse = key.dir == SHOAL_FLOW_REVERSE;
  return {.reverse = reverse,
          .proto = static_cast<L4Proto>(key.proto),
          .client = reverse ? to : from,
          .frontend = reverse ? translated : to,
          .backend = reverse ? from : translated};
}

shoal_flow_key key_of(const BalancedFlow& flow) {
  const SocketAddress& from = flow.reverse ? flow.backend : flow.client;
  const SocketAddress& to = flow.reverse ? flow.client : flow.frontend;
  return {.saddr = abi_address(from.ip),
          .daddr = abi_address(to.ip),
          .sport = htons(from.port),
          .dport = htons(to.port),
          .proto = static_cast<__u8>(flow.proto),
          .dir = static_cast<__u8>(flow.reverse ? SHOAL_FLOW_REVERSE : SHOAL_FLOW_FORWARD),
          .pad = 0};
}

Result<> erase(const UniqueFd& map, const void* key, const char* name) {
  if (bpf_map_delete_elem(map.get(), key) != 0 && errno != ENOENT)
    return fail_errno(fmt::format("delete from {}", name));
  return {};
}

// False: there is none.
Result<bool> look_up(const UniqueFd& map, const void* key, void* value, const char* name) {
  if (bpf_map_lookup_elem(map.get(), key, value) == 0)
    return true;
  if (errno == ENOENT)
    return false;
  return fail_errno(fmt::format("look up in {}", name));
}

class PinnedConnectionMaps final : public ConnectionMaps {
public:
  explicit PinnedConnectionMaps(ConnectionFds fds) : fds_(std::move(fds)) {}

  Result<> each_flow(const std::function<void(const BalancedFlow&)>& visit) const override {
    std::vector<std::uint8_t> at;
    do
      if (!SHOAL_TRY_WRAP(next_entries(fds_.flows.get(), sizeof(shoal_flow_key), sizeof(shoal_flow),
                                       at,
                                       [&](const void* key, const void* value) {
                                         visit(flow_of(copy_of<shoal_flow_key>(key),
                                                       copy_of<shoal_flow>(value)));
                                         return true;
                                       }),
                          "shoal_flows"))
        break;
    while (true);
    return {};
  }

  Result<> forget_flow(const BalancedFlow& flow) override {
    const shoal_flow_key key = key_of(flow);
    return erase(fds_.flows, &key, "shoal_flows");
  }

  Result<std::size_t>
  forget_picks(const std::function<bool(const TranslatedSocket&)>& stale) override {
    std::vector<shoal_udp_key> found;
    Result<> looked;
    SHOAL_TRY_WRAP(
        for_each_entry(fds_.udp_pick.get(), sizeof(shoal_udp_key), sizeof(shoal_udp_pick),
                       [&](const void* raw, const void* value) {
                         const auto key = copy_of<shoal_udp_key>(raw);
                         const auto backend = backend_of(copy_of<shoal_udp_pick>(value));
                         if (!backend)
                           looked = fail(backend.error());
                         else if (*backend && stale({address_of(key.addr, key.port), **backend}))
                           found.push_back(key);
                         return looked.has_value();
                       }),
        "shoal_udp_pick");
    SHOAL_TRY(std::move(looked));
    for (const shoal_udp_key& key : found)
      SHOAL_TRY(erase(fds_.udp_pick, &key, "shoal_udp_pick"));
    return found.size();
  }

  int socket_storage() const override { return fds_.sockets ? fds_.sockets.get() : -1; }

  std::optional<TranslatedSocket>
  socket_of_storage(std::span<const std::uint8_t> storage) const override {
    if (storage.size() < sizeof(shoal_sk))
      return std::nullopt;
    const auto sk = copy_of<shoal_sk>(storage.data());
    return TranslatedSocket{address_of(sk.addr, sk.port),
                            address_of(sk.backend_addr, sk.backend_port)};
  }

  Result<std::optional<TranslatedSocket>>
  socket_of_cookie(std::uint64_t cookie, const SocketAddress& backend) const override {
    const shoal_udp_key key{.cookie = cookie,
                            .addr = abi_address(backend.ip),
                            .port = htons(backend.port),
                            .pad = 0,
                            .pad2 = 0};
    shoal_udp_rev rev{};
    if (!SHOAL_TRY(look_up(fds_.udp_rev, &key, &rev, "shoal_udp_rev")))
      return std::optional<TranslatedSocket>();
    return std::optional(TranslatedSocket{address_of(rev.addr, rev.port), backend});
  }

private:
  // Whose the pick is, while the id is still the same backend's.
  Result<std::optional<SocketAddress>> backend_of(const shoal_udp_pick& pick) const {
    shoal_backend backend{};
    if (!SHOAL_TRY(look_up(fds_.backends, &pick.backend, &backend, "shoal_backends")) ||
        backend.epoch != pick.epoch || (backend.flags & SHOAL_BE_VALID) == 0)
      return std::optional<SocketAddress>();
    return std::optional(address_of(backend.addr, backend.port));
  }

  ConnectionFds fds_;
};

// Held against the ABI's layout.
Result<UniqueFd> open_checked(const std::filesystem::path& folder, const char* name,
                              std::size_t key_bytes, std::size_t value_bytes) {
  UniqueFd fd = SHOAL_TRY(open_pin(folder / name));
  const MapInfo info = SHOAL_TRY_WRAP(map_info(fd.get()), name);
  if (info.key_bytes != key_bytes || info.value_bytes != value_bytes)
    return fail(Errc::kCorrupt, fmt::format("{}/{} is another version's", folder.string(), name));
  return fd;
}

}  // namespace

Result<std::unique_ptr<ConnectionMaps>> open_connection_maps(const std::filesystem::path& folder) {
  ConnectionFds fds;
  fds.flows =
      SHOAL_TRY(open_checked(folder, "shoal_flows", sizeof(shoal_flow_key), sizeof(shoal_flow)));
  fds.backends =
      SHOAL_TRY(open_checked(folder, "shoal_backends", sizeof(__u32), sizeof(shoal_backend)));
  fds.udp_pick = SHOAL_TRY(
      open_checked(folder, "shoal_udp_pick", sizeof(shoal_udp_key), sizeof(shoal_udp_pick)));
  fds.udp_rev = SHOAL_TRY(
      open_checked(folder, "shoal_udp_rev", sizeof(shoal_udp_key), sizeof(shoal_udp_rev)));
  auto sockets = open_checked(folder, "shoal_sk", sizeof(int), sizeof(shoal_sk));
  if (sockets)
    fds.sockets = *std::move(sockets);
  else if (sockets.error().code() != Errc::kNotFound)
    return fail(std::move(sockets).error());
  return std::make_unique<PinnedConnectionMaps>(std::move(fds));
}

}  // namespace shoal::kernel
