// SPDX-License-Identifier: Apache-2.0
// The kinds that Shoal serves, as data: one table per message, one row per field. The tables drive
// decoding (unknown fields, types), defaults, validation, immutability, the columns of tables and
// what a field selector may name.
//
// A field that Kubernetes has and Shoal does not act on yet has a row too (Support::kNotYet):
// giving it anything but its neutral value (absent, null, false, 0, "", [], {} or one listed in
// `values`) is refused with the reason FieldValueNotSupported. Support::kHint fields are stored and
// shown and change nothing here by their nature. Everything else that is not in a table is an
// unknown field.
//
// Nothing here does IO. All functions are pure but for fill_defaults, which changes its argument.
// Threading: tables are constant; call from anywhere.
#pragma once

#include "agent/api/writer.h"
#include "netplane/base/clock.h"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

enum class FieldType : std::uint8_t {
  kString,
  kBool,
  kInt32,
  kInt64,
  kIntOrString,  // 80 or "http" or "25%"
  kQuantity,     // "100m", also as a number
  kTime,         // RFC 3339
  kStringMap,    // labels, annotations, selectors
  kBytesMap,     // values in base64: data of Secrets
  kMessage,
  kJson,  // anything; status parts that are carried as they are
};

enum class ListType : std::uint8_t { kNone, kAtomic, kSet, kMap };
enum class Support : std::uint8_t { kActedOn, kHint, kNotYet };

struct Message;

// What is wrong with one value, empty when nothing is.
using ValueCheck = std::string (*)(const boost::json::value& value);

struct Field {
  std::string_view name;
  FieldType type = FieldType::kString;
  const Message* message = nullptr;  // of kMessage
  ListType list = ListType::kNone;
  std::string_view list_keys = {};  // of ListType::kMap: "name", or "port,protocol"
  Support support = Support::kActedOn;
  bool required = false;
  bool immutable = false;
  bool secret = false;                 // no message shows a value
  std::string_view fallback = {};      // the default, as JSON text
  std::string_view values = {};        // an enumeration: "TCP|UDP"
  std::string_view values_later = {};  // values that Kubernetes knows and Shoal does not act on yet
  ValueCheck check = nullptr;          // of each element, when it is a list
  std::string_view duplicate = {};     // what is said of the second use of a ListType::kMap's key
};

class Causes;

struct Message {
  std::string_view name;
  std::span<const Field> fields;
  // Defaults and checks that involve more than one field.
  void (*fill)(boost::json::object& body) = nullptr;
  void (*check)(const boost::json::object& body, std::string_view path, Causes& causes) = nullptr;

  const Field* find(std::string_view field) const;
};

// A column of the Table that kubectl prints.
struct Column {
  std::string_view name;
  std::string_view type;    // "string", "integer"
  std::string_view format;  // "name" for the first column
  int priority = 0;         // 1: only with -o wide
  boost::json::value (*cell)(const store::Object& object, WallTime now) = nullptr;
};

struct Kind {
  std::string_view group;  // "" for the core group
  std::string_view version;
  std::string_view kind;
  std::string_view plural;
  std::string_view singular;
  std::string_view short_names;  // "deploy|deploys"
  std::string_view categories;   // "all"
  bool namespaced = true;
  bool status_by_host =
      false;  // status travels by gossip from the host concerned, never through the store
  const Message* message = nullptr;
  std::span<const Column> columns;
  std::string_view
      field_selectors;  // "metadata.name|metadata.namespace|spec.nodeName|status.phase"

  std::string resource() const;     // "pods", "deployments.apps": Object::resource
  std::string api_version() const;  // "v1", "apps/v1"
};

std::span<const Kind* const> all_kinds();
const Kind* find_kind(std::string_view api_version, std::string_view kind);
const Kind* find_kind_by_plural(std::string_view group, std::string_view version,
                                std::string_view plural);
const Kind* find_kind_by_resource(std::string_view resource);  // "deployments.apps"
// What a person types: "po", "pods", "pod", "deployments.apps"; case does not matter.
const Kind* find_kind_by_word(std::string_view word);

// Collects causes, at most kCausesMax of them.
inline constexpr std::size_t kCausesMax = 64;
class Causes {
public:
  void add(std::string field, std::string_view reason, std::string message);
  // Kubernetes' spellings of the common ones.
  void required(std::string field, std::string_view detail = {});
  void invalid(std::string field, const boost::json::value& value, std::string_view detail);
  void not_supported(std::string field, const boost::json::value& value,
                     std::string_view supported);
  void not_yet(std::string field, std::string_view what);
  bool empty() const { return list_.empty(); }
  std::vector<Cause> take() { return std::move(list_); }
  const std::vector<Cause>& list() const { return list_; }

private:
  std::vector<Cause> list_;
};

// ---- the steps of admission, in their order
// Finds the kind of a document; an ApiError says what is served instead.
std::expected<const Kind*, ApiError> kind_of(const boost::json::object& body);
// The document as its author wrote it: unknown fields, types, fields not acted on yet. Drops nulls
// and neutral values of fields not acted on, and `status`. 400 BadRequest with a cause a field.
std::expected<void, ApiError> check_document(const Kind& kind, boost::json::object& body);
// Kubernetes' defaults.
void fill_defaults(const Kind& kind, boost::json::object& body);
// A complete object: required fields, values, relations between fields. 422 Invalid.
std::expected<void, ApiError> validate(const Kind& kind, const boost::json::object& body);
// Immutable fields. 422 Invalid.
std::expected<void, ApiError> validate_update(const Kind& kind, const boost::json::object& before,
                                              const boost::json::object& after);
// check_document + fill_defaults + validate, for whoever wants to know beforehand (a whole file
// before its first write): causes carry the field paths that a YAML reader turns into lines.
std::expected<void, ApiError> admit(boost::json::object body);

// ---- errors
ApiError invalid_error(const Kind& kind, std::string_view name, std::vector<Cause> causes);
ApiError not_found_error(const Kind& kind, std::string_view name);
ApiError bad_request(std::string message, std::vector<Cause> causes = {});
ApiError api_error(const Error& error);  // from the store or the network
// Kubernetes' Status object.
boost::json::object status_object(const ApiError& error, const Kind* kind = nullptr,
                                  std::string_view name = {});

}  // namespace shoal::api
