// SPDX-License-Identifier: Apache-2.0
// What a write comes to: pure functions from the replica's present state and a request to a
// transaction, or to the error that the client gets. StoreWriter runs them, and runs them again
// when a comparison was lost. Internal.
#pragma once

#include "agent/api/schema.h"
#include "agent/api/store_writer.h"

#include <boost/json/object.hpp>
#include <expected>
#include <optional>
#include <string>
#include <vector>

namespace shoal::api {

struct WriterEnv {
  const store::Replica& replica;
  const Clock& clock;
  Random& random;
  const WriterOptions& options;
};

struct WritePlan {
  store::Txn txn;         // no operation: nothing would change
  std::string key;        // the object's
  store::ObjectPtr last;  // what is deleted, or what is there and stays as it is
  std::vector<std::string> warnings;
};
using PlanResult = std::expected<WritePlan, ApiError>;

// Admitted bodies: check_document has passed, defaults are filled in.
PlanResult plan_create(const WriterEnv& env, const Kind& kind, const boost::json::object& body);
PlanResult plan_update(const WriterEnv& env, const Kind& kind, const boost::json::object& body);
PlanResult plan_status(const WriterEnv& env, const Kind& kind, const boost::json::object& body);
// The patch as it came: the merged document is checked here.
PlanResult plan_merge_patch(const WriterEnv& env, const Kind& kind, std::string_view ns,
                            std::string_view name, const boost::json::object& patch);
PlanResult plan_remove(const WriterEnv& env, const Kind& kind, std::string_view ns,
                       std::string_view name, const Preconditions& preconditions,
                       std::optional<std::int64_t> grace_seconds);
// Creates or counts up; also removes what is too old or too many.
PlanResult plan_event(const WriterEnv& env, const store::Object& about, std::string_view type,
                      std::string_view reason, std::string_view message,
                      std::string_view component);

// RFC 7386.
void merge_json(boost::json::value& target, const boost::json::value& patch);
std::string make_uid(Random& random);  // RFC 4122, version 4

// ---- writer_service.cpp
// Allots and frees what is unique of a Service: its addresses and node ports. `before` is null on
// creation; `after` is valid, and gets clusterIP(s), node ports and status.loadBalancer.
std::expected<void, ApiError> plan_allocations(const WriterEnv& env, const Kind& kind,
                                               const boost::json::object* before,
                                               boost::json::object& after, WritePlan& plan);
void free_allocations(const boost::json::object& service, store::Txn& txn);
// status.loadBalancer after somebody has written `given` as the status: the address of a load
// balancer of this cluster is the server's, that of another class is its controller's.
void settle_load_balancer_status(const boost::json::object& service, boost::json::object& given);

// ---- writer_service_update.cpp
// Clients that send a Service back without what the server had filled in mean it unchanged; what
// the server had filled in for one type goes when the type does.
void carry_over(const boost::json::object& before, boost::json::object& after);

// ---- weights
std::vector<std::string> weight_warnings(const store::Replica& replica, std::string_view ns,
                                         const boost::json::object& service);

}  // namespace shoal::api
