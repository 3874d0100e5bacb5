// SPDX-License-Identifier: Apache-2.0
// ConfigMaps and Secrets on their way into the store. Names in quotes are those of the Kubernetes
// tests for the same behaviour.
#include "tests/unit/agent/api/writer_fixture.h"

#include "agent/api/schema.h"
#include "netplane/base/strings.h"

namespace shoal::api {
namespace {

json::object config(std::string_view kind, std::string_view more) {
  return parse(fmt::format(
      R"({{"apiVersion":"v1","kind":"{}","metadata":{{"name":"c","namespace":"default"}},{}}})",
      kind, more));
}
json::object config_map(std::string_view more) { return config("ConfigMap", more); }
json::object secret(std::string_view more) { return config("Secret", more); }

std::string refusal(const json::object& body) {
  const auto result = admit(body);
  return result ? "accepted" : result.error().message;
}

TEST(ConfigKindsTest, WhatIsAccepted) {
  EXPECT_EQ(refusal(config_map(R"("data":{"a.b-c_D":"x","...":"y"},"binaryData":{"k":"AP8="})")),
            "ConfigMap \"c\" is invalid: data[...]: Invalid value: \"...\": must not start with "
            "'..'");
  EXPECT_EQ(refusal(config_map(R"("data":{"a.b-c_D":"x",".y":""},"binaryData":{"k":"AP8="})")),
            "accepted");
  EXPECT_EQ(refusal(config_map(R"("immutable":true)")), "accepted");
  EXPECT_EQ(refusal(secret(R"("data":{"k":"AP8=","empty":"","lines":"QUJD\r\nREVG\n"})")),
            "accepted");
  EXPECT_EQ(refusal(secret(R"("stringData":{"k":"plain"},"type":"example.com/own")")), "accepted");
}

// "should fail to create ConfigMap with empty key", "should fail to create secret due to empty
// secret key"
TEST(ConfigKindsTest, KeysAndSizes) {
  constexpr std::string_view kShape =
      "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
      "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
      "'[-._a-zA-Z0-9]+')";
  EXPECT_EQ(refusal(config_map(R"("data":{"":"x"})")),
            fmt::format("ConfigMap \"c\" is invalid: data[]: Invalid value: \"\": {}", kShape));
  EXPECT_EQ(refusal(secret(R"("data":{"":"eA=="})")),
            fmt::format("Secret \"c\" is invalid: data[]: Invalid value: \"\": {}", kShape));
  EXPECT_EQ(refusal(config_map(R"("binaryData":{"a/b":"eA=="})")),
            fmt::format("ConfigMap \"c\" is invalid: binaryData[a/b]: Invalid value: \"a/b\": {}",
                        kShape));
  EXPECT_EQ(refusal(config_map(R"("data":{".":"x"})")),
            "ConfigMap \"c\" is invalid: data[.]: Invalid value: \".\": must not be '.'");
  EXPECT_EQ(refusal(config_map(fmt::format(R"("data":{{"{}":"x"}})", std::string(254, 'k'))))
                .substr(0, 40),
            "ConfigMap \"c\" is invalid: data[kkkkkkkkk");
  EXPECT_EQ(refusal(config_map(R"("data":{"k":"x"},"binaryData":{"k":"eA=="})")),
            "ConfigMap \"c\" is invalid: [data[k]: Invalid value: \"k\": duplicate of key present "
            "in binaryData, binaryData[k]: Invalid value: \"k\": duplicate of key present in "
            "data]");
  const std::string full((1 << 20) - 1, 'x');
  EXPECT_EQ(refusal(config_map(fmt::format(R"("data":{{"a":"{}","b":"y"}})", full))), "accepted");
  EXPECT_EQ(refusal(config_map(fmt::format(R"("data":{{"a":"{}","b":"yz"}})", full))),
            "ConfigMap \"c\" is invalid: Too long: must have at most 1048576 bytes");
  EXPECT_EQ(refusal(secret(fmt::format(R"("data":{{"a":"{}"}})", base64(full + "y")))), "accepted");
  EXPECT_EQ(refusal(secret(fmt::format(R"("data":{{"a":"{}"}})", base64(full + "yz")))),
            "Secret \"c\" is invalid: data: Too long: must have at most 1048576 bytes");
}

TEST(ConfigKindsTest, WrongValuesAreNamedAndThoseOfSecretsNotShown) {
  constexpr std::string_view kStrict =
      "{0} in version \"v1\" cannot be handled as a {0}: strict decoding error: {1}";
  const auto strict = [&](std::string_view kind, std::string_view what) {
    return fmt::format(fmt::runtime(kStrict), kind, what);
  };
  EXPECT_EQ(refusal(secret(R"("data":{"pw":"hunter2!"})")),
            strict("Secret", "data[pw]: illegal base64 data at input byte 7"));
  EXPECT_EQ(refusal(config_map(R"("binaryData":{"k":"abc"})")),
            strict("ConfigMap", "binaryData[k]: illegal base64 data at input byte 3"));
  EXPECT_EQ(refusal(secret(R"("data":{"pin":4711})")),
            strict("Secret", "data[pin]: expected a string (quote it: \"true\", \"8080\"), got a "
                             "number"));
  EXPECT_EQ(refusal(secret(R"("stringData":{"pin":4711})")),
            strict("Secret", "stringData[pin]: expected a string (quote it: \"true\", \"8080\"), "
                             "got a number"));
  EXPECT_EQ(refusal(secret(R"("data":"hunter2")")),
            strict("Secret", "data: expected an object of strings, got a string"));
}

TEST(ConfigKindsTest, TypesOfSecrets) {
  const auto typed = [](std::string_view type, std::string_view more) {
    return refusal(secret(fmt::format(R"("type":"kubernetes.io/{}"{})", type, more)));
  };
  EXPECT_EQ(typed("tls", ""), "Secret \"c\" is invalid: [data[tls.crt]: Required value, "
                              "data[tls.key]: Required value]");
  EXPECT_EQ(typed("tls", R"(,"data":{"tls.crt":"","tls.key":""})"), "accepted");
  EXPECT_EQ(typed("basic-auth", ""), "Secret \"c\" is invalid: [data[username]: Required value, "
                                     "data[password]: Required value]");
  EXPECT_EQ(typed("basic-auth", R"(,"stringData":{"password":"x"})"), "accepted");
  EXPECT_EQ(typed("ssh-auth", R"(,"stringData":{"ssh-privatekey":""})"),
            "Secret \"c\" is invalid: data[ssh-privatekey]: Required value");
  EXPECT_EQ(typed("dockerconfigjson", ""),
            "Secret \"c\" is invalid: data[.dockerconfigjson]: Required value");
  EXPECT_EQ(typed("dockerconfigjson", R"(,"stringData":{".dockerconfigjson":"{hunter2"})")
                .find("hunter2"),
            std::string::npos);
  EXPECT_EQ(typed("dockerconfigjson", R"(,"stringData":{".dockerconfigjson":"{\"auths\":{}}"})"),
            "accepted");
  EXPECT_EQ(typed("service-account-token", ""),
            "Secret \"c\" is invalid: "
            "metadata.annotations[kubernetes.io/service-account.name]: Required value");
}

TEST_F(WriterTest, StringDataIsForWritingOnly) {
  const auto made = create(secret(R"("data":{"a":"b2xk","b":"Qg=="},"stringData":{"a":"new"})"));
  ASSERT_TRUE(made) << text(made);
  const json::object& body = made->object->body;
  EXPECT_EQ(body.at("data"), json::value({{"a", "bmV3"}, {"b", "Qg=="}}));
  EXPECT_FALSE(body.contains("stringData"));
  EXPECT_EQ(find_string(body, "type"), "Opaque");
  // "should patch a secret"
  const auto patched = patch("secrets", "c", R"({"stringData":{"c":"C"},"data":{"b":null}})");
  ASSERT_TRUE(patched) << text(patched);
  EXPECT_EQ(patched->object->body.at("data"), json::value({{"a", "bmV3"}, {"c", "Qw=="}}));
  EXPECT_EQ(store_.values().at("/secrets/default/c").value->find("stringData"), std::string::npos);
}

TEST_F(WriterTest, TheTypeOfASecretStays) {
  ASSERT_TRUE(create(secret(R"("type":"example.com/a","data":{"k":"eA=="})")));
  // A document without a type has the default one, as in Kubernetes.
  EXPECT_EQ(text(update(secret(R"("data":{"k":"eQ=="})"))),
            "422 Invalid: Secret \"c\" is invalid: type: Invalid value: \"Opaque\": field is "
            "immutable");
  EXPECT_EQ(text(patch("secrets", "c", R"({"type":"Opaque"})")),
            "422 Invalid: Secret \"c\" is invalid: type: Invalid value: \"Opaque\": field is "
            "immutable");
}

// "should be immutable if `immutable` field is set"
TEST_F(WriterTest, ImmutableDataStaysAsItIs) {
  for (const auto& [kind, resource, value] :
       {std::tuple{"ConfigMap", "configmaps", "x"}, std::tuple{"Secret", "secrets", "eA=="}}) {
    ASSERT_TRUE(create(config(kind, fmt::format(R"("data":{{"k":"{}"}})", value))));
    ASSERT_TRUE(patch(resource, "c", R"({"data":{"l":"eQ=="}})")) << "not immutable yet";
    ASSERT_TRUE(patch(resource, "c", R"({"immutable":true})"));
    const std::string refused = fmt::format("422 Invalid: {} \"c\" is invalid: ", kind);
    EXPECT_EQ(text(patch(resource, "c", R"({"data":{"l":null}})")),
              refused + "data: Forbidden: field is immutable when `immutable` is set");
    EXPECT_EQ(text(patch(resource, "c", R"({"immutable":false})")),
              refused + "immutable: Forbidden: field is immutable when `immutable` is set");
    EXPECT_EQ(text(patch(resource, "c", R"({"immutable":null})")),
              refused + "immutable: Forbidden: field is immutable when `immutable` is set");
    EXPECT_TRUE(patch(resource, "c", R"({"metadata":{"labels":{"a":"b"}}})"));
    EXPECT_TRUE(remove(resource, "default", "c"));
  }
}

TEST_F(WriterTest, ASecretOfFullSizeFitsIntoTheStore) {
  json::object body = secret(R"("data":{})");
  body["data"].get_object()["k"] = base64(std::string(1 << 20, '\xff'));
  const auto made = create(body);
  EXPECT_TRUE(made) << text(made);
}

}  // namespace
}  // namespace shoal::api
