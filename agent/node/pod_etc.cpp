// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_etc.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::node {
namespace {

constexpr std::string_view kClusterDomain = "cluster.local";
constexpr std::string_view kHostNetworkHeader = "# Kubernetes-managed hosts file (host network).\n";

void add_once(std::vector<std::string>& list, std::string_view text) {
  if (!text.empty() && std::ranges::find(list, text) == list.end())
    list.emplace_back(text);
}

// "ndots:5" replaces "ndots:1".
void add_option(std::vector<std::string>& options, std::string_view option) {
  const auto name = [](std::string_view text) { return text.substr(0, text.find(':')); };
  std::erase_if(options, [&](const std::string& known) { return name(known) == name(option); });
  add_once(options, option);
}

DnsConfig parse_resolv_conf(std::string_view text) {
  DnsConfig out;
  for (const std::string_view line : split(text, '\n')) {
    std::string words(trim(line.substr(0, line.find_first_of("#;"))));
    std::ranges::replace(words, '\t', ' ');
    const auto fields = split(words, ' ');
    if (fields[0] == "search")
      out.searches.clear();  // the last line counts
    for (std::size_t i = 1; i < fields.size(); ++i) {
      if (fields[0] == "nameserver")
        add_once(out.nameservers, fields[i]);
      else if (fields[0] == "search")
        add_once(out.searches, fields[i]);
      else if (fields[0] == "options" && !fields[i].empty())
        add_option(out.options, fields[i]);
    }
  }
  return out;
}

std::string joined(const std::vector<std::string>& words, std::size_t max) {
  std::string out;
  for (std::size_t i = 0; i < std::min(words.size(), max); ++i)
    out += " " + words[i];
  return out;
}

std::string own_hosts(const PodSpec& pod, const std::vector<IpAddress>& addresses) {
  std::string out = "# Kubernetes-managed hosts file.\n"
                    "127.0.0.1\tlocalhost\n"
                    "::1\tlocalhost ip6-localhost ip6-loopback\n"
                    "fe00::0\tip6-localnet\n"
                    "fe00::0\tip6-mcastprefix\n"
                    "fe00::1\tip6-allnodes\n"
                    "fe00::2\tip6-allrouters\n";
  const std::string fqdn = fqdn_of(pod);
  for (const IpAddress& address : addresses)
    out += fmt::format("{}\t{}{}{}\n", address.to_string(), fqdn, fqdn.empty() ? "" : "\t",
                       pod.hostname);
  return out;
}

}  // namespace

std::string fqdn_of(const PodSpec& pod) {
  if (pod.subdomain.empty())
    return {};
  return fmt::format("{}.{}.{}.svc.{}", pod.hostname, pod.subdomain, pod.ns, kClusterDomain);
}

std::string kernel_hostname(const PodSpec& pod) {
  return pod.hostname_is_fqdn && !pod.subdomain.empty() ? fqdn_of(pod) : pod.hostname;
}

std::string hosts_file(const PodSpec& pod, const std::vector<IpAddress>& addresses,
                       std::string_view host) {
  std::string out = pod.host_network ? fmt::format("{}{}{}", kHostNetworkHeader, host,
                                                   host.ends_with('\n') || host.empty() ? "" : "\n")
                                     : own_hosts(pod, addresses);
  if (!pod.host_aliases.empty())
    out += "\n# Entries added by HostAliases.\n";
  for (const HostAlias& alias : pod.host_aliases) {
    out += alias.ip;
    for (const std::string& name : alias.names)
      out += "\t" + name;
    out += "\n";
  }
  return out;
}

std::string resolv_conf(const PodSpec& pod, std::string_view host) {
  DnsConfig dns = pod.dns_none ? DnsConfig() : parse_resolv_conf(host);
  for (const std::string& server : pod.dns.nameservers)
    add_once(dns.nameservers, server);
  for (const std::string& search : pod.dns.searches)
    add_once(dns.searches, search);
  for (const std::string& option : pod.dns.options)
    add_option(dns.options, option);
  std::string out;
  if (!dns.searches.empty())
    out += "search" + joined(dns.searches, kSearchesMax) + "\n";
  for (std::size_t i = 0; i < std::min(dns.nameservers.size(), kNameserversMax); ++i)
    out += "nameserver " + dns.nameservers[i] + "\n";
  if (!dns.options.empty())
    out += "options" + joined(dns.options, dns.options.size()) + "\n";
  return out;
}

}  // namespace shoal::node
