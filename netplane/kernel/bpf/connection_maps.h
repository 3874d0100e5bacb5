// SPDX-License-Identifier: Apache-2.0
// ConnectionMaps: what the pinned maps know of connections that are open, for whoever ends some:
// which backend they go to through which frontend. Reads and deletes only; it owns its descriptors,
// and may be used on another thread than the data plane's DataMaps. Threading: one at a time.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace shoal::kernel {

// An entry of the flow table (bpf/abi/shoal_abi.h) by the roles of its addresses.
struct BalancedFlow {
  bool reverse = false;  // where the backend is; else where it is balanced
  L4Proto proto = L4Proto::kTcp;
  SocketAddress client;
  SocketAddress frontend;
  SocketAddress backend;
};

// A frontend that a socket asked for, and the backend that it was given.
struct TranslatedSocket {
  SocketAddress frontend;
  SocketAddress backend;
};

class ConnectionMaps {
public:
  virtual ~ConnectionMaps() = default;
  // The whole flow table; entries that come or go meanwhile may be missed or not.
  virtual Result<> each_flow(const std::function<void(const BalancedFlow&)>& visit) const = 0;
  // Absent is fine.
  virtual Result<> forget_flow(const BalancedFlow& flow) = 0;
  // Unconnected UDP sockets pick anew for what `stale` picks. How many picks were forgotten.
  virtual Result<std::size_t>
  forget_picks(const std::function<bool(const TranslatedSocket&)>& stale) = 0;
  // The socket storage in which connected sockets have what they asked for; -1: kernels that have
  // none keep it by the socket's cookie.
  virtual int socket_storage() const = 0;
  virtual std::optional<TranslatedSocket>
  socket_of_storage(std::span<const std::uint8_t> storage) const = 0;
  virtual Result<std::optional<TranslatedSocket>>
  socket_of_cookie(std::uint64_t cookie, const SocketAddress& backend) const = 0;
};

// The maps pinned in `folder` (Loader's maps_folder()).
Result<std::unique_ptr<ConnectionMaps>> open_connection_maps(const std::filesystem::path& folder);

}  // namespace shoal::kernel
