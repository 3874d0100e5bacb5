// SPDX-License-Identifier: Apache-2.0
// What is unique of a Service, through its life: addresses and node ports are taken, kept, moved
// and given back in the transactions that write it.
#include "tests/unit/agent/api/writer_fixture.h"

#include <gmock/gmock.h>
#include <set>

namespace shoal::api {
namespace {

class ServiceWriterTest : public WriterTest {
protected:
  static std::string str(const WriteResult& result, std::string_view path) {
    return result ? std::string(find_string(result->object->body, path)) : text(result);
  }
  static std::int64_t node_port(const WriteResult& result, std::size_t index = 0) {
    const json::array* ports = result ? find_array(result->object->body, "spec.ports") : nullptr;
    return ports && index < ports->size() ? find_int((*ports)[index].get_object(), "nodePort", 0)
                                          : -1;
  }
  // What the store says is taken, without the pool's common beginning.
  std::vector<std::string> taken(std::string_view pool) {
    std::vector<std::string> out;
    const std::string prefix = fmt::format("/alloc/{}/", pool);
    for (const auto& [key, event] : store_.values())
      if (key.starts_with(prefix))
        out.push_back(key.substr(prefix.size()));
    return out;
  }
  // As a client does it that has read the object and changes some of it.
  WriteResult change(std::string_view name, const std::function<void(json::object&)>& edit) {
    json::object body = replica_.get("services", "default", name)->body;
    edit(body["spec"].get_object());
    return update(std::move(body));
  }
};

// ---- addresses

TEST_F(ServiceWriterTest, ClusterIpsAreUniqueAndGivenBack) {
  std::set<std::string> ips;
  for (int i = 0; i < 14; ++i) {  // a /28 without its network and broadcast address
    const auto made = create(service(fmt::format("s{}", i)));
    ASSERT_TRUE(made) << text(made);
    const std::string ip(find_string(made->object->body, "spec.clusterIP"));
    EXPECT_TRUE(ips.insert(ip).second) << ip;
    EXPECT_TRUE(store_.values().contains("/alloc/cluster-ips/" + ip));
    EXPECT_EQ(json::serialize(*find_path(made->object->body, "spec.clusterIPs")),
              "[\"" + ip + "\"]");
  }
  EXPECT_FALSE(ips.contains("10.96.0.0"));
  EXPECT_FALSE(ips.contains("10.96.0.15"));
  const auto full = create(service("more"));
  EXPECT_EQ(full.error().code, 507);
  EXPECT_THAT(full.error().message, testing::HasSubstr("no address is free in 10.96.0.0/28"));
  ASSERT_TRUE(remove("services", "default", "s3"));
  EXPECT_TRUE(create(service("more")));
}

TEST_F(ServiceWriterTest, RequestedAddressesAreHonouredOrRefused) {
  const auto made = create(service("a", R"(,"clusterIP":"10.96.0.5")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_THAT(text(create(service("b", R"(,"clusterIP":"10.96.0.5")"))),
              testing::HasSubstr("spec.clusterIP: Invalid value: \"10.96.0.5\": provided IP is "
                                 "already allocated"));
  EXPECT_THAT(text(create(service("b", R"(,"clusterIP":"10.97.0.5")"))),
              testing::HasSubstr("provided IP is not in the valid range (10.96.0.0/28"));
  EXPECT_THAT(
      text(patch("services", "a",
                 R"({"spec":{"clusterIP":"10.96.0.6","clusterIPs":["10.96.0.6"]}})")),
      testing::HasSubstr("spec.clusterIP: Invalid value: \"10.96.0.6\": field is immutable"));
}

TEST_F(ServiceWriterTest, AnAddressTakenMeanwhileIsReplacedByAnother) {
  store_.rivals.push_back([this] {
    // The rival takes every address but one.
    store::Txn txn;
    for (int i = 1; i < 14; ++i)
      txn.ops.push_back({fmt::format("/alloc/cluster-ips/10.96.0.{}", i), "{}"});
    store_.commit(txn);
  });
  const auto made = create(service("a"));
  if (!made)  // each lost race brings news of the keys it lost only
    EXPECT_EQ(made.error().reason, "Conflict") << text(made);
  else
    EXPECT_EQ(find_string(made->object->body, "spec.clusterIP"), "10.96.0.14");
}

TEST_F(ServiceWriterTest, LoadBalancerAddressesFollowTheType) {
  const auto made = create(service("a", R"(,"type":"LoadBalancer")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_EQ(json::serialize(*find_path(made->object->body, "status.loadBalancer")),
            R"({"ingress":[{"ip":"198.18.0.201","ipMode":"VIP"}]})");
  ASSERT_TRUE(store_.values().contains("/alloc/load-balancer-ips/198.18.0.201"));
  const auto moved = patch("services", "a", R"({"spec":{"loadBalancerIP":"198.18.0.202"}})");
  ASSERT_TRUE(moved) << text(moved);
  EXPECT_FALSE(store_.values().contains("/alloc/load-balancer-ips/198.18.0.201"));
  EXPECT_TRUE(store_.values().contains("/alloc/load-balancer-ips/198.18.0.202"));
  // A controller that writes the status cannot take the address away.
  json::object report = moved->object->body;
  report["status"] = json::object{{"conditions", json::array()}};
  ASSERT_TRUE(status(report));
  EXPECT_THAT(json::serialize(*find_path(replica_.get("services", "default", "a")->body, "status")),
              testing::HasSubstr("198.18.0.202"));
  ASSERT_TRUE(
      patch("services", "a",
            R"({"spec":{"type":"ClusterIP","loadBalancerIP":null,"externalTrafficPolicy":null}})"));
  EXPECT_FALSE(store_.values().contains("/alloc/load-balancer-ips/198.18.0.202"));
  ASSERT_TRUE(create(service("b", R"(,"type":"LoadBalancer")")));
  ASSERT_TRUE(remove("services", "default", "b"));
  for (const auto& [key, event] : store_.values())
    EXPECT_EQ(key.find("/alloc/load-balancer-ips/"), std::string::npos) << key;
}

TEST_F(ServiceWriterTest, ALoadBalancerWithoutAnAddressIsPending) {
  const auto shown = [&](std::string_view name) {
    return json::serialize(
        *find_path(replica_.get("services", "default", name)->body, "status.loadBalancer"));
  };
  options_.load_balancer_pools = {*IpPrefix::parse("198.18.0.200/32")};
  writer_ = make(options_);
  ASSERT_TRUE(create(service("a", R"(,"type":"LoadBalancer")")));
  for (const auto& [name, more] : {std::pair("full", ""),
                                   {"taken", R"(,"loadBalancerIP":"198.18.0.200")"},
                                   {"outside", R"(,"loadBalancerIP":"203.0.113.7")"}}) {
    const auto made = create(service(name, fmt::format(R"(,"type":"LoadBalancer"{})", more)));
    ASSERT_TRUE(made) << text(made);
    EXPECT_EQ(shown(name), "{}");
  }
  EXPECT_THAT(taken("load-balancer-ips"), testing::ElementsAre("198.18.0.200"));
  // Asking for what it cannot have costs the address that it had.
  ASSERT_TRUE(patch("services", "a", R"({"spec":{"loadBalancerIP":"203.0.113.8"}})"));
  EXPECT_EQ(shown("a"), "{}");
  EXPECT_THAT(taken("load-balancer-ips"), testing::IsEmpty());
  // Written again, as the controller does, it has what is free by then.
  ASSERT_TRUE(update(replica_.get("services", "default", "full")->body));
  EXPECT_EQ(shown("full"), R"({"ingress":[{"ip":"198.18.0.200","ipMode":"VIP"}]})");

  writer_ = make({.service_cidrs = options_.service_cidrs});
  ASSERT_TRUE(create(service("none", R"(,"type":"LoadBalancer")")));
  EXPECT_EQ(shown("none"), "{}");
}

TEST_F(ServiceWriterTest, PoolsAreUsedInTheirOrder) {
  options_.load_balancer_pools = {*IpPrefix::parse("198.18.0.200/31"),
                                  *IpPrefix::parse("198.18.9.0/30")};
  writer_ = make(options_);
  for (int i = 0; i < 4; ++i)
    ASSERT_TRUE(create(service(fmt::format("s{}", i), R"(,"type":"LoadBalancer")")));
  EXPECT_THAT(taken("load-balancer-ips"),
              testing::ElementsAre("198.18.0.200", "198.18.0.201", "198.18.9.1", "198.18.9.2"));
  ASSERT_TRUE(create(service("more", R"(,"type":"LoadBalancer")")));
  EXPECT_EQ(taken("load-balancer-ips").size(), 4U);
}

TEST_F(ServiceWriterTest, LoadBalancersOfAnotherClassAreLeftAlone) {
  const auto made =
      create(service("a", R"(,"type":"LoadBalancer","loadBalancerClass":"other.dev/lb")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_THAT(taken("load-balancer-ips"), testing::IsEmpty());
  EXPECT_EQ(json::serialize(*find_path(made->object->body, "status.loadBalancer")), "{}");
  EXPECT_NE(node_port(made), 0);
  // Their own controller writes the status, and an update of the spec keeps it.
  json::object report = made->object->body;
  report["status"] = parse(R"({"loadBalancer":{"ingress":[{"ip":"203.0.113.1"}]}})");
  ASSERT_TRUE(status(report));
  const auto patched = patch("services", "a", R"({"spec":{"selector":{"app":"api"}}})");
  EXPECT_EQ(json::serialize(*find_path(patched->object->body, "status.loadBalancer")),
            R"({"ingress":[{"ip":"203.0.113.1"}]})");
  EXPECT_THAT(
      text(patch("services", "a", R"({"spec":{"loadBalancerClass":"shoal.dev/announce"}})")),
      testing::HasSubstr("spec.loadBalancerClass: Invalid value: \"shoal.dev/announce\": "
                         "may not change once set"));
  ASSERT_TRUE(remove("services", "default", "a"));
  const auto own =
      create(service("b", R"(,"type":"LoadBalancer","loadBalancerClass":"shoal.dev/announce")"));
  ASSERT_TRUE(own) << text(own);
  EXPECT_THAT(taken("load-balancer-ips"), testing::ElementsAre("198.18.0.201"));
  // A ClusterIP's status has no load balancer, whoever writes it.
  ASSERT_TRUE(create(service("c")));
  report = replica_.get("services", "default", "c")->body;
  report["status"] = parse(R"({"loadBalancer":{"ingress":[{"ip":"203.0.113.1"}]}})");
  ASSERT_TRUE(status(report));
  EXPECT_EQ(json::serialize(
                *find_path(replica_.get("services", "default", "c")->body, "status.loadBalancer")),
            "{}");
}

// ---- two families

class DualStackWriterTest : public ServiceWriterTest {
protected:
  DualStackWriterTest() {
    options_.service_cidrs.push_back(*IpPrefix::parse("fd10:96::/112"));
    options_.load_balancer_pools.push_back(*IpPrefix::parse("2001:db8:1::d00/120"));
    writer_ = make(options_);
  }
  static std::string families(const WriteResult& result) {
    if (!result)
      return text(result);
    std::string out(find_string(result->object->body, "spec.ipFamilyPolicy"));
    for (const json::value& family : *find_array(result->object->body, "spec.ipFamilies"))
      out += " " + std::string(family.as_string());
    return out;
  }
  static std::size_t addresses(const WriteResult& result) {
    return result ? find_array(result->object->body, "spec.clusterIPs")->size() : 0;
  }
};

TEST_F(DualStackWriterTest, FamiliesFollowThePolicy) {
  EXPECT_EQ(families(create(service("a"))), "SingleStack IPv4");
  const auto prefer = create(service("b", R"(,"ipFamilyPolicy":"PreferDualStack")"));
  EXPECT_EQ(families(prefer), "PreferDualStack IPv4 IPv6");
  EXPECT_EQ(addresses(prefer), 2U);
  EXPECT_EQ(families(create(service("c", R"(,"ipFamilyPolicy":"RequireDualStack",
                                           "ipFamilies":["IPv6"])"))),
            "RequireDualStack IPv6 IPv4");
  const auto six = create(service("d", R"(,"ipFamilies":["IPv6"])"));
  EXPECT_EQ(families(six), "SingleStack IPv6");
  EXPECT_THAT(str(six, "spec.clusterIP"), testing::StartsWith("fd10:96::"));
  const auto asked =
      create(service("e", R"(,"ipFamilyPolicy":"PreferDualStack","clusterIP":"10.96.0.7",
              "clusterIPs":["10.96.0.7","fd10:96::7"])"));
  ASSERT_TRUE(asked) << text(asked);
  EXPECT_EQ(json::serialize(*find_path(asked->object->body, "spec.clusterIPs")),
            R"(["10.96.0.7","fd10:96::7"])");
  EXPECT_THAT(text(create(service("f", R"(,"externalIPs":["2001:db8::9"])"))),
              testing::HasSubstr("IPv6 is not among this service's ipFamilies"));
}

TEST_F(DualStackWriterTest, ASecondFamilyComesAndGoesAndThePrimaryStays) {
  const auto made = create(service("a"));
  const std::string primary = str(made, "spec.clusterIP");
  const auto up = patch("services", "a", R"({"spec":{"ipFamilyPolicy":"PreferDualStack"}})");
  EXPECT_EQ(families(up), "PreferDualStack IPv4 IPv6");
  EXPECT_EQ(str(up, "spec.clusterIP"), primary);
  EXPECT_EQ(taken("cluster-ips").size(), 2U);
  EXPECT_THAT(
      text(patch("services", "a", fmt::format(R"({{"spec":{{"clusterIPs":["{}"]}}}})", primary))),
      testing::HasSubstr("must be set to 'SingleStack' when releasing"));
  ASSERT_TRUE(create(service("headless", R"(,"clusterIP":"None")")));
  EXPECT_THAT(text(patch("services", "headless", R"({"spec":{"ipFamilies":["IPv6"]}})")),
              testing::HasSubstr("spec.ipFamilies[0]: Invalid value: \"IPv6\": may not change"));
  // Sent back as it was, but for the policy: the second one goes.
  const auto down = patch("services", "a", R"({"spec":{"ipFamilyPolicy":"SingleStack"}})");
  EXPECT_EQ(families(down), "SingleStack IPv4");
  EXPECT_EQ(str(down, "spec.clusterIP"), primary);
  EXPECT_THAT(taken("cluster-ips"), testing::ElementsAre(primary));
  ASSERT_TRUE(patch("services", "a", R"({"spec":{"ipFamilyPolicy":"RequireDualStack"}})"));
  ASSERT_TRUE(remove("services", "default", "a"));
  EXPECT_THAT(taken("cluster-ips"), testing::IsEmpty());
}

TEST_F(DualStackWriterTest, ALoadBalancerHasAnAddressOfEachFamily) {
  const auto made =
      create(service("a", R"(,"type":"LoadBalancer","ipFamilyPolicy":"PreferDualStack")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_EQ(json::serialize(*find_path(made->object->body, "status.loadBalancer.ingress")),
            R"([{"ip":"198.18.0.201","ipMode":"VIP"},{"ip":"2001:db8:1::d01","ipMode":"VIP"}])");
  ASSERT_TRUE(patch("services", "a", R"({"spec":{"ipFamilyPolicy":"SingleStack"}})"));
  EXPECT_THAT(taken("load-balancer-ips"), testing::ElementsAre("198.18.0.201"));
  options_.load_balancer_pools = {*IpPrefix::parse("198.18.0.192/26")};
  writer_ = make(options_);
  const auto content =
      create(service("b", R"(,"type":"LoadBalancer","ipFamilyPolicy":"PreferDualStack")"));
  ASSERT_TRUE(content) << text(content);
  EXPECT_EQ(find_array(content->object->body, "status.loadBalancer.ingress")->size(), 1U);
  const auto half =
      create(service("c", R"(,"type":"LoadBalancer","ipFamilyPolicy":"RequireDualStack")"));
  ASSERT_TRUE(half) << text(half);
  EXPECT_EQ(find_array(half->object->body, "status.loadBalancer.ingress")->size(), 1U);
  const auto pending = create(service("d", R"(,"type":"LoadBalancer","ipFamilies":["IPv6"])"));
  ASSERT_TRUE(pending) << text(pending);
  EXPECT_EQ(find_array(pending->object->body, "status.loadBalancer.ingress"), nullptr);
}

TEST_F(ServiceWriterTest, AClusterOfOneFamilyHasNoSecond) {
  EXPECT_THAT(text(create(service("a", R"(,"ipFamilyPolicy":"RequireDualStack")"))),
              testing::HasSubstr("this cluster is not configured for dual-stack services"));
  EXPECT_THAT(text(create(service("a", R"(,"ipFamilies":["IPv6"])"))),
              testing::HasSubstr("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on "
                                 "this cluster"));
  const auto made = create(service("a", R"(,"ipFamilyPolicy":"PreferDualStack")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_EQ(find_array(made->object->body, "spec.clusterIPs")->size(), 1U);
}

// ---- node ports

TEST_F(ServiceWriterTest, NodePortsAreAllottedKeptAndGivenBack) {
  const auto made = create(service("a", R"(,"type":"NodePort")"));
  ASSERT_TRUE(made) << text(made);
  const std::int64_t port = node_port(made);
  // The first 86 of 2768 are for those who ask.
  EXPECT_GE(port, 30086);
  EXPECT_LE(port, 32767);
  const std::string item = fmt::format("TCP-{}", port);
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre(item));
  // Sent back without it, or with 0: the same.
  ASSERT_TRUE(change("a", [](json::object& spec) {
    spec["ports"] = parse(R"({"p":[{"port":80,
      "targetPort":"http"}]})")["p"];
  }));
  EXPECT_EQ(node_port(patch("services", "a", R"({"spec":{"ports":[{"port":81,"nodePort":0}]}})")),
            port)
      << "the only port has the only port's name";
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre(item));
  // Another one is asked for: the first goes.
  EXPECT_EQ(
      node_port(patch("services", "a", R"({"spec":{"ports":[{"port":81,"nodePort":30007}]}})")),
      30007);
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre("TCP-30007"));
  ASSERT_TRUE(patch("services", "a", R"({"spec":{"type":"ClusterIP"}})"));
  EXPECT_THAT(taken("node-ports"), testing::IsEmpty());
  EXPECT_EQ(node_port(WriteResult(Written{replica_.get("services", "default", "a"), {}})), 0);
  ASSERT_TRUE(patch("services", "a", R"({"spec":{"type":"NodePort"}})"));
  EXPECT_EQ(taken("node-ports").size(), 1U);
  ASSERT_TRUE(remove("services", "default", "a"));
  EXPECT_THAT(taken("node-ports"), testing::IsEmpty());
}

TEST_F(ServiceWriterTest, NodePortsThatAreAskedForAreHonouredOrRefused) {
  const auto ask = [&](std::string_view name, std::string_view ports) {
    return create(service(name, fmt::format(R"(,"type":"NodePort","ports":[{}])", ports)));
  };
  ASSERT_TRUE(ask("a", R"({"port":80,"nodePort":30080})"));
  EXPECT_EQ(text(ask("b", R"({"port":80,"nodePort":30080})")),
            "422 Invalid: Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: "
            "provided port is already allocated");
  EXPECT_EQ(text(ask("b", R"({"port":80,"nodePort":8080})")),
            "422 Invalid: Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 8080: "
            "provided port is not in the valid range. The range of valid ports is 30000-32767");
  EXPECT_TRUE(ask("b", R"({"port":80,"protocol":"UDP","nodePort":30080})"))
      << "protocols do not meet";
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre("TCP-30080", "UDP-30080"));
  EXPECT_EQ(text(patch("services", "b", R"({"spec":{"ports":[{"port":80,"nodePort":30080}]}})")),
            "422 Invalid: Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: "
            "provided port is already allocated");
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre("TCP-30080", "UDP-30080"));
}

TEST_F(ServiceWriterTest, OnePortOfTwoProtocolsHasOneNodePort) {
  const auto made = create(
      service("dns", R"(,"type":"NodePort","ports":[{"name":"udp","port":53,"protocol":"UDP"},
          {"name":"tcp","port":53},{"name":"metrics","port":9153}])"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_EQ(node_port(made, 0), node_port(made, 1));
  EXPECT_NE(node_port(made, 0), node_port(made, 2));
  EXPECT_EQ(taken("node-ports").size(), 3U);
  // Where one is asked for, the other follows; unless another service has that.
  const auto asked = create(service("b", R"(,"type":"NodePort","ports":[
      {"name":"udp","port":53,"protocol":"UDP"},{"name":"tcp","port":53,"nodePort":30053}])"));
  ASSERT_TRUE(asked) << text(asked);
  EXPECT_EQ(node_port(asked, 0), 30053);
  ASSERT_TRUE(create(service("c", R"(,"type":"NodePort","ports":[
      {"port":1,"protocol":"UDP","nodePort":30054}])")));
  const auto apart = create(service("d", R"(,"type":"NodePort","ports":[
      {"name":"udp","port":53,"protocol":"UDP"},{"name":"tcp","port":53,"nodePort":30054}])"));
  ASSERT_TRUE(apart) << text(apart);
  EXPECT_NE(node_port(apart, 0), 30054);
  EXPECT_EQ(node_port(apart, 1), 30054);
}

TEST_F(ServiceWriterTest, PortsMayExchangeTheirNodePorts) {
  ASSERT_TRUE(create(service("a", R"(,"type":"NodePort","ports":[
      {"name":"a","port":80,"nodePort":30001},{"name":"b","port":81,"nodePort":30002}])")));
  const auto swapped = patch("services", "a", R"({"spec":{"ports":[
      {"name":"a","port":80,"nodePort":30002},{"name":"b","port":81,"nodePort":30001}]}})");
  ASSERT_TRUE(swapped) << text(swapped);
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre("TCP-30001", "TCP-30002"));
  // One port takes the other's, which gets another.
  const auto moved = patch("services", "a", R"({"spec":{"ports":[
      {"name":"a","port":80,"nodePort":30001},{"name":"b","port":81}]}})");
  ASSERT_TRUE(moved) << text(moved);
  EXPECT_EQ(node_port(moved, 0), 30001);
  EXPECT_NE(node_port(moved, 1), 30001);
  EXPECT_EQ(taken("node-ports").size(), 2U);
}

TEST_F(ServiceWriterTest, AFullRangeSaysHowToMendIt) {
  options_.node_ports = {31000, 31002};
  writer_ = make(options_);
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(create(service(fmt::format("s{}", i), R"(,"type":"NodePort")")));
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre("TCP-31000", "TCP-31001", "TCP-31002"));
  const auto full = create(service("more", R"(,"type":"NodePort")"));
  EXPECT_EQ(
      text(full),
      "507 InsufficientStorage: Service \"more\": spec.ports[0].nodePort: no TCP port is free "
      "in 31000-31002: delete a service, or start the cluster with a wider "
      "network.node_port_range");
  EXPECT_TRUE(
      create(service("udp", R"(,"type":"NodePort","ports":[{"port":53,"protocol":"UDP"}])")));
  const std::int64_t freed =
      node_port(WriteResult(Written{replica_.get("services", "default", "s1"), {}}));
  ASSERT_TRUE(remove("services", "default", "s1"));
  EXPECT_EQ(node_port(create(service("more", R"(,"type":"NodePort")"))), freed);
}

TEST_F(ServiceWriterTest, ANodePortTakenMeanwhileIsReplacedByAnother) {
  options_.node_ports = {31000, 31001};
  writer_ = make(options_);
  store_.rivals.push_back([this] { store_.commit({{}, {{"/alloc/node-ports/TCP-31000", "{}"}}}); });
  const auto made = create(service("a", R"(,"type":"NodePort")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_EQ(node_port(made), 31001);
}

TEST_F(ServiceWriterTest, LoadBalancersMayDoWithoutNodePorts) {
  const auto with = create(service("a", R"(,"type":"LoadBalancer")"));
  EXPECT_GT(node_port(with), 0);
  const auto without =
      create(service("b", R"(,"type":"LoadBalancer","allocateLoadBalancerNodePorts":false)"));
  EXPECT_EQ(node_port(without), 0);
  EXPECT_EQ(taken("node-ports").size(), 1U);
  // Those that are there stay until they are taken away.
  const auto kept = patch("services", "a", R"({"spec":{"allocateLoadBalancerNodePorts":false}})");
  EXPECT_EQ(node_port(kept), node_port(with));
  const auto asked = patch("services", "b", R"({"spec":{"ports":[{"port":80,"nodePort":30001}]}})");
  EXPECT_EQ(node_port(asked), 30001);
}

TEST_F(ServiceWriterTest, HealthCheckPortsComeAndGoWithThePolicy) {
  const auto made = create(service("a", R"(,"type":"LoadBalancer","externalTrafficPolicy":"Local",
          "allocateLoadBalancerNodePorts":false)"));
  ASSERT_TRUE(made) << text(made);
  const auto port = [](const WriteResult& result) {
    return find_int(result->object->body, "spec.healthCheckNodePort", 0);
  };
  const std::int64_t allotted = port(made);
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre(fmt::format("TCP-{}", allotted)));
  EXPECT_EQ(port(change("a", [](json::object& spec) { spec.erase("healthCheckNodePort"); })),
            allotted);
  const auto cluster = patch("services", "a", R"({"spec":{"externalTrafficPolicy":"Cluster"}})");
  ASSERT_TRUE(cluster) << text(cluster);
  EXPECT_EQ(port(cluster), 0);
  EXPECT_THAT(taken("node-ports"), testing::IsEmpty());
  const auto asked = patch("services", "a", R"({"spec":{"externalTrafficPolicy":"Local",
      "healthCheckNodePort":30010}})");
  ASSERT_TRUE(asked) << text(asked);
  EXPECT_THAT(taken("node-ports"), testing::ElementsAre("TCP-30010"));
  EXPECT_THAT(text(create(service("b", R"(,"type":"NodePort","ports":[
                  {"port":80,"nodePort":30010}])"))),
              testing::HasSubstr("provided port is already allocated"));
  ASSERT_TRUE(remove("services", "default", "a"));
  EXPECT_THAT(taken("node-ports"), testing::IsEmpty());
}

TEST_F(ServiceWriterTest, WhatOneTransactionCannotHoldIsRefusedWithTheWayOut) {
  std::string ports;
  for (int i = 1; i <= 127; ++i)
    ports += fmt::format(R"({}{{"name":"p{}","port":{}}})", i == 1 ? "" : ",", i, i);
  const auto refused =
      create(service("a", fmt::format(R"(,"type":"NodePort","ports":[{}])", ports)));
  EXPECT_EQ(refused.error().code, 422);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("spec.ports: Too many: 128 addresses"));
  EXPECT_TRUE(create(service("a", fmt::format(R"(,"ports":[{}])", ports))));
}

// ---- changes of type, as upstream's end-to-end tests make them

TEST_F(ServiceWriterTest, ClusterIpToExternalNameAndBack) {
  ASSERT_TRUE(create(service("a")));
  ASSERT_EQ(taken("cluster-ips").size(), 1U);
  const auto name = change("a", [](json::object& spec) {
    spec["type"] = "ExternalName";
    spec["externalName"] = "db.example.org";
  });
  ASSERT_TRUE(name) << text(name);
  EXPECT_THAT(taken("cluster-ips"), testing::IsEmpty());
  for (const char* field : {"clusterIP", "clusterIPs", "ipFamilies", "internalTrafficPolicy"})
    EXPECT_EQ(find_object(name->object->body, "spec")->if_contains(field), nullptr) << field;
  const auto back = change("a", [](json::object& spec) {
    spec["type"] = "ClusterIP";
    spec["externalName"] = "";
    spec["ports"] = json::array{json::object{{"name", "http"}, {"port", 80}, {"protocol", "TCP"}}};
  });
  ASSERT_TRUE(back) << text(back);
  EXPECT_THAT(taken("cluster-ips"), testing::ElementsAre(str(back, "spec.clusterIP")));
  EXPECT_EQ(find_object(back->object->body, "spec")->if_contains("externalName"), nullptr);
}

TEST_F(ServiceWriterTest, NodePortToExternalNameAndBack) {
  ASSERT_TRUE(create(service("a", R"(,"type":"NodePort")")));
  const auto name = change("a", [](json::object& spec) {
    spec["type"] = "ExternalName";
    spec["externalName"] = "db.example.org";
  });
  ASSERT_TRUE(name) << text(name);
  EXPECT_THAT(taken("cluster-ips"), testing::IsEmpty());
  EXPECT_THAT(taken("node-ports"), testing::IsEmpty());
  EXPECT_EQ(node_port(name), 0);
  const auto back = patch("services", "a", R"({"spec":{"type":"NodePort","externalName":null}})");
  ASSERT_TRUE(back) << text(back);
  EXPECT_EQ(taken("cluster-ips").size(), 1U);
  EXPECT_EQ(taken("node-ports").size(), 1U);
  ASSERT_TRUE(remove("services", "default", "a"));
  EXPECT_THAT(taken("cluster-ips"), testing::IsEmpty());
}

TEST_F(ServiceWriterTest, LoadBalancerToClusterIpByATypeAlone) {
  ASSERT_TRUE(create(service("a", R"(,"type":"LoadBalancer","externalTrafficPolicy":"Local",
      "loadBalancerIP":"198.18.0.202","loadBalancerSourceRanges":["10.0.0.0/8"])")));
  const auto plain = patch("services", "a", R"({"spec":{"type":"ClusterIP"}})");
  ASSERT_TRUE(plain) << text(plain);
  EXPECT_THAT(taken("node-ports"), testing::IsEmpty());
  EXPECT_THAT(taken("load-balancer-ips"), testing::IsEmpty());
  EXPECT_EQ(json::serialize(*find_path(plain->object->body, "status.loadBalancer")), "{}");
}

TEST_F(ServiceWriterTest, HeadlessServicesTakeNothing) {
  const auto made = create(service("a", R"(,"clusterIP":"None")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_EQ(json::serialize(*find_path(made->object->body, "spec.clusterIPs")), R"(["None"])");
  EXPECT_THAT(taken("cluster-ips"), testing::IsEmpty());
  EXPECT_THAT(
      text(patch("services", "a", R"({"spec":{"clusterIP":"10.96.0.5",
                                                     "clusterIPs":["10.96.0.5"]}})")),
      testing::HasSubstr("spec.clusterIP: Invalid value: \"10.96.0.5\": field is immutable"));
  ASSERT_TRUE(create(service("b")));
  EXPECT_THAT(
      text(patch("services", "b", R"({"spec":{"clusterIP":"None","clusterIPs":["None"]}})")),
      testing::HasSubstr("spec.clusterIP: Invalid value: \"None\": field is immutable"));
  ASSERT_TRUE(remove("services", "default", "a"));
}

}  // namespace
}  // namespace shoal::api
