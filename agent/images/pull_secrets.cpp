// SPDX-License-Identifier: Apache-2.0
#include "agent/images/pull_secrets.h"

#include "netplane/base/strings.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::images {
namespace {

namespace json = boost::json;

// The old form is the list of logins alone.
std::string wrapped(const std::string& logins) { return fmt::format(R"({{"auths":{}}})", logins); }

}  // namespace

std::optional<std::string> docker_config(const store::Object& secret) {
  const json::value* type = secret.body.if_contains("type");
  const json::value* data = secret.body.if_contains("data");
  if (!type || !type->is_string() || !data || !data->is_object())
    return std::nullopt;
  const std::string_view kind = type->get_string();
  const bool old = kind == "kubernetes.io/dockercfg";
  if (!old && kind != "kubernetes.io/dockerconfigjson")
    return std::nullopt;
  const json::value* text =
      data->get_object().if_contains(old ? ".dockercfg" : ".dockerconfigjson");
  if (!text || !text->is_string())
    return std::nullopt;
  std::string config = parse_base64(text->get_string()).value_or("");
  return old ? wrapped(config) : config;
}

Result<std::string> docker_config_of_login(std::string_view text, std::string_view registry) {
  text = trim(text);
  if (text.starts_with('{')) {
    boost::system::error_code error;
    const json::value value = json::parse(text, error);
    if (error || !value.is_object() || !value.get_object().contains("auths"))
      return fail(Errc::kInvalid, "the credentials are neither user:password nor a docker config "
                                  "with \"auths\"");
    return std::string(text);
  }
  const std::size_t colon = text.find(':');
  if (colon == 0 || colon == std::string_view::npos || text.find('\n') != std::string_view::npos)
    return fail(Errc::kInvalid,
                "the credentials are neither user:password nor a docker config with "
                "\"auths\"");
  return json::serialize(
      json::object{{"auths", json::object{{registry, json::object{{"auth", base64(text)}}}}}});
}

}  // namespace shoal::images
