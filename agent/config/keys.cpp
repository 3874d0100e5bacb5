// SPDX-License-Identifier: Apache-2.0
#include "agent/config/keys.h"

#include "agent/gossip/core/message.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::config {
namespace {

constexpr std::uint64_t kPortMax = 65535;
// A host's name is the value of a label (kubernetes.io/hostname) and a certificate's common name.
constexpr std::size_t kNodeNameBytesMax = 63;
// sockaddr_un, with the NUL that ends the path.
constexpr std::size_t kSocketPathBytesMax = 107;

template <auto Member>
void set_number(Config& config, const Value& value) {
  using Field = std::remove_reference_t<decltype(config.*Member)>;
  config.*Member = static_cast<Field>(value.number);
}
template <auto Member>
void set_text(Config& config, const Value& value) {
  config.*Member = value.text;
}
template <auto Member>
void set_listen(Config& config, const Value& value) {
  (config.*Member).ip = value.address;
}
template <auto Member>
void set_port(Config& config, const Value& value) {
  (config.*Member).port = static_cast<std::uint16_t>(value.number);
}
template <auto Member>
void set_switch(Config& config, const Value& value) {
  config.*Member = value.text != "off";
}

void set_xdp(Config& config, const Value& value) {
  config.xdp = value.text != "off";
  config.xdp_on_veth = value.text == "on";
}

void set_network_mode(Config& config, const Value& value) {
  config.native_routes = value.text == "native";
}

void set_snat(Config& config, const Value& value) {
  config.snat = value.text == "snat";
  config.snat_auto = value.text == "auto";
}

void set_cgroup_root(Config& config, const Value& value) {
  config.cgroup_root.reset();
  if (!value.text.empty())
    config.cgroup_root = value.text;
}

void set_proxy(Config& config, const Value& value) {
  config.proxy_nftables = value.text == "nftables";
}

void set_underlay(Config& config, const Value& value) {
  config.uplink.clear();
  config.underlay.reset();
  if (value.text.empty())
    return;
  if (auto address = IpAddress::parse(value.text))
    config.underlay = *address;
  else
    config.uplink = value.text;
}

template <auto Member>
void set_prefixes(Config& config, const Value& value) {
  config.*Member = value.prefixes;
}

void set_uplinks(Config& config, const Value& value) { config.uplinks = value.words; }

void set_node_port_range(Config& config, const Value& value) {
  config.node_port_range = value.ports;
}

void set_registries(Config& config, const Value& value) { config.registries = value.registries; }

void set_mtu(Config& config, const Value& value) {
  config.mtu.reset();
  if (!value.text.empty())
    config.mtu = static_cast<std::uint32_t>(value.number);
}

constexpr Key kKeys[] = {
    {"node_name", Type::kName, "auto", "auto", 0, 0, "",
     "This host's name in the cluster. auto: the host's name in lower case. It cannot change once "
     "the host is a member.",
     set_text<&Config::node_name>},
    {"state_dir", Type::kPath, "/var/lib/shoal", "", 0, 0, "",
     "What must survive a reboot: membership, keys, the store, images. One daemon at a time.",
     set_text<&Config::state_dir>},
    {"run_dir", Type::kPath, "/run/shoal", "", 0, 0, "",
     "What need not survive a reboot: sockets, pods' run state. A tmpfs.",
     set_text<&Config::run_dir>},
    {"bpffs_dir", Type::kPath, "/sys/fs/bpf/shoal", "", 0, 0, "",
     "Where programs and maps are pinned, so that the data plane outlives the daemon. On a bpf "
     "file system.",
     set_text<&Config::bpffs_dir>},
    {"cgroup_root", Type::kPath, "auto", "auto", 0, 0, "",
     "The cgroup2 mount whose subtree the socket hooks cover. auto: found from the mount table.",
     set_cgroup_root},
    {"underlay", Type::kUplink, "auto", "auto", 0, 0, "",
     "The device or the address that faces the other hosts: the main uplink. A bond, bridge or "
     "VLAN "
     "is one, its ports are not. auto: the device of the default route, or the only one.",
     set_underlay},
    {"proxy", Type::kChoice, "ebpf", "", 0, 0, "ebpf nftables",
     "How Services and the pods' network are made: by BPF programs, or, where the kernel has no "
     "BPF, "
     "by nftables and the kernel's own forwarding, which shows clients of other hosts' pods as "
     "this "
     "host. The same on every host. It may be changed: what the other one left is taken away once "
     "this one serves.",
     set_proxy},
    {"manifests_dir", Type::kNotYet, "", "", 0, 0, "", "", nullptr},

    {"api.listen", Type::kAddress, "0.0.0.0", "", 0, 0, "",
     "Address that the Kubernetes API listens on, under TLS with client certificates.",
     set_listen<&Config::api>},
    {"api.port", Type::kNumber, "6443", "", 1, kPortMax, "", "Its TCP port.",
     set_port<&Config::api>},

    {"gossip.listen", Type::kAddress, "0.0.0.0", "", 0, 0, "",
     "Address that gossip listens on, encrypted.", set_listen<&Config::gossip>},
    {"gossip.port", Type::kNumber, "7946", "", 1, kPortMax, "",
     "Its UDP and TCP port: the same on every host.", set_port<&Config::gossip>},
    {"gossip.probe_interval_ms", Type::kNumber, "500", "", 50, 60'000, "",
     "How often this host probes another one. Smaller: a dead host is found sooner, for more "
     "packets.",
     set_number<&Config::gossip_probe_interval_ms>},
    {"gossip.probe_timeout_ms", Type::kNumber, "200", "", 10, 30'000, "",
     "How long a direct probe may take before others are asked to try. Well above a round trip, at "
     "most half of the interval: the others need as long again.",
     set_number<&Config::gossip_probe_timeout_ms>},

    {"metrics.listen", Type::kAddress, "0.0.0.0", "", 0, 0, "",
     "Address that /metrics is served on, as plain HTTP.", set_listen<&Config::metrics>},
    {"metrics.port", Type::kNumber, "9464", "", 1, kPortMax, "", "Its TCP port.",
     set_port<&Config::metrics>},
    {"metrics.containers", Type::kChoice, "on", "", 0, 0, "on off",
     "Whether /metrics has what each container and each pod's network uses, by cadvisor's names: "
     "some nine series a container and eight a pod, read from the kernel at each scrape.",
     set_switch<&Config::container_metrics>},

    {"log.level", Type::kChoice, "info", "", 0, 0, "trace debug info warn error",
     "What goes to standard error.", set_text<&Config::log_level>},

    {"network.pod_cidr", Type::kPrefixes, "10.244.0.0/16", "", 0, 0, "",
     "Addresses of all pods. With an IPv6 prefix beside the IPv4 one, such as "
     "[10.244.0.0/16, 'fd10:244::/48'], pods and Services can have addresses of both families. "
     "Read by `shoal init` only: fixed for the cluster's life.",
     set_prefixes<&Config::pod_cidrs>},
    {"network.node_prefix_length", Type::kNumber, "24", "", 16, 30, "",
     "Each host gets a prefix of this length from pod_cidr. Read by `shoal init` only.",
     set_number<&Config::node_prefix_length>},
    {"network.node_prefix_length_v6", Type::kNumber, "64", "", 16, 126, "",
     "The same from pod_cidr's IPv6 prefix, if it has one. Read by `shoal init` only.",
     set_number<&Config::node_prefix_length_v6>},
    {"network.service_cidr", Type::kPrefixes, "10.96.0.0/16", "", 0, 0, "",
     "ClusterIPs are taken from here: a prefix of each family that pod_cidr has. Read by `shoal "
     "init` only.",
     set_prefixes<&Config::service_cidrs>},
    {"network.lb_pool", Type::kPrefixes, "none", "none", 0, 0, "",
     "LoadBalancer addresses are taken from here, in this order, of each family that a Service "
     "has; parts of the LAN's own prefixes, used by nobody else. none: Services "
     "of type LoadBalancer get no address. Read by `shoal init` only.",
     set_prefixes<&Config::lb_pools>},
    {"network.node_port_range", Type::kPortRange, "30000-32767", "", 0, 0, "",
     "Ports of NodePort Services are taken from here, on every host: keep what runs on the hosts "
     "themselves out of it. Read by `shoal init` only.",
     set_node_port_range},
    {"network.node_port_addresses", Type::kPrefixes, "auto", "auto", 0, 0, "",
     "NodePorts and hostPorts are served on this host's addresses that are in these prefixes. "
     "auto: on all addresses of the uplinks. IPv6 ones count where pod_cidr has that family.",
     set_prefixes<&Config::node_port_addresses>},
    {"network.uplinks", Type::kUplinks, "auto", "auto", 0, 0, "",
     "The devices by which clients reach this host: node ports are served and LoadBalancer "
     "addresses answered for on each of them, and an address is announced on the one whose subnet "
     "holds it, else on that of the default route. The main uplink (underlay) is always one. auto: "
     "it, and the devices of all default routes.",
     set_uplinks},
    {"network.vxlan_port", Type::kNumber, "4789", "", 1, kPortMax, "",
     "UDP port of the overlay between hosts. Read by `shoal init` only.",
     set_number<&Config::vxlan_port>},
    {"network.mode", Type::kChoice, "vxlan", "", 0, 0, "vxlan native",
     "How pods reach pods of other hosts. vxlan: through a tunnel, over any network. native: by a "
     "route to their host, which is to be in a subnet of this host's uplinks, with the MTU of the "
     "uplink; what is balanced to a pod elsewhere still takes the tunnel. The same on every host: "
     "while it is changed both ways are understood.",
     set_network_mode},
    {"network.load_balancer_mode", Type::kChoice, "auto", "", 0, 0, "auto dsr snat",
     "How clients outside reach a pod of another host than the one that they asked. dsr: the pod's "
     "host replies directly and the pod sees the client's address; the network must let hosts send "
     "from LoadBalancer addresses. snat: the host that was asked stands between them, and the pod "
     "sees that host's address. auto: dsr, but snat for the pods of hosts whose packets from such "
     "an address do not come through; hosts try it out among themselves, once a second.",
     set_snat},
    {"network.mtu", Type::kNumber, "auto", "auto", 576, 65535, "",
     "MTU of pods. auto: what the main uplink and its routes carry, less what the overlay adds "
     "where network.mode is vxlan.",
     set_mtu},

    {"runtime.oci_runtime", Type::kProgram, "crun", "", 0, 0, "",
     "The OCI runtime: crun or runc, by name or path.", set_text<&Config::oci_runtime>},
    {"runtime.shim", Type::kPath, "/usr/libexec/shoal/shoal-shim", "", 0, 0, "",
     "The program that holds each pod's namespaces.", set_text<&Config::shim>},

    {"features.socket_lb", Type::kChoice, "auto", "", 0, 0, "auto off",
     "Translate services at connect() through cgroup hooks. off: in tc, packet by packet.",
     set_switch<&Config::socket_lb>},
    {"features.tcx", Type::kChoice, "auto", "", 0, 0, "auto off",
     "Attach to uplinks and the overlay by TCX links where the kernel has them (6.6). off: by "
     "clsact filters, as to pods.",
     set_switch<&Config::tcx>},
    {"features.redirect_peer", Type::kChoice, "auto", "", 0, 0, "auto off",
     "Put packets straight into a pod's namespace (bpf_redirect_peer). off: through the host's end "
     "of its veth.",
     set_switch<&Config::redirect_peer>},
    {"features.redirect_neigh", Type::kChoice, "auto", "", 0, 0, "auto off",
     "Let the kernel resolve the next hop of balanced packets (bpf_redirect_neigh). off: those to "
     "neighbours not yet known go through the host's stack.",
     set_switch<&Config::redirect_neigh>},
    {"features.sk_storage", Type::kChoice, "auto", "", 0, 0, "auto off",
     "Keep what a socket's address was translated from in the socket itself. off: in a table that "
     "can overflow.",
     set_switch<&Config::sk_storage>},
    {"features.set_retval", Type::kChoice, "auto", "", 0, 0, "auto off",
     "Refuse a connect without a backend by ECONNREFUSED (bpf_set_retval). off: by EPERM.",
     set_switch<&Config::set_retval>},
    {"features.coarse_clock", Type::kChoice, "auto", "", 0, 0, "auto off",
     "Stamp flows by the kernel's coarse clock (bpf_ktime_get_coarse_ns). off: by the fine one, "
     "which costs more.",
     set_switch<&Config::coarse_clock>},
    {"features.xdp", Type::kChoice, "auto", "", 0, 0, "auto on off",
     "Send what clients outside have for pods of other hosts on from the uplink's driver (native "
     "XDP). auto: where the driver has it, and the uplink is no veth; on: on a veth, too, whose "
     "other end must take such frames (an XDP program or GRO there) and leave no checksums out of "
     "its own; off: in tc.",
     set_xdp},
    {"features.masquerade", Type::kChoice, "auto", "", 0, 0, "auto off",
     "Hide pods behind the host's address towards the outside, by nftables. off: the outside must "
     "route pod_cidr.",
     set_switch<&Config::masquerade>},

    {"limits.services", Type::kNumber, "65536", "", 64, 1'048'576, "",
     "Service ports in the data plane's maps.", set_number<&Config::services_max>},
    {"limits.backends", Type::kNumber, "131072", "", 64, 4'194'304, "",
     "Backends in the data plane's maps.", set_number<&Config::backends_max>},
    {"limits.flows", Type::kNumber, "262144", "", 1024, 16'777'216, "",
     "Flows that are followed at a time; the least recently used go first. Some 100 bytes each.",
     set_number<&Config::flows_max>},
    {"limits.ring_blocks", Type::kNumber, "262144", "", 1024, 4'194'304, "",
     "Blocks of slots for the rings that split traffic, and for who had the slots before.",
     set_number<&Config::ring_blocks_max>},
    {"limits.affinity", Type::kNumber, "65536", "", 1024, 16'777'216, "",
     "Clients of services with session affinity that are remembered at a time; the least recently "
     "used go first.",
     set_number<&Config::affinity_max>},

    {"limits.pod_pids", Type::kNumber, "16384", "", 64, 4'194'304, "",
     "Processes and threads that one pod may have; what would be one more fails in the pod "
     "(EAGAIN). "
     "Counts for pods that start after a change.",
     set_number<&Config::pod_pids_max>},

    {"node.reserved_cpu_milli", Type::kNumber, "100", "", 0, 1'000'000, "",
     "Thousandths of a CPU that are kept for the host itself: the scheduler does not give them to "
     "pods. At most half of the CPUs.",
     set_number<&Config::reserved_cpu_milli>},
    {"node.reserved_memory_mib", Type::kNumber, "256", "", 0, 16'777'216, "",
     "Mebibytes of memory that are kept for the host itself: pods together cannot have them. At "
     "most half of the memory.",
     set_number<&Config::reserved_memory_mib>},
    {"node.eviction", Type::kChoice, "on", "", 0, 0, "on off",
     "Whether pods are evicted while the host is short of what the next keys name, one at a time, "
     "those first that use more than they requested. off: its conditions are told, and new pods "
     "kept away, all the same.",
     set_switch<&Config::eviction>},
    {"node.eviction_memory_mib", Type::kNumber, "100", "", 0, 16'777'216, "",
     "MemoryPressure below so many mebibytes: of what the host has available, and of what pods "
     "together have left. 0: never, here and below.",
     set_number<&Config::eviction_memory_mib>},
    {"node.eviction_disk_percent", Type::kNumber, "10", "", 0, 100, "",
     "DiskPressure when no more of the file system of state_dir is available.",
     set_number<&Config::eviction_disk_percent>},
    {"node.eviction_inodes_percent", Type::kNumber, "5", "", 0, 100, "", "The same of its inodes.",
     set_number<&Config::eviction_inodes_percent>},
    {"node.eviction_images_percent", Type::kNumber, "15", "", 0, 100, "",
     "The same of the file system that holds the images. Images that no pod needs are removed "
     "before pods are evicted.",
     set_number<&Config::eviction_images_percent>},
    {"node.eviction_pids", Type::kNumber, "500", "", 0, 4'194'304, "",
     "PIDPressure when no more processes and threads can be made on the host.",
     set_number<&Config::eviction_pids>},
    {"node.pressure_transition_s", Type::kNumber, "300", "", 0, 86'400, "",
     "How long such a condition stays once the host is no longer short.",
     set_number<&Config::pressure_transition_s>},

    {"images.registries", Type::kRegistries, "none", "none", 0, 0, "",
     "Registries that are reached otherwise than by their name alone: mirrors to ask first "
     "(http:// for plain HTTP), insecure (plain HTTP or unknown certificates are fine), ca (a PEM "
     "file beside the host's own; read at each pull). Such as [{name: docker.io, mirrors: "
     "['https://mirror.lan:5000/hub']}, {name: 'mirror.lan:5000', ca: /etc/shoal/lan.pem}]. A "
     "mirror that has an entry of its own is reached as that says. none: as /etc/containers says.",
     set_registries},
    {"images.parallel_pulls", Type::kNumber, "3", "", 1, 64, "",
     "Images that are pulled at a time; others wait.", set_number<&Config::parallel_pulls>},
    {"images.pull_stall_s", Type::kNumber, "60", "", 1, 3600, "",
     "How long a registry may send nothing before a pull is given up; it goes on from there later.",
     set_number<&Config::pull_stall_s>},
    {"images.gc_high_percent", Type::kNumber, "85", "", 0, 100, "",
     "When this much of the file system with the images is used, images that no pod needs are "
     "removed, the longest unused first. Loaded ones (`shoal image load`) never are. 100: never.",
     set_number<&Config::gc_high_percent>},
    {"images.gc_low_percent", Type::kNumber, "80", "", 0, 100, "",
     "Until no more than this is used.", set_number<&Config::gc_low_percent>},
    {"images.gc_min_age_s", Type::kNumber, "120", "", 0, 604'800, "",
     "Images that were used or pulled in this time stay.", set_number<&Config::gc_min_age_s>},

    {"cluster.pod_replace_after_s", Type::kNumber, "30", "", 1, 86'400, "",
     "How long after a host is declared dead its pods are replaced on others. Its backends leave "
     "the services at once.",
     set_number<&Config::pod_replace_after_s>},
};

Result<Value> wrong(const Key& key, std::string_view text) {
  return fail(Errc::kInvalid, fmt::format("\"{}\" is not {}", printable(text), allowed(key)));
}

Result<IpPrefix> read_prefix(const Key& key, std::string_view text) {
  auto prefix = IpPrefix::parse(text);
  if (!prefix)
    return fail(Errc::kInvalid,
                fmt::format("{}; expected is {}", prefix.error().message(), allowed(key)));
  return *prefix;
}

const IpPrefix* of_family(const std::vector<IpPrefix>& prefixes, IpFamily family) {
  const auto found = std::ranges::find(prefixes, family, &IpPrefix::family);
  return found == prefixes.end() ? nullptr : &*found;
}

// Both ranges have the same families, each once. The cluster itself speaks IPv4: that family is the
// primary one.
template <class ProblemFn>
void check_families(const Config& c, ProblemFn problem) {
  const auto check_one = [&](std::string_view key, const std::vector<IpPrefix>& prefixes) {
    for (const IpFamily family : {IpFamily::kV4, IpFamily::kV6})
      if (std::ranges::count(prefixes, family, &IpPrefix::family) > 1)
        problem(key, fmt::format("has two {} prefixes: one of each family is the most",
                                 to_string(family)));
    if (!of_family(prefixes, IpFamily::kV4))
      problem(key,
              fmt::format("{} alone would be an IPv6-only cluster, which is not supported yet: "
                          "put an IPv4 prefix before it",
                          prefixes.front().to_string()));
    else if (!prefixes.front().is_v4())
      problem(key, fmt::format("IPv4 stands first, since it is the family that a Service gets when "
                               "it asks for none: put {} before {}",
                               of_family(prefixes, IpFamily::kV4)->to_string(),
                               prefixes.front().to_string()));
  };
  check_one("network.pod_cidr", c.pod_cidrs);
  check_one("network.service_cidr", c.service_cidrs);
  const IpPrefix* pods = of_family(c.pod_cidrs, IpFamily::kV6);
  const IpPrefix* services = of_family(c.service_cidrs, IpFamily::kV6);
  if (pods && !services)
    problem("network.service_cidr",
            fmt::format("has no IPv6 prefix, and pod_cidr has {}: give both one, or neither",
                        pods->to_string()));
  if (services && !pods)
    problem("network.pod_cidr",
            fmt::format("has no IPv6 prefix, and service_cidr has {}: give both one, or neither",
                        services->to_string()));
}

bool is_device(std::string_view text) {
  constexpr std::size_t kDeviceNameMax = 15;  // IFNAMSIZ less the NUL
  return !text.empty() && text.size() <= kDeviceNameMax && text != "." && text != ".." &&
         std::ranges::none_of(text,
                              [](char c) { return c == '/' || c == ':' || c <= ' ' || c > '~'; });
}

}  // namespace

bool is_node_name(std::string_view text) {
  return text.size() <= kNodeNameBytesMax && gossip::is_member_name(text);
}

std::span<const Key> keys() { return kKeys; }

const Key* find_key(std::string_view path) {
  const auto it = std::ranges::find(kKeys, path, &Key::path);
  return it == std::end(kKeys) ? nullptr : it;
}

std::string allowed(const Key& key) {
  std::string text;
  switch (key.type) {
  case Type::kName:
    text = fmt::format("a name of lower-case letters, digits, '-' and '.', of at most {} bytes and "
                       "other than {}",
                       kNodeNameBytesMax, gossip::kDesiredOrigin);
    break;
  case Type::kPath:
    text = "an absolute path";
    break;
  case Type::kProgram:
    text = "a program's name or absolute path";
    break;
  case Type::kNumber:
    text = fmt::format("a whole number from {} to {}", key.min, key.max);
    break;
  case Type::kAddress:
    text = "an IP address of this host, or 0.0.0.0 for all";
    break;
  case Type::kPrefixes:
    text = "prefixes such as 198.18.0.192/27 or fd10:244::/48, as a list or joined by commas";
    break;
  case Type::kPortRange:
    text = "a range of ports such as 30000-32767";
    break;
  case Type::kChoice:
    text = fmt::format("one of {}", fmt::join(split(key.choices, ' '), ", "));
    break;
  case Type::kUplink:
    text = "a device's name or an IP address";
    break;
  case Type::kUplinks:
    text = "devices' names such as eth0, bond0, eno1.100 or eth*, as a list or joined by commas";
    break;
  case Type::kRegistries:
    text = "a list of mappings with name and mirrors, insecure or ca, in the file";
    break;
  case Type::kNotYet:
    text = "available in this version";
    break;
  }
  return key.special.empty() ? text : fmt::format("{}, or {}", text, key.special);
}

Result<Value> read_value(const Key& key, std::string_view text) {
  if (key.type == Type::kNotYet)
    return fail(Errc::kUnsupported, "this version does not act on it yet: leave it out");
  Value value;
  if (!key.special.empty() && text == key.special)
    return value;
  value.text = text;
  switch (key.type) {
  case Type::kName:
    if (!is_node_name(text))
      return wrong(key, text);
    break;
  case Type::kPath:
    if (!text.starts_with('/'))
      return wrong(key, text);
    break;
  case Type::kProgram:
    if (text.empty() || (text.find('/') != std::string_view::npos && !text.starts_with('/')))
      return wrong(key, text);
    break;
  case Type::kNumber: {
    const auto number = parse_uint(text, key.max);
    if (!number || *number < key.min)
      return wrong(key, text);
    value.number = *number;
    break;
  }
  case Type::kAddress: {
    auto address = IpAddress::parse(text);
    if (!address)
      return wrong(key, text);
    value.address = *address;
    break;
  }
  case Type::kPrefixes:
    for (const std::string_view part : split(text, ','))
      value.prefixes.push_back(SHOAL_TRY(read_prefix(key, trim(part))));
    break;
  case Type::kPortRange: {
    auto ports = PortRange::parse(text);
    if (!ports)
      return wrong(key, text);
    value.ports = *ports;
    break;
  }
  case Type::kChoice: {
    const auto choices = split(key.choices, ' ');
    if (std::ranges::find(choices, text) == choices.end())
      return wrong(key, text);
    break;
  }
  case Type::kUplink:
    if (!IpAddress::parse(text) && !is_device(text))
      return wrong(key, text);
    break;
  case Type::kUplinks:
    for (const std::string_view part : split(text, ',')) {
      if (!is_device(trim(part)))
        return wrong(key, text);
      value.words.emplace_back(trim(part));
    }
    break;
  case Type::kRegistries:
    return wrong(key, text);
  case Type::kNotYet:
    break;
  }
  return value;
}

Problems check_relations(const Config& c) {
  Problems out;
  const auto problem = [&](std::string_view key, std::string message) {
    out.push_back({"", std::string(key), std::move(message)});
  };
  check_families(c, problem);
  for (const IpPrefix& pods : c.pod_cidrs) {
    const unsigned length = pods.is_v4() ? c.node_prefix_length : c.node_prefix_length_v6;
    if (length <= pods.length())
      problem(
          pods.is_v4() ? "network.node_prefix_length" : "network.node_prefix_length_v6",
          fmt::format("a /{} for each host does not fit into pod_cidr {}: make it longer than {}",
                      length, pods.to_string(), pods.length()));
    for (const IpPrefix& services : c.service_cidrs)
      if (pods.overlaps(services))
        problem("network.service_cidr",
                fmt::format("{} overlaps pod_cidr {}", services.to_string(), pods.to_string()));
  }
  for (std::size_t i = 0; i < c.lb_pools.size(); ++i) {
    const IpPrefix& pool = c.lb_pools[i];
    const auto overlaps = [&](const IpPrefix& other) { return pool.overlaps(other); };
    if (std::ranges::any_of(c.pod_cidrs, overlaps) ||
        std::ranges::any_of(c.service_cidrs, overlaps))
      problem("network.lb_pool",
              fmt::format("{} overlaps pod_cidr or service_cidr", pool.to_string()));
    if (!of_family(c.service_cidrs, pool.family()))
      problem("network.lb_pool",
              fmt::format("{0} is {1}, and service_cidr has no {1} prefix: no Service could have "
                          "an address of it",
                          pool.to_string(), to_string(pool.family())));
    if (c.underlay && pool.contains(*c.underlay))
      problem("network.lb_pool", fmt::format("{} has this host's own address {}", pool.to_string(),
                                             c.underlay->to_string()));
    for (std::size_t j = 0; j < i; ++j)
      if (pool.overlaps(c.lb_pools[j]))
        problem("network.lb_pool",
                fmt::format("{} overlaps {}", pool.to_string(), c.lb_pools[j].to_string()));
  }
  if (c.gossip_probe_timeout_ms * 2 > c.gossip_probe_interval_ms)
    problem("gossip.probe_timeout_ms",
            fmt::format("{} is more than half of gossip.probe_interval_ms, which is {}: make it at "
                        "most {}, or the interval at least {}",
                        c.gossip_probe_timeout_ms, c.gossip_probe_interval_ms,
                        c.gossip_probe_interval_ms / 2, c.gossip_probe_timeout_ms * 2));
  if (c.gc_low_percent > c.gc_high_percent)
    problem("images.gc_low_percent",
            fmt::format("{} is more than images.gc_high_percent, which is {}: make it at most that",
                        c.gc_low_percent, c.gc_high_percent));
  if (const std::string socket = (c.run_dir / kSocketName).string();
      socket.size() > kSocketPathBytesMax)
    problem("run_dir",
            fmt::format("{} would be a socket's path of {} bytes, and at most {} are possible: "
                        "choose a shorter folder",
                        socket, socket.size(), kSocketPathBytesMax));
  const auto same_port = [&](std::string_view key, std::uint16_t port, std::string_view other,
                             std::uint16_t taken) {
    if (port == taken)
      problem(key, fmt::format("TCP port {} is {}'s already", port, other));
  };
  same_port("gossip.port", c.gossip.port, "api.port", c.api.port);
  same_port("metrics.port", c.metrics.port, "api.port", c.api.port);
  same_port("metrics.port", c.metrics.port, "gossip.port", c.gossip.port);
  if (c.gossip.port == c.vxlan_port)
    problem("network.vxlan_port",
            fmt::format("UDP port {} is gossip.port's already", c.vxlan_port));
  const std::pair<std::string_view, std::uint16_t> own_ports[] = {
      {"api.port", c.api.port},
      {"gossip.port", c.gossip.port},
      {"metrics.port", c.metrics.port},
      {"network.vxlan_port", c.vxlan_port}};
  for (const auto& [key, port] : own_ports)
    if (c.node_port_range.contains(port))
      problem("network.node_port_range",
              fmt::format("{} holds {}, which is {}", c.node_port_range.to_string(), port, key));
  return out;
}

}  // namespace shoal::config
