// SPDX-License-Identifier: Apache-2.0
// Names in quotes are those of the Kubernetes tests for the same behaviour.
#include "agent/node/volume_plan.h"

#include "netplane/base/strings.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>
#include <map>

namespace shoal::node {
namespace {

namespace json = boost::json;

store::ObjectPtr object(std::string name, std::string_view body) {
  auto out = std::make_shared<store::Object>();
  out->ns = "shop";
  out->name = std::move(name);
  out->uid = "7d5cbb0e-2e4a-4a3c-9d60-0123456789ab";
  out->revision = 7;
  out->body = json::parse(body).get_object();
  return out;
}

class VolumePlanTest : public ::testing::Test {
protected:
  VolumePlanTest() {
    spec.ns = "shop";
    spec.name = "web-1";
    spec.uid = "u-1";
    spec.containers.resize(1);
    spec.containers[0].name = "main";
    spec.containers[0].limits.cpu_milli = 1250;
    facts.pod = object("web-1", R"({"metadata":{"labels":{"b":"2","a":"1"},
        "annotations":{"say":"\"hi\"\n\u0001é"}}})");
    facts.node_name = "h1";
    facts.allocatable = {4000, 1 << 30};
    facts.find = [this](std::string_view resource, std::string_view name) {
      const auto at = objects.find(std::string(resource) + "/" + std::string(name));
      return at == objects.end() ? nullptr : at->second;
    };
  }
  VolumeWork plan(std::string_view source) {
    auto volumes = read_volumes(
        json::parse(fmt::format(R"({{"volumes":[{{"name":"v",{}}}]}})", source)).get_object());
    EXPECT_TRUE(volumes) << volumes.error().message();
    spec.volumes = *volumes;
    return plan_volumes(spec, facts).at(0);
  }
  // "path mode content", a line each; a problem as it is.
  std::string files(std::string_view source) {
    const VolumeWork work = plan(source);
    std::string out = work.problem;
    for (const auto& [path, file] : work.files)
      out += fmt::format("{} {:o} {}\n", path, file.mode, file.content);
    return out;
  }

  PodSpec spec;
  EnvFacts facts;
  std::map<std::string, store::ObjectPtr> objects;
};

// "should be consumable from pods in volume", "with mappings", "with mappings and Item mode set",
// "binary data should be reflected in volume"
TEST_F(VolumePlanTest, ConfigMaps) {
  objects["configmaps/c"] =
      object("c", R"({"data":{"a":"1","b.c":"2"},"binaryData":{"z":"AP8="}})");
  EXPECT_EQ(files(R"("configMap":{"name":"c","defaultMode":420})"),
            std::string("a 644 1\nb.c 644 2\nz 644 \0\xff\n", 27));
  EXPECT_EQ(files(R"("configMap":{"name":"c","defaultMode":256,
      "items":[{"key":"a","path":"x//y/../file"},{"key":"a","path":"again","mode":420}]})"),
            "again 644 1\nx/file 400 1\n");
  EXPECT_EQ(files(R"("configMap":{"name":"c","items":[{"key":"none","path":"x"}]})"),
            "MountVolume.SetUp failed for volume \"v\" : configmap references non-existent config "
            "key: none");
  EXPECT_EQ(files(R"("configMap":{"name":"d"})"),
            "MountVolume.SetUp failed for volume \"v\" : configmap \"d\" not found");
  EXPECT_EQ(files(R"("configMap":{"name":"d","optional":true})"), "");
  EXPECT_EQ(files(R"("configMap":{"name":"c","optional":true,
      "items":[{"key":"none","path":"x"},{"key":"a","path":"y"}]})"),
            "y 644 1\n");
}

TEST_F(VolumePlanTest, Secrets) {
  objects["secrets/s"] = object("s", R"({"data":{"k":"c2VjcmV0"}})");
  EXPECT_EQ(files(R"("secret":{"secretName":"s","defaultMode":256})"), "k 400 secret\n");
  EXPECT_TRUE(spec.volumes[0].secret());
  EXPECT_EQ(files(R"("secret":{"secretName":"t"})"),
            "MountVolume.SetUp failed for volume \"v\" : secret \"t\" not found");
  EXPECT_EQ(files(R"("secret":{"secretName":"s","items":[{"key":"n","path":"x"}]})"),
            "MountVolume.SetUp failed for volume \"v\" : references non-existent secret key: n");
}

// "should provide podname only", "should provide container's cpu limit", "should update labels on
// modification"
TEST_F(VolumePlanTest, TheDownwardApi) {
  EXPECT_EQ(files(R"("downwardAPI":{"defaultMode":420,"items":[
      {"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}},
      {"path":"one","fieldRef":{"fieldPath":"metadata.labels['b']"}},
      {"path":"name","fieldRef":{"fieldPath":"metadata.name"},"mode":256},
      {"path":"notes","fieldRef":{"fieldPath":"metadata.annotations"}},
      {"path":"cpu","resourceFieldRef":{"containerName":"main","resource":"limits.cpu","divisor":"1m"}},
      {"path":"memory","resourceFieldRef":{"containerName":"main","resource":"limits.memory"}}]})"),
            "cpu 644 1250\nlabels 644 a=\"1\"\nb=\"2\"\nmemory 644 1073741824\nname 400 web-1\n"
            "notes 644 say=\"\\\"hi\\\"\\n\\x01é\"\none 644 2\n");
  EXPECT_TRUE(spec.volumes[0].shows("pods", "web-1"));
}

// "Projected combined should project all components that make up the projection API"
TEST_F(VolumePlanTest, Projected) {
  objects["configmaps/c"] = object("c", R"({"data":{"a":"1"}})");
  objects["secrets/s"] = object("s", R"({"data":{"k":"c2VjcmV0"}})");
  EXPECT_EQ(files(R"("projected":{"defaultMode":420,"sources":[
      {"configMap":{"name":"c","items":[{"key":"a","path":"d/a"}]}},
      {"secret":{"name":"s","items":[{"key":"k","path":"d/k","mode":256}]}},
      {"downwardAPI":{"items":[{"path":"name","fieldRef":{"fieldPath":"metadata.name"}}]}},
      {"configMap":{"name":"none","optional":true}}]})"),
            "d/a 644 1\nd/k 400 secret\nname 644 web-1\n");
  EXPECT_TRUE(spec.volumes[0].secret());
  EXPECT_TRUE(spec.volumes[0].shows("configmaps", "none"));
  EXPECT_FALSE(spec.volumes[0].shows("secrets", "c"));
  EXPECT_EQ(files(R"("projected":{"sources":[]})"), "");
}

TEST_F(VolumePlanTest, MemoryIsBoundedByWhateverIsLess) {
  const auto most = [&](std::string_view limit) {
    return plan(fmt::format(R"("emptyDir":{{"medium":"Memory"{}}})", limit))
        .memory_bytes.value_or(0);
  };
  EXPECT_EQ(most(""), 1 << 30);
  EXPECT_EQ(most(R"(,"sizeLimit":"2Gi")"), 1 << 30);
  EXPECT_EQ(most(R"(,"sizeLimit":"1Mi")"), 1 << 20);
  spec.containers[0].limits.memory_bytes = 64 << 20;
  EXPECT_EQ(most(""), 64 << 20);
  EXPECT_FALSE(plan(R"("emptyDir":{"sizeLimit":"1Mi"})").memory_bytes);
  EXPECT_TRUE(spec.volumes[0].disk_limited());
  plan(R"("emptyDir":{"sizeLimit":"0"})");
  EXPECT_FALSE(spec.volumes[0].disk_limited());
}

TEST_F(VolumePlanTest, Claims) {
  const auto claim = [&] { return plan(R"("persistentVolumeClaim":{"claimName":"data"})"); };
  constexpr std::string_view kCannot =
      "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[v]: error "
      "processing PVC shop/data: ";
  EXPECT_EQ(claim().problem, fmt::format("{}persistentvolumeclaims \"data\" not found", kCannot));
  objects["persistentvolumeclaims/data"] = object("data", R"({"metadata":{}})");
  EXPECT_EQ(claim().problem, fmt::format("{}PVC is not bound", kCannot));
  objects["persistentvolumeclaims/data"] =
      object("data", R"({"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}})");
  EXPECT_EQ(claim().problem, fmt::format("{}PVC is being deleted", kCannot));
  objects["persistentvolumeclaims/data"] = object(
      "data",
      R"({"metadata":{"uid":"x","annotations":{"volume.kubernetes.io/selected-node":"h2"}}})");
  EXPECT_EQ(claim().problem, "MountVolume.NodeAffinity check failed for volume \"pvc-x\" : the "
                             "claim's folder is on h2, and never moves");
  objects["persistentvolumeclaims/data"] =
      object("data", R"({"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"h1"}}})");
  const VolumeWork work = claim();
  EXPECT_EQ(work.problem, "");
  EXPECT_EQ(work.claim,
            (runtime::ClaimFolder{"shop", "data", "7d5cbb0e-2e4a-4a3c-9d60-0123456789ab", 7}));
}

TEST_F(VolumePlanTest, OnlyFilesAreBroughtUpToDate) {
  spec.volumes = *read_volumes(
      json::parse(R"({"volumes":[{"name":"a","emptyDir":{}},{"name":"b","downwardAPI":{}}]})")
          .get_object());
  EXPECT_EQ(plan_volumes(spec, facts).size(), 2U);
  ASSERT_EQ(plan_volumes(spec, facts, true).size(), 1U);
  EXPECT_EQ(plan_volumes(spec, facts, true)[0].volume.name, "b");
}

TEST(VolumeSpecTest, Mounts) {
  const auto mounts = read_mounts(json::parse(R"x({"volumeMounts":[
      {"name":"a","mountPath":"data"},
      {"name":"b","mountPath":"/b","subPath":"s","readOnly":true,"recursiveReadOnly":"Enabled"},
      {"name":"c","mountPath":"/c","subPathExpr":"$(X)","mountPropagation":"Bidirectional"}]})x")
                                      .get_object());
  ASSERT_EQ(mounts.size(), 3U);
  EXPECT_EQ(mounts[0], (VolumeMount{.volume = "a", .path = "/data"}));
  EXPECT_EQ(mounts[1], (VolumeMount{.volume = "b",
                                    .path = "/b",
                                    .sub_path = "s",
                                    .read_only = true,
                                    .recursive_read_only = true}));
  EXPECT_EQ(mounts[2], (VolumeMount{.volume = "c",
                                    .path = "/c",
                                    .sub_path = "$(X)",
                                    .sub_path_expanded = true,
                                    .propagation = runtime::Propagation::kBoth}));
}

}  // namespace
}  // namespace shoal::node
