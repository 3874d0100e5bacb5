// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/credentials.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::runtime {
namespace {

namespace json = boost::json;

constexpr std::size_t kEntriesMax = 1024;  // of one secret

std::string text_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string() ? std::string(value->as_string()) : std::string();
}

bool label_fits(std::string_view pattern, std::string_view label) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos)
    return pattern == label;
  const std::string_view before = pattern.substr(0, star);
  const std::string_view after = pattern.substr(star + 1);
  return label.size() >= before.size() + after.size() && label.starts_with(before) &&
         label.ends_with(after);
}

bool host_fits(std::string_view pattern, std::string_view host) {
  const auto patterns = split(pattern, '.');
  const auto labels = split(host, '.');
  return patterns.size() == labels.size() &&
         std::equal(patterns.begin(), patterns.end(), labels.begin(), label_fits);
}

struct Scope {
  std::string_view host;
  std::string_view path;
};

Scope scope_of(std::string_view text) {
  for (const std::string_view scheme : {"https://", "http://"})
    if (text.starts_with(scheme))
      text.remove_prefix(scheme.size());
  const std::size_t slash = std::min(text.find('/'), text.size());
  Scope scope{text.substr(0, slash), text.substr(slash)};
  while (scope.path.starts_with('/'))
    scope.path.remove_prefix(1);
  while (scope.path.ends_with('/'))
    scope.path.remove_suffix(1);
  // What `docker login` writes for an API of either version is the whole registry.
  if (scope.path == "v1" || scope.path == "v2")
    scope.path = {};
  if (scope.host == "index.docker.io" || scope.host == "registry-1.docker.io")
    scope.host = "docker.io";
  return scope;
}

bool path_fits(std::string_view scope, std::string_view path) {
  return scope.empty() || path == scope || (path.starts_with(scope) && path[scope.size()] == '/');
}

}  // namespace

Result<std::vector<Credential>> credentials_for(const Reference& reference,
                                                std::span<const std::string> docker_configs) {
  const Scope wanted = scope_of(reference.repository);
  std::vector<std::pair<std::size_t, Credential>> found;
  for (const std::string& text : docker_configs) {
    boost::system::error_code ec;
    const json::value value = json::parse(text, ec);
    const json::object* config = ec ? nullptr : value.if_object();
    const json::value* list = config ? config->if_contains("auths") : nullptr;
    const json::object* auths = list ? list->if_object() : nullptr;
    if (!auths || auths->size() > kEntriesMax)
      return fail(
          Errc::kInvalid,
          fmt::format("a pull secret's .dockerconfigjson has no \"auths\" that can be read, "
                      "or more than {} of them",
                      kEntriesMax));
    for (const auto& entry : *auths) {
      const Scope scope = scope_of(std::string_view(entry.key().data(), entry.key().size()));
      const json::object* login = entry.value().if_object();
      if (!login || !host_fits(scope.host, wanted.host) || !path_fits(scope.path, wanted.path))
        continue;
      Credential credential{text_at(*login, "auth")};
      if (credential.auth.empty() && !text_at(*login, "username").empty())
        credential.auth = base64(text_at(*login, "username") + ":" + text_at(*login, "password"));
      const bool known =
          std::ranges::any_of(found, [&](const auto& other) { return other.second == credential; });
      if (!credential.auth.empty() && !known)
        found.emplace_back(scope.path.size(), std::move(credential));
    }
  }
  std::ranges::stable_sort(found, [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<Credential> out;
  for (auto& [length, credential] : found)
    out.push_back(std::move(credential));
  return out;
}

std::string render_auth_file(const std::vector<std::pair<std::string, Credential>>& logins) {
  json::object auths;
  for (const auto& [host, credential] : logins)
    auths[host] = json::object{{"auth", credential.auth}};
  return json::serialize(json::object{{"auths", std::move(auths)}});
}

std::string registry_of(const Reference& reference) {
  return std::string(scope_of(reference.repository).host);
}

}  // namespace shoal::runtime
