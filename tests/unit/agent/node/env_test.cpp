// SPDX-License-Identifier: Apache-2.0
// Names in quotes are those of the Kubernetes tests for the same behaviour.
#include "agent/node/env.h"

#include "netplane/base/strings.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>
#include <map>

namespace shoal::node {
namespace {

namespace json = boost::json;
using Texts = std::vector<std::string>;

store::ObjectPtr object(std::string name, std::string_view body) {
  auto out = std::make_shared<store::Object>();
  out->name = std::move(name);
  out->body = json::parse(body).get_object();
  return out;
}

class EnvTest : public ::testing::Test {
protected:
  EnvTest() {
    spec.ns = "shop";
    spec.name = "web-1";
    spec.uid = "u-1";
    facts.pod = object("web-1", R"({"metadata":{"labels":{"app":"web","a.b/c":"x"}}})");
    facts.pod_ips = {*IpAddress::parse("10.244.1.5"), *IpAddress::parse("fd10::5")};
    facts.host_ips = {*IpAddress::parse("198.18.0.11")};
    facts.node_name = "h1";
    facts.allocatable = {1900, 1 << 30, 2 << 20};
    facts.find = [this](std::string_view resource, std::string_view name) {
      const auto at = objects.find(std::string(resource) + "/" + std::string(name));
      return at == objects.end() ? nullptr : at->second;
    };
  }
  // Of one container with these members; an error is one line.
  Texts env(std::string_view members) {
    const json::object container = json::parse("{" + std::string(members) + "}").get_object();
    spec.containers.assign(1, {});
    spec.containers[0].name = "main";
    spec.containers[0].env = read_env(container);
    spec.containers[0].env_from = read_env_from(container);
    spec.containers[0].limits = limits;
    spec.containers[0].storage_limit = storage_limit;
    spec.containers[0].storage_request = 4096;
    auto out = container_env(spec, 0, facts);
    return out ? *out : Texts{"!" + out.error()};
  }

  PodSpec spec;
  EnvFacts facts;
  runtime::ResourceLimits limits;
  std::optional<std::int64_t> storage_limit;
  std::map<std::string, store::ObjectPtr> objects;
};

// "should allow substituting values in a container's command", "composing env vars into new env
// vars"
TEST_F(EnvTest, ValuesNameWhatIsBeforeThem) {
  EXPECT_EQ(env(R"x("env":[{"name":"A","value":"1"},{"name":"B","value":"$(A)2$(C)"},
                          {"name":"C","value":"$$(A)"},{"name":"A","value":"3"}])x"),
            (Texts{"B=12$(C)", "C=$(A)", "A=3"}));
}

// "should provide pod name, namespace and IP address as env vars", "should provide host IP",
// "should provide pod UID"
TEST_F(EnvTest, FieldsOfThePod) {
  const auto field = [&](std::string_view path) {
    return env(fmt::format(
        R"("env":[{{"name":"X","valueFrom":{{"fieldRef":{{"fieldPath":"{}"}}}}}}])", path))[0];
  };
  EXPECT_EQ(field("metadata.name"), "X=web-1");
  EXPECT_EQ(field("metadata.namespace"), "X=shop");
  EXPECT_EQ(field("metadata.uid"), "X=u-1");
  EXPECT_EQ(field("metadata.labels['app']"), "X=web");
  EXPECT_EQ(field("metadata.labels['a.b/c']"), "X=x");
  EXPECT_EQ(field("metadata.annotations['none']"), "X=");
  EXPECT_EQ(field("spec.nodeName"), "X=h1");
  EXPECT_EQ(field("status.podIP"), "X=10.244.1.5");
  EXPECT_EQ(field("status.podIPs"), "X=10.244.1.5,fd10::5");
  EXPECT_EQ(field("status.hostIP"), "X=198.18.0.11");
}

// "should provide container's limits.cpu/memory and requests.cpu/memory as env vars", "should
// provide default limits.cpu/memory from node allocatable"
TEST_F(EnvTest, Resources) {
  const auto resource = [&](std::string_view name, std::string_view divisor) {
    return env(fmt::format(
        R"("env":[{{"name":"X","valueFrom":{{"resourceFieldRef":{{"resource":"{}","divisor":"{}"}}}}}}])",
        name, divisor))[0];
  };
  EXPECT_EQ(resource("limits.cpu", ""), "X=2");
  EXPECT_EQ(resource("limits.memory", "0"), "X=1073741824");
  EXPECT_EQ(resource("requests.cpu", ""), "X=0");
  EXPECT_EQ(resource("limits.ephemeral-storage", "1Mi"), "X=2");
  EXPECT_EQ(resource("requests.ephemeral-storage", "1Ki"), "X=4");
  storage_limit = 5 << 20;
  EXPECT_EQ(resource("limits.ephemeral-storage", "1Mi"), "X=5");
  limits.cpu_milli = 1250;
  limits.cpu_request_milli = 250;
  limits.memory_bytes = 64 << 20;
  limits.memory_request_bytes = 32 << 20;
  EXPECT_EQ(resource("limits.cpu", "1m"), "X=1250");
  EXPECT_EQ(resource("limits.cpu", "1"), "X=2");
  EXPECT_EQ(resource("requests.cpu", "1m"), "X=250");
  EXPECT_EQ(resource("limits.memory", "1Mi"), "X=64");
  EXPECT_EQ(resource("requests.memory", "1"), "X=33554432");
}

// "should be consumable via environment variable", "should be consumable from pods in env vars"
TEST_F(EnvTest, KeysOfConfigMapsAndSecrets) {
  objects["configmaps/c"] = object("c", R"({"data":{"k":"v"}})");
  objects["secrets/s"] = object("s", R"({"data":{"k":"c2VjcmV0"}})");
  const auto key = [&](std::string_view kind, std::string_view name, std::string_view of,
                       bool optional) {
    return env(fmt::format(
        R"("env":[{{"name":"X","valueFrom":{{"{}":{{"name":"{}","key":"{}","optional":{}}}}}}}])",
        kind, name, of, optional));
  };
  EXPECT_EQ(key("configMapKeyRef", "c", "k", false), Texts{"X=v"});
  EXPECT_EQ(key("secretKeyRef", "s", "k", false), Texts{"X=secret"});
  EXPECT_EQ(key("configMapKeyRef", "s", "k", false), Texts{"!configmap \"s\" not found"});
  EXPECT_EQ(key("secretKeyRef", "c", "k", false), Texts{"!secret \"c\" not found"});
  EXPECT_EQ(key("configMapKeyRef", "c", "x", false),
            Texts{"!couldn't find key x in ConfigMap shop/c"});
  EXPECT_EQ(key("secretKeyRef", "s", "x", false), Texts{"!couldn't find key x in Secret shop/s"});
  EXPECT_EQ(key("configMapKeyRef", "none", "x", true), Texts{});
  EXPECT_EQ(key("secretKeyRef", "s", "x", true), Texts{});
}

TEST_F(EnvTest, WhatIsNoTextIsRefusedWithoutShowingIt) {
  objects["secrets/s"] =
      object("s", fmt::format(R"({{"data":{{"bin":"{}","nul":"{}","ok":"{}"}}}})",
                              base64("hunter\xff"), base64(std::string("a\0b", 3)), base64("ü")));
  const auto key = [&](std::string_view of) {
    return env(fmt::format(
        R"("env":[{{"name":"X","valueFrom":{{"secretKeyRef":{{"name":"s","key":"{}"}}}}}}])", of));
  };
  EXPECT_EQ(key("ok"), Texts{"X=ü"});
  EXPECT_EQ(key("bin"), Texts{"!key bin in Secret shop/s holds a NUL byte or is no UTF-8, and "
                              "cannot be a variable; mount it as a file"});
  EXPECT_EQ(key("nul")[0].substr(0, 8), "!key nul");
  EXPECT_EQ(env(R"("envFrom":[{"secretRef":{"name":"s"}}])")[0].substr(0, 8), "!key bin");
}

TEST_F(EnvTest, ManyKeysCostNoMoreThanTheyAre) {
  json::object data;
  for (int i = 0; i < 100'000; i++)
    data[fmt::format("k{}", i)] = "v";
  auto map = std::make_shared<store::Object>();
  map->body["data"] = std::move(data);
  objects["configmaps/c"] = map;
  EXPECT_EQ(
      env(R"("envFrom":[{"configMapRef":{"name":"c"}},{"configMapRef":{"name":"c"}}])").size(),
      100'000U);
}

// "should be consumable via the environment"
TEST_F(EnvTest, AllKeysOfAnObjectComeFirst) {
  objects["configmaps/c"] = object("c", R"({"data":{"A":"1","B":"2"}})");
  objects["secrets/s"] = object("s", R"({"data":{"A":"dHdv"}})");
  EXPECT_EQ(
      env(R"x("envFrom":[{"configMapRef":{"name":"c"}},{"prefix":"S_","secretRef":{"name":"s"}},
      {"secretRef":{"name":"s"}},{"configMapRef":{"name":"none","optional":true}}],
      "env":[{"name":"B","value":"$(S_A)!"}])x"),
      (Texts{"S_A=two", "A=two", "B=two!"}));
  EXPECT_EQ(env(R"("envFrom":[{"configMapRef":{"name":"none"}}])"),
            Texts{"!configmap \"none\" not found"});
}

// "should contain environment variables for services"
TEST_F(EnvTest, ServicesOfTheNamespace) {
  facts.services = {object("my-db", R"({"spec":{"clusterIP":"10.96.0.7","ports":[
      {"name":"sql-main","port":5432},{"name":"ping","port":9,"protocol":"UDP"}]}})"),
                    object("headless", R"({"spec":{"clusterIP":"None","ports":[{"port":1}]}})"),
                    object("six", R"({"spec":{"clusterIP":"fd96::1","ports":[{"port":80}]}})")};
  EXPECT_EQ(env(R"x("env":[{"name":"URL","value":"$(MY_DB_SERVICE_HOST)"}])x"),
            (Texts{"MY_DB_SERVICE_HOST=10.96.0.7",
                   "MY_DB_SERVICE_PORT=5432",
                   "MY_DB_SERVICE_PORT_SQL_MAIN=5432",
                   "MY_DB_SERVICE_PORT_PING=9",
                   "MY_DB_PORT=tcp://10.96.0.7:5432",
                   "MY_DB_PORT_5432_TCP=tcp://10.96.0.7:5432",
                   "MY_DB_PORT_5432_TCP_PROTO=tcp",
                   "MY_DB_PORT_5432_TCP_PORT=5432",
                   "MY_DB_PORT_5432_TCP_ADDR=10.96.0.7",
                   "MY_DB_PORT_9_UDP=udp://10.96.0.7:9",
                   "MY_DB_PORT_9_UDP_PROTO=udp",
                   "MY_DB_PORT_9_UDP_PORT=9",
                   "MY_DB_PORT_9_UDP_ADDR=10.96.0.7",
                   "SIX_SERVICE_HOST=fd96::1",
                   "SIX_SERVICE_PORT=80",
                   "SIX_PORT=tcp://[fd96::1]:80",
                   "SIX_PORT_80_TCP=tcp://[fd96::1]:80",
                   "SIX_PORT_80_TCP_PROTO=tcp",
                   "SIX_PORT_80_TCP_PORT=80",
                   "SIX_PORT_80_TCP_ADDR=fd96::1",
                   "URL=10.96.0.7"}));
  spec.service_links = false;
  EXPECT_EQ(env(R"("env":[])"), Texts{});
}

}  // namespace
}  // namespace shoal::node
