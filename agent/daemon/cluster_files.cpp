// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/cluster_files.h"

#include "agent/pki/pki.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <boost/json.hpp>

namespace shoal::daemon {
namespace {

namespace json = boost::json;

constexpr int kFormat = 1;
constexpr std::size_t kFileBytesMax = 1 << 16;
constexpr std::size_t kGossipKeyBytes = 32;

Result<std::string> text_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_string())
    return fail(Errc::kCorrupt, fmt::format("\"{}\" is missing or not a string", key));
  return std::string(value->as_string());
}

Result<std::uint64_t> number_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_int64() || value->as_int64() < 0)
    return fail(Errc::kCorrupt, fmt::format("\"{}\" is missing or not a number", key));
  return static_cast<std::uint64_t>(value->as_int64());
}

json::array texts_of(const std::vector<IpPrefix>& prefixes) {
  json::array out;
  for (const IpPrefix& prefix : prefixes)
    out.emplace_back(prefix.to_string());
  return out;
}

json::object to_json(const ClusterSettings& settings) {
  json::object out;
  out["podCIDRs"] = texts_of(settings.pod_cidrs);
  out["nodePrefixLength"] = settings.node_prefix_length;
  out["nodePrefixLengthV6"] = settings.node_prefix_length_v6;
  out["serviceCIDRs"] = texts_of(settings.service_cidrs);
  out["loadBalancerPools"] = texts_of(settings.lb_pools);
  out["nodePortRange"] = settings.node_port_range.to_string();
  out["vxlanPort"] = settings.vxlan_port;
  return out;
}

// A cluster made when there could be one only has it under its own name, `single`.
Result<std::vector<IpPrefix>> prefixes_at(const json::object& object, std::string_view key,
                                          std::string_view single) {
  std::vector<IpPrefix> prefixes;
  if (object.if_contains(single))
    prefixes.push_back(SHOAL_TRY(IpPrefix::parse(SHOAL_TRY(text_at(object, single)))));
  const json::value* list = object.if_contains(key);
  if (!list)
    return prefixes;
  if (!list->is_array())
    return fail(Errc::kCorrupt, fmt::format("\"{}\" is not a list", key));
  for (const json::value& item : list->as_array())
    prefixes.push_back(
        SHOAL_TRY(IpPrefix::parse(item.is_string() ? std::string_view(item.as_string()) : "")));
  return prefixes;
}

Result<std::vector<IpPrefix>> ranges_at(const json::object& object, std::string_view key,
                                        std::string_view single) {
  auto ranges = SHOAL_TRY(prefixes_at(object, key, single));
  if (ranges.empty() || !ranges.front().is_v4())
    return fail(Errc::kCorrupt, fmt::format("\"{}\" has no IPv4 prefix in front", key));
  return ranges;
}

Result<ClusterSettings> from_json(const json::object& object) {
  ClusterSettings settings;
  settings.pod_cidrs = SHOAL_TRY(ranges_at(object, "podCIDRs", "podCIDR"));
  settings.node_prefix_length =
      static_cast<unsigned>(SHOAL_TRY(number_at(object, "nodePrefixLength")));
  if (object.if_contains("nodePrefixLengthV6"))  // clusters before it have one family
    settings.node_prefix_length_v6 =
        static_cast<unsigned>(SHOAL_TRY(number_at(object, "nodePrefixLengthV6")));
  settings.service_cidrs = SHOAL_TRY(ranges_at(object, "serviceCIDRs", "serviceCIDR"));
  settings.lb_pools = SHOAL_TRY(prefixes_at(object, "loadBalancerPools", "loadBalancerPool"));
  if (object.if_contains("nodePortRange"))  // clusters before it have Kubernetes' default
    settings.node_port_range =
        SHOAL_TRY(PortRange::parse(SHOAL_TRY(text_at(object, "nodePortRange"))));
  settings.vxlan_port = static_cast<std::uint16_t>(SHOAL_TRY(number_at(object, "vxlanPort")));
  return settings;
}

Result<json::object> parse_object(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object())
    return fail(Errc::kCorrupt, error ? error.message() : "not a JSON object");
  return std::move(value.as_object());
}

Result<ClusterFiles> parse(std::string_view text) {
  const json::object object = SHOAL_TRY(parse_object(text));
  if (SHOAL_TRY(number_at(object, "format")) != kFormat)
    return fail(Errc::kUnsupported, "written by another version of shoald");
  ClusterFiles files;
  files.cluster_id = SHOAL_TRY(text_at(object, "clusterId"));
  files.node_name = SHOAL_TRY(text_at(object, "nodeName"));
  files.store_api = SHOAL_TRY(SocketAddress::parse(SHOAL_TRY(text_at(object, "storeApi"))));
  const json::value* store_host = object.if_contains("storeHost");
  files.store_host = store_host && store_host->is_bool() && store_host->as_bool();
  const json::value* seeds = object.if_contains("seeds");
  if (!seeds || !seeds->is_array())
    return fail(Errc::kCorrupt, "\"seeds\" is missing or not a list");
  for (const json::value& seed : seeds->as_array())
    files.seeds.push_back(SHOAL_TRY(
        SocketAddress::parse(seed.is_string() ? std::string_view(seed.as_string()) : "")));
  const json::value* settings = object.if_contains("settings");
  if (!settings || !settings->is_object())
    return fail(Errc::kCorrupt, "\"settings\" is missing");
  files.settings = SHOAL_TRY(from_json(settings->as_object()));
  return files;
}

}  // namespace

std::string settings_to_json(const ClusterSettings& settings) {
  return json::serialize(to_json(settings));
}

Result<ClusterSettings> settings_from_json(std::string_view text) {
  return from_json(SHOAL_TRY(parse_object(text)));
}

Result<std::optional<ClusterFiles>> ClusterFiles::load(const std::filesystem::path& state_dir) {
  const std::filesystem::path path = state_dir / "cluster.json";
  auto text = read_file(path, kFileBytesMax);
  if (!text && text.error().code() == Errc::kNotFound)
    return std::nullopt;
  if (!text)
    return fail(std::move(text).error());
  const auto mend = [&](Error error) {
    return fail(std::move(error).wrap(fmt::format(
        "{}: this host's membership cannot be read (restore it from a backup, or remove "
        "the host from the cluster, empty {} and join again)",
        path.string(), state_dir.string())));
  };
  auto files = parse(*text);
  if (!files)
    return mend(std::move(files).error());
  const std::filesystem::path pki = state_dir / "pki";
  struct Part {
    const char* name;
    std::string* into;
    bool wanted;
  };
  for (const Part& part :
       {Part{"ca.crt", &files->ca_cert, true}, Part{"ca.key", &files->ca_key, files->store_host},
        Part{"node.crt", &files->node_cert, true}, Part{"node.key", &files->node_key, true},
        Part{"gossip.key", &files->gossip_key, true}}) {
    if (!part.wanted)
      continue;
    auto content = read_file(pki / part.name, kFileBytesMax);
    if (!content)
      return mend(std::move(content).error());
    *part.into = std::move(*content);
  }
  if (files->gossip_key.size() != kGossipKeyBytes)
    return mend(Error(Errc::kCorrupt, fmt::format("pki/gossip.key has {} bytes instead of {}",
                                                  files->gossip_key.size(), kGossipKeyBytes)));
  return std::optional(std::move(*files));
}

Result<> ClusterFiles::check(const std::filesystem::path& state_dir) const {
  const auto wrong = [&](std::string_view what) {
    return fail(Errc::kConflict,
                fmt::format("{}: {}; restore the whole folder from one backup of this host, or "
                            "remove the host from its cluster, empty the folder and join again",
                            state_dir.string(), what));
  };
  const auto ca_name = pki::common_name(ca_cert);
  const auto node_cert_name = pki::common_name(node_cert);
  const auto expires = pki::not_after(node_cert);
  for (const Error* error :
       {ca_name ? nullptr : &ca_name.error(), node_cert_name ? nullptr : &node_cert_name.error(),
        expires ? nullptr : &expires.error()})
    if (error)
      return wrong(fmt::format("pki/ca.crt or pki/node.crt: {}", error->message()));
  if (*ca_name != pki::ca_name(cluster_id))
    return wrong(
        fmt::format("pki/ca.crt is {}, and cluster.json is of cluster {}", *ca_name, cluster_id));
  if (*node_cert_name != node_name)
    return wrong(fmt::format("pki/node.crt is of host {}, and cluster.json of {}", *node_cert_name,
                             node_name));
  // As of when it was made: a clock that is wrong at boot must not keep a host down.
  if (auto valid = pki::verify(ca_cert, node_cert, *expires - pki::kNodeLifetime); !valid)
    return wrong(fmt::format("pki/node.crt: {}", valid.error().message()));
  if (auto fits = pki::check_key(node_cert, node_key); !fits)
    return wrong(fmt::format("pki/node.key: {}", fits.error().message()));
  return {};
}

Result<> ClusterFiles::save(const std::filesystem::path& state_dir) const {
  const std::filesystem::path pki = state_dir / "pki";
  SHOAL_TRY(make_dirs(pki, 0700));
  SHOAL_TRY(write_file_atomic(pki / "ca.crt", ca_cert, 0644));
  if (store_host)
    SHOAL_TRY(write_file_atomic(pki / "ca.key", ca_key, 0600));
  SHOAL_TRY(write_file_atomic(pki / "node.crt", node_cert, 0644));
  SHOAL_TRY(write_file_atomic(pki / "node.key", node_key, 0600));
  SHOAL_TRY(write_file_atomic(pki / "gossip.key", gossip_key, 0600));
  json::object object;
  object["format"] = kFormat;
  object["clusterId"] = cluster_id;
  object["nodeName"] = node_name;
  object["storeHost"] = store_host;
  object["storeApi"] = store_api.to_string();
  json::array& list = object["seeds"].emplace_array();
  for (const SocketAddress& seed : seeds)
    list.emplace_back(seed.to_string());
  object["settings"] = to_json(settings);
  return write_file_atomic(state_dir / "cluster.json", json::serialize(object) + "\n", 0600);
}

}  // namespace shoal::daemon
