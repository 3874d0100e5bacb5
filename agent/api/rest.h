// SPDX-License-Identifier: Apache-2.0
// Kubernetes' paths: discovery, reads from the replica, writes through the writer, watches.
// Internal to agent/api.
#pragma once

#include "agent/api/server.h"
#include "agent/api/watch_hub.h"

#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>

namespace shoal::api {

// What a path names. `/api/v1/namespaces/default/pods/web/status`
struct ResourcePath {
  const Kind* kind = nullptr;
  std::string ns;           // empty: cluster-scoped, or all namespaces
  std::string name;         // empty: the collection
  std::string subresource;  // "status", "scale", ...
};
// Nothing: not a path of resources at all. An error: it looks like one, and is not served.
std::optional<std::expected<ResourcePath, ApiError>> parse_resource_path(std::string_view path);

class Rest {
public:
  Rest(boost::asio::io_context& loop, store::Replica& replica, Writer& writer, const Clock& clock,
       const ServerOptions& options);
  void handle(const ExchangePtr& exchange);
  void stop() { hub_.stop(); }

private:
  void resource(const ExchangePtr& exchange, const ResourcePath& path);
  void get(const ExchangePtr& exchange, const ResourcePath& path);
  void list_or_watch(const ExchangePtr& exchange, const ResourcePath& path);
  void list(const ExchangePtr& exchange, const Filter& filter);
  void watch(const ExchangePtr& exchange, Filter filter);
  void create(const ExchangePtr& exchange, const ResourcePath& path);
  void replace(const ExchangePtr& exchange, const ResourcePath& path);
  void patch(const ExchangePtr& exchange, const ResourcePath& path);
  void remove(const ExchangePtr& exchange, const ResourcePath& path);
  void remove_collection(const ExchangePtr& exchange, const ResourcePath& path);
  // The writer to use (dryRun), or nullptr and an answer.
  Writer* writer_for(const ExchangePtr& exchange);
  void at_revision(const ExchangePtr& exchange, store::Revision revision,
                   std::function<void()> run);
  void wait_for_revision(const ExchangePtr& exchange, store::Revision revision,
                         std::function<void()> run, MonoTime until);
  std::string show(const Request& request, const store::Object& object) const;

  boost::asio::io_context& loop_;
  store::Replica& replica_;
  Writer& writer_;
  Writer* dry_run_writer_;
  const Clock& clock_;
  WatchHub hub_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// ---- rest_table.cpp
bool wants_table(const Request& request);
// A Table of these objects; include: "None", "Metadata" or "Object".
std::string table_text(const Kind& kind, const std::vector<store::ObjectPtr>& objects,
                       store::Revision revision, std::string_view include, WallTime now);

// ---- rest_discovery.cpp
// Answers /api, /apis, /api/v1, /apis/G/V, /version and health checks; false: none of these.
bool answer_discovery(Exchange& exchange, const store::Replica& replica);

// ---- rest_body.cpp
// The body as an object, with the position of what is wrong with it.
std::expected<boost::json::object, ApiError> parse_body(const Request& request);

}  // namespace shoal::api
