// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/plan.h"

#include "netplane/base/hash.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace shoal::controllers {

namespace json = boost::json;

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

Ref ref_of_body(const json::object& body) {
  const auto api_version = api::find_string(body, "apiVersion");
  const auto kind = api::find_string(body, "kind");
  return {view::resource_of(api_version, kind).value_or(std::string(kind)),
          std::string(api::find_string(body, "metadata.namespace")),
          std::string(api::find_string(body, "metadata.name"))};
}

const json::object* body_of(const Op& op) {
  return std::visit(Overloaded{[](const Create& o) { return &o.body; },
                               [](const Update& o) { return &o.body; },
                               [](const UpdateStatus& o) { return &o.body; },
                               [](const Remove&) -> const json::object* { return nullptr; }},
                    op);
}

// Times and the revision that the plan was made at are left out: a plan that differs in them alone
// wants the same.
std::uint64_t hash_value(const json::value& value, std::uint64_t seed) {
  if (const auto* object = value.if_object()) {
    std::uint64_t sum = 0;  // order-free, as objects are
    for (const auto& [key, member] : *object)
      if (!std::string_view(key).ends_with("Time") && key != "resourceVersion")
        sum += hash_value(member, hash64(key, seed));
    return mix64(sum ^ seed);
  }
  if (const auto* array = value.if_array()) {
    for (const auto& element : *array)
      seed = hash_value(element, mix64(seed + 1));
    return seed;
  }
  return hash64(json::serialize(value), seed);
}

}  // namespace

Ref target_of(const Op& op) {
  if (const auto* remove = std::get_if<Remove>(&op))
    return remove->ref;
  return ref_of_body(*body_of(op));
}

std::string_view verb_of(const Op& op) {
  return std::visit(
      Overloaded{[](const Create&) -> std::string_view { return "create"; },
                 [](const Update&) -> std::string_view { return "update"; },
                 [](const UpdateStatus&) -> std::string_view { return "update status of"; },
                 [](const Remove&) -> std::string_view { return "delete"; }},
      op);
}

namespace {

// What a person wants to know of a step beyond its object.
std::string details(const Op& op) {
  std::string out;
  if (const auto* remove = std::get_if<Remove>(&op))
    return remove->grace_s ? fmt::format(" grace={}", *remove->grace_s) : out;
  const json::object& body = *body_of(op);
  if (std::holds_alternative<UpdateStatus>(op)) {
    if (const auto* status = api::find_object(body, "status"))
      for (const auto& [key, value] : *status)
        if (value.is_number())
          out += fmt::format(" {}={}", std::string_view(key), json::serialize(value));
    return out;
  }
  if (const auto* replicas = api::find_path(body, "spec.replicas"))
    out += fmt::format(" replicas={}", json::serialize(*replicas));
  if (const auto node = api::find_string(body, "spec.nodeName"); !node.empty())
    out += fmt::format(" node={}", node);
  if (const auto* endpoints = api::find_array(body, "endpoints"))
    out += fmt::format(" endpoints={}", endpoints->size());
  return out;
}

}  // namespace

std::string to_text(const Plan& plan) {
  std::vector<std::string> lines;
  for (const Step& step : plan.steps) {
    const Ref ref = target_of(step.op);
    lines.push_back(fmt::format("{} {} {}{}{}{}\n", verb_of(step.op), ref.resource, ref.ns,
                                ref.ns.empty() ? "" : "/", ref.name, details(step.op)));
  }
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const std::string& line : lines)
    out += line;
  return out;
}

std::uint64_t fingerprint(const Plan& plan) {
  std::uint64_t sum = 0;
  for (const Step& step : plan.steps) {
    const Ref ref = target_of(step.op);
    std::uint64_t h = hash64(verb_of(step.op));
    h = hash64(ref.resource, h);
    h = hash64(ref.ns, h);
    h = hash64(ref.name, h);
    if (const auto* remove = std::get_if<Remove>(&step.op))
      h = hash64(remove->uid, h);
    else
      h = hash_value(*body_of(step.op), h);
    sum += mix64(h);
  }
  return sum;
}

}  // namespace shoal::controllers
