// SPDX-License-Identifier: Apache-2.0
// Objects for tests, from JSON text as a person would write it, and a view to put them into.
#pragma once

#include "agent/view/view.h"

#include <boost/json.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace shoal::fakes {

inline boost::json::object json_object(std::string_view text) {
  return boost::json::parse(text).as_object();
}

// An object of a kind that is served; uid: "uid-NAME" unless the text has one.
store::ObjectPtr make_object(boost::json::object body, store::Revision revision = 1,
                             store::Revision create_revision = 0);
inline store::ObjectPtr make_object(std::string_view text, store::Revision revision = 1) {
  return make_object(json_object(text), revision);
}

// A view that follows what the test says.
class TestView {
public:
  TestView() { view.set_position(true, 1'000'000); }
  store::ObjectPtr put(store::ObjectPtr object);
  store::ObjectPtr put(std::string_view text) { return put(make_object(text, ++revision_)); }
  store::ObjectPtr put(boost::json::object body) {
    return put(make_object(std::move(body), ++revision_));
  }
  void remove(std::string_view resource, std::string_view ns, std::string_view name);
  // Changes a present object: `edit` gets its body.
  template <class Edit>
  store::ObjectPtr change(std::string_view resource, std::string_view ns, std::string_view name,
                          Edit edit) {
    const store::ObjectPtr before = view.get(resource, ns, name);
    boost::json::object body = before->body;
    edit(body);
    return put(make_object(std::move(body), ++revision_, before->create_revision));
  }

  view::View view;

private:
  store::Revision revision_ = 0;
};

// A pod that its host reports: bound, with an IP, ready or not.
struct PodSpec {
  std::string name;
  std::string labels = "{}";
  std::string node;
  std::string ip;
  bool ready = true;
  bool terminating = false;
  std::string phase = "Running";
  std::string owner;  // uid of a ReplicaSet "OWNER"
  std::string ready_since = "2026-01-01T00:00:00Z";
  std::string created = "2026-01-01T00:00:00Z";
  int generation = 0;
  int restarts = 0;
};
boost::json::object pod(const PodSpec& spec);
boost::json::object node(std::string_view name, std::string_view cidr = "10.244.1.0/24",
                         std::string_view underlay = "198.18.0.11", bool ready = true);

}  // namespace shoal::fakes
