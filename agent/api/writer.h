// SPDX-License-Identifier: Apache-2.0
// Writer: the one write path of a host. REST handlers, controllers and the node agent all go
// through it. It validates against the schema, fills defaults, allots what must be unique (uid,
// ClusterIP, VIP, node port) in the same transaction, and commits to the store: here, or forwarded
// to the store's host. When `done` runs the change is in this host's replica, so that a read that
// follows sees it.
//
// Errors map to Kubernetes Status reasons: kInvalid 422 Invalid (or 400), kNotFound 404, kExists
// 409 AlreadyExists, kConflict 409 Conflict, kUnavailable 503, kExhausted 507 or 429, kUnsupported
// 422 with the field that Shoal does not act on. An ApiError carries the causes with their field
// paths. Threading: the agent's one loop thread; done never runs before the call returns.
#pragma once

#include "agent/store/replica.h"

#include <boost/json/object.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace shoal::api {

struct Cause {
  std::string field;   // "spec.template.spec.containers[0].image"
  std::string reason;  // "FieldValueRequired", "FieldValueInvalid", "FieldValueNotSupported", ...
  std::string message;
};

struct ApiError {
  int code = 500;      // HTTP
  std::string reason;  // Kubernetes' StatusReason
  std::string message;
  std::vector<Cause> causes;
};

struct Written {
  store::ObjectPtr object;
  std::vector<std::string> warnings;  // sent as HTTP Warning headers: accepted, but worth a look
};
using WriteResult = std::expected<Written, ApiError>;
using WriteDone = std::function<void(WriteResult)>;

struct Preconditions {
  std::optional<std::string> uid;
  std::optional<store::Revision> revision;
};

class Writer {
public:
  virtual ~Writer() = default;
  // body holds apiVersion, kind and metadata; generateName is honoured.
  virtual void create(boost::json::object body, WriteDone done) = 0;
  // The whole object. metadata.resourceVersion, when given, must be the present one. status is
  // ignored.
  virtual void update(boost::json::object body, WriteDone done) = 0;
  // Only .status (of kinds whose status lives in the store: Deployment, ReplicaSet, Service, ...).
  virtual void update_status(boost::json::object body, WriteDone done) = 0;
  // RFC 7386 on the stored object; the result is validated like an update. Retried on a lost race,
  // bounded.
  virtual void merge_patch(std::string_view resource, std::string_view ns, std::string_view name,
                           boost::json::object patch, WriteDone done) = 0;
  // Pods get metadata.deletionTimestamp first and go when their host has stopped them
  // (grace_seconds: nothing = the object's own; 0 = at once, without waiting for the host).
  virtual void remove(std::string_view resource, std::string_view ns, std::string_view name,
                      Preconditions preconditions, std::optional<std::int64_t> grace_seconds,
                      WriteDone done) = 0;
  // Best effort, merged by (object, reason, message), never fails loudly: an Event object.
  virtual void event(const store::Object& about, std::string_view type, std::string_view reason,
                     std::string_view message, std::string_view component) = 0;
};

}  // namespace shoal::api
