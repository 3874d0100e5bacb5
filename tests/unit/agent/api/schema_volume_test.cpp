// SPDX-License-Identifier: Apache-2.0
// Volumes and claims as the API takes them, with the apiserver's words for what it does not.
#include "agent/api/claims.h"
#include "agent/api/schema.h"
#include "tests/unit/agent/api/writer_fixture.h"

namespace shoal::api {
namespace {

std::string refusal(const json::object& body) {
  const auto result = admit(body);
  if (result)
    return "accepted";
  const std::string& message = result.error().message;
  const std::string_view start = "is invalid: ";
  const std::size_t at = message.find(start);
  return at == std::string::npos ? message : message.substr(at + start.size());
}

// A pod with one volume, and perhaps a container's mounts of it.
std::string volume(std::string_view source, std::string_view mounts = "",
                   std::string_view context = "{}") {
  return refusal(parse(fmt::format(
      R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p"}},"spec":{{
          "containers":[{{"name":"a","image":"i","securityContext":{},"volumeMounts":[{}]}}],
          "volumes":[{{"name":"v"{}{}}}]}}}})",
      context, mounts, source.empty() ? "" : ",", source)));
}
std::string mount(std::string_view mounts, std::string_view context = "{}") {
  return volume("", mounts, context);
}

TEST(SchemaVolumeTest, WhatIsAccepted) {
  for (
      const std::string_view source : {
          "",
          R"("emptyDir":{})",
          R"("emptyDir":{"medium":"","sizeLimit":"1Mi"})",
          R"("emptyDir":{"medium":"Memory","sizeLimit":1000})",
          R"("hostPath":{"path":"/var/log"})",
          R"("hostPath":{"path":"/x","type":""})",
          R"("hostPath":{"path":"/x","type":"CharDevice"})",
          R"("configMap":{"name":"c","items":[{"key":"k","path":"a/b..c","mode":256}],"optional":true})",
          R"("secret":{"secretName":"s","defaultMode":0})",
          R"("downwardAPI":{"items":[{"path":"l","fieldRef":{"fieldPath":"metadata.labels"}},
              {"path":"k","fieldRef":{"fieldPath":"metadata.annotations['a.b/c']"}},
              {"path":"c","mode":292,"resourceFieldRef":{"containerName":"a","resource":"limits.cpu","divisor":"1m"}}]})",
          R"("projected":{"sources":[{"configMap":{"name":"c"}},{"secret":{"name":"s"}},
              {"downwardAPI":{"items":[{"path":"n","fieldRef":{"fieldPath":"metadata.name"}}]}}]})",
          R"("persistentVolumeClaim":{"claimName":"data","readOnly":true})",
      })
    EXPECT_EQ(volume(source), "accepted") << source;
  EXPECT_EQ(mount(R"({"name":"v","mountPath":"/a","subPath":"b/c"},
                     {"name":"v","mountPath":"/b","subPathExpr":"$(NAME)/x"},
                     {"name":"v","mountPath":"/c","readOnly":true,"recursiveReadOnly":"IfPossible"},
                     {"name":"v","mountPath":"/d","mountPropagation":"HostToContainer"})"),
            "accepted");
  EXPECT_EQ(mount(R"({"name":"v","mountPath":"/a","mountPropagation":"Bidirectional"})",
                  R"({"privileged":true})"),
            "accepted");
}

TEST(SchemaVolumeTest, Defaults) {
  json::object body = pod("p", R"(,"volumes":[{"name":"a"},{"name":"b","configMap":{"name":"c"}},
      {"name":"c","hostPath":{"path":"/x"}},{"name":"d","projected":{"sources":[]}}])");
  fill_defaults(*find_kind("v1", "Pod"), body);
  EXPECT_EQ(
      json::serialize(*find_path(body, "spec.volumes")),
      R"([{"name":"a","emptyDir":{}},{"name":"b","configMap":{"name":"c","defaultMode":420}},)"
      R"({"name":"c","hostPath":{"path":"/x","type":""}},)"
      R"({"name":"d","projected":{"sources":[],"defaultMode":420}}])");
}

TEST(SchemaVolumeTest, WhatIsRefused) {
  struct Case {
    std::string_view source;
    std::string_view message;
  };
  for (
      const Case& test : std::initializer_list<Case>{
          {R"("emptyDir":{},"secret":{"secretName":"s"})",
           R"(spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type)"},
          {R"("emptyDir":{"medium":"Disk"})",
           R"(spec.volumes[0].emptyDir.medium: Unsupported value: "Disk": supported values: "Memory")"},
          {R"("emptyDir":{"medium":"HugePages"})",
           R"(spec.volumes[0].emptyDir.medium: Unsupported value: Shoal does not act on "HugePages" yet)"},
          {R"("hostPath":{})", "spec.volumes[0].hostPath.path: Required value"},
          {R"("hostPath":{"path":"/a/../b"})",
           R"(spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..')"},
          {R"("hostPath":{"path":"/a","type":"Folder"})",
           R"(spec.volumes[0].hostPath.type: Unsupported value: "Folder": supported values: "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")"},
          {R"("configMap":{})", "spec.volumes[0].configMap.name: Required value"},
          {R"("secret":{"items":[]})", "spec.volumes[0].secret.secretName: Required value"},
          {R"("secret":{"secretName":"s","defaultMode":512})",
           R"(spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive)"},
          {R"("configMap":{"name":"c","items":[{"key":"k"}]})",
           "spec.volumes[0].configMap.items[0].path: Required value"},
          {R"("configMap":{"name":"c","items":[{"key":"k","path":"/a"}]})",
           R"(spec.volumes[0].configMap.items[0].path: Invalid value: "/a": must be a relative path)"},
          {R"("configMap":{"name":"c","items":[{"key":"k","path":"a/../../b"}]})",
           R"(spec.volumes[0].configMap.items[0].path: Invalid value: "a/../../b": must not contain '..')"},
          {R"("configMap":{"name":"c","items":[{"key":"k","path":"..data"}]})",
           R"(spec.volumes[0].configMap.items[0].path: Invalid value: "..data": must not start with '..')"},
          {R"("downwardAPI":{"items":[{"path":"a"}]})",
           "spec.volumes[0].downwardAPI.items[0]: Required value: one of fieldRef and "
           "resourceFieldRef is required"},
          {R"("downwardAPI":{"items":[{"path":"a","resourceFieldRef":{"resource":"limits.cpu"}}]})",
           "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName: Required value"},
          {R"("projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]})",
           "spec.volumes[0].projected.sources[0].serviceAccountToken: Unsupported value: Shoal "
           R"(does not act on "serviceAccountToken" yet)"},
          {R"("projected":{"sources":[{"secret":{"name":"s"},"configMap":{"name":"c"}}]})",
           "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume "
           "type"},
          {R"("projected":{"sources":[{"secret":{"name":"s","items":[{"key":"a","path":"p"}]}},
               {"configMap":{"name":"c","items":[{"key":"a","path":"p"}]}}]})",
           R"(spec.volumes[0].projected: Invalid value: "p": conflicting duplicate paths)"},
          {R"("nfs":{"server":"s","path":"/"})",
           R"(spec.volumes[0].nfs: Unsupported value: Shoal does not act on "nfs" yet)"},
          {R"("persistentVolumeClaim":{})",
           "spec.volumes[0].persistentVolumeClaim.claimName: Required value"},
      })
    EXPECT_EQ(volume(test.source), test.message) << test.source;
  EXPECT_NE(
      volume(R"("downwardAPI":{"items":[{"path":"a","fieldRef":{"fieldPath":"status.podIP"}}]})")
          .find("a field that a volume can show: metadata.annotations"),
      std::string::npos);
  EXPECT_EQ(refusal(pod("p", R"(,"volumes":[{"name":"a"},{"name":"a"}])")),
            R"(spec.volumes[1]: Duplicate value: "a")");
}

TEST(SchemaVolumeTest, Mounts) {
  EXPECT_EQ(mount(R"({"name":"w","mountPath":"/a"})"),
            R"(spec.containers[0].volumeMounts[0].name: Not found: "w")");
  EXPECT_EQ(mount(R"({"name":"v"})"),
            "spec.containers[0].volumeMounts[0].mountPath: Required value");
  EXPECT_EQ(mount(R"({"name":"v","mountPath":"/a"},{"name":"v","mountPath":"/a"})"),
            R"(spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique)");
  EXPECT_EQ(
      mount(R"({"name":"v","mountPath":"/a","subPath":"/b"})"),
      R"(spec.containers[0].volumeMounts[0].subPath: Invalid value: "/b": must be a relative path)");
  EXPECT_EQ(
      mount(R"({"name":"v","mountPath":"/a","subPath":"b/.."})"),
      R"(spec.containers[0].volumeMounts[0].subPath: Invalid value: "b/..": must not contain '..')");
  EXPECT_EQ(mount(R"({"name":"v","mountPath":"/a","subPath":"b","subPathExpr":"c"})"),
            "spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: \"c\": subPathExpr and "
            "subPath are mutually exclusive");
  EXPECT_EQ(mount(R"({"name":"v","mountPath":"/a","mountPropagation":"Bidirectional"})"),
            "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount "
            "propagation is available only to privileged containers");
  EXPECT_EQ(mount(R"({"name":"v","mountPath":"/a","recursiveReadOnly":"Enabled"})"),
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be "
            "specified when readOnly is true");
}

json::object claim(std::string_view spec) {
  return parse(fmt::format(
      R"({{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{{"name":"data","namespace":"default"}},
          "spec":{{{}}}}})",
      spec));
}
constexpr std::string_view kPlain =
    R"("accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}})";

TEST(SchemaClaimTest, WhatIsAcceptedAndWhatNot) {
  const auto with = [](std::string_view more) {
    return refusal(claim(fmt::format("{}{}", kPlain, more)));
  };
  EXPECT_EQ(with(""), "accepted");
  EXPECT_EQ(with(R"(,"storageClassName":"shoal-local","volumeMode":"Filesystem")"), "accepted");
  EXPECT_EQ(with(R"(,"storageClassName":"fast")"),
            R"(spec.storageClassName: Unsupported value: "fast": supported values: "shoal-local")");
  EXPECT_EQ(with(R"(,"storageClassName":"")"),
            R"(spec.storageClassName: Unsupported value: "": supported values: "shoal-local")");
  EXPECT_EQ(with(R"(,"volumeName":"pv1")"),
            R"(spec.volumeName: Unsupported value: Shoal does not act on "volumeName" yet)");
  EXPECT_EQ(with(R"(,"volumeMode":"Block")"),
            R"(spec.volumeMode: Unsupported value: Shoal does not act on "Block" yet)");
  EXPECT_EQ(refusal(claim(R"("resources":{"requests":{"storage":"1Gi"}})")),
            "spec.accessModes: Required value: at least 1 access mode is required");
  EXPECT_EQ(refusal(claim(R"("accessModes":["ReadWriteOnce"])")),
            "spec.resources[storage]: Required value");
  EXPECT_EQ(
      refusal(claim(R"("accessModes":["ReadWriteMany"],"resources":{"requests":{"storage":"1"}})")),
      R"(spec.accessModes[0]: Unsupported value: Shoal does not act on "ReadWriteMany" yet)");
  EXPECT_EQ(refusal(claim(R"("accessModes":["ReadWriteOnce","ReadWriteOncePod"],
                             "resources":{"requests":{"storage":"1"}})")),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes");
  json::object finalized = claim(kPlain);
  finalized["metadata"].get_object()["finalizers"] = json::array{"example.com/mine"};
  EXPECT_EQ(
      refusal(finalized),
      R"(metadata.finalizers[0]: Unsupported value: "example.com/mine": supported values: "kubernetes.io/pvc-protection")");
}

class ClaimWriterTest : public WriterTest {
protected:
  ObjectPtr stored() const { return replica_.get("persistentvolumeclaims", "default", "data"); }
};

TEST_F(ClaimWriterTest, HasItsFinalizerAndStatusFromTheServer) {
  ASSERT_TRUE(create(claim(kPlain)));
  const json::object body = stored()->body;
  EXPECT_EQ(json::serialize(*find_path(body, "metadata.finalizers")),
            R"(["kubernetes.io/pvc-protection"])");
  EXPECT_EQ(find_string(body, "status.phase"), "Pending");
  EXPECT_EQ(find_string(body, "spec.storageClassName"), "shoal-local");
}

TEST_F(ClaimWriterTest, IsBoundOnceAndStaysSo) {
  ASSERT_TRUE(create(claim(kPlain)));
  ASSERT_TRUE(patch("persistentvolumeclaims", "data",
                    R"({"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"h1"}}})"));
  EXPECT_EQ(selected_node(stored()->body), "h1");
  // Written again by somebody who knows nothing of it.
  ASSERT_TRUE(update(claim(kPlain)));
  EXPECT_EQ(selected_node(stored()->body), "h1");
  EXPECT_NE(
      text(patch("persistentvolumeclaims", "data",
                 R"({"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"h2"}}})"))
          .find("field is immutable: the claim's folder is on that host and never moves"),
      std::string::npos);
  EXPECT_NE(text(patch("persistentvolumeclaims", "data",
                       R"({"spec":{"resources":{"requests":{"storage":"2Gi"}}}})"))
                .find("spec: Forbidden: spec is immutable after creation"),
            std::string::npos);
}

TEST_F(ClaimWriterTest, GoesAtOnceWhenNobodyUsesItAndWaitsForItsPodsOtherwise) {
  ASSERT_TRUE(create(claim(kPlain)));
  ASSERT_TRUE(remove("persistentvolumeclaims", "default", "data"));
  loop_.run_until([&] { return !stored(); });
  EXPECT_FALSE(stored());

  ASSERT_TRUE(create(claim(kPlain)));
  ASSERT_TRUE(create(pod("p", R"(,"nodeName":"h1","volumes":[{"name":"v",
      "persistentVolumeClaim":{"claimName":"data"}}])")));
  ASSERT_TRUE(remove("persistentvolumeclaims", "default", "data"));
  ASSERT_TRUE(stored());
  EXPECT_NE(find_string(stored()->body, "metadata.deletionTimestamp"), "");
  ASSERT_TRUE(remove("persistentvolumeclaims", "default", "data"));
  EXPECT_TRUE(stored()) << "still used";
  ASSERT_TRUE(remove("pods", "default", "p", {}, 0));
  ASSERT_TRUE(remove("persistentvolumeclaims", "default", "data"));
  loop_.run_until([&] { return !stored(); });
  EXPECT_FALSE(stored());
}

}  // namespace
}  // namespace shoal::api
