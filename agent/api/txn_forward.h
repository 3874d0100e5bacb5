// SPDX-License-Identifier: Apache-2.0
// Transactions for the store of another host: POST /shoal/v1/txn over TLS with the host
// certificate, and the other side of it. Bodies are JSON:
//   {"compares":[{"key","mod_revision"}], "ops":[{"key","value"?}]}
//   {"committed", "revision", "events":[{"key","value"?,"create_revision","revision"}],
//   "lost":[KEY], "present":[EVENT]}
// Errors: kUnavailable when the store's host was not reached: nothing was written. kTimeout when
// the answer did not come: the outcome is unknown until the replica shows it.
#pragma once

#include "agent/api/server.h"
#include "agent/api/store_writer.h"

#include <functional>
#include <memory>
#include <string>

namespace shoal::api {

class TxnForwarder {
public:
  virtual ~TxnForwarder() = default;
  virtual void txn(store::Txn txn, TxnDone done) = 0;
};

struct ForwarderOptions {
  std::filesystem::path certificate;
  std::filesystem::path key;
  std::filesystem::path ca;
  std::size_t pending_max = 256;
  std::chrono::milliseconds timeout_ms{10'000};
};

// Where the store is: asked before each transaction. A name is checked against the certificate (its
// SAN or CN).
struct StoreHost {
  std::string name;     // node name
  std::string address;  // IP
  std::uint16_t port = 6443;
};

std::unique_ptr<TxnForwarder> make_https_forwarder(boost::asio::io_context& loop,
                                                   ForwarderOptions options,
                                                   std::function<std::optional<StoreHost>()> where);

// The store host's side: POST /shoal/v1/txn and GET /shoal/v1/snapshot, for peers that may_write
// says yes to (members of the cluster, by certificate) and for the unix socket.
void serve_store(Server& server, store::Store& store, std::function<bool(const Peer&)> may_write);

// The bodies, for tests and other carriers of events.
boost::json::object to_json(const store::Event& event);
Result<store::Event> event_from_json(const boost::json::value& value);
boost::json::object to_json(const store::Txn& txn);
Result<store::Txn> txn_from_json(const boost::json::value& value);
boost::json::object to_json(const store::TxnResult& result);
Result<store::TxnResult> txn_result_from_json(const boost::json::value& value);
boost::json::object to_json(const store::Snapshot& snapshot);
Result<store::Snapshot> snapshot_from_json(const boost::json::value& value);

}  // namespace shoal::api
