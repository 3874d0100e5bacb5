// SPDX-License-Identifier: Apache-2.0
// The indexed look-ups against scans over list().
#include "agent/view/view.h"

#include "agent/view/facts.h"
#include "netplane/base/random.h"
#include "tests/fakes/objects.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace shoal::view {
namespace {

std::string names(const std::vector<ObjectPtr>& objects) {
  std::string out;
  for (const ObjectPtr& object : objects)
    out += object->resource + "/" + object->ns + "/" + object->name + " ";
  return out;
}

std::vector<ObjectPtr> everything(const View& view) {
  std::vector<ObjectPtr> out;
  for (const auto resource : {kEndpointSlices, kPods, kReplicaSets, kServices})
    for (ObjectPtr& object : view.list(resource))
      out.push_back(std::move(object));
  return out;
}

std::string scan(const View& view, const std::function<bool(const Object&)>& wanted) {
  std::vector<ObjectPtr> out;
  for (ObjectPtr& object : everything(view))
    if (wanted(*object))
      out.push_back(std::move(object));
  return names(out);
}

boost::json::object random_object(SeededRandom& random) {
  const auto pick = [&](std::initializer_list<const char*> list) {
    return std::string(*(list.begin() + random.below(list.size())));
  };
  const std::string name = fmt::format("o{}", random.below(12));
  const std::string labels =
      pick({"{}", R"({"app":"a"})", R"({"app":"b","tier":"x"})", R"({"app":"a","tier":"x"})"});
  boost::json::object body;
  switch (random.below(4)) {
  case 0:
    body = fakes::pod({.name = name,
                       .labels = labels,
                       .node = pick({"", "h1", "h2"}),
                       .owner = pick({"", "r1", "r2"})});
    break;
  case 1:
    body = fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}"}},"spec":{{"selector":{}}}}})",
        name, labels));
    break;
  case 2:
    body = fakes::json_object(fmt::format(
        R"({{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{{"name":"{}"}}}})", name));
    break;
  default:
    body = fakes::json_object(fmt::format(
        R"({{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",
             "metadata":{{"name":"{}","labels":{{"kubernetes.io/service-name":"o{}"}}}}}})",
        name, random.below(12)));
  }
  body["metadata"].as_object()["namespace"] = pick({"default", "other"});
  return body;
}

void compare(const View& view) {
  for (const char* ns : {"default", "other"}) {
    EXPECT_EQ(names(view.in_namespace(ns)),
              scan(view, [&](const Object& o) { return o.ns == ns; }));
    for (const char* text : {"app=a", "app=a,tier=x", "tier", "app!=a", "app in (a,b)", "x=y"}) {
      const auto selector = *api::LabelSelector::parse(text);
      EXPECT_EQ(names(view.pods_matching(ns, selector)),
                scan(view,
                     [&](const Object& o) {
                       return o.resource == kPods && o.ns == ns && selector.matches(labels(o));
                     }))
          << text;
    }
    for (int i = 0; i < 12; ++i)
      EXPECT_EQ(names(view.slices_of(ns, fmt::format("o{}", i))), scan(view, [&](const Object& o) {
                  return o.ns == ns &&
                         label(o, "kubernetes.io/service-name") == fmt::format("o{}", i);
                }));
    for (const auto resource : {kPods, kReplicaSets})
      EXPECT_EQ(names(view.orphans(resource, ns)), scan(view, [&](const Object& o) {
                  return o.resource == resource && o.ns == ns && !controller_of(o);
                }));
  }
  for (const char* node : {"h1", "h2"})
    EXPECT_EQ(names(view.pods_on(node)),
              scan(view, [&](const Object& o) { return node_of(o) == node; }));
  EXPECT_EQ(names(view.unbound_pods()),
            scan(view, [&](const Object& o) { return o.resource == kPods && node_of(o).empty(); }));
  for (const char* uid : {"uid-r1", "uid-r2"})
    EXPECT_EQ(names(view.owned_by(uid)), scan(view, [&](const Object& o) {
                const auto owner = controller_of(o);
                return owner && owner->uid == uid;
              }));
  for (const ObjectPtr& pod : view.list(kPods))
    EXPECT_EQ(names(view.services_selecting(*pod)), scan(view, [&](const Object& o) {
                return o.resource == kServices && o.ns == pod->ns &&
                       api::LabelSelector::from_labels(api::find_object(o.body, "spec.selector"))
                           .matches(labels(*pod));
              }));
}

TEST(View, IndexesSayWhatScansSay) {
  const std::uint64_t seed = 20260101;
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  fakes::TestView test;
  for (int i = 0; i < 400; ++i) {
    auto body = random_object(random);
    const auto made = fakes::make_object(body);
    if (random.below(3) == 0)
      test.remove(made->resource, made->ns, made->name);
    else
      test.put(std::move(body));
    if (i % 10 == 0)
      compare(test.view);
  }
  compare(test.view);
}

TEST(View, ListenersSeeTheChangeTakenIn) {
  fakes::TestView test;
  int seen = 0;
  auto subscription = test.view.subscribe([&](const Change& change) {
    ++seen;
    EXPECT_EQ(test.view.get(ref_of(*change.object)) != nullptr,
              change.kind != ChangeKind::kDeleted);
  });
  test.put(fakes::pod({.name = "a"}));
  test.remove(kPods, "default", "a");
  EXPECT_EQ(seen, 2);
  EXPECT_TRUE(test.view.by_uid("uid-a") == nullptr);
  subscription = {};
  test.put(fakes::pod({.name = "a"}));
  EXPECT_EQ(seen, 2);
}

}  // namespace
}  // namespace shoal::view
