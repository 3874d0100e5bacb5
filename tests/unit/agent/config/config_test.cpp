// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"
#include "agent/config/keys.h"
#include "agent/gossip/core/config.h"
#include "netplane/base/fs.h"
#include "netplane/ipam/lease_pool.h"

#include <set>

namespace shoal::config {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::vector<std::string> texts(const Problems& problems) {
  std::vector<std::string> out;
  for (const Problem& problem : problems)
    out.push_back(problem.str());
  return out;
}

Config good(std::string_view yaml, std::vector<Override> overrides = {}) {
  auto config = parse(yaml, "f.yaml", overrides, "H1.example.com");
  EXPECT_TRUE(config) << testing::PrintToString(config ? std::vector<std::string>()
                                                       : texts(config.error()));
  return config ? *config : Config();
}

std::vector<std::string> bad(std::string_view yaml, std::vector<Override> overrides = {}) {
  auto config = parse(yaml, "f.yaml", overrides, "h1");
  EXPECT_FALSE(config) << yaml;
  return config ? std::vector<std::string>() : texts(config.error());
}

TEST(Config, NothingGivesTheDefaults) {
  for (const char* yaml : {"", "\n# only a comment\n", "log:\n"}) {
    const Config config = good(yaml);
    EXPECT_EQ(config.node_name, "h1.example.com");
    EXPECT_EQ(config.state_dir, "/var/lib/shoal");
    EXPECT_EQ(config.api.to_string(), "0.0.0.0:6443");
    EXPECT_EQ(config.gossip_probe_interval_ms, 500U);
    ASSERT_EQ(config.pod_cidrs.size(), 1U);
    EXPECT_EQ(config.pod_cidrs[0].to_string(), "10.244.0.0/16");
    ASSERT_EQ(config.service_cidrs.size(), 1U);
    EXPECT_TRUE(config.lb_pools.empty());
    EXPECT_EQ(config.node_port_range, kNodePortsDefault);
    EXPECT_TRUE(config.node_port_addresses.empty());
    EXPECT_FALSE(config.mtu);
    EXPECT_TRUE(config.tcx);
    EXPECT_EQ(config.reserved_cpu_milli, 100U);
    EXPECT_EQ(config.reserved_memory_mib, 256U);
    EXPECT_EQ(config.pod_pids_max, 16384U);
    EXPECT_EQ(config.pod_replace_after_s, 30U);
  }
}

TEST(Config, FileThenFlags) {
  const std::string_view yaml = "node_name: h7\n"
                                "underlay: eth1\n"
                                "gossip: {port: 7000}\n"
                                "network:\n"
                                "  lb_pool: 198.18.0.192/27\n"
                                "  mtu: 1400\n"
                                "features:\n"
                                "  tcx: off\n"
                                "  redirect_peer: off\n"
                                "  sk_storage: off\n"
                                "  xdp: on\n";
  const Config file = good(yaml);
  EXPECT_EQ(file.node_name, "h7");
  EXPECT_EQ(file.uplink, "eth1");
  EXPECT_EQ(file.gossip.port, 7000);
  ASSERT_EQ(file.lb_pools.size(), 1U);
  EXPECT_EQ(file.lb_pools[0].to_string(), "198.18.0.192/27");
  EXPECT_EQ(file.mtu, 1400U);
  EXPECT_FALSE(file.tcx);
  EXPECT_FALSE(file.redirect_peer);
  EXPECT_TRUE(file.redirect_neigh);
  EXPECT_FALSE(file.sk_storage);
  EXPECT_TRUE(file.set_retval);
  EXPECT_TRUE(file.coarse_clock);
  EXPECT_TRUE(file.xdp);
  EXPECT_TRUE(file.xdp_on_veth);
  EXPECT_FALSE(good("features: {xdp: off}\n").xdp);
  const Config flags = good(yaml, {{"--set", "gossip.port", "7001"},
                                   {"--underlay", "underlay", "198.18.0.11"},
                                   {"--network-mtu", "network.mtu", "auto"}});
  EXPECT_EQ(flags.gossip.port, 7001);
  EXPECT_EQ(flags.uplink, "");
  EXPECT_EQ(flags.underlay->to_string(), "198.18.0.11");
  EXPECT_FALSE(flags.mtu);
}

TEST(Config, EveryProblemIsToldWithPlaceKeyAndWhatIsAllowed) {
  const auto problems = bad("node_name: UPPER\n"
                            "gossip:\n"
                            "  prot: 1\n"
                            "  port: 70000\n"
                            "network: 10.0.0.0/8\n"
                            "log:\n"
                            "  level: [info]\n"
                            "frobnicate: 1\n"
                            "features:\n"
                            "  tcx:\n"
                            "api:\n"
                            "  port: '12x'\n"
                            "  port: 5\n");
  const std::vector<std::string> expected = {
      std::string("f.yaml:1:12: node_name: \"UPPER\" is not a name of lower-case letters, digits, "
                  "'-' and '.', ") +
          "of at most 63 bytes and other than desired, or auto",
      "f.yaml:3:3: gossip.prot: unknown key; did you mean gossip.port?",
      "f.yaml:4:9: gossip.port: \"70000\" is not a whole number from 1 to 65535",
      "f.yaml:5:10: network: must be a mapping of keys to values",
      "f.yaml:7:10: log.level: a list where one of trace, debug, info, warn, error is expected",
      std::string(
          "f.yaml:8:1: frobnicate: unknown key; allowed here: api, bpffs_dir, cgroup_root, ") +
          "cluster, features, gossip, images, limits, log, metrics, network, node, node_name, " +
          "proxy, run_dir, runtime, state_dir, underlay",
      "f.yaml:10:3: features.tcx: nothing where one of auto, off is expected",
      "f.yaml:12:9: api.port: \"12x\" is not a whole number from 1 to 65535",
      "f.yaml:13:3: api.port: appears twice",
  };
  EXPECT_EQ(problems, expected);
}

TEST(Config, RelationsNameTheKeyAndWhereItWasSet) {
  EXPECT_THAT(
      bad("network:\n  service_cidr: 10.244.8.0/24\n"),
      testing::ElementsAre(
          "f.yaml:2:17: network.service_cidr: 10.244.8.0/24 overlaps pod_cidr 10.244.0.0/16"));
  EXPECT_THAT(bad("", {{"--set", "network.node_prefix_length", "16"}}),
              testing::ElementsAre(AllOf(HasSubstr("--set: network.node_prefix_length"),
                                         HasSubstr("does not fit"))));
  EXPECT_THAT(bad("gossip: {probe_timeout_ms: 251}"),
              testing::ElementsAre(AllOf(HasSubstr("f.yaml:1:28: gossip.probe_timeout_ms: 251"),
                                         HasSubstr("at most 250"), HasSubstr("at least 502"))));
  EXPECT_THAT(bad("metrics: {port: 6443}"), testing::ElementsAre(HasSubstr("api.port's already")));
  EXPECT_THAT(bad("network: {lb_pool: 10.96.1.0/24}"), testing::ElementsAre(HasSubstr("overlaps")));
  EXPECT_THAT(
      bad("network:\n  lb_pool: [198.18.0.0/24, 198.18.0.128/25]\n"),
      testing::ElementsAre("f.yaml:2:12: network.lb_pool: 198.18.0.128/25 overlaps 198.18.0.0/24"));
  EXPECT_THAT(bad("underlay: 198.18.0.11\nnetwork: {lb_pool: 198.18.0.0/24}"),
              testing::ElementsAre(HasSubstr("198.18.0.0/24 has this host's own address")));
  EXPECT_THAT(
      bad("network: {node_port_range: 6000-7000}"),
      testing::ElementsAre(HasSubstr("network.node_port_range: 6000-7000 holds 6443, which is "
                                     "api.port")));
}

TEST(Config, PrefixesAreAListOrJoinedByCommas) {
  for (const char* yaml : {"network: {lb_pool: [198.18.0.192/27, 198.18.9.0/24]}",
                           "network:\n  lb_pool:\n    - 198.18.0.192/27\n    - 198.18.9.0/24\n",
                           "network: {lb_pool: '198.18.0.192/27, 198.18.9.0/24'}"}) {
    const Config config = good(yaml);
    ASSERT_EQ(config.lb_pools.size(), 2U) << yaml;
    EXPECT_EQ(config.lb_pools[1].to_string(), "198.18.9.0/24");
  }
  EXPECT_EQ(good("", {{"--set", "network.node_port_addresses", "198.18.0.0/24"}})
                .node_port_addresses.size(),
            1U);
  EXPECT_THAT(bad("network: {lb_pool: [198.18.0.192/27, here]}"),
              testing::ElementsAre(AllOf(HasSubstr("f.yaml:1:20: network.lb_pool"),
                                         HasSubstr("as a list or joined by commas, or none"))));
  EXPECT_THAT(bad("network: {lb_pool: []}"), testing::ElementsAre(HasSubstr("a list where")));
  EXPECT_THAT(bad("network: {node_port_range: 40000-30000}"),
              testing::ElementsAre(HasSubstr("is not a range of ports such as 30000-32767")));
}

TEST(Config, RegistriesAreAListOfMappings) {
  EXPECT_TRUE(good("").registries.empty());
  EXPECT_TRUE(good("images: {registries: none}").registries.empty());
  const Config config =
      good("images:\n"
           "  registries:\n"
           "  - name: docker.io\n"
           "    mirrors: ['https://mirror.lan:5000/hub/', 'http://[fd00::1]:5000']\n"
           "  - {name: 'mirror.lan:5000', ca: /etc/lan.pem, insecure: true}\n");
  ASSERT_EQ(config.registries.size(), 2U);
  EXPECT_EQ(
      config.registries[0],
      (Registry{
          "docker.io", {{"mirror.lan:5000/hub", false}, {"[fd00::1]:5000", true}}, false, ""}));
  EXPECT_EQ(config.registries[1], (Registry{"mirror.lan:5000", {}, true, "/etc/lan.pem"}));
}

TEST(Config, WrongRegistriesSayWhereAndWhat) {
  const std::vector<std::string> expected = {
      "f.yaml:3:5: images.registries[0]: must be a mapping with name, mirrors, insecure, ca",
      std::string("f.yaml:4:11: images.registries[1].name: \"hub\" is not a registry as image ") +
          "names have it, such as docker.io or registry.lan:5000",
      std::string("f.yaml:5:15: images.registries[1].mirrors: \"ftp://x\" is not a mirror's URL, "
                  "such as ") +
          "https://mirror.lan:5000 or http://10.0.0.5:5000/hub",
      "f.yaml:6:15: images.registries[1].insecure: \"maybe\" is not true or false",
      "f.yaml:7:9: images.registries[1].ca: \"lan.pem\" is not an absolute path",
      std::string("f.yaml:8:5: images.registries[1].tls: unknown key; allowed here: name, ") +
          "mirrors, insecure, ca",
      std::string("f.yaml:9:5: images.registries[2].name: is missing: the registry as image ") +
          "names have it, such as docker.io",
      "f.yaml:11:5: images.registries[4]: quay.io has an entry already",
  };
  EXPECT_EQ(bad("images:\n"
                "  registries:\n"
                "  - docker.io\n"
                "  - name: hub\n"
                "    mirrors: ['ftp://x']\n"
                "    insecure: maybe\n"
                "    ca: lan.pem\n"
                "    tls: {}\n"
                "  - insecure: true\n"
                "  - name: quay.io\n"
                "  - name: quay.io\n"),
            expected);
  EXPECT_THAT(
      bad("images: {registries: docker.io}"),
      testing::ElementsAre(HasSubstr("f.yaml:1:22: images.registries: \"docker.io\" is not a "
                                     "list of mappings")));
  // What would be something else in the file that skopeo reads.
  for (const char* name :
       {"a.b\"", "a.b]", "a.b c", "A.b", "a.b:0", "a.b:", ".b", "index.docker.io"})
    EXPECT_THAT(bad(fmt::format("images: {{registries: [{{name: '{}'}}]}}", name)),
                testing::ElementsAre(HasSubstr("is not a registry")))
        << name;
  EXPECT_THAT(bad("images: {registries: [{name: a.b, mirrors: [\"a.b/x\\\"\"]}]}"),
              testing::ElementsAre(HasSubstr("is not a mirror's URL")));
  EXPECT_THAT(bad("images: {gc_low_percent: 90}"),
              testing::ElementsAre(HasSubstr("images.gc_low_percent: 90 is more than")));
}

TEST(Config, UplinksAreNamesOrPatterns) {
  EXPECT_TRUE(good("").uplinks.empty());
  EXPECT_TRUE(good("network: {uplinks: auto}").uplinks.empty());
  EXPECT_THAT(good("network: {uplinks: [bond0, eno1.100, 'eth*']}").uplinks,
              testing::ElementsAre("bond0", "eno1.100", "eth*"));
  EXPECT_THAT(good("", {{"--set", "network.uplinks", "eth0, eth1"}}).uplinks,
              testing::ElementsAre("eth0", "eth1"));
  EXPECT_THAT(
      bad("network: {uplinks: [eth0, 'no such device']}"),
      testing::ElementsAre(AllOf(HasSubstr("network.uplinks"),
                                 HasSubstr("names such as eth0, bond0, eno1.100 or eth*"))));
}

// What start would refuse, --check-config refuses: each knob's whole range against the protocol's
// own check.
TEST(Config, WhatIsAcceptedTheGossipCoreAcceptsToo) {
  std::size_t accepted = 0;
  for (const unsigned interval : {50U, 51U, 99U, 100U, 101U, 500U, 999U, 1001U, 2001U, 60'000U})
    for (const unsigned timeout :
         {10U, 24U, 25U, 26U, 49U, 50U, 51U, 200U, 250U, 500U, 1000U, 1001U, 30'000U}) {
      const auto config = parse(
          fmt::format("gossip: {{probe_interval_ms: {}, probe_timeout_ms: {}}}", interval, timeout),
          "f.yaml", {}, "h1");
      gossip::ProtocolConfig protocol;
      protocol.name = "h1";
      protocol.start_id = 1;
      protocol.meta.gossip_address = *SocketAddress::parse("198.18.0.11:7946");
      gossip::set_probing(protocol, std::chrono::milliseconds(interval),
                          std::chrono::milliseconds(timeout));
      const auto valid = gossip::validate(protocol);
      EXPECT_EQ(config.has_value(), valid.has_value())
          << interval << ", " << timeout << ": " << (valid ? "" : valid.error().message());
      accepted += config.has_value() ? 1 : 0;
    }
  EXPECT_GT(accepted, 30U);
}

TEST(Config, WhatIsAcceptedTheAddressPoolsAcceptToo) {
  for (unsigned length = 1; length <= 32; ++length) {
    const auto config =
        parse(fmt::format("network: {{pod_cidr: 32.0.0.0/7, service_cidr: 10.96.0.0/16, "
                          "node_prefix_length: {}}}",
                          length),
              "f.yaml", {}, "h1");
    const auto pool = ipam::LeasePool::make(*IpPrefix::parse(fmt::format("32.0.0.0/{}", length)));
    // Not longer than /7: refused for its relation to pod_cidr, too.
    EXPECT_EQ(config.has_value(), pool.has_value() && length > 7) << length;
  }
  for (unsigned length = 16; length <= 128; ++length) {
    const auto config =
        parse(fmt::format("network: {{pod_cidr: '10.244.0.0/16,fd00::/15', "
                          "service_cidr: '10.96.0.0/16,fe00::/108', node_prefix_length_v6: {}}}",
                          length),
              "f.yaml", {}, "h1");
    const auto pool = ipam::LeasePool::make(*IpPrefix::parse(fmt::format("fd00::/{}", length)));
    EXPECT_EQ(config.has_value(), pool.has_value()) << length;
  }
}

TEST(Config, TwoFamiliesAreOneOfEachInBothRanges) {
  for (const char* yaml :
       {"network: {pod_cidr: '10.244.0.0/16,fd10:244::/48', service_cidr: '10.96.0.0/16,"
        "fd10:96::/112', lb_pool: '198.18.0.192/27,2001:db8:1::d00/120'}",
        "network:\n  pod_cidr: [10.244.0.0/16, 'fd10:244::/48']\n  service_cidr:\n"
        "    - 10.96.0.0/16\n    - fd10:96::/112\n  lb_pool: [198.18.0.192/27, "
        "2001:db8:1::d00/120]\n"}) {
    const Config config = good(yaml);
    ASSERT_EQ(config.pod_cidrs.size(), 2U) << yaml;
    EXPECT_EQ(config.pod_cidrs[1].to_string(), "fd10:244::/48");
    EXPECT_EQ(config.service_cidrs[1].to_string(), "fd10:96::/112");
    EXPECT_EQ(config.lb_pools[1].to_string(), "2001:db8:1::d00/120");
    EXPECT_EQ(config.node_prefix_length_v6, 64U);
  }
  const std::string both = "network: {pod_cidr: '10.244.0.0/16,fd10:244::/48', service_cidr: ";
  EXPECT_THAT(bad(both + "10.96.0.0/16}"),
              testing::ElementsAre(AllOf(HasSubstr("network.service_cidr: has no IPv6 prefix"),
                                         HasSubstr("fd10:244::/48"))));
  EXPECT_THAT(bad("network: {service_cidr: '10.96.0.0/16,fd10:96::/112'}"),
              testing::ElementsAre(HasSubstr("network.pod_cidr: has no IPv6 prefix")));
  EXPECT_THAT(bad("network: {pod_cidr: 'fd10:244::/48', service_cidr: 'fd10:96::/112'}"),
              testing::ElementsAre(HasSubstr("network.pod_cidr: fd10:244::/48 alone would be an "
                                             "IPv6-only cluster, which is not supported yet"),
                                   HasSubstr("network.service_cidr: fd10:96::/112 alone")));
  EXPECT_THAT(bad("network: {pod_cidr: 'fd10:244::/48,10.244.0.0/16', service_cidr: "
                  "'10.96.0.0/16,fd10:96::/112'}"),
              testing::ElementsAre(HasSubstr("put 10.244.0.0/16 before fd10:244::/48")));
  EXPECT_THAT(bad("network: {pod_cidr: '10.244.0.0/16,10.245.0.0/16'}"),
              testing::ElementsAre(HasSubstr("network.pod_cidr: has two IPv4 prefixes")));
  EXPECT_THAT(bad(both + "'10.96.0.0/16,fd10:244::/112'}"),
              testing::ElementsAre(HasSubstr("fd10:244::/112 overlaps pod_cidr fd10:244::/48")));
  EXPECT_THAT(bad("network: {pod_cidr: '10.244.0.0/16,fd10:244::/64', service_cidr: "
                  "'10.96.0.0/16,fd10:96::/112'}"),
              testing::ElementsAre(HasSubstr("network.node_prefix_length_v6: a /64 for each host "
                                             "does not fit into pod_cidr fd10:244::/64")));
  EXPECT_THAT(bad("network: {lb_pool: '2001:db8:1::d00/120'}"),
              testing::ElementsAre(HasSubstr("is IPv6, and service_cidr has no IPv6 prefix")));
}

TEST(Config, NamesThatAHostCannotHave) {
  EXPECT_EQ(good("node_name: " + std::string(63, 'a')).node_name.size(), 63U);
  // A label's value and a certificate's common name have no room for more.
  EXPECT_THAT(bad("node_name: " + std::string(64, 'a')),
              testing::ElementsAre(HasSubstr("at most 63 bytes")));
  // Gossip's own name for what the store has committed.
  EXPECT_THAT(bad("node_name: desired"), testing::ElementsAre(HasSubstr("other than desired")));
  for (const std::string& host : {std::string(64, 'a'), std::string("desired"), std::string("a_b")})
    EXPECT_THAT(texts(parse("", "f.yaml", {}, host).error()),
                testing::ElementsAre(AllOf(HasSubstr("f.yaml: node_name: the host's name"),
                                           HasSubstr("set node_name to a name"))));
}

TEST(Config, ASocketsPathHasItsBound) {
  const std::string folder = "/" + std::string(94, 'r');
  EXPECT_EQ(good("run_dir: " + folder).run_dir, folder);
  EXPECT_THAT(bad("run_dir: " + folder + "r"),
              testing::ElementsAre(AllOf(HasSubstr("f.yaml:1:10: run_dir: "),
                                         HasSubstr("choose a shorter folder"))));
}

TEST(Config, NotThereYetIsRefusedByName) {
  EXPECT_THAT(
      bad("manifests_dir: /etc/shoal/manifests"),
      testing::ElementsAre(AllOf(HasSubstr("manifests_dir"), HasSubstr("not act on it yet"))));
  EXPECT_THAT(bad("network: {pod_cidr: 10.244.1.0/16}"),
              testing::ElementsAre(HasSubstr("network.pod_cidr")));
}

TEST(Config, WhatIsNotYaml) {
  EXPECT_THAT(bad("a: b: c\n"), testing::ElementsAre(HasSubstr("f.yaml:1:")));
  EXPECT_THAT(bad("- 1\n"), testing::ElementsAre(HasSubstr("must be a mapping")));
  EXPECT_THAT(bad("log: {level: info}\n---\nlog: {level: warn}\n"),
              testing::ElementsAre(HasSubstr("one YAML document")));
  EXPECT_THAT(bad("? [a]\n: 1\n"), testing::ElementsAre(HasSubstr("plain word")));
  EXPECT_FALSE(bad("node_name: \"\\\n").empty());
}

TEST(Config, ManyProblemsAreBounded) {
  std::string yaml;
  for (int i = 0; i < 500; ++i)
    yaml += fmt::format("key{}: 1\n", i);
  EXPECT_EQ(bad(yaml).size(), kProblemsMax);
}

TEST(Config, ShippedExampleIsTheTable) {
  const auto shipped =
      read_file(SHOAL_SOURCE_DIR "/agent/config/shoald.example.yaml", kFileBytesMax);
  ASSERT_TRUE(shipped);
  EXPECT_EQ(*shipped, example())
      << "write it anew: shoald --print-example-config >agent/config/shoald.example.yaml";
  // And it says what is the default anyway.
  const Config from_example = good(*shipped);
  const Config defaults = good("");
  EXPECT_EQ(from_example.gossip.to_string(), defaults.gossip.to_string());
  EXPECT_EQ(from_example.node_name, defaults.node_name);
  EXPECT_EQ(from_example.lb_pools, defaults.lb_pools);
}

TEST(Config, MissingFile) {
  EXPECT_THAT(texts(load("/nonexistent/x.yaml", {}).error()),
              testing::ElementsAre(HasSubstr("/nonexistent/x.yaml")));
}

TEST(Keys, PathsAreUniqueAndSectionsStandTogether) {
  std::set<std::string_view> paths;
  std::set<std::string> sections;
  std::string last;
  for (const Key& key : keys()) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path;
    const std::string section(key.path.substr(0, key.path.find('.') + 1));
    if (section != last) {
      EXPECT_TRUE(sections.insert(section).second) << key.path;
    }
    last = section;
    if (key.type != Type::kNotYet) {
      EXPECT_FALSE(key.help.empty()) << key.path;
    }
  }
}

CommandLine line(std::vector<const char*> arguments) {
  auto parsed = parse_command_line(arguments);
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message());
  return parsed ? *parsed : CommandLine();
}

TEST(CommandLine, FlagsOfTheTable) {
  const CommandLine l =
      line({"--config", "/tmp/x", "--check-config", "--gossip-probe-interval-ms=900", "--state-dir",
            "/s", "--set", "log.level=debug"});
  EXPECT_EQ(l.file, "/tmp/x");
  EXPECT_TRUE(l.check_config);
  ASSERT_EQ(l.overrides.size(), 3U);
  EXPECT_EQ(l.overrides[0].key, "gossip.probe_interval_ms");
  EXPECT_EQ(l.overrides[1].value, "/s");
  EXPECT_EQ(l.overrides[2].key, "log.level");
  EXPECT_EQ(good("", l.overrides).gossip_probe_interval_ms, 900U);
}

TEST(CommandLine, WrongOnesSaySo) {
  for (const char* argument : {"--frob", "x", "--set", "--state-dir", "--check-config=1"})
    EXPECT_FALSE(parse_command_line(std::vector<const char*>{argument})) << argument;
  EXPECT_FALSE(parse_command_line(std::vector<const char*>{"--set", "a"}));
  EXPECT_THAT(bad("", line({"--set", "a.b=1"}).overrides),
              testing::ElementsAre(HasSubstr("--set: a.b: unknown key")));
  EXPECT_THAT(usage(), HasSubstr("--network-lb-pool"));
  EXPECT_FALSE(parse_command_line(std::vector<const char*>{"--force"}));
  EXPECT_FALSE(parse_command_line(std::vector<const char*>{"--dry-run"}));
}

TEST(CommandLine, Cleanup) {
  const CommandLine l = line({"--cleanup", "--dry-run"});
  EXPECT_TRUE(l.cleanup && l.dry_run);
  EXPECT_FALSE(l.force);
  EXPECT_TRUE(line({"--force", "--cleanup"}).force);
  EXPECT_FALSE(line({}).cleanup);
}

}  // namespace
}  // namespace shoal::config
