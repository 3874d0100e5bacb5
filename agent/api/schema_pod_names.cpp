// SPDX-License-Identifier: Apache-2.0
// What a pod knows of names: host aliases and DNS.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::size_t kNameserversMax = 3;
constexpr std::size_t kSearchesMax = 32;

constexpr Field kHostAliasFields[] = {
    {.name = "ip", .required = true, .check = check_ip},
    {.name = "hostnames", .list = ListType::kAtomic, .check = check_dns_subdomain},
};
constexpr Field kDnsOptionFields[] = {{.name = "name", .required = true}, {.name = "value"}};
const Message kDnsOption{"PodDNSConfigOption", kDnsOptionFields};
std::string check_search(const json::value& value) {
  json::string name = value.get_string();
  if (name == ".")
    return {};
  if (name.ends_with('.'))
    name.pop_back();
  return check_dns_subdomain(name);
}
constexpr Field kDnsConfigFields[] = {
    {.name = "nameservers", .list = ListType::kAtomic, .check = check_ip},
    {.name = "searches", .list = ListType::kAtomic, .check = check_search},
    {.name = "options",
     .type = FieldType::kMessage,
     .message = &kDnsOption,
     .list = ListType::kAtomic},
};
void check_dns_config(const json::object& dns, std::string_view path, Causes& causes) {
  const auto most = [&](std::string_view field, std::size_t max) {
    if (const json::array* list = find_array(dns, field); list && list->size() > max)
      causes.invalid(child_path(path, field), *list,
                     "must not have more than " + std::to_string(max) + " of them");
  };
  most("nameservers", kNameserversMax);
  most("searches", kSearchesMax);
}

}  // namespace

const Message kHostAlias{"HostAlias", kHostAliasFields};
const Message kDnsConfig{
    .name = "PodDNSConfig", .fields = kDnsConfigFields, .check = check_dns_config};

void check_pod_names(const json::object& spec, std::string_view path, Causes& causes) {
  if (find_string(spec, "dnsPolicy") != "None")
    return;
  const json::array* servers = find_array(spec, "dnsConfig.nameservers");
  if (!servers || servers->empty())
    causes.required(child_path(path, "dnsConfig.nameservers"),
                    "must provide at least one DNS nameserver when `dnsPolicy` is None");
}

}  // namespace shoal::api
