// SPDX-License-Identifier: Apache-2.0
#include "plan_script.h"

#include "netplane/base/strings.h"
#include "netplane/plan/render.h"

#include <sstream>

namespace shoal::plan {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; stream >> word;)
    words.push_back(word);
  return words;
}

template <class T>
T good(Result<T> result, std::string_view what) {
  if (!result)
    throw std::runtime_error(fmt::format("{}: {}", what, result.error().message()));
  return *std::move(result);
}

model::FrontendKind kind_of(const std::string& text) {
  for (const auto kind : {model::FrontendKind::kClusterIp, model::FrontendKind::kNodePort,
                          model::FrontendKind::kLoadBalancer, model::FrontendKind::kExternalIp,
                          model::FrontendKind::kHostPort})
    if (model::to_string(kind) == text)
      return kind;
  throw std::runtime_error("frontend kind " + text);
}

// "ns/name:port/PROTO", "ns/name:port/PROTO@v6", each with "@outside" behind it
model::ServicePort service_of(std::string id) {
  constexpr std::string_view kOutside = "@outside", kV6 = "@v6";
  model::ServicePort service;
  if (id.ends_with(kOutside)) {
    service.clients = model::Clients::kOutside;
    id.resize(id.size() - kOutside.size());
  }
  if (id.ends_with(kV6)) {
    service.family = IpFamily::kV6;
    id.resize(id.size() - kV6.size());
  }
  const std::size_t slash = id.find('/');
  const std::size_t colon = id.find(':', slash);
  const std::size_t last = id.rfind('/');
  service.ns = id.substr(0, slash);
  service.name = id.substr(slash + 1, colon - slash - 1);
  service.port_name = id.substr(colon + 1, last - colon - 1);
  service.proto = good(parse_l4_proto(id.substr(last + 1)), id);
  return service;
}

model::Backend backend_of(const std::vector<std::string>& words) {
  model::Backend backend;
  const SocketAddress at = good(SocketAddress::parse(words.at(1)), words.at(1));
  backend.ip = at.ip;
  backend.port = at.port;
  for (std::size_t i = 2; i < words.size(); i++) {
    const std::string& word = words[i];
    if (word.starts_with("gen="))
      backend.generation = static_cast<std::uint16_t>(std::stoul(word.substr(4)));
    else if (word.starts_with("host="))
      backend.host = word.substr(5);
    else if (word.starts_with("group="))
      backend.group = word.substr(6);
    else if (word == "terminating")
      backend.state = model::BackendState::kTerminating;
    else if (word == "serving")
      backend.state = model::BackendState::kServing;
    else
      throw std::runtime_error("backend: " + word);
  }
  return backend;
}

}  // namespace

std::string PlanScript::run(std::string_view text) {
  PlanScript script;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with("|"))
      continue;
    script.out_ += std::string(line) + "\n";
    if (line.starts_with(">"))
      script.command(trim(line.substr(1)));
    else if (!trim(line).empty() && !line.starts_with("#"))
      script.line(line);
  }
  return script.out_;
}

void PlanScript::show(const std::string& text) {
  std::istringstream stream(text.empty() ? "(nothing)\n" : text);
  for (std::string line; std::getline(stream, line);)
    out_ += "| " + line + "\n";
}

void PlanScript::line(std::string_view text) {
  const std::vector<std::string> words = words_of(text);
  const auto same_id = [&](const model::ServicePort& s) { return s.id() == words.back(); };
  if (words[0] == "self") {
    desired_.self = words.at(1);
  } else if (words[0] == "node") {
    model::Node node{words.at(1), good(IpAddress::parse(words.at(2)), words[2]), {}, true};
    for (std::size_t i = 3; i < words.size(); i++) {
      if (words[i] == "dead")
        node.alive = false;
      else if (words[i] == "answers")
        node.answers = true;
      else if (words[i].starts_with("lan="))
        node.lan_v6 = good(IpAddress::parse(words[i].substr(4)), words[i]);
      else
        node.pod_cidrs.push_back(good(IpPrefix::parse(words[i]), words[i]));
    }
    std::erase_if(desired_.nodes, [&](const model::Node& n) { return n.name == node.name; });
    desired_.nodes.push_back(node);
  } else if (words[0] == "service") {
    std::erase_if(desired_.services, same_id);
    desired_.services.push_back(service_of(words.at(1)));
  } else if (words[0] == "drop" && words.at(1) == "service") {
    std::erase_if(desired_.services, same_id);
  } else if (words[0] == "drop" && words.at(1) == "node") {
    std::erase_if(desired_.nodes, [&](const model::Node& n) { return n.name == words.at(2); });
  } else if (words[0] == "announce") {
    desired_.announced_vips.push_back(good(IpAddress::parse(words.at(1)), words[1]));
  } else if (words[0] == "withdraw") {
    std::erase(desired_.announced_vips, good(IpAddress::parse(words.at(1)), words[1]));
  } else if (words[0] == "cluster") {
    desired_.cluster_cidrs.push_back(good(IpPrefix::parse(words.at(1)), words[1]));
  } else {
    service_line(words);
  }
}

void PlanScript::service_line(const std::vector<std::string>& words) {
  model::ServicePort& service = desired_.services.at(desired_.services.size() - 1);
  if (words[0] == "frontend") {
    const SocketAddress at = good(SocketAddress::parse(words.at(1)), words[1]);
    service.frontends.push_back({at.ip, at.port, service.proto, kind_of(words.at(2))});
  } else if (words[0] == "inside") {
    service.clients = model::Clients::kInside;
  } else if (words[0] == "affinity") {
    service.affinity_s = static_cast<std::uint32_t>(std::stoul(words.at(1)));
  } else if (words[0] == "from") {
    service.source_ranges.push_back(good(IpPrefix::parse(words.at(1)), words[1]));
  } else if (words[0] == "group") {
    service.groups.push_back({words.at(1), static_cast<std::uint32_t>(std::stoul(words.at(2)))});
  } else if (words[0] == "backend") {
    service.backends.push_back(backend_of(words));
  } else {
    throw std::runtime_error("not understood: " + words[0]);
  }
}

void PlanScript::apply(bool prune) {
  const Plan plan = plan_services(desired_, actual_, {.prune = prune});
  stamp_++;
  for (const Learned& learned : plan.learned)
    actual_.learn(learned);
  for (const Op& op : plan.ops) {
    maps_.apply(op);
    actual_.note(op, stamp_);
  }
  show(render(plan));
  for (const std::string& violation : maps_.violations())
    show("VIOLATION " + violation);
}

void PlanScript::overlay() {
  const OverlayPlan plan = plan_overlay(desired_, overlay_);
  std::vector<Issue> issues;
  overlay_ = desired_overlay(desired_, {}, issues);
  show(render(plan));
}

void PlanScript::command(std::string_view text) {
  if (text == "apply" || text == "apply no-prune") {
    apply(text == "apply");
  } else if (text == "overlay") {
    overlay();
  } else if (text == "policy") {
    show(render(desired_nft_policy(desired_)));
  } else if (text == "state") {
    show(render(actual_));
  } else if (text == "grace") {
    actual_.release(stamp_);
    maps_.grace();
  } else if (text == "restart") {
    actual_ = Actual::recover(maps_.dump(), actual_.limits());
  } else {
    throw std::runtime_error("no command: " + std::string(text));
  }
}

}  // namespace shoal::plan
