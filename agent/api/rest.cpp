// SPDX-License-Identifier: Apache-2.0
#include "agent/api/rest.h"

#include "agent/api/schema_tables.h"
#include "netplane/base/strings.h"

#include <boost/asio/steady_timer.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
using store::Object;
using store::ObjectPtr;
using store::Revision;

namespace {

// How long a read waits for this host to reach a revision that its client has seen elsewhere.
constexpr std::chrono::milliseconds kRevisionWait{3'000};
constexpr std::chrono::milliseconds kRevisionPoll{20};

ApiError no_such_path(std::string_view path) {
  return {404,
          "NotFound",
          fmt::format("the server could not find the requested resource: {}", printable(path)),
          {}};
}

ApiError method_not_allowed(const Request& request) {
  return {405,
          "MethodNotAllowed",
          fmt::format("the server does not allow this method on the requested resource: {} {}",
                      request.method, printable(request.path)),
          {}};
}

ApiError media_type_error(const Request& request, std::string_view supported) {
  return {415,
          "UnsupportedMediaType",
          fmt::format("the body of the request was in an unknown format ({}): accepted media types "
                      "are: {}",
                      printable(request.header("content-type")), supported),
          {}};
}

std::string_view media_type(const Request& request) {
  const std::string_view type = request.header("content-type");
  return trim(type.substr(0, type.find(';')));
}

bool is_json(const Request& request) {
  const std::string_view type = media_type(request);
  return type.empty() || type == "application/json";
}

void reply_error(const ExchangePtr& exchange, const ApiError& error, const ResourcePath& path) {
  exchange->reply(error.code, status_object(error, path.kind, path.name));
}

// The answer to a write.
WriteDone answer_write(const ExchangePtr& exchange, const ResourcePath& path, int status) {
  return [exchange, path, status](const WriteResult& result) {
    if (!result)
      return reply_error(exchange, result.error(), path);
    exchange->reply_bytes(status, "application/json", json::serialize(result->object->body),
                          result->warnings);
  };
}

// What the path says must be what the body says; what only the path says is filled in.
std::expected<void, ApiError> match_path(json::object& body, const ResourcePath& path) {
  const std::string kind(find_string(body, "kind"));
  const std::string api_version(find_string(body, "apiVersion"));
  if ((!kind.empty() && kind != path.kind->kind) ||
      (!api_version.empty() && api_version != path.kind->api_version()))
    return std::unexpected(
        bad_request(fmt::format("{}, Kind={} in the body, but this path takes {}, Kind={}",
                                api_version, kind, path.kind->api_version(), path.kind->kind)));
  body["kind"] = path.kind->kind;
  body["apiVersion"] = path.kind->api_version();
  json::value& metadata = body["metadata"];
  if (metadata.is_null())
    metadata.emplace_object();
  if (!metadata.is_object())
    return std::unexpected(bad_request("metadata must be an object"));
  json::object& meta = metadata.get_object();
  // Copies: what is written into metadata below may move its strings.
  const std::string ns(find_string(body, "metadata.namespace"));
  const std::string name(find_string(body, "metadata.name"));
  if (path.kind->namespaced) {
    const std::string scope = path.ns.empty() ? "default" : path.ns;
    if (!ns.empty() && ns != scope)
      return std::unexpected(
          bad_request("the namespace of the provided object does not match the namespace sent on "
                      "the request"));
    meta["namespace"] = scope;
  }
  if (!path.name.empty()) {
    if (!name.empty() && name != path.name)
      return std::unexpected(bad_request(fmt::format(
          "the name of the object ({}) does not match the name on the URL ({})", name, path.name)));
    meta["name"] = path.name;
  }
  return {};
}

struct DeleteOptions {
  Preconditions preconditions;
  std::optional<std::int64_t> grace_seconds;
};

std::expected<DeleteOptions, ApiError> delete_options(const Request& request) {
  DeleteOptions options;
  json::object body;
  if (!request.body.empty()) {
    auto parsed = parse_body(request);
    if (!parsed)
      return std::unexpected(std::move(parsed.error()));
    body = std::move(*parsed);
  }
  std::string policy(find_string(body, "propagationPolicy"));
  if (const std::string_view asked = request.query_or("propagationPolicy"); !asked.empty())
    policy = asked;
  if (const json::value* orphan = body.if_contains("orphanDependents");
      orphan && orphan->is_bool() && orphan->get_bool())
    policy = "Orphan";
  if (!policy.empty() && policy != "Background") {
    Cause cause{"propagationPolicy", "FieldValueNotSupported",
                fmt::format("Unsupported value: \"{}\": Shoal deletes dependents in the "
                            "background; other policies are not there yet",
                            printable(policy))};
    return std::unexpected(
        ApiError{422,
                 "Invalid",
                 fmt::format("DeleteOptions is invalid: propagationPolicy: {}", cause.message),
                 {cause}});
  }
  if (const json::value* grace = body.if_contains("gracePeriodSeconds");
      grace && !grace->is_null()) {
    if (!grace->is_int64() || grace->get_int64() < 0)
      return std::unexpected(bad_request("gracePeriodSeconds must be a whole number, at least 0"));
    options.grace_seconds = grace->get_int64();
  }
  if (const std::string_view grace = request.query_or("gracePeriodSeconds"); !grace.empty()) {
    const auto seconds = parse_uint(grace, INT32_MAX);
    if (!seconds)
      return std::unexpected(bad_request("gracePeriodSeconds must be a whole number, at least 0"));
    options.grace_seconds = static_cast<std::int64_t>(*seconds);
  }
  if (const std::string_view uid = find_string(body, "preconditions.uid"); !uid.empty())
    options.preconditions.uid = std::string(uid);
  if (const std::string_view text = find_string(body, "preconditions.resourceVersion");
      !text.empty()) {
    const auto revision = parse_uint(text);
    if (!revision)
      return std::unexpected(bad_request("preconditions.resourceVersion is not a revision"));
    options.preconditions.revision = *revision;
  }
  return options;
}

std::expected<Filter, ApiError> filter_of(const Request& request, const ResourcePath& path) {
  Filter filter;
  filter.kind = path.kind;
  filter.ns = path.ns;
  Result<LabelSelector> labels = LabelSelector::parse(request.query_or("labelSelector"));
  if (!labels)
    return std::unexpected(bad_request(labels.error().message()));
  filter.labels = std::move(*labels);
  Result<std::vector<FieldRequirement>> fields =
      parse_field_selector(request.query_or("fieldSelector"));
  if (!fields)
    return std::unexpected(bad_request(fields.error().message()));
  filter.fields = std::move(*fields);
  for (const FieldRequirement& field : filter.fields)
    if (!one_of(field.field, path.kind->field_selectors))
      return std::unexpected(
          bad_request(fmt::format("field label not supported: {}", printable(field.field))));
  return filter;
}

// "", "0" and absent: whatever is there.
std::expected<Revision, ApiError> revision_of(const Request& request) {
  const std::string_view text = request.query_or("resourceVersion");
  if (text.empty())
    return 0;
  const auto revision = parse_uint(text);
  if (!revision)
    return std::unexpected(bad_request(
        fmt::format("Invalid value: \"{}\": resourceVersion must be a number", printable(text))));
  return *revision;
}

}  // namespace

std::optional<std::expected<ResourcePath, ApiError>> parse_resource_path(const Request& request) {
  const std::vector<std::string>& parts = request.segments;
  // api v1 ...  or  apis GROUP VERSION ...
  std::string_view group, version;
  std::size_t at = 0;
  if (parts.size() > 2 && parts[0] == "api") {
    version = parts[1];
    at = 2;
  } else if (parts.size() > 3 && parts[0] == "apis") {
    group = parts[1];
    version = parts[2];
    at = 3;
  } else {
    return std::nullopt;
  }
  ResourcePath found;
  const std::size_t left = parts.size() - at;
  std::string_view plural = parts[at];
  if (plural == "namespaces" && left >= 3 && parts[at + 2] != "status" &&
      parts[at + 2] != "finalize") {
    found.ns = parts[at + 1];
    at += 2;
    plural = parts[at];
  }
  if (parts.size() > at + 1)
    found.name = parts[at + 1];
  if (parts.size() > at + 2)
    found.subresource = parts[at + 2];
  if (parts.size() > at + 3)
    return std::unexpected(no_such_path(request.path));
  found.kind = find_kind_by_plural(group, version, plural);
  if (!found.kind)
    return std::unexpected(no_such_path(request.path));
  const bool scoped = !found.ns.empty();
  if ((scoped && !found.kind->namespaced) ||
      (!scoped && found.kind->namespaced && !found.name.empty()))
    return std::unexpected(no_such_path(request.path));
  return found;
}

Rest::Rest(boost::asio::io_context& loop, store::Replica& replica, Writer& writer,
           const Clock& clock, const ServerOptions& options)
    : loop_(loop), replica_(replica), writer_(writer), dry_run_writer_(options.dry_run_writer),
      clock_(clock), hub_(loop, replica, options.limits) {}

void Rest::handle(const ExchangePtr& exchange) {
  const Request& request = exchange->request();
  const auto path = parse_resource_path(request);
  if (!path) {
    if (!answer_discovery(*exchange, replica_))
      exchange->reply_error(no_such_path(request.path));
    return;
  }
  if (!*path)
    return exchange->reply_error(path->error());
  if (!replica_.synced())
    return exchange->reply_error(
        ApiError{503,
                 "ServiceUnavailable",
                 "this host has not received the cluster's state yet; try again shortly",
                 {}});
  resource(exchange, **path);
}

void Rest::resource(const ExchangePtr& exchange, const ResourcePath& path) {
  const std::string& method = exchange->request().method;
  const bool status = path.subresource == "status" && path.kind->message->find("status");
  if (!path.subresource.empty() && !status)
    return exchange->reply_error(no_such_path(exchange->request().path));
  if (method == "GET" || method == "HEAD")
    return path.name.empty() ? list_or_watch(exchange, path) : get(exchange, path);
  if (method == "POST" && path.name.empty())
    return create(exchange, path);
  if (method == "PUT" && !path.name.empty())
    return replace(exchange, path);
  if (method == "PATCH" && !path.name.empty() && !status)
    return patch(exchange, path);
  if (method == "DELETE" && !status)
    return path.name.empty() ? remove_collection(exchange, path) : remove(exchange, path);
  exchange->reply_error(method_not_allowed(exchange->request()));
}

std::string Rest::show(const Request& request, const Object& object) const {
  if (!wants_table(request))
    return json::serialize(object.body);
  return table_text(*find_kind_by_resource(object.resource),
                    {std::make_shared<const Object>(object)}, object.revision,
                    request.query_or("includeObject"), clock_.wall());
}

void Rest::get(const ExchangePtr& exchange, const ResourcePath& path) {
  const auto revision = revision_of(exchange->request());
  if (!revision)
    return exchange->reply_error(revision.error());
  at_revision(exchange, *revision, [this, exchange, path] {
    const ObjectPtr object = replica_.get(path.kind->resource(), path.ns, path.name);
    if (!object)
      return reply_error(exchange, not_found_error(*path.kind, path.name), path);
    exchange->reply_bytes(200, "application/json", show(exchange->request(), *object));
  });
}

void Rest::list_or_watch(const ExchangePtr& exchange, const ResourcePath& path) {
  const Request& request = exchange->request();
  auto filter = filter_of(request, path);
  if (!filter)
    return exchange->reply_error(filter.error());
  const auto revision = revision_of(request);
  if (!revision)
    return exchange->reply_error(revision.error());
  const bool watching = request.query_flag("watch");
  if (watching && request.query_flag("sendInitialEvents"))
    return exchange->reply_error(ApiError{
        422,
        "Invalid",
        "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents "
        "is not served yet; list and then watch",
        {{"sendInitialEvents", "FieldValueForbidden", "Forbidden"}}});
  at_revision(exchange, *revision, [this, exchange, wanted = std::move(*filter), watching] {
    if (watching)
      watch(exchange, wanted);
    else
      list(exchange, wanted);
  });
}

// Items are put together as text: a list copies no object. The whole list is given whatever `limit`
// says.
void Rest::list(const ExchangePtr& exchange, const Filter& filter) {
  std::vector<ObjectPtr> objects = replica_.list(filter.kind->resource(), filter.ns);
  std::erase_if(objects, [&](const ObjectPtr& o) { return !filter.matches(*o); });
  const Request& request = exchange->request();
  if (wants_table(request))
    return exchange->reply_bytes(200, "application/json",
                                 table_text(*filter.kind, objects, replica_.revision(),
                                            request.query_or("includeObject"), clock_.wall()));
  std::string text =
      fmt::format("{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":"
                  "\"{}\"}},\"items\":[",
                  filter.kind->kind, filter.kind->api_version(), replica_.revision());
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (i > 0)
      text += ',';
    text += json::serialize(objects[i]->body);
  }
  text += "]}\n";
  exchange->reply_bytes(200, "application/json", std::move(text));
}

void Rest::watch(const ExchangePtr& exchange, Filter filter) {
  const Request& request = exchange->request();
  WatchRequest watch;
  watch.filter = std::move(filter);
  watch.from = parse_uint(request.query_or("resourceVersion"));
  watch.bookmarks = request.query_flag("allowWatchBookmarks");
  if (const auto seconds = parse_uint(request.query_or("timeoutSeconds"), INT32_MAX))
    watch.timeout_s = std::chrono::seconds(*seconds);
  // Not the exchange itself: the watcher holds it already, and lets it go when the peer has gone.
  watch.show = [this, shape = Request{.query = request.query, .headers = request.headers}](
                   const Object& object) { return show(shape, object); };
  hub_.start(std::move(watch), exchange);
}

// Looked at again and again instead of waiting in the replica: a revision that never comes leaves
// nothing behind.
void Rest::at_revision(const ExchangePtr& exchange, Revision revision, std::function<void()> run) {
  if (replica_.revision() >= revision)
    return run();
  wait_for_revision(exchange, revision, std::move(run), clock_.now() + kRevisionWait);
}

void Rest::wait_for_revision(const ExchangePtr& exchange, Revision revision,
                             std::function<void()> run, MonoTime until) {
  if (clock_.now() >= until)
    return exchange->reply_error(ApiError{
        504,
        "Timeout",
        fmt::format("Too large resource version: {}, current: {}", revision, replica_.revision()),
        {{"", "ResourceVersionTooLarge", "Too large resource version"}}});
  const auto timer = std::make_shared<boost::asio::steady_timer>(loop_, kRevisionPoll);
  timer->async_wait([this, weak = std::weak_ptr(alive_), timer, exchange, revision,
                     go = std::move(run), until](boost::system::error_code error) mutable {
    if (error || weak.expired())
      return;
    if (replica_.revision() >= revision)
      return go();
    wait_for_revision(exchange, revision, std::move(go), until);
  });
}

Writer* Rest::writer_for(const ExchangePtr& exchange) {
  const std::string_view dry = exchange->request().query_or("dryRun");
  if (dry.empty())
    return &writer_;
  if (dry == "All" && dry_run_writer_)
    return dry_run_writer_;
  exchange->reply_error(bad_request(
      fmt::format("dryRun: Unsupported value: \"{}\": supported values: \"All\"", printable(dry))));
  return nullptr;
}

void Rest::create(const ExchangePtr& exchange, const ResourcePath& path) {
  if (!is_json(exchange->request()))
    return exchange->reply_error(media_type_error(exchange->request(), "application/json"));
  auto body = parse_body(exchange->request());
  if (!body)
    return exchange->reply_error(body.error());
  if (auto same = match_path(*body, path); !same)
    return reply_error(exchange, same.error(), path);
  ResourcePath named = path;
  named.name = find_string(*body, "metadata.name");
  if (Writer* writer = writer_for(exchange))
    writer->create(std::move(*body), answer_write(exchange, named, 201));
}

void Rest::replace(const ExchangePtr& exchange, const ResourcePath& path) {
  if (!is_json(exchange->request()))
    return exchange->reply_error(media_type_error(exchange->request(), "application/json"));
  auto body = parse_body(exchange->request());
  if (!body)
    return exchange->reply_error(body.error());
  if (auto same = match_path(*body, path); !same)
    return reply_error(exchange, same.error(), path);
  Writer* writer = writer_for(exchange);
  if (!writer)
    return;
  if (path.subresource == "status")
    writer->update_status(std::move(*body), answer_write(exchange, path, 200));
  else
    writer->update(std::move(*body), answer_write(exchange, path, 200));
}

void Rest::patch(const ExchangePtr& exchange, const ResourcePath& path) {
  if (media_type(exchange->request()) != "application/merge-patch+json")
    return exchange->reply_error(
        media_type_error(exchange->request(), "application/merge-patch+json"));
  auto body = parse_body(exchange->request());
  if (!body)
    return exchange->reply_error(body.error());
  if (Writer* writer = writer_for(exchange))
    writer->merge_patch(path.kind->resource(), path.ns, path.name, std::move(*body),
                        answer_write(exchange, path, 200));
}

void Rest::remove(const ExchangePtr& exchange, const ResourcePath& path) {
  const auto options = delete_options(exchange->request());
  if (!options)
    return exchange->reply_error(options.error());
  Writer* writer = writer_for(exchange);
  if (!writer)
    return;
  writer->remove(path.kind->resource(), path.ns, path.name, options->preconditions,
                 options->grace_seconds, [this, exchange, path](const WriteResult& result) {
                   if (!result)
                     return reply_error(exchange, result.error(), path);
                   // As Kubernetes answers: the object while it lives on, otherwise a Status.
                   const ObjectPtr left = replica_.get(path.kind->resource(), path.ns, path.name);
                   if (left && left->uid == result->object->uid)
                     return exchange->reply(200, result->object->body);
                   exchange->reply(
                       200, json::object{{"kind", "Status"},
                                         {"apiVersion", "v1"},
                                         {"metadata", json::object()},
                                         {"status", "Success"},
                                         {"details", json::object{{"name", path.name},
                                                                  {"group", path.kind->group},
                                                                  {"kind", path.kind->plural},
                                                                  {"uid", result->object->uid}}}});
                 });
}

// One deletion after the other; ends at the first that fails for another reason than being gone
// already.
void Rest::remove_collection(const ExchangePtr& exchange, const ResourcePath& path) {
  if (path.kind->namespaced ? path.ns.empty() : path.kind->kind == "Namespace")
    return exchange->reply_error(method_not_allowed(exchange->request()));
  const auto options = delete_options(exchange->request());
  if (!options)
    return exchange->reply_error(options.error());
  const auto filter = filter_of(exchange->request(), path);
  if (!filter)
    return exchange->reply_error(filter.error());
  Writer* writer = writer_for(exchange);
  if (!writer)
    return;
  struct Sweep {
    std::vector<ObjectPtr> left;
    std::string removed;
    std::function<void()> next;
  };
  const auto sweep = std::make_shared<Sweep>();
  for (ObjectPtr& object : replica_.list(path.kind->resource(), path.ns))
    if (filter->matches(*object))
      sweep->left.push_back(std::move(object));
  sweep->next = [sweep, writer, exchange, path, grace = options->grace_seconds] {
    const auto end = [&] { sweep->next = nullptr; };
    if (sweep->left.empty()) {
      exchange->reply_bytes(
          200, "application/json",
          fmt::format(
              "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{{}},\"items\":[{}]}}",
              path.kind->kind, path.kind->api_version(), sweep->removed));
      return end();
    }
    const ObjectPtr object = std::move(sweep->left.back());
    sweep->left.pop_back();
    writer->remove(object->resource, object->ns, object->name, {object->uid, {}}, grace,
                   [sweep, exchange, path](const WriteResult& result) {
                     if (!result && result.error().code != 404 && result.error().code != 409) {
                       reply_error(exchange, result.error(), path);
                       sweep->next = nullptr;
                       return;
                     }
                     if (result)
                       sweep->removed += (sweep->removed.empty() ? "" : ",") +
                                         json::serialize(result->object->body);
                     const auto next = sweep->next;
                     next();
                   });
  };
  const auto first = sweep->next;
  first();
}

}  // namespace shoal::api
